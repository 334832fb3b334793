# One run at a time on a folder. The lock goes with Snakemake's process, however that ends; Snakemake's own, which a kill
# leaves behind, is off (`nolock` in the profiles).
from juicyfruits.run_lock import start_run


def makes_data():
    return any(
        Path(path).is_relative_to(DATA)
        for job in workflow.dag.needrun_jobs()
        for path in job.output
    )


# Neither dry runs nor the processes of jobs come here.
onstart:
    try:
        start_run([RESULTS, DATA] if makes_data() else [RESULTS], read=[DATA])
    except InputError as error:
        raise WorkflowError(str(error)) from None

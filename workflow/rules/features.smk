rule extract:
    input:
        benchmark_inputs("stimuli.csv"),
    output:
        directory(FEATURES),
    log:
        f"{LOGS}/extract/{{benchmark}}/{{model}}.log",
    benchmark:
        f"{LOGS}/extract/{{benchmark}}/{{model}}.tsv"
    threads: workflow.cores
    resources:
        mem_mb=4000,
        # What changes no number is a resource: another batch size reruns nothing.
        batch_size=config["extract"]["batch_size"],
        memory_limit=(
            f"--memory-limit {config['extract']['memory_limit']}"
            if config["extract"]["memory_limit"]
            else ""
        ),
        device=config["device"],
    params:
        folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
        options=options(
            seed=config["seed"],
            **{
                name: config["extract"][name]
                for name in ("eps", "method", "precision", "dtype")
            },
        ),
        pictures=own_pictures,
        version=versions.EXTRACT,
    shell:
        "OMP_NUM_THREADS={threads} deepjuice extract {wildcards.model} {params.folder:q} {output:q} {params.options:q}"
        " --batch-size {resources.batch_size} {resources.memory_limit} --device {resources.device}"
        " 2> >(tee {log:q} >&2)"

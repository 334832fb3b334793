rule extract:
    input:
        benchmark_files,
    output:
        directory(FEATURES),
    log:
        "logs/extract/{benchmark}/{model}.log",
    benchmark:
        "logs/extract/{benchmark}/{model}.tsv"
    threads: workflow.cores
    resources:
        mem_mb=4000,
        # What changes no number is a resource: another batch size reruns nothing.
        batch_size=config["extract"]["batch_size"],
        memory_limit=config["extract"]["memory_limit"] or "",
        device=config["device"],
    params:
        folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
        options=options(eps=config["extract"]["eps"], seed=config["seed"]),
        version=versions.EXTRACT,
    shell:
        "OMP_NUM_THREADS={threads} deepjuice extract {wildcards.model} {params.folder:q} {output} {params.options:q}"
        " --batch-size {resources.batch_size} --memory-limit '{resources.memory_limit}' --device {resources.device}"
        " 2> >(tee {log} >&2)"

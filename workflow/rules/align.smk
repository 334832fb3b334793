rule score:
    input:
        features=FEATURES,
        files=benchmark_files,
    output:
        SCORES,
    log:
        "logs/score/{benchmark}/{model}.log",
    benchmark:
        "logs/score/{benchmark}/{model}.tsv"
    # Many small decompositions: models side by side finish sooner than one model on many threads.
    threads: 1
    resources:
        mem_mb=3000,
        device=config["device"],
    params:
        folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
        options=options(**config["score"]),
        version=versions.SCORE,
    shell:
        "OMP_NUM_THREADS={threads} deepjuice score {input.features} {params.folder:q} {output} {params.options:q}"
        " --device {resources.device} 2> >(tee {log} >&2)"


rule aggregate:
    input:
        expand(SCORES, model=MODELS, allow_missing=True),
    output:
        TABLES,
    log:
        "logs/aggregate/{benchmark}.log",
    benchmark:
        "logs/aggregate/{benchmark}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        version=versions.AGGREGATE,
    shell:
        "deepjuice aggregate {params.folder} {input} 2> >(tee {log} >&2)"

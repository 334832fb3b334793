rule score:
    input:
        features=FEATURES,
        files=benchmark_inputs(
            *("stimuli.csv", "neuroids.csv", "benchmark.json", "rdms.npz"),
            *("responses.npy", "responses.csv", "responses.parquet"),
        ),
    output:
        SCORES,
    log:
        f"{LOGS}/score/{{benchmark}}/{{model}}.log",
    benchmark:
        f"{LOGS}/score/{{benchmark}}/{{model}}.tsv"
    # Many small decompositions: models side by side finish sooner than one model on many threads.
    threads: 1
    resources:
        mem_mb=3000,
        device=config["device"],
    params:
        folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
        options=options(seed=config["seed"], **config["score"]),
        version=versions.SCORE,
    shell:
        "OMP_NUM_THREADS={threads} deepjuice score {input.features:q} {params.folder:q} {output:q} {params.options:q}"
        " --device {resources.device} 2> >(tee {log:q} >&2)"


rule aggregate:
    input:
        expand(SCORES, model=MODELS, allow_missing=True),
    output:
        TABLES,
    log:
        f"{LOGS}/aggregate/{{benchmark}}.log",
    benchmark:
        f"{LOGS}/aggregate/{{benchmark}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        version=versions.AGGREGATE,
    shell:
        "deepjuice aggregate {params.folder:q} {input:q} 2> >(tee {log:q} >&2)"

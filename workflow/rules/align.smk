# In the order of their names: the order in which a config has them is no reason to score again.
SCORE_OPTIONS = single_options(
    seed=config["seed"], **dict(sorted(config["score"].items()))
)


# Scores all layers of a model, or one of the ranges that several jobs share.
rule score:
    input:
        features=FEATURES,
        profiles=PROFILES if "pRSA" in config["score"]["metrics"] else [],
        files=benchmark_inputs(
            *("stimuli.csv", "neuroids.csv", "benchmark.json", "rdms.npz"),
            *("responses.npy", "responses.csv", "responses.parquet"),
        ),
    output:
        SCORES if N_PARTS == 1 else temp(PART),
    log:
        f"{LOGS}/score/{{benchmark}}/{SCORED}.log",
    benchmark:
        f"{LOGS}/score/{{benchmark}}/{SCORED}.tsv"
    # Many small decompositions: models side by side finish sooner than one model on many threads.
    threads: 1
    resources:
        mem_mb=score_mb,
        runtime=score_minutes,
        device=config["device"],
    params:
        **SCORE_OPTIONS,
        folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
        profiles=lambda wildcards, input: options(profiles=input.profiles or None),
        part="" if N_PARTS == 1 else f"--part {{part}}/{N_PARTS}",
        version=versions.SCORE,
    shell:
        "OMP_NUM_THREADS={threads} deepjuice score {input.features:q} {params.folder:q} {output:q} "
        f"{placeholders(SCORE_OPTIONS)}"
        " {params.profiles:q} {params.part} --device {resources.device} > {log:q} 2>&1"


if N_PARTS > 1:

    rule join:
        input:
            expand(PART, part=range(1, N_PARTS + 1), allow_missing=True),
        output:
            SCORES,
        log:
            f"{LOGS}/join/{{benchmark}}/{{model}}.log",
        benchmark:
            f"{LOGS}/join/{{benchmark}}/{{model}}.tsv"
        threads: 1
        resources:
            mem_mb=score_mb,
            runtime=lambda wildcards, attempt: 30 * attempt,
        params:
            version=versions.SCORE,
        shell:
            "deepjuice join {output:q} {input:q} > {log:q} 2>&1"


rule aggregate:
    input:
        expand(SCORES, model=MODELS, allow_missing=True),
    output:
        TABLES[:-2],
        best=(
            report(
                BEST,
                caption="../report/best_layers.rst",
                category="Results",
                labels={"benchmark": "{benchmark}", "what": "best layers"},
            )
            # Of a thousand models the table would make the report too large to open.
            if len(MODELS) <= 100
            else BEST
        ),
        summary=report(
            SUMMARY,
            caption="../report/summary.rst",
            category="Results",
            labels={"benchmark": "{benchmark}", "what": "summary"},
        ),
    log:
        f"{LOGS}/aggregate/{{benchmark}}.log",
    benchmark:
        f"{LOGS}/aggregate/{{benchmark}}.tsv"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4500 * attempt,
        runtime=lambda wildcards, attempt: (30 + len(MODELS) // 10) * attempt,
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        version=versions.AGGREGATE,
    shell:
        "deepjuice aggregate {params.folder:q} {input:q} > {log:q} 2>&1"

EXTRACT_OPTIONS = single_options(
    seed=config["seed"],
    **{
        key: config["extract"][key]
        for key in ("image_size", "eps", "method", "precision", "dtype")
    },
)


rule extract:
    input:
        stimuli=stimuli_input,
        known=known_model,
    output:
        directory(FEATURES),
    log:
        f"{LOGS}/extract/{{benchmark}}/{{model}}.log",
    benchmark:
        f"{LOGS}/extract/{{benchmark}}/{{model}}.tsv"
    threads: 16
    resources:
        mem_mb=extract_mb,
        runtime=extract_minutes,
        # What changes no number is a resource: another batch size reruns nothing.
        batch_size=config["extract"]["batch_size"],
        memory_limit=extract_limit,
        device=config["device"],
    params:
        **EXTRACT_OPTIONS,
        folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
        pictures=own_pictures,
        stimuli=lambda wildcards: stimuli_settings(wildcards.benchmark),
        version=versions.EXTRACT,
    shell:
        "OMP_NUM_THREADS={threads} deepjuice extract {wildcards.model} {params.folder:q} {output:q} "
        f"{placeholders(EXTRACT_OPTIONS)}"
        " --batch-size {resources.batch_size} {resources.memory_limit} --device {resources.device}"
        " > {log:q} 2>&1"


PROFILE_OPTIONS = single_options(
    seed=config["seed"],
    image_size=config["extract"]["image_size"],
    threshold=config["profile"]["threshold"],
    neurons=config["profile"]["neurons"],
)


# Which neurons carried a model's answers: made where score.metrics has pRSA.
rule profile:
    input:
        stimuli=stimuli_input,
        known=known_model,
    output:
        PROFILES,
    log:
        f"{LOGS}/profile/{{benchmark}}/{{model}}.log",
    benchmark:
        f"{LOGS}/profile/{{benchmark}}/{{model}}.tsv"
    threads: 16
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=extract_minutes,
        batch_size=config["profile"]["batch_size"],
        device=config["device"],
    params:
        **PROFILE_OPTIONS,
        folder=lambda wildcards: benchmark_folder(wildcards.benchmark),
        pictures=own_pictures,
        stimuli=lambda wildcards: stimuli_settings(wildcards.benchmark),
        version=versions.PROFILE,
    shell:
        "OMP_NUM_THREADS={threads} deepjuice profile {wildcards.model} {params.folder:q} {output:q} "
        f"{placeholders(PROFILE_OPTIONS)}"
        " --batch-size {resources.batch_size} --device {resources.device} > {log:q} 2>&1"

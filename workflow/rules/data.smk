# On the machine where snakemake runs: the nodes of a cluster often have no way out.
localrules:
    fetch,


rule make_mini:
    output:
        directory(f"{DATA}/raw/{{entry}}"),
    log:
        f"{LOGS}/make_mini/{{entry}}.log",
    benchmark:
        f"{LOGS}/make_mini/{{entry}}.tsv"
    wildcard_constraints:
        entry="|".join(MADE) or "none",
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        seed=config["seed"],
        version=data_versions.MINI,
    shell:
        "juicyfruits make-mini {output:q} --seed {params.seed} > {log:q} 2>&1"


# The files stay where they are when a fetch breaks, to be gone on with; the receipt says that all are there.
rule fetch:
    output:
        f"{DATA}/raw/{{entry}}.fetched.json",
    log:
        f"{LOGS}/fetch/{{entry}}.log",
    benchmark:
        f"{LOGS}/fetch/{{entry}}.tsv"
    wildcard_constraints:
        entry="|".join(FETCHED) or "none",
    threads: 1
    resources:
        mem_mb=1000,
        accept_terms=lambda wildcards: (
            "--accept-terms"
            if config["benchmarks"][wildcards.entry].get("accept_terms")
            else ""
        ),
    params:
        words=fetch_words,
    shell:
        "juicyfruits fetch {params.words:q} --receipt {output:q} {resources.accept_terms} > {log:q} 2>&1"


rule prepare:
    input:
        release_input,
    output:
        folder=directory(f"{DATA}/{{benchmark}}"),
        # What decided its pictures. A folder that was prepared by hand lacks it, and is prepared again.
        settings=f"{DATA}/raw/{{benchmark}}.prepared.json",
    log:
        f"{LOGS}/prepare/{{benchmark}}.log",
    benchmark:
        f"{LOGS}/prepare/{{benchmark}}.tsv"
    wildcard_constraints:
        benchmark="|".join(PREPARED) or "none",
    threads: n_subjects
    resources:
        mem_mb=lambda wildcards, threads, attempt: (500 + 2000 * threads) * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
        jobs=prepare_jobs,
    params:
        words=prepare_words,
        stimuli=lambda wildcards: stimuli_settings(wildcards.benchmark),
        version=data_versions.PREPARE,
    shell:
        "juicyfruits prepare {params.words:q} {resources.jobs} > {log:q} 2>&1"
        " && printf %s {params.stimuli:q} > {output.settings:q}"

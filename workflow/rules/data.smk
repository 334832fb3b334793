from juicyfruits.nsd.prepare import STAGE_VERSION as PREPARE_VERSION
from juicyfruits.synthetic.mini import STAGE_VERSION as MINI_VERSION


rule make_mini:
    output:
        directory(f"{DATA}/raw/{{benchmark}}"),
    log:
        "logs/make_mini/{benchmark}.log",
    benchmark:
        "logs/make_mini/{benchmark}.tsv"
    wildcard_constraints:
        benchmark="|".join(MADE) or "none",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        seed=config["seed"],
        version=MINI_VERSION,
    shell:
        "juicyfruits make-mini {output} --seed {params.seed} 2> >(tee {log} >&2)"


rule prepare:
    input:
        release_folder,
    output:
        directory(f"{DATA}/{{benchmark}}"),
    log:
        "logs/prepare/{benchmark}.log",
    benchmark:
        "logs/prepare/{benchmark}.tsv"
    wildcard_constraints:
        benchmark="|".join(PREPARED) or "none",
    threads: 1
    resources:
        mem_mb=2000,
    params:
        options=prepare_options,
        version=PREPARE_VERSION,
    shell:
        "juicyfruits prepare {input} {output} --name {wildcards.benchmark} {params.options:q} 2> >(tee {log} >&2)"

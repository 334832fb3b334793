from juicyfruits.nsd.prepare import STAGE_VERSION as PREPARE_VERSION
from juicyfruits.synthetic.mini import STAGE_VERSION as MINI_VERSION


rule make_mini:
    output:
        directory(f"{DATA}/raw/{{benchmark}}"),
    log:
        f"{LOGS}/make_mini/{{benchmark}}.log",
    benchmark:
        f"{LOGS}/make_mini/{{benchmark}}.tsv"
    wildcard_constraints:
        benchmark="|".join(MADE) or "none",
    threads: 1
    resources:
        mem_mb=1500,
    params:
        seed=config["seed"],
        version=MINI_VERSION,
    shell:
        "juicyfruits make-mini {output:q} --seed {params.seed} 2> >(tee {log:q} >&2)"


rule prepare:
    input:
        release_folder,
    output:
        directory(f"{DATA}/{{benchmark}}"),
    log:
        f"{LOGS}/prepare/{{benchmark}}.log",
    benchmark:
        f"{LOGS}/prepare/{{benchmark}}.tsv"
    wildcard_constraints:
        benchmark="|".join(PREPARED) or "none",
    threads: 1
    resources:
        mem_mb=2000,
    params:
        options=prepare_options,
        version=PREPARE_VERSION,
    shell:
        "juicyfruits prepare {input:q} {output:q} --name {wildcards.benchmark} {params.options:q} 2> >(tee {log:q} >&2)"

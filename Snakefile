# deepjuice: stimuli and voxels -> features -> alignment -> tables and a report.
# uv run snakemake --cores all


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/align.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        REPORT,
        expand(TABLES, benchmark=BENCHMARKS),


onsuccess:
    print(summary())

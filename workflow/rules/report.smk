rule report:
    input:
        expand(TABLES, benchmark=BENCHMARKS),
    output:
        report(
            REPORT,
            caption="../report/report.rst",
            category="Results",
            labels={"benchmark": "all", "what": "curves, maps and tables"},
        ),
    log:
        f"{LOGS}/report/report.log",
    benchmark:
        f"{LOGS}/report/report.tsv"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2500 * attempt,
        runtime=30,
    params:
        results=lambda wildcards, output: Path(output[0]).parent,
        config=json.dumps(config, sort_keys=True),
        version=versions.REPORT,
    shell:
        "deepjuice report {params.results:q} {output:q} --config {params.config:q} > {log:q} 2>&1"

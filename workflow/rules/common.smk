import json
from pathlib import Path

import pandas as pd
from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from deepjuice import versions
from juicyfruits.errors import near_names


def check(what, data, schema):
    """Fill in defaults; a key that is wrong ends the run with one sentence that names it."""
    try:
        validate(data, schema)
    except WorkflowError as error:
        found = error.__context__
        place = "".join(f"{key}: " for key in found.absolute_path)
        hint = ""
        if found.validator == "additionalProperties":
            known = list(found.schema["properties"])
            hint = "; ".join(
                near_names(key, known) for key in found.instance if key not in known
            )
        raise WorkflowError(f"{what}: {place}{found.message} {hint}") from None


# A further config file can only add to config.yaml, so null takes a benchmark out.
benchmarks = config.get("benchmarks") or {}
config["benchmarks"] = {
    name: settings for name, settings in benchmarks.items() if settings is not None
}
check("config", config, "../schemas/config.schema.yaml")

DATA, RESULTS = config["data"], config["results"]
FEATURES = f"{RESULTS}/{{benchmark}}/features/{{model}}.zarr"
SCORES = f"{RESULTS}/{{benchmark}}/scores/{{model}}.nc"
TABLES = [
    f"{RESULTS}/{{benchmark}}/{name}"
    for name in ("scores.nc", "scores.parquet", "best_layers.csv", "summary.txt")
]
REPORT = f"{RESULTS}/report.html"
MADE = [
    name
    for name, settings in config["benchmarks"].items()
    if settings["source"] == "mini"
]
PREPARED = [
    name
    for name, settings in config["benchmarks"].items()
    if settings["source"] != "folder"
]


def model_uids():
    """The models to run: those of the config, or the whole table."""
    table = pd.read_csv(config["model_table"], sep="\t", dtype=str).fillna("")
    check(config["model_table"], table, "../schemas/models.schema.yaml")
    return config["models"] or table["model_uid"].tolist()


MODELS = model_uids()


wildcard_constraints:
    benchmark="|".join(config["benchmarks"]),
    model="[A-Za-z0-9_.-]+",


def benchmark_folder(benchmark):
    """Where a benchmark lies: your own where you have it, a prepared one under data/."""
    settings = config["benchmarks"][benchmark]
    own = settings.get("path") if settings["source"] == "folder" else None
    return own or f"{DATA}/{benchmark}"


def benchmark_files(wildcards):
    """What depends on a benchmark: the folder that a rule makes, or the files of your own."""
    folder = benchmark_folder(wildcards.benchmark)
    if config["benchmarks"][wildcards.benchmark]["source"] != "folder":
        return folder
    names = [
        "stimuli.csv",
        "neuroids.csv",
        "responses.npy",
        "responses.csv",
        "responses.parquet",
        "rdms.npz",
    ]
    return [
        f"{folder}/{name}" for name in names if Path(folder, name).exists()
    ] or folder


def release_folder(wildcards):
    """The root of a data set in NSD's layout: a folder of yours, or one that make-mini writes."""
    settings = config["benchmarks"][wildcards.benchmark]
    return (
        settings["path"]
        if settings["source"] == "nsd"
        else f"{DATA}/raw/{wildcards.benchmark}"
    )


def prepare_options(wildcards):
    settings = config["benchmarks"][wildcards.benchmark]
    return options(
        **{
            key: value
            for key, value in settings.items()
            if key not in ("source", "path")
        }
    )


def options(**values):
    """Command line options: --name value for every value that is set."""
    words = []
    for name, value in values.items():
        if value is not None:
            items = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, items)]
    return words


def summary():
    """What was found and where it is, for the terminal."""
    texts = [
        Path(path)
        for path in expand(
            f"{RESULTS}/{{benchmark}}/summary.txt", benchmark=config["benchmarks"]
        )
    ]
    return "\n" + "\n".join(text.read_text() for text in texts if text.exists())

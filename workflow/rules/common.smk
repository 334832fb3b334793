import json
import math
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import validate

from deepjuice import versions
from juicyfruits.errors import InputError, near_names
from juicyfruits.files import digest


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
                [
                    "",
                    *(
                        near_names(key, known)
                        for key in found.instance
                        if key not in known
                    ),
                ]
            )
        raise WorkflowError(f"{what}: {place}{found.message}{hint}") from None


def with_numbers(value):
    """Read numbers, null, true and false back: what --config has within braces or brackets comes as text; 1e3 is 1000."""
    if isinstance(value, dict):
        return {key: with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_numbers(item) for item in value]
    if value in ("null", "~"):
        return None
    if value in ("true", "false"):
        return value == "true"
    number = value
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
    if isinstance(number, float):
        if not math.isfinite(number):
            return str(value)  # which the schema takes for no number
        return int(number) if number.is_integer() else number
    return value


for section in {"extract", "profile", "score", "benchmarks"} & set(config):
    config[section] = with_numbers(config[section])

# A further config file can only add to config.yaml, so null takes a benchmark out.
if isinstance(config.get("benchmarks"), dict):
    config["benchmarks"] = {
        str(name): settings
        for name, settings in config["benchmarks"].items()
        if settings not in (None, "null")
    }
check("config", config, "../schemas/config.schema.yaml")

DATA, RESULTS = config["data"], config["results"]
if Path(RESULTS).resolve().is_relative_to(Path(DATA).resolve()):
    raise WorkflowError(
        f"config: results: {RESULTS} is, or lies in, the folder of data ({DATA}), where benchmarks are replaced; "
        "choose another folder"
    )
FEATURES = f"{RESULTS}/{{benchmark}}/features/{{model}}.zarr"
PROFILES = f"{RESULTS}/{{benchmark}}/profiles/{{model}}.npz"
SCORES = f"{RESULTS}/{{benchmark}}/scores/{{model}}.nc"
# Several jobs may share the layers of one model; it changes no number.
N_PARTS = config["score"].pop("parts")
SCORED = "{model}" if N_PARTS == 1 else f"parts/{{model}}/{{part}}-of-{N_PARTS}"
PART = f"{RESULTS}/{{benchmark}}/scores/{SCORED}.nc"
BEST, SUMMARY = (
    f"{RESULTS}/{{benchmark}}/{name}" for name in ("best_layers.csv", "summary.txt")
)
TABLES = [
    f"{RESULTS}/{{benchmark}}/{name}"
    for name in ("scores.nc", "scores.parquet", "comparisons.parquet", "layers.parquet")
]
TABLES += [BEST, SUMMARY]
REPORT = f"{RESULTS}/report.html"
LOGS = f"{RESULTS}/logs"


def options(**values):
    """Command line options: --name value for every value that is set."""
    words = []
    for name, value in values.items():
        if value is not None:
            items = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, items)]
    return words


def single_options(**values):
    """The same, as one parameter for each option, so that of the reasons to run again what changed is told alone."""
    return {name: options(**{name: value}) for name, value in values.items()}


def placeholders(names):
    """What stands for these parameters in a rule's command."""
    return " ".join(f"{{params.{name}:q}}" for name in names)


include: "benchmarks.smk"
include: "models.smk"
include: "sizes.smk"


wildcard_constraints:
    benchmark="|".join(BENCHMARKS),
    model="[A-Za-z0-9_.-]+",
    part="[0-9]+",


def summary():
    """What was found and where it is, for the terminal."""
    texts = [
        Path(path)
        for path in expand(f"{RESULTS}/{{benchmark}}/summary.txt", benchmark=BENCHMARKS)
    ]
    return "\n" + "\n".join(text.read_text() for text in texts if text.exists())


# The logger `deepjuice` learns from this what is up to date and where the results are; others print nothing of it.
logger.info(
    None,
    extra={"about": {"workflow": workflow, "summary": summary, "results": RESULTS}},
)

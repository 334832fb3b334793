"""What the repository says of itself is true: environments, lint, documentation."""

import copy
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml
from jsonschema import Draft202012Validator

import deepjuice

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_conda_users_get_what_pyproject_asks_for():
    """conda brings Python, and pip installs the project itself: there is no second list that could differ."""
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['project']['requires-python']}", "pip"]
    assert pip == {"pip": ["-e ."]}


def test_versions_agree():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert PROJECT["project"]["version"] == deepjuice.__version__ == citation["version"]
    assert f"## {deepjuice.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_every_public_name_is_there_and_star_import_gives_it():
    names = {}
    exec("from deepjuice import *", names)
    for name in deepjuice.__all__:
        assert name in names and getattr(deepjuice, name) is names[name]
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = deepjuice.no_such_name


def test_importing_the_package_alone_is_light():
    code = "import sys, deepjuice, deepjuice.versions, deepjuice.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_juicyfruits_knows_neither_torch_nor_deepjuice():
    code = "import sys, juicyfruits.cli; sys.exit('torch' in sys.modules or 'deepjuice' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    for path in (REPOSITORY / "juicyfruits").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (torch|deepjuice)\b", path.read_text(), re.MULTILINE), path


def test_snakemake_lint_finds_only_what_is_accepted():
    command = [sys.executable, "-m", "snakemake", "--lint"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    titles = set(re.findall(r"^    \* (.*):$", done.stdout + done.stderr, re.MULTILINE))
    assert titles == set(PROJECT["tool"]["deepjuice"]["accepted-lints"])


SCHEMA = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
CONFIG = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())


def rows(text):
    """Read {key: rest of the line} off the tables of a page."""
    return dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|$", text, re.MULTILINE))


TOLD, TOLD_SETTINGS = map(rows, (REPOSITORY / "config/README.md").read_text().split("## A benchmark's settings"))


def leaves(schema, prefix=""):
    """Yield every key that holds a value, with its schema, sections joined by dots."""
    for name, part in schema["properties"].items():
        if part.get("type") == "object" and "properties" in part:
            yield from leaves(part, f"{prefix}{name}.")
        else:
            yield prefix + name, part


KEYS = dict(leaves(SCHEMA))
BENCHMARK = SCHEMA["properties"]["benchmarks"]["additionalProperties"]
SETTINGS = BENCHMARK["properties"]


def test_the_reference_of_the_configuration_has_every_key_of_the_schema_once_and_no_other():
    assert list(TOLD) == list(KEYS)
    assert set(TOLD_SETTINGS) == set(SETTINGS)


@pytest.mark.parametrize("name", KEYS)
def test_schema_config_and_reference_agree_on_a_default(name):
    value = CONFIG
    for part in name.split("."):
        value = value[part]
    told = TOLD[name].split(" | ")[0]
    if name == "benchmarks":
        assert told == f"`{next(iter(value))}`"
    elif name == "score.metrics":
        assert told == "the first three" and value == KEYS[name]["default"] == KEYS[name]["items"]["enum"][:3]
    else:
        assert told == f"`{json.dumps(value).strip(chr(34))}`"
        assert KEYS[name]["default"] == value


def test_the_reference_names_every_value_that_a_key_may_have():
    told = {**TOLD_SETTINGS, **TOLD}
    choices = {
        name: part.get("enum") or part.get("items", {}).get("enum") for name, part in {**SETTINGS, **KEYS}.items()
    }
    choices = {name: values for name, values in choices.items() if values}
    assert {"source", "image_set", "score.metrics", "extract.dtype"} < set(choices)
    for name, values in choices.items():
        for value in values:
            assert f"`{value}`" in told[name], (name, value)


def test_every_setting_says_for_which_source_it_is():
    allowed = {
        rule["if"]["properties"]["source"]["const"]: rule["then"]["propertyNames"]["enum"]
        for rule in BENCHMARK["allOf"]
    }
    assert set(allowed) == set(SETTINGS["source"]["enum"])
    for name in SETTINGS:
        sources = {source for source, names in allowed.items() if name in names}
        told = TOLD_SETTINGS[name].split(" | ")[0]
        if told == "all":
            assert sources == set(allowed)
        elif told.startswith("all but"):
            assert sources == set(allowed) - set(re.findall(r"`(\w+)`", told))
        else:
            assert sources == set(re.findall(r"`(\w+)`", told))


def test_a_wrong_value_of_every_key_is_refused_by_the_schema():
    validator = Draft202012Validator(SCHEMA)
    validator.validate(CONFIG)
    for name in KEYS:
        config = copy.deepcopy(CONFIG)
        *sections, last = name.split(".")
        section = config
        for part in sections:
            section = section[part]
        section[last] = {"no": "such value"} if name != "benchmarks" else ["a"]
        assert not validator.is_valid(config), name
        section[f"{last}_"] = section.pop(last)
        assert not validator.is_valid(config), name


def test_the_model_table_is_as_its_schema_says():
    schema = yaml.safe_load((REPOSITORY / "workflow/schemas/models.schema.yaml").read_text())
    table = pd.read_csv(REPOSITORY / "config/models.tsv", sep="\t", dtype=str)
    for line in table.to_dict("records"):
        Draft202012Validator(schema).validate(line)
    assert not Draft202012Validator(schema).is_valid({"model_uid": "a b"})
    assert not Draft202012Validator(schema).is_valid({"tags": "x"})


def test_links_between_the_documents_lead_somewhere():
    for path in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("config/*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name}: {target}"

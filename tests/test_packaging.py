"""What the repository says of itself is true: environments, lint, documentation."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

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


def keys(schema, prefix=""):
    for name, part in schema["properties"].items():
        if part.get("type") == "object" and "properties" in part:
            yield from keys(part, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_config_key_is_documented():
    schema = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
    text = (REPOSITORY / "config/README.md").read_text()
    settings = schema["properties"]["benchmarks"]["additionalProperties"]
    for key in [*keys(schema), *keys(settings)]:
        assert f"| `{key}`" in text, key


def test_links_between_the_documents_lead_somewhere():
    for path in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("config/*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name}: {target}"

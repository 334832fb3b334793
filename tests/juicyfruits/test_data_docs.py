"""What docs/nsd.md and docs/bring-your-own.md show in Python runs, and what they say of commands is so."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from juicyfruits.cli import _parser
from juicyfruits.nsd import layout
from juicyfruits.nsd.rois import known_rois, named_rois

DOCS = Path(__file__).parents[2] / "docs"


def snippets(name, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


def test_the_snippet_of_nsd_runs(mini_folder, monkeypatch):
    monkeypatch.setenv("JUICYFRUITS_DATA", str(mini_folder.parent))
    [snippet] = snippets("nsd.md")
    names = {}
    with pytest.warns(UserWarning, match="synthetic miniature"):
        exec(snippet, names)
    assert names["otc"].rois == ["OTC"] and names["otc"].subjects == ["subj01"]


def test_the_snippets_of_your_own_data_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("my_responses.npy", rng.standard_normal((5, 8, 2)))
    Path("pictures").mkdir()
    Path("shared1000").mkdir()
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(f"pictures/{i:04d}.jpg")
        Image.new("RGB", (4, 4), (i, 0, 0)).save(f"shared1000/{i}.png")
    images = [f"{i}.png" for i in range(8)]
    voxels = pd.Index([f"S1-{v}" for v in range(5)], name="voxel_id")
    pd.DataFrame(rng.standard_normal((5, 8)), voxels, images).to_csv("voxel_betas.csv")
    pd.DataFrame({"subj_id": 1, "ncsnr": 0.5, "EVC": 1, "OTC": [1, 0, 0, 1, 1]}, voxels).to_csv("voxel_metas.csv")
    pd.DataFrame({"image_name": images}).to_csv("shared1000.csv", index=False)
    names = {"compute_rdm": lambda X, method: 1 - np.corrcoef(X)}
    writing, using, custom = snippets("bring-your-own.md")
    for snippet in (writing, "benchmark.metadata['ncsnr'] = 0.5\n" + using, custom):
        exec(snippet, names)
    assert names["benchmark"].rois == ["EVC", "OTC"] and Path("data/custom/stimuli.csv").exists()


@pytest.mark.parametrize("name", ["nsd.md", "real-brains.md", "bring-your-own.md", "mini.md"])
def test_the_commands_are_understood(name):
    text = (DOCS / name).read_text()
    lines = [
        line.split("#")[0].split()
        for block in snippets(name, "bash") + snippets(name, "")
        for line in block.splitlines()
    ]
    words = [line[3:] for line in lines if line[:3] == ["uv", "run", "juicyfruits"]]
    words += [line.split()[3:] for line in re.findall(r"`(uv run juicyfruits [^`]+)`", text)]
    complete = [line for line in words if len(line) > 1]
    assert complete or name == "bring-your-own.md"
    for line in complete:
        _parser().parse_args(line)


def test_the_regions_named_are_known():
    section = (DOCS / "nsd.md").read_text().split("## Regions")[1].split("## What")[0]
    table = [row for row in section.splitlines() if row.startswith("| ") and "|---" not in row]
    quoted = [name.replace("\\|", "|") for row in table for name in re.findall(r"`([^`]+)`", row)]
    assert {"EVC", "streams", "scenes=PPA | OPA"} <= set(quoted)
    for expression in set(quoted) - {"streams", "&", "|"}:
        assert named_rois([expression])
    assert set(layout.ROI_MAPS) <= set(quoted) and set(layout.ROI_GROUPS) <= set(quoted) <= {*known_rois(), *quoted}

from __future__ import annotations

import re
from pathlib import Path

DOC = Path(__file__).parents[2] / "docs" / "results-schema.md"
MODELS = ("efficientnet_lite0_imagenet1k", "efficientnet_lite0_random")


def test_every_example_of_the_page_runs(make, build, tmp_path, monkeypatch):
    build([make(uid, 8, benchmark="mini") for uid in MODELS], tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(DOC), "exec"), names)
    assert 0 < float((names["own"].sel(split="test").isel(layer=names["best"]) > 0.3).mean()) < 1


def test_the_page_names_every_variable(make):
    text = DOC.read_text(encoding="utf-8")
    ds = make()
    assert not [
        n for n in (*ds.variables, *ds.attrs, "measured", "n_neuroids") if f"`{n}" not in text and "wall" not in n
    ]

from __future__ import annotations

import ast
import re
from pathlib import Path

import pandas as pd

DOC = Path(__file__).parents[2] / "docs" / "results-schema.md"
MODELS = ("efficientnet_lite0_imagenet1k", "efficientnet_lite0_random")


def with_long_names(ds):
    """Layer names as wide as the miniature's: what an example prints must fit beside them."""
    ds["layer"] = [f"Conv2dStaticSamePadding-3-{i}" for i in range(ds.sizes["layer"])]
    return ds


def values_of(block: str, names: dict) -> list:
    """Run a block as a notebook would, and return the values of its bare expressions."""
    values = []
    for statement in ast.parse(block).body:
        if isinstance(statement, ast.Expr):
            values.append(eval(compile(ast.Expression(statement.value), str(DOC), "eval"), names))
        else:
            exec(compile(ast.Module([statement], []), str(DOC), "exec"), names)
    return values


def test_every_example_of_the_page_runs_and_shows_its_numbers(make, build, tmp_path, monkeypatch):
    made = [with_long_names(make(uid, 8, benchmark="nsd_mini")) for uid in MODELS]
    for ds in made:  # as the scorer leaves them
        for name in ("ceiling", "score_normalized"):
            ds[name].loc[{"metric": ["cRSA", "eRSA"]}] = float("nan")
    build(made, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 6
    names: dict = {}
    values = [value for block in blocks for value in values_of(block, names)]
    tables = [value for value in values if isinstance(value, (pd.DataFrame, pd.Series))]
    assert len(tables) == 6
    for table in tables:
        assert pd.DataFrame(table).notna().any().all()  # no column of NaN only
        assert max(map(len, table.to_string().splitlines())) <= 80  # wider ones lose columns to an ellipsis
    assert 0 < values[-1] < 1


def test_the_page_names_every_variable(make):
    text = DOC.read_text(encoding="utf-8")
    ds = make()
    scorer = ("benchmark_digest", "settings", "alphas_at_lowest", "alphas_at_highest", "measured", "n_neuroids")
    assert not [n for n in (*ds.variables, *ds.attrs, *scorer) if f"`{n}" not in text and "wall" not in n]

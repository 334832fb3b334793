"""The guide's snippets run, in their order."""

import re
from pathlib import Path

import pytest
import torch

GUIDE = Path(__file__).parents[3] / "docs/encoders.md"


@pytest.mark.filterwarnings("ignore:The groups parameter is ignored")
def test_the_guide_runs_and_says_the_truth():
    names: dict = {}
    snippets = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    assert len(snippets) == 6
    for snippet in snippets:
        exec(compile(snippet, str(GUIDE), "exec"), names)
    Y, scores = names["Y"], names["scores"]
    assert names["predicted"].shape == Y.shape and scores.shape == (6, 4)
    assert torch.equal(names["fit"].alpha, names["model"].alpha_[2:])
    torch.testing.assert_close(names["left_out"], names["model"].cv_y_pred_[:, 2:])
    assert names["held_out"].mean() > 0.4 and names["coefficients"].shape == (30, 4)
    assert set(names["shares"]) == {"early", "late"}
    assert names["shared"].mean() < names["unique_to_early"].mean(), "the voxels are of columns that late lacks"
    assert (names["pls"].mean(dim=0) > 0.3).all() and torch.isfinite(names["unpenalised"]).all()

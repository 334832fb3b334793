"""The snippets of docs/driving-regions.md run as they stand, on a results folder as the workflow leaves it."""

import re
from pathlib import Path

import pytest

from deepjuice import ScoreSettings, extract_features, get_deepjuice_model, score_model
from deepjuice.results import write_scores
from juicyfruits import Benchmark
from juicyfruits.nsd.prepare import prepare_nsd
from juicyfruits.synthetic.mini import make_mini

PAGE = Path(__file__).parents[1] / "docs/driving-regions.md"
MODEL = "efficientnet_lite0_imagenet1k"


@pytest.mark.slow
def test_the_guide_runs(tmp_path, monkeypatch, capsys):
    sizes = {"n_shared": 20, "n_unique": 4, "n_sessions": 5, "volume": (7, 9, 8), "picture_size": 48}
    prepare_nsd(make_mini(tmp_path / "mini", seed=3, **sizes), tmp_path / "data/nsd_mini")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JUICYFRUITS_DATA", raising=False)
    benchmark, results = Benchmark("data/nsd_mini"), Path("results/nsd_mini")
    net, preprocess = get_deepjuice_model(MODEL)
    options = {"model_uid": MODEL, "stimulus_digest": benchmark.stimulus_digest, "batch_size": 10, "progress": False}
    store = extract_features(net, preprocess, benchmark.image_paths, results / f"features/{MODEL}.zarr", **options)
    settings = ScoreSettings(("eReg",), n_bootstraps=0, n_permutations=0)
    write_scores(score_model(store, benchmark, settings, progress=False), results / f"scores/{MODEL}.nc")
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(snippets) == 2 and "n_steps=128" in snippets[0]
    names = {}
    for snippet in snippets:
        exec(snippet.replace("n_steps=128", "n_steps=2"), names)
    said = capsys.readouterr().out
    n_voxels = len(names["fit"].neuroids)
    assert "torch.Size([8, 1000]) torch.Size([8, " in said and names["maps"].shape == (8, 224, 224)
    assert names["model"].extension_names == ["EVC", "OTC"] and Path("otc.npz").exists()
    assert names["model"](names["pictures"])[1]["OTC"].shape == (8, n_voxels)
    assert names["driven"].natural.shape == (8,)

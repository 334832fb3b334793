"""The summary against choices made by hand."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from deepjuice.results import to_tidy

LINE = re.compile(r"^    (\d)\. (\S+)  +(\S+) +(\S+) +(-?\d\.\d{3})(?:  \(ceiling (\d\.\d{3})\))?$", re.MULTILINE)


def text_of(build, datasets, folder) -> str:
    return build(datasets, folder)["summary.txt"].read_text()


def lines_of(text: str) -> list[tuple[str, ...]]:
    lines = LINE.findall(text)
    assert [line[0] for line in lines] == [str(i + 1) for i in range(len(lines))]
    return [line[1:] for line in lines]


def chosen_by_hand(datasets, metric: str, region: str) -> tuple[str, str, float, float]:
    """The (model, layer) with the best mean train score: (model, layer, mean test score, mean ceiling)."""
    best = None
    for ds in datasets:
        cells = ds.sel(metric=metric, region=region)
        for layer in ds["layer"].values:
            train = float(cells["score"].sel(layer=layer, split="train").mean())
            if best is None or train > best[0]:
                test = float(cells["score"].sel(layer=layer, split="test").mean())
                ceiling = float(cells["ceiling"].sel(split="test").mean())
                best = train, (ds.attrs["model_uid"], str(layer), test, ceiling)
    return best[1]


def test_it_names_places_and_the_best_layer_of_each_of_the_largest_regions(models, results):
    text = (results / "toy" / "summary.txt").read_text()
    assert text.startswith("toy: 3 models, 21 layers, 4 regions, 2 subjects\n")
    for name in ("scores.parquet", "best_layers.csv", "scores.nc"):
        assert str(results / "toy" / name) in text
    assert text.endswith(f"report    {results / 'report.html'}\n")
    assert "best layers of the 3 largest regions (eReg on test, mean over subjects; chosen on train):" in text
    regions = ("V1", "EVC", "OTC")  # V4 has the voxels of one subject only
    for line, region in zip(lines_of(text), regions, strict=True):
        model, layer, test, ceiling = chosen_by_hand(models, "eReg", region)
        assert line == (model, layer, region, f"{test:.3f}", f"{ceiling:.3f}")


def test_rdms_alone_show_their_first_regions(results):
    text = (results / "rdms" / "summary.txt").read_text()
    assert "best layers of the 3 first regions (cRSA on test" in text
    assert "15 of 288 scores are undefined" in text
    assert [line[2] for line in lines_of(text)] == ["V1", "V4", "EVC"]


@pytest.mark.parametrize("metrics, shown", [(["eRSA"], "eRSA"), (["cRSA", "eRSA"], "eRSA"), (["cRSA"], "cRSA")])
def test_it_shows_what_was_computed(make, build, tmp_path, metrics, shown):
    ds = make().sel(metric=metrics)
    text = text_of(build, [ds], tmp_path)
    assert f"({shown} on test" in text
    assert lines_of(text)[0][:2] == chosen_by_hand([ds], shown, "V1")[:2]


def test_two_regions_give_the_runner_up_model_the_third_line(make, build, tmp_path):
    made = [
        make(uid, regions=("V1", "OTC"), missing_pairs=(), amplitude=a) for uid, a in (("weak", 0.3), ("good", 0.6))
    ]
    text = text_of(build, made, tmp_path)
    assert "best layers (eReg" in text
    assert [(line[0], line[2]) for line in lines_of(text)] == [("good", "V1"), ("good", "OTC"), ("weak", "V1")]


def test_one_region_of_one_model_gives_its_three_best_layers(make, build, tmp_path):
    ds = make(regions=("V1",), missing_pairs=())
    train = to_tidy(ds).query("metric == 'eReg' and cv_split == 'train'").groupby("model_layer").score.mean()
    lines = lines_of(text_of(build, [ds], tmp_path))
    assert [line[1] for line in lines] == train.sort_values(ascending=False).index[:3].tolist()


def test_it_says_when_models_were_compared_with_the_best_only(make, build, tmp_path, monkeypatch):
    made = [make(uid, 2, regions=("V1",), missing_pairs=()) for uid in ("a", "b")]
    said = "every model against the best of each region"
    assert said not in text_of(build, made, tmp_path)
    monkeypatch.setattr("deepjuice.results.summary.MAX_ALL_PAIRS", 1)
    assert said in text_of(build, made, tmp_path)


def test_nothing_defined_is_said(make, build, tmp_path):
    ds = make().copy(deep=True)
    ds["score"][:] = float("nan")
    text = text_of(build, [ds], tmp_path)
    assert "none: no test score is defined" in text and "scores are undefined (NaN)" in text
    assert pd.read_csv(tmp_path / "toy" / "best_layers.csv")["score_test"].isna().all()

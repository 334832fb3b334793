from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from deepjuice.results import aggregate, best_layers, merge, read_scores, summary_text, to_tidy, write_scores
from juicyfruits.errors import InputError


def write_all(datasets, folder):
    return [write_scores(ds, folder / f"{ds.attrs['model_uid']}.nc") for ds in datasets]


def test_aggregate_against_pandas_by_hand(models, tmp_path):
    written = aggregate(write_all(models, tmp_path / "scores"), tmp_path / "toy")
    assert sorted(p.name for p in (tmp_path / "toy").iterdir()) == sorted(written)
    by_hand = pd.concat([to_tidy(ds) for ds in models], ignore_index=True)
    tidy = pd.read_parquet(written["scores.parquet"])
    pd.testing.assert_frame_equal(tidy, by_hand, check_dtype=False)
    pd.testing.assert_frame_equal(to_tidy(read_scores(written["scores.nc"])), by_hand)
    best = pd.read_csv(written["best_layers.csv"])
    pd.testing.assert_frame_equal(best, best_layers(by_hand), check_dtype=False, rtol=1e-5)


def test_aggregate_holds_the_layers_of_all_models_and_no_voxels(models, tmp_path):
    written = aggregate(write_all(models, tmp_path / "scores"), tmp_path / "toy")
    ds = read_scores(written["scores.nc"])
    assert "neuroid" not in ds.dims
    assert ds.sizes["layer"] == 6 + 9 + 6
    assert ds.model.values.tolist() == ["net_a", "net_b", "net_a_random"]
    one = ds.isel(layer=ds.model_uid.values == "net_b")
    xr.testing.assert_equal(one["score"].drop_vars("model_uid"), models[1]["score"])
    np.testing.assert_array_equal(ds["ceiling"], models[0]["ceiling"])
    assert ds["n_neuroids"].sel(region="V4").values.tolist() == [5, 0]
    assert ds.attrs["benchmark"] == "toy" and "wall_time_score" not in ds.attrs
    assert json.loads(ds["model_attrs"].sel(model="net_b").item())["wall_time_score"] == 3.0


def test_aggregate_of_rdms_only(rdm_models, tmp_path):
    for name in ("score", "score_normalized"):  # undefined in one model, measured in both
        rdm_models[0][name].loc[{"region": "V4", "subject": "subj01"}] = np.nan
    for ds in rdm_models:  # so that only the other model's scores tell
        ds["ceiling"].loc[{"region": "V4", "subject": "subj01"}] = np.nan
    written = aggregate(write_all(rdm_models, tmp_path / "scores"), tmp_path / "rdms")
    tidy = pd.read_parquet(written["scores.parquet"])
    assert len(tidy) == (5 + 7) * 4 * 2 * 3 and tidy.score.isna().sum() == 5 * 3
    text = written["summary.txt"].read_text()
    assert "cRSA on test" in text and "15 of 288 scores are undefined" in text


def test_one_model_is_an_aggregate_too(make, tmp_path):
    written = aggregate(write_all([make(n_layers=1)], tmp_path), tmp_path / "toy")
    assert len(pd.read_parquet(written["scores.parquet"])) == len(to_tidy(make(n_layers=1)))


def test_summary_names_places_and_the_three_best(models, tmp_path):
    written = aggregate(write_all(models, tmp_path / "scores"), tmp_path / "toy", report=tmp_path / "page.html")
    text = written["summary.txt"].read_text()
    for name in ("scores.parquet", "best_layers.csv", "scores.nc"):
        assert str(tmp_path / "toy" / name) in text
    assert text.endswith(f"report    {tmp_path / 'page.html'}\n")
    tidy = pd.concat([to_tidy(ds) for ds in models])
    cells = tidy[tidy.metric == "eReg"].groupby(["model_uid", "region", "model_layer", "cv_split"]).score.mean()
    cells = cells.unstack("cv_split").reset_index()
    chosen = cells.loc[cells.groupby(["model_uid", "region"]).train.idxmax()].sort_values("test", ascending=False)
    lines = [line.split() for line in text.splitlines() if line.strip()[:2] in ("1.", "2.", "3.")]
    expected = chosen.head(3)[["model_uid", "model_layer", "region"]].to_numpy().tolist()
    assert [line[1:4] for line in lines] == expected
    assert [float(line[4]) for line in lines] == pytest.approx(chosen.test.head(3).tolist(), abs=5e-4)


def test_summary_of_several_benchmarks(models, rdm_models, tmp_path):
    aggregate(write_all(models, tmp_path / "a"), tmp_path / "toy")
    aggregate(write_all(rdm_models, tmp_path / "b"), tmp_path / "rdms")
    text = summary_text([tmp_path / "toy", tmp_path / "rdms"], "report.html")
    assert text.count("best layers") == 2 and text.count("report.html") == 1
    assert text.startswith("toy: 3 models, 21 layers, 4 regions, 2 subjects\n")


DIFFERENT = {
    "benchmark": lambda make: make("net_b", benchmark="other"),
    "regions": lambda make: make("net_b", regions=("V1", "V4", "EVC", "IT")),
    "subjects": lambda make: make("net_b", subjects=("subj01", "subj03"), missing_pairs=(("V4", "subj03"),)),
    "voxels": lambda make: make("net_b", voxels_per_pair=6),
    "metrics": lambda make: make("net_b").isel(metric=[0, 1]),
    "ceilings": lambda make: make("net_b").assign(ceiling=make("net_b")["ceiling"] * 0.9),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_files_that_do_not_belong_together_are_told(make, tmp_path, what):
    first, second = write_all([make("net_a"), DIFFERENT[what](make)], tmp_path / "scores")
    with pytest.raises(InputError, match=f"net_b.nc: {what}.* differ") as caught:
        aggregate([first, second], tmp_path / "toy")
    assert str(first) in str(caught.value)
    assert not (tmp_path / "toy").exists()


def test_other_misuse(make, tmp_path):
    with pytest.raises(InputError, match="No score files"):
        aggregate([], tmp_path / "toy")
    path = write_scores(make(), tmp_path / "a.nc")
    with pytest.raises(InputError, match="'net_a' was already read"):
        aggregate([path, path], tmp_path / "toy")
    whole = aggregate([path], tmp_path / "toy")["scores.nc"]
    with pytest.raises(InputError, match="aggregate of several models"):
        aggregate([whole], tmp_path / "again")


def test_an_error_while_writing_leaves_the_old_tables(models, tmp_path, monkeypatch):
    paths = write_all(models, tmp_path / "scores")
    written = aggregate(paths, tmp_path / "toy")
    before = written["scores.parquet"].read_bytes()

    def fail_late(frame, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail_late)
    with pytest.raises(OSError, match="disk full"):
        aggregate(paths[:1], tmp_path / "toy")
    assert written["scores.parquet"].read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "toy").iterdir()) == sorted(written)


def test_only_one_model_has_its_voxels_in_memory(models, tmp_path, monkeypatch):
    parts = []
    real = merge._read_region_level
    monkeypatch.setattr(merge, "_read_region_level", lambda path: parts.append(real(path)) or parts[-1])
    aggregate(write_all(models, tmp_path / "scores"), tmp_path / "toy")
    assert len(parts) == 3
    assert not any("neuroid" in variable.dims for part, _ in parts for variable in part.variables.values())

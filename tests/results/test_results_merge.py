from __future__ import annotations

import json
import tracemalloc

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr
from aggregate_oracle import tables

from deepjuice.results import COMPARISON_COLUMNS, aggregate, best_layers, merge, read_scores, to_tidy, write_scores
from deepjuice.results.merge import TABLES
from juicyfruits.errors import InputError


@pytest.mark.parametrize("benchmark, uids", [("toy", ("net_a", "net_b", "net_a_random")), ("rdms", ("a", "b"))])
def test_tables_made_model_by_model_are_those_made_at_once(results, benchmark, uids):
    folder = results / benchmark
    expected = tables([folder / "scores" / f"{uid}.nc" for uid in uids])
    xr.testing.assert_identical(read_scores(folder / "scores.nc"), expected["scores.nc"])
    for name in ("scores.parquet", "comparisons.parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(folder / name), expected[name], check_exact=True)
    best = expected["best_layers.csv"].to_csv(index=False, float_format="%.6g")
    assert (folder / "best_layers.csv").read_text() == best


def test_aggregate_against_pandas_by_hand(models, results):
    by_hand = pd.concat([to_tidy(ds) for ds in models], ignore_index=True)
    tidy = pd.read_parquet(results / "toy" / "scores.parquet")
    pd.testing.assert_frame_equal(tidy, by_hand, check_dtype=False)
    pd.testing.assert_frame_equal(to_tidy(read_scores(results / "toy" / "scores.nc")), by_hand)
    best = pd.read_csv(results / "toy" / "best_layers.csv")
    of_subjects = best[best.subj_id != "mean"].reset_index(drop=True)
    nested = ["ci_low", "ci_high"]  # these are of the choice, see below
    expected = best_layers(by_hand).drop(columns=nested)
    pd.testing.assert_frame_equal(of_subjects.drop(columns=nested), expected, check_dtype=False, rtol=1e-5)


def test_the_best_layers_carry_intervals_of_the_choice_for_subjects_and_their_mean(models, results):
    best = pd.read_csv(results / "toy" / "best_layers.csv")
    assert len(best) == 3 * 3 * (7 + 4)  # models, metrics, measured pairs and their means over subjects
    for row in best.itertuples():
        ds = next(ds for ds in models if ds.attrs["model_uid"] == row.model_uid)
        cell = ds.sel(metric=row.metric, region=row.region, best_of=row.subj_id)
        assert (row.ci_low, row.ci_high) == pytest.approx((cell.best_ci_low.item(), cell.best_ci_high.item()), rel=1e-5)
    means = best[best.subj_id == "mean"]
    assert means.groupby("region").ci_over.first().to_dict() == {
        **dict.fromkeys(["V1", "EVC", "OTC"], "stimuli"),
        "V4": "stimuli and subjects",
    }
    assert set(best[best.subj_id != "mean"].ci_over) == {"stimuli"}


def test_every_two_models_are_compared_on_the_same_resamples(models, results):
    compared = pd.read_parquet(results / "toy" / "comparisons.parquet")
    assert tuple(compared.columns) == COMPARISON_COLUMNS and len(compared) == 3 * 3 * (7 + 4)
    best = pd.read_csv(results / "toy" / "best_layers.csv").set_index(["model_uid", "metric", "region", "subj_id"])
    by_uid = {ds.attrs["model_uid"]: ds["best_resamples"] for ds in models}
    for row in compared.itertuples():
        at = (row.metric, row.region, row.subj_id)
        assert row.score_a == pytest.approx(best.score_test[(row.model_a, *at)], rel=1e-5)
        assert row.difference == pytest.approx(row.score_a - row.score_b, abs=1e-6)
        assert row.ci_over == best.ci_over[(row.model_a, *at)]
        cell = dict(zip(("metric", "region", "best_of"), at, strict=True))
        spread = (by_uid[row.model_a].sel(cell) - by_uid[row.model_b].sel(cell)).values.astype(np.float64)
        p = 2 * scipy.stats.t.sf(abs(row.difference) / spread.std(), 29)
        assert row.p_value == pytest.approx(p, rel=1e-4)
        assert row.ci_low < spread.mean() < row.ci_high
    np.testing.assert_allclose(compared.q_value, scipy.stats.false_discovery_control(compared.p_value))


def test_aggregate_holds_the_layers_of_all_models_and_no_voxels(models, results):
    ds = read_scores(results / "toy" / "scores.nc")
    assert "neuroid" not in ds.dims
    assert ds.sizes["layer"] == 6 + 9 + 6
    assert ds.model.values.tolist() == ["net_a", "net_b", "net_a_random"]
    one = ds.isel(layer=ds.model_uid.values == "net_b")
    xr.testing.assert_equal(one["score"].drop_vars("model_uid"), models[1]["score"])
    np.testing.assert_array_equal(ds["ceiling"], models[0]["ceiling"])
    assert ds["n_neuroids"].sel(region="V4").values.tolist() == [5, 0]
    assert ds.attrs["benchmark"] == "toy" and "wall_time_score" not in ds.attrs
    assert json.loads(ds["model_attrs"].sel(model="net_b").item())["wall_time_score"] == 3.0


def test_a_pair_undefined_in_one_model_is_known_by_another(results):
    tidy = pd.read_parquet(results / "rdms" / "scores.parquet")
    assert len(tidy) == (5 + 7) * 4 * 2 * 3 and tidy.score.isna().sum() == 5 * 3


def test_one_model_with_one_layer_is_an_aggregate_too(make, build, tmp_path):
    written = build([make(n_layers=1)], tmp_path)
    assert len(pd.read_parquet(written["scores.parquet"])) == len(to_tidy(make(n_layers=1)))
    assert sorted(p.name for p in (tmp_path / "toy").iterdir()) == sorted([*written, "scores"])


@pytest.mark.parametrize("order", [1, -1])
def test_names_of_every_width_are_kept_whole(make, build, tmp_path, order):
    """A file's text has the width of its longest name; the merged table must hold the longest of all files."""
    wide = make("a_model_with_a_long_name", 7)
    wide["layer"] = [f"AdaptiveAvgPool2d-2-{i}" for i in range(7)]
    wide["layer_path"] = ("layer", [f"features.blocks.{i}.average_pooling" for i in range(7)])
    made = [make("m", 3), wide][::order]
    path = build(made, tmp_path)["scores.nc"]
    merged = read_scores(path)
    for ds in made:
        one = merged.isel(layer=merged["model_uid"].values == ds.attrs["model_uid"])
        for name in ("layer", "layer_path", "layer_index", "layer_depth", "score", "score_normalized", "n_features"):
            np.testing.assert_array_equal(one[name].values, ds[name].values)
    assert merged["model"].values.tolist() == [ds.attrs["model_uid"] for ds in made]
    by_hand = pd.concat([to_tidy(ds) for ds in made], ignore_index=True)
    pd.testing.assert_frame_equal(to_tidy(merged), by_hand)
    again = read_scores(write_scores(merged, tmp_path / "again.nc"))
    xr.testing.assert_identical(again, merged)


DIFFERENT = {
    "benchmark": lambda make: make("net_b", benchmark="other"),
    "regions": lambda make: make("net_b", regions=("V1", "V4", "EVC", "IT")),
    "subjects": lambda make: make("net_b", subjects=("subj01", "subj03"), missing_pairs=(("V4", "subj03"),)),
    "voxels": lambda make: make("net_b", voxels_per_pair=6),
    "metrics": lambda make: make("net_b").isel(metric=[0, 1]),
    "best_of": lambda make: make("net_b").isel(best_of=[1, 0, 2]),
    "resamples": lambda make: make("net_b").isel(resample=slice(30)),
    "bins": lambda make: make("net_b").assign_coords({n: make("net_b")[n] * 2 for n in ("bin_low", "bin_high")}),
    "ceilings": lambda make: make("net_b").assign(ceiling=make("net_b")["ceiling"] * 0.9),
}


def test_scores_of_older_data_are_refused(make, tmp_path):
    made = [
        make(uid).assign_attrs(attrs)
        for uid, attrs in (
            ("net_a", {"benchmark_digest": "new"}),
            ("net_b", {}),
            ("net_c", {"benchmark_digest": "old"}),
        )
    ]
    paths = [write_scores(ds, tmp_path / f"{ds.attrs['model_uid']}.nc") for ds in made]
    aggregate(paths[:2], tmp_path / "out")  # a file that does not say is believed
    with pytest.raises(InputError, match=r"net_c\.nc: benchmark_digest old differs from new in .*net_a\.nc.* again"):
        aggregate(paths, tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


@pytest.mark.parametrize("what", DIFFERENT)
def test_files_that_do_not_belong_together_are_told(make, results, tmp_path, what):
    first = results / "toy" / "scores" / "net_a.nc"
    second = write_scores(DIFFERENT[what](make), tmp_path / "net_b.nc")
    with pytest.raises(InputError, match=rf"net_b\.nc: {what}.* differ") as caught:
        aggregate([first, second], tmp_path / "toy")
    assert str(first) in str(caught.value)
    assert not (tmp_path / "toy").exists()


def test_other_misuse(results, tmp_path):
    with pytest.raises(InputError, match="No score files"):
        aggregate([], tmp_path / "toy")
    path = results / "toy" / "scores" / "net_a.nc"
    with pytest.raises(InputError, match="'net_a' was already read"):
        aggregate([path, path], tmp_path / "toy")
    with pytest.raises(InputError, match="aggregate of several models"):
        aggregate([results / "toy" / "scores.nc"], tmp_path / "again")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", TABLES)
def test_a_folder_in_a_table_s_place_is_left_alone(results, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match=name):
        aggregate([results / "toy" / "scores" / "net_a.nc"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "thesis.txt").read_text() == "dear"


def test_an_error_at_the_very_end_leaves_all_old_tables(results, tmp_path, monkeypatch):
    for name in TABLES:
        (tmp_path / name).write_text("old")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(merge, "summary", fail)
    with pytest.raises(OSError, match="disk full"):
        aggregate([results / "toy" / "scores" / "net_a.nc"], tmp_path, progress=False)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(TABLES, "old")


def test_arrays_of_voxels_and_layers_are_not_read(results, tmp_path):
    path = tmp_path / "net_a.nc"
    path.write_bytes((results / "toy" / "scores" / "net_a.nc").read_bytes())
    with h5py.File(path) as file:
        chunks = [file[name].id.get_chunk_info(0) for name in ("encoding", "alpha", "eigenspectrum")]
    with path.open("r+b") as file:
        for chunk in chunks:
            file.seek(chunk.byte_offset)
            file.write(b"x" * chunk.size)
    with pytest.raises(InputError, match="no readable NetCDF4"):
        read_scores(path)
    assert len(pd.read_parquet(aggregate([path], tmp_path / "toy", progress=False)["scores.parquet"]))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_models(make, tmp_path):
    """Six models take little more than two: the rows of the small tables, and not the layers."""
    paths = [write_scores(make(f"net_{i}", 80), tmp_path / f"{i}.nc") for i in range(6)]
    aggregate(paths[:2], tmp_path / "toy", progress=False)  # what is imported does not count
    peaks = []
    for some in (paths[:2], paths):
        tracemalloc.start()
        aggregate(some, tmp_path / "toy", progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.4 * peaks[0]

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from deepjuice.results import SCHEMA_VERSION, check_scores, existing_cells, measured_pairs, read_scores, write_scores
from juicyfruits.errors import InputError


@pytest.mark.parametrize("rdm_only", [False, True])
def test_round_trip_gives_the_same_dataset(make, tmp_path, rdm_only):
    ds = make(rdm_only=rdm_only)
    path = write_scores(ds, tmp_path / "new" / "net_a.nc")
    back = read_scores(path)
    xr.testing.assert_identical(back, ds.assign_attrs(schema_version=SCHEMA_VERSION))
    assert {n: v.dtype.kind for n, v in back.variables.items()} == {n: v.dtype.kind for n, v in ds.variables.items()}
    assert back["score"].dtype == np.float32
    assert "schema_version" not in ds.attrs


def test_file_is_compressed_and_one_layer_a_chunk(make, tmp_path):
    ds = make(n_layers=20, voxels_per_pair=300)
    path = write_scores(ds, tmp_path / "a.nc")
    with xr.open_dataset(path, engine="h5netcdf") as raw:
        assert raw["encoding"].encoding["zlib"] and raw["alpha"].encoding["zlib"]
        assert raw["encoding"].encoding["chunksizes"] == (1, ds.sizes["neuroid"], 3)
    assert path.stat().st_size < ds.nbytes


def without(name):
    return lambda ds: ds.drop_vars(name)


def with_values(name, values):
    return lambda ds: ds.assign({name: (ds[name].dims, values)})


def with_attr(**attrs):
    return lambda ds: ds.assign_attrs(attrs)


def set_at(name, value, **where):
    def change(ds):
        ds = ds.copy(deep=True)
        ds[name].loc[where] = value
        return ds

    return change


BROKEN = {
    "missing variable": (without("score"), "variable 'score' is missing"),
    "missing coordinate": (without("layer_depth"), "coordinate 'layer_depth' is missing"),
    "missing per-voxel variable": (without("alpha"), "variable 'alpha' is missing"),
    "dims in another order": (
        lambda ds: ds.assign(encoding=ds["encoding"].transpose("neuroid", "layer", "split")),
        r"variable 'encoding' has dims \('neuroid', 'layer', 'split'\), expected \('layer', 'neuroid', 'split'\)",
    ),
    "wrong dtype": (lambda ds: ds.assign(score=ds["score"].astype("f8")), "variable 'score' has dtype float64"),
    "unknown variable": (lambda ds: ds.assign(scroe=ds["score"]), "variable 'scroe' is not in the schema"),
    "unknown coordinate": (lambda ds: ds.assign_coords(color="red"), "coordinate 'color' is not in the schema"),
    "another split": (lambda ds: ds.isel(split=[1, 0, 2]), "coordinate 'split' is"),
    "layer twice": (lambda ds: ds.isel(layer=[0, 1, 1]), "coordinate 'layer' holds 'Conv2d-1-2' more than once"),
    "no region": (lambda ds: ds.isel(region=[]), "dim 'region' is empty"),
    "depth out of range": (with_values("layer_depth", np.linspace(0, 1.2, 6)), "'layer_depth' leaves the range"),
    "depth unknown": (with_values("layer_depth", np.full(6, np.nan)), "'layer_depth' leaves the range"),
    "layers out of order": (with_values("layer_index", [0, 2, 1, 3, 4, 5]), "'layer_index' does not rise"),
    "voxel of a stranger": (lambda ds: ds.isel(subject=[0]), "'neuroid_subject' names 'subj02'"),
    "no benchmark": (with_attr(benchmark=""), "attribute 'benchmark' is missing"),
    "no model": (with_attr(model_uid=None), "attribute 'model_uid' is missing"),
    "attribute with structure": (with_attr(alphas=[1, 2]), r"attribute 'alphas' is \[1, 2\]"),
    "attribute true or false": (with_attr(pretrained=True), "attribute 'pretrained' is True"),
    "infinite score": (
        set_at("score", np.inf, metric="eReg", layer="Conv2d-1-1", region="V1", subject="subj01", split="test"),
        "variable 'score' holds an infinite value",
    ),
    "eReg on all": (
        set_at("score", 0.5, metric="eReg", layer="Conv2d-1-1", region="V1", subject="subj01", split="all"),
        r"variable 'score' has a value at \(eReg, Conv2d-1-1, V1, subj01, all\), where no cell exists",
    ),
    "score without voxels": (
        set_at("ci_low", 0.5, metric="cRSA", layer="Conv2d-1-2", region="V4", subject="subj02", split="test"),
        r"variable 'ci_low' has a value at \(cRSA, Conv2d-1-2, V4, subj02, test\)",
    ),
    "bins with a gap": (with_values("bin_low", [-np.inf, -4, -1, 0.5, 1, 4]), "no bins from -inf to inf"),
    "bins that end": (with_values("bin_high", [-4.0, -1, 0, 1, 4, 5]), "no bins from -inf to inf"),
    "a value not counted": (
        lambda ds: ds.assign(activation_histogram=ds["activation_histogram"] - (ds["bin_low"] == 0)),
        "'activation_histogram' does not count n_features values of every stimulus in each layer",
    ),
    "a stimulus less in a layer": (
        lambda ds: ds.assign(n_features=ds["n_features"] * np.array([1, 1, 1, 1, 1, 2])),
        "'activation_histogram' does not count n_features values of every stimulus",
    ),
    "negative counts": (
        lambda ds: ds.assign(activation_histogram=-ds["activation_histogram"]),
        "'activation_histogram' does not count",
    ),
    "encoding on all": (
        set_at("encoding", 0.5, layer="Conv2d-1-1", split="all"),
        "variable 'encoding' has values on split 'all'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_dataset_is_named_and_not_written(make, tmp_path, case):
    change, message = BROKEN[case]
    with pytest.raises(InputError, match=message) as caught:
        write_scores(change(make()), tmp_path / "a.nc")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_optional_coordinates_may_be_absent_but_not_wrong(make):
    check_scores(make().drop_vars("voxel_x"))
    with pytest.raises(InputError, match="'voxel_x' has dtype <U"):
        check_scores(make().assign_coords(voxel_x=("neuroid", ["a"] * make().sizes["neuroid"])))


def test_rdms_alone_cannot_have_fitted_metrics(make):
    ds = make(rdm_only=True)
    with pytest.raises(InputError, match="metric lists 'eReg' but there is no dim 'neuroid'"):
        check_scores(ds.assign_coords(metric=["eReg"]))


def test_unreadable_files_are_told_apart(make, tmp_path):
    with pytest.raises(InputError, match="No score file at"):
        read_scores(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("not a NetCDF file")
    with pytest.raises(InputError, match=r"text\.nc is no readable NetCDF4"):
        read_scores(tmp_path / "text.nc")
    whole = write_scores(make(), tmp_path / "whole.nc").read_bytes()
    (tmp_path / "half.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"half\.nc is no readable NetCDF4"):
        read_scores(tmp_path / "half.nc")
    make().assign_attrs(part="2/3").to_netcdf(tmp_path / "part.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="is part 2/3 of a model's scores; 'deepjuice join'"):
        read_scores(tmp_path / "part.nc")
    make().assign_attrs(schema_version=0).to_netcdf(tmp_path / "old.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="has schema version 0, not 3"):
        read_scores(tmp_path / "old.nc")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # h5netcdf's, closing what never opened
def test_a_file_with_flipped_bytes_is_named(make, tmp_path):
    whole = write_scores(make(), tmp_path / "whole.nc").read_bytes()
    refused = 0
    for seed in range(40):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[np.random.default_rng(seed).integers(len(whole), size=10)] ^= 0xFF  # some may lie in unused room
        (tmp_path / "damaged.nc").write_bytes(damaged.tobytes())
        try:
            read_scores(tmp_path / "damaged.nc")
        except InputError as error:
            refused += 1
            assert str(tmp_path / "damaged.nc") in str(error)
    assert refused > 20


def test_names_longer_than_those_of_the_file_read_before_are_written_whole(make, tmp_path):
    ds = read_scores(write_scores(make(), tmp_path / "short.nc"))
    longer = [f"{uid}-with-a-longer-name" for uid in ds["layer"].values]
    ds["layer"] = ("layer", longer, ds["layer"].attrs, ds["layer"].encoding)
    assert read_scores(write_scores(ds, tmp_path / "long.nc"))["layer"].values.tolist() == longer


def test_a_failing_write_leaves_what_was_there(make, tmp_path, monkeypatch):
    path = write_scores(make(), tmp_path / "a.nc")
    before = path.read_bytes()
    real = xr.Dataset.to_netcdf

    def fail_late(ds, target, **kwargs):
        real(ds, target, **kwargs)
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail_late)
    with pytest.raises(OSError, match="disk full"):
        write_scores(make(seed=1), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]


def test_measured_pairs_come_from_voxels_scores_or_the_variable(make):
    assert measured_pairs(make()).values.tolist() == [[True, True], [True, False], [True, True], [True, True]]
    rdms = make(rdm_only=True)
    assert not measured_pairs(rdms).sel(region="V4", subject="subj02")
    stated = rdms.assign(measured=(("region", "subject"), np.ones((4, 2), dtype=bool)))
    check_scores(stated)
    assert measured_pairs(stated).all()


def test_existing_cells(make):
    cells = existing_cells(make())
    for metric in ("eReg", "cRSA", "eRSA"):
        for region in ("V1", "V4"):
            for subject in ("subj01", "subj02"):
                for split in ("train", "test", "all"):
                    expected = (metric == "cRSA" or split != "all") and (region, subject) != ("V4", "subj02")
                    where = {"metric": metric, "region": region, "subject": subject, "split": split}
                    assert bool(cells.sel(where)) == expected, where


@pytest.mark.parametrize("labels", [("subj01", "other", "mean"), ("subj01", "subj02", "all")])
def test_the_best_layers_are_those_of_the_subjects_and_of_their_mean(make, labels):
    with pytest.raises(InputError, match=r"'best_of' is .* expected every subject and the mean"):
        check_scores(make().assign_coords(best_of=list(labels)))
    check_scores(make().isel(best_of=[2, 0, 1]))


def test_no_subject_may_be_called_as_the_mean_is(make):
    with pytest.raises(InputError, match="'mean', which stands for the mean over subjects; rename that subject"):
        check_scores(make(subjects=("subj01", "mean"), missing_pairs=()))

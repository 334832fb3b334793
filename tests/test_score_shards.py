"""One model's scoring divided by ranges of layers: parts joined are what undivided scoring writes, to the bit."""

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import nn

from deepjuice import ScoreSettings, extract_features, score_model
from deepjuice.benchmark import Part, join_parts, score_part
from deepjuice.cli import main
from deepjuice.results import read_scores, write_scores
from deepjuice.scoring.parts import open_parts, write_part
from juicyfruits import write_benchmark
from juicyfruits.errors import InputError
from tests.tiny_net import to_tensor

N = 26
LAYERS = ("Conv2d", "ReLU", "Scale", "Scale", "MaxPool2d", "Linear")
SETTINGS = ScoreSettings(alphas=(0.1, 10.0, 1e3, 1e5), n_bootstraps=40, n_permutations=30, seed=3)
PLAIN = ScoreSettings(alphas=SETTINGS.alphas, n_bootstraps=0, n_permutations=0)


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


class Net(nn.Module):
    """The doubled layer scores as the one before it, and the dead one has no RDM: both at borders of parts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.twice, self.dead = nn.Conv2d(3, 8, 3), nn.ReLU(), Scale(2.0), Scale(0.0)
        self.pool, self.linear = nn.MaxPool2d(2), nn.Linear(72, 6)

    def forward(self, x):
        x = self.twice(self.relu(self.conv(x)))
        self.dead(x)
        return self.linear(self.pool(x).flatten(1))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(N)]


def make_benchmark(folder, pictures, n_subjects, seed=1):
    """Six neuroids a subject; the last subject has no V1."""
    rng = np.random.default_rng(seed)
    n = 6 * n_subjects
    neuroids = pd.DataFrame({"neuroid_id": [f"n{i}" for i in range(n)], "subject": [f"s{i // 6}" for i in range(n)]})
    neuroids["roi_V1"] = [1, 1, 1, 1, 0, 0] * (n_subjects - 1) + [0] * 6
    neuroids["roi_IT"] = [0, 0, 1, 1, 1, 1] * n_subjects
    neuroids["ncsnr"] = rng.uniform(0.2, 2, n)
    signal = np.stack([p.reshape(-1) for p in pictures]) @ rng.standard_normal((192, n)) / 1000
    responses = signal.T[:, :, None] + rng.standard_normal((n, N, 2)) * 0.5
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i:02d}" for i in range(N)]})
    return write_benchmark(folder, stimuli, pictures, neuroids=neuroids, responses=responses)


def make_rdms(folder, pictures):
    """Nobody measured V4 of the human."""
    rng = np.random.default_rng(2)
    rdms = {name: 1 - np.corrcoef(rng.standard_normal((N, 12))) for name in ("human", "monkey")}
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i:02d}" for i in range(N)]})
    return write_benchmark(folder, stimuli, pictures, rdms={"IT": rdms, "V4": {"monkey": rdms["monkey"] ** 2}})


def make_store(benchmark, out, **options):
    given = {"model_uid": "tiny", "eps": 0.9, "device": "cpu", "progress": False} | options
    stimuli = {"stimulus_digest": benchmark.stimulus_digest}
    return extract_features(Net(), to_tensor, benchmark.image_paths, out, **stimuli, **given)


@pytest.fixture(scope="module")
def benchmarks(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {
        "two subjects": make_benchmark(folder / "two", pictures, 2),
        "seven subjects": make_benchmark(folder / "seven", pictures, 7),
        "RDMs": make_rdms(folder / "rdms", pictures),
    }


@pytest.fixture(scope="module")
def store(benchmarks, tmp_path_factory):
    made = make_store(benchmarks["two subjects"], tmp_path_factory.mktemp("features") / "tiny.zarr")
    assert [record.class_name for record in made.maps] == list(LAYERS)
    return made


@pytest.fixture(scope="module")
def two(benchmarks, store, tmp_path_factory):
    """The files of two parts."""
    folder = tmp_path_factory.mktemp("parts")
    return [divided(store, benchmarks["two subjects"], k, 2, folder) for k in (1, 2)]


def divided(store, benchmark, k, n, folder, settings=SETTINGS):
    part = score_part(store, benchmark, Part(k, n), settings, "cpu", progress=False)
    return write_part(part, folder / f"{k}of{n}.nc")


def joined(paths):
    with open_parts(paths) as parts:
        return join_parts(parts)


def assert_same(found, expected):
    """To the bit, in all but the wall time."""
    assert set(found.variables) == set(expected.variables) and set(found.coords) == set(expected.coords)
    for name, values in expected.variables.items():
        other = found.variables[name]
        assert (other.dims, other.dtype, other.attrs) == (values.dims, values.dtype, values.attrs), name
        if values.dtype.kind in "fiub":
            assert other.values.tobytes() == values.values.tobytes(), name
        else:
            assert other.values.tolist() == values.values.tolist(), name
    attrs = [{k: v for k, v in ds.attrs.items() if k != "wall_time_score_s"} for ds in (found, expected)]
    assert attrs[0] == attrs[1]


@pytest.mark.parametrize("settings", [SETTINGS, PLAIN], ids=["resampled", "plain"])
@pytest.mark.parametrize("brain", ["two subjects", "seven subjects", "RDMs"])
def test_parts_joined_equal_the_undivided_scores_to_the_bit(benchmarks, store, tmp_path, brain, settings):
    whole = score_model(store, benchmarks[brain], settings, "cpu", progress=False)
    assert whole["subjects_resampled"].any() == (brain == "seven subjects" and settings is SETTINGS)
    assert whole["best_resamples"].notnull().any() == whole["p_max"].notnull().any() == (settings is SETTINGS)
    for n in (1, 2, 3, len(LAYERS), len(LAYERS) + 3):
        parts = [
            score_part(store, benchmarks[brain], Part(k, n), settings, "cpu", progress=False) for k in range(1, n + 1)
        ]
        table = join_parts(parts)
        assert_same(table, whole)
        seconds = sum(part.attrs["wall_time_score_s"] for part in parts)
        assert table.attrs["wall_time_score_s"] == pytest.approx(seconds)
    paths = [write_part(part, tmp_path / f"{k}.nc") for k, part in enumerate(parts)]  # some of them empty
    from_files = joined(paths[::-1])
    assert_same(from_files, whole)
    written = [write_scores(ds, tmp_path / f"{name}.nc") for name, ds in (("joined", from_files), ("whole", whole))]
    assert_same(*map(read_scores, written))


def test_the_network_has_equal_layers_and_one_without_scores(benchmarks, store):
    whole = score_model(store, benchmarks["two subjects"], SETTINGS, "cpu", progress=False)
    train = whole["score"].sel(split="train")
    xr.testing.assert_equal(train.isel(layer=1, drop=True), train.isel(layer=2, drop=True))
    assert train.isel(layer=3).sel(metric="cRSA").isnull().all()
    assert train.isel(layer=[0, 1, 2, 4, 5]).sel(region="IT").notnull().all()


def test_of_equal_layers_in_two_parts_the_first_stays(benchmarks, store):
    parts = [score_part(store, benchmarks["two subjects"], Part(k, 2), SETTINGS, "cpu", False) for k in (1, 2)]
    parts[1]["best_train"] = parts[0]["best_train"]
    parts[1]["best_test"] = parts[0]["best_test"] + 1
    expected = join_parts([score_part(store, benchmarks["two subjects"], Part(1, 2), SETTINGS, "cpu", False)])
    xr.testing.assert_equal(join_parts(parts)["best_resamples"], expected["best_resamples"])


@pytest.mark.parametrize("n_layers", [1, 2, 7, 159])
def test_ranges_are_contiguous_nearly_equal_and_hold_every_layer_once(n_layers):
    for of in (1, 2, 3, 8, 200):
        ranges = [range(n_layers)[Part(k, of).layers(n_layers)] for k in range(1, of + 1)]
        assert [layer for one in ranges for layer in one] == list(range(n_layers))
        assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "a/b", "2", "1/3/5", "1.5/3", "-1/3", " 1/3", ""])
def test_a_part_that_cannot_be_is_told_before_anything_runs(tmp_path, capsys, text):
    assert main(["score", "no.zarr", "no", str(tmp_path / "out.nc"), f"--part={text}"]) == 2
    error = capsys.readouterr().err.strip()
    assert f"{text}" in error and "expected K/N with" in error and len(error.splitlines()) == 1


def test_the_command_line_scores_parts_and_joins_them(benchmarks, store, tmp_path, capsys):
    words = [str(store.path), str(benchmarks["two subjects"].folder)]
    options = ["--device", "cpu", "--n-bootstraps", "40", "--n-permutations", "0", "--alphas", "1", "10"]
    assert main(["score", *words, str(tmp_path / "whole.nc"), *options]) == 0
    parts = [str(tmp_path / f"part{k}.nc") for k in (1, 2, 3)]
    for k, out in enumerate(parts, 1):
        assert main(["score", *words, out, *options, "--part", f"{k}/3"]) == 0
    assert main(["join", str(tmp_path / "joined.nc"), *parts]) == 0
    assert_same(read_scores(tmp_path / "joined.nc"), read_scores(tmp_path / "whole.nc"))
    capsys.readouterr()
    assert main(["join", str(tmp_path / "no.nc"), *parts[:2]]) == 2
    assert "3/3" in capsys.readouterr().err and not (tmp_path / "no.nc").exists()
    assert main(["join", parts[0], *parts]) == 2
    assert "part1.nc is one of the parts" in capsys.readouterr().err
    with pytest.raises(InputError, match="part1"):  # a part is no score file
        read_scores(parts[0])


def refused(paths):
    with pytest.raises(InputError) as error:
        joined(paths)
    return str(error.value)


def test_missing_repeated_and_other_divisions_are_refused(benchmarks, store, two, tmp_path):
    benchmark = benchmarks["two subjects"]
    assert "'2/2' are missing" in refused(two[:1])
    assert refused([*two, two[1]]).startswith(f"{two[1]}: part 2/2 was already read from")
    third = divided(store, benchmark, 3, 3, tmp_path)
    assert refused([*two, third]).startswith(f"{third}: part 3/3, but 1/2 in {two[0]}")
    assert "No parts" in refused([])


def test_parts_of_another_store_benchmark_setting_or_version_are_refused(
    benchmarks, store, pictures, two, tmp_path, monkeypatch
):
    benchmark, folder = benchmarks["two subjects"], tmp_path
    other_data = make_benchmark(tmp_path / "two", pictures, 2, seed=9)
    other_store = make_store(benchmark, tmp_path / "eps.zarr", eps=0.95)
    other_model = make_store(benchmark, tmp_path / "net.zarr", model_uid="net")
    other_settings = ScoreSettings(alphas=SETTINGS.alphas, n_bootstraps=40, n_permutations=30, seed=4)
    for name, arguments in {
        "benchmark_digest": (store, other_data, SETTINGS),
        "features_digest": (other_store, benchmark, SETTINGS),
        "model_uid": (other_model, benchmark, SETTINGS),
        "config_digest": (store, benchmark, other_settings),
    }.items():
        other = divided(*arguments[:2], 2, 2, folder, arguments[2])
        said = refused([two[0], other])
        assert said.startswith(f"{other}: {name} is ") and str(two[0]) in said
    monkeypatch.setattr("deepjuice.versions.SCORE", 99)
    assert refused(two).startswith(f"{two[0]}: expected a part by version 99")


def test_files_that_are_no_parts_are_refused_by_name(benchmarks, store, two, tmp_path):
    absent = tmp_path / "absent.nc"
    assert refused([two[0], absent]).startswith(f"No part at {absent}")
    scores = score_model(store, benchmarks["two subjects"], PLAIN, "cpu", progress=False)
    whole = write_scores(scores, tmp_path / "whole.nc")
    assert refused([two[0], whole]).startswith(f"{whole} is no part")
    odd = tmp_path / "odd.nc"
    odd.write_bytes(two[1].read_bytes())
    with h5py.File(odd, "r+") as file:
        file.attrs["part"] = "second"
    assert refused([two[0], odd]).startswith(f"{odd}: part 'second': expected K/N")
    for size in (0, 1000, two[1].stat().st_size // 2, two[1].stat().st_size - 1):
        cut = tmp_path / "cut.nc"
        cut.write_bytes(two[1].read_bytes()[:size])
        assert refused([two[0], cut]).startswith(f"{cut} cannot be read as NetCDF4")


def test_a_part_is_written_whole_or_not_at_all(two, tmp_path, monkeypatch):
    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    with open_parts(two) as parts:
        monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
        with pytest.raises(OSError, match="No space left"):
            write_part(parts[0], tmp_path / "part.nc")
    assert not list(tmp_path.iterdir())

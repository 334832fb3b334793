"""Statistics that stream, against the same sums over all images at once."""

import json

import numpy as np
import pytest
import torch

from deepjuice.alignment.encoding.streaming import RidgeStatistics, gather_statistics
from juicyfruits.errors import InputError
from tests.alignment.simulation import simulated

N, P, T, K = 61, 7, 5, 4
FOLDS = np.random.default_rng(3).integers(0, K, N)


def whole(X, Y, folds, n_folds=K):
    """Every fold's statistics by NumPy, from all its images at once."""
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    parts = {name: [] for name in ("count", "x_mean", "y_mean", "y_squares", "gram", "cross")}
    for fold in range(n_folds):
        x, y = X[folds == fold], Y[folds == fold]
        a, b = x - x.mean(0), y - y.mean(0)
        values = (len(x), x.mean(0), y.mean(0), (b**2).sum(0), a.T @ a, b.T @ a)
        for name, value in zip(parts, values, strict=True):
            parts[name].append(value)
    return {name: np.stack(value) for name, value in parts.items()}


def assert_statistics(stats, expected, rtol=1e-9):
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(getattr(stats, name), value, rtol=rtol, atol=rtol * scale, err_msg=name)


def gathered(X, Y, folds=FOLDS, step=13, **places):
    stats = RidgeStatistics(X.shape[1], Y.shape[1], K, **places)
    for start in range(0, len(X), step):
        stats.update(*(values[start : start + step] for values in (X, Y, folds)))
    return stats


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("step", [1, 13, N])
def test_batches_make_the_statistics_of_the_whole(dtype, step):
    X, Y = simulated(N, P, T, dtype=dtype, offset=100.0)
    stats = gathered(X, Y, step=step)
    assert_statistics(stats, whole(X, Y, FOLDS))
    assert stats.n_rows == N and stats.gram.dtype == torch.float64
    assert (stats.x_dtype, stats.y_dtype) == (torch.tensor(X).dtype,) * 2


def test_offsets_a_drift_and_any_scale_lose_nothing():
    X, Y = simulated(N, P, T)
    drift = np.linspace(0, 1, N)[:, None]
    X = X / 1e3 + 1e6 + 1e4 * drift  # sums of squares around 0, or around the first batch, would keep a few digits
    Y = Y * 1e-9 + 1e-3
    X[:, 1] *= 1e-150
    X[:, 2] *= 1e140
    stats, expected = gathered(X, Y), whole(X, Y, FOLDS)
    for fold in range(K):
        size = np.sqrt(np.diag(expected["gram"][fold]))
        np.testing.assert_allclose(
            stats.gram[fold].numpy() / np.outer(size, size), expected["gram"][fold] / np.outer(size, size), atol=1e-9
        )
        ours, theirs = (
            v / size / np.sqrt(expected["y_squares"][fold])[:, None]
            for v in (stats.cross[fold].numpy(), expected["cross"][fold])
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e5 + 0.7, -7.3e-5])
def test_a_constant_column_does_not_deviate_at_all(value):
    X, Y = simulated(N, P, T)
    X[:, 2], Y[:, 3] = value, value
    stats = gathered(X, Y, step=7)
    assert (stats.gram[:, 2] == 0).all() and (stats.gram[:, :, 2] == 0).all() and (stats.cross[:, :, 2] == 0).all()
    assert (stats.y_squares[:, 3] == 0).all() and (stats.cross[:, 3] == 0).all()
    assert (stats.x_mean[:, 2] == value).all() and (stats.y_mean[:, 3] == value).all()


def test_targets_in_blocks_and_a_mapped_file_change_nothing(tmp_path, monkeypatch):
    X, Y = simulated(N, P, 23)
    expected = gathered(X, Y)
    monkeypatch.setattr("deepjuice.alignment.encoding.streaming.BLOCK_BYTES", 1)
    monkeypatch.setattr(
        "deepjuice.alignment.encoding.streaming.blocks",
        lambda n, size, *_: (slice(i, min(i + 3, n)) for i in range(0, n, 3)),
    )
    stats = gathered(X, Y, folder=tmp_path)
    assert_statistics(stats, {name: getattr(expected, name).numpy() for name in ("gram", "cross", "y_squares")}, 1e-13)
    assert not list(tmp_path.iterdir()), "the file must have no name that could stay behind"


def test_memory_is_asked_for_beforehand(tmp_path, monkeypatch):
    needed = 8 * (9 * 5000**2 + 5 * (5000 + 600_000)) + 128 * 1024**2
    cross = 8 * 5 * 5000 * 300_000
    with pytest.raises(
        InputError, match=f"{needed + cross} bytes.*16.00 GB may be used; give a folder for the 55.88 GB"
    ):
        RidgeStatistics(5000, 300_000, 5, memory_limit="16GB")
    with pytest.raises(InputError, match=f"{needed} bytes.*1.00 GB may be used; give fewer features"):
        RidgeStatistics(5000, 300_000, 5, memory_limit="1GB", folder=tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": cross - 1}))
    with pytest.raises(InputError, match=f"{cross} bytes.*on disk, but"):
        RidgeStatistics(5000, 300_000, 5, memory_limit="16GB", folder=tmp_path)
    assert not list(tmp_path.iterdir())
    RidgeStatistics(10, 10, 2, memory_limit="129MB")
    with pytest.raises(InputError, match="may be used"):
        RidgeStatistics(10, 10, 2, memory_limit="128MB")


def test_saved_in_the_middle_and_resumed(tmp_path):
    X, Y = simulated(N, P, T, dtype=np.float32)
    expected = gathered(X, Y)
    half = RidgeStatistics(P, T, K, identity="these")
    half.update(X[:30], Y[:30], FOLDS[:30])
    half.save(tmp_path / "state")
    half.save(tmp_path / "state")  # again: replaced
    for places in ({}, {"folder": tmp_path}):
        resumed = RidgeStatistics.load(tmp_path / "state", identity="these", **places)
        assert resumed.n_rows == 30 and resumed.x_dtype == torch.float32
        resumed.update(X[30:], Y[30:], FOLDS[30:])
        assert_statistics(resumed, {name: getattr(expected, name).numpy() for name in ("gram", "cross", "y_squares")})
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    RidgeStatistics(P, T, K).save(tmp_path / "empty")
    assert RidgeStatistics.load(tmp_path / "empty").x_dtype is None


def test_what_was_not_saved_whole_is_refused(tmp_path):
    stats = gathered(*simulated(N, P, T))
    stats.save(tmp_path / "state")
    with pytest.raises(InputError, match=r"other data \(''\), expected 'those'"):
        RidgeStatistics.load(tmp_path / "state", identity="those")
    with pytest.raises(InputError, match="cannot be read as saved statistics"):
        RidgeStatistics.load(tmp_path / "nothing")
    header = json.loads((tmp_path / "state/statistics.json").read_text())
    (tmp_path / "state/statistics.json").write_text(json.dumps(header | {"n_targets": T + 1}))
    with pytest.raises(InputError, match=r"holds y_mean of shape \(4, 5\), expected \(4, 6\)"):
        RidgeStatistics.load(tmp_path / "state")
    (tmp_path / "state/statistics.json").write_text(json.dumps(header))
    cross = tmp_path / "state/cross.npy"
    cross.write_bytes(cross.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"cross.npy cannot be read"):
        RidgeStatistics.load(tmp_path / "state")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(InputError, match="will not be replaced"):
        stats.save(tmp_path / "mine")


def test_an_interrupted_update_is_not_used(monkeypatch, tmp_path):
    X, Y = simulated(N, P, T)
    stats = gathered(X, Y)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("deepjuice.alignment.encoding.streaming._centred", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stats.update(X, Y, FOLDS)
    for use in (lambda: stats.update(X, Y, FOLDS), lambda: stats.save(tmp_path / "state")):
        with pytest.raises(InputError, match="part of a batch"):
            use()


@pytest.mark.parametrize("step_bytes", [1, 1000, 10**9])
def test_arrays_are_streamed_by_rows(step_bytes, tmp_path):
    X, Y = simulated(N, P, T, dtype=np.float32)
    np.save(tmp_path / "X.npy", X)
    stats = gather_statistics(
        np.load(tmp_path / "X.npy", mmap_mode="r"), torch.tensor(Y), FOLDS, block_bytes=step_bytes
    )
    assert_statistics(stats, whole(X, Y, FOLDS))
    one = gather_statistics(X, Y[:, 0], FOLDS)
    assert_statistics(one, whole(X, Y[:, :1], FOLDS))


class Flaky:
    """Features that cannot be read beyond a row, and count what is read."""

    def __init__(self, X, last):
        self.X, self.last, self.read = X, last, []
        self.shape = X.shape

    def __len__(self):
        return len(self.X)

    def __getitem__(self, rows):
        if rows.stop > self.last:
            raise OSError("the disk is gone")
        self.read += range(len(self.X))[rows]
        return self.X[rows]


class RowsOnDemand:
    """All that is asked of data: a shape, and rows by slices. No length, no dtype."""

    def __init__(self, values):
        self.shape, self._values = values.shape, values

    def __getitem__(self, rows):
        return self._values[rows]


def test_a_shape_and_rows_by_slices_are_enough():
    X, Y = simulated(N, P, n_targets=T)
    stats = gather_statistics(RowsOnDemand(X), RowsOnDemand(Y), FOLDS, block_bytes=1000)
    assert_statistics(stats, whole(X, Y, FOLDS))


def test_streaming_goes_on_where_it_stopped(tmp_path):
    X, Y = simulated(N, P, T)
    settings = {"save_to": tmp_path / "state", "save_seconds": 0, "block_bytes": 8 * (P + T) * 10, "identity": "map"}
    with pytest.raises(OSError, match="the disk is gone"):
        gather_statistics(Flaky(X, 35), Y, FOLDS, **settings)
    source = Flaky(X, N)
    stats = gather_statistics(source, Y, FOLDS, **settings)
    assert source.read == list(range(30, N))
    assert_statistics(stats, whole(X, Y, FOLDS))
    source = Flaky(X, N)
    assert gather_statistics(source, Y, FOLDS, **settings).n_rows == N and source.read == []
    for changed in ({"folds": FOLDS[::-1].copy()}, {"identity": "other"}, {"Y": Y[:, :2]}):
        with pytest.raises(InputError, match="of other data"):
            gather_statistics(**{"X": X, "Y": Y, "folds": FOLDS} | settings | changed)
    rarely = {**settings, "save_to": tmp_path / "late", "save_seconds": 3600}
    with pytest.raises(OSError, match="the disk is gone"):
        gather_statistics(Flaky(X, 35), Y, FOLDS, **rarely)
    assert not (tmp_path / "late").exists()
    assert gather_statistics(X, Y, FOLDS, **rarely).n_rows == N and (tmp_path / "late").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((9, P + 1))}, r"but \(9, 8\), \(9, 5\) and 9 came"),
        ({"Y": np.zeros((9, T - 1))}, r"but \(9, 7\), \(9, 4\) and 9 came"),
        ({"folds": np.zeros(8, int)}, r"and 8 came"),
        ({"Y": np.zeros((8, T))}, r"\(8, 5\) and 9 came"),
        ({"folds": np.full(9, K)}, "0 to 3, but 4 to 4"),
        ({"folds": np.full(9, -1)}, "but -1 to -1"),
        ({"folds": np.zeros(9)}, "float64 came; see fold_labels"),
        ({"X": np.full((9, P), np.nan)}, "X has 63 of 63 values that are NaN"),
        ({"Y": np.full((9, T), np.inf)}, "Y has 45 of 45"),
        ({"X": np.zeros((9, P), np.float32)}, "All batches must be torch.float64"),
        ({"Y": np.zeros((9, T), np.float32)}, "but torch.float64 and torch.float32 came"),
    ],
)
def test_a_bad_batch_is_refused_and_leaves_no_trace(change, message):
    X, Y = simulated(N, P, T)
    stats = gathered(X, Y)
    batch = {"X": np.zeros((9, P)), "Y": np.zeros((9, T)), "folds": np.zeros(9, int)} | change
    with pytest.raises(InputError, match=message):
        stats.update(**batch)
    assert_statistics(stats, whole(X, Y, FOLDS))
    with pytest.raises(InputError, match="2 folds at least"):
        RidgeStatistics(3, 3, 1)
    with pytest.raises(InputError, match="61, 61 and 60"):
        gather_statistics(X, Y, FOLDS[1:])


@pytest.mark.parametrize(("X", "Y"), [([[1.0]], [1.0]), (np.ones(4), np.ones(4)), (np.ones((4, 2)), 3.0)])
def test_what_cannot_be_streamed_is_named(X, Y):
    with pytest.raises(InputError, match="X must be an array"):
        gather_statistics(X, Y, [0, 1] * 2)
    with pytest.raises(InputError, match=r"\(0, 2\)"):
        gather_statistics(np.ones((0, 2)), np.ones(0), [])


@pytest.mark.parametrize("folds", [["a", "b"] * 3, [True, False] * 3])
def test_folds_that_are_no_numbers_are_named(folds):
    with pytest.raises(InputError, match="Folds must be whole numbers"):
        gather_statistics(np.ones((6, 2)), np.ones(6), folds)

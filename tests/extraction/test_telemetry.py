"""What the values of every map are like: against NumPy over whole maps, closed forms, and resumed or halved passes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deepjuice.extraction import FeatureStore, meter
from deepjuice.extraction.meter import Meter
from deepjuice.extraction.moments import row_moments
from deepjuice.extraction.store_writer import StoreWriter
from deepjuice.extraction.telemetry import N_BINS, bin_edges, fold_codes, sparseness, summarize

from .conftest import to_tensor
from .test_stage import run

FROM_ZERO = np.concatenate([[0], bin_edges()[N_BINS // 2 + 1 :]])  # near zero, 32 octaves, and beyond


def histogram(values: np.ndarray) -> np.ndarray:
    """NumPy's, of each sign apart: bins of negative values are the mirror images of the others."""
    values = values.astype(np.float32).ravel()
    positive = np.histogram(values[values >= 0], FROM_ZERO)[0]
    negative = np.histogram(-values[values < 0], FROM_ZERO)[0]
    return np.concatenate([negative[:0:-1], [negative[0] + positive[0]], positive[1:]])


def values_of_all_sizes(n: int, d: int, dtype: torch.dtype) -> torch.Tensor:
    """Both signs, from 2^-40 to 2^40 where the type has them; zeros, powers of two; the last feature is always 0."""
    generator = torch.Generator().manual_seed(n * d)
    flat = torch.randn(n, d, generator=generator) * 2.0 ** torch.randint(-40, 41, (n, d), generator=generator)
    flat = flat.where(torch.rand(n, d, generator=generator) > 0.2, 0.0)
    odd = torch.tensor([2.0**-16, -(2.0**-16), 1, -1, 2.0**15, -(2.0**15), -0.0, 1e-42, 2.0**16, -(2.0**16)])
    flat[0, : min(10, d)] = odd[:d]
    flat[:, -1] = -0.0
    limit = min(torch.finfo(dtype).max, 1e30)
    return flat.clamp(-limit, limit).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (3, 5), (2, 4096), (3, 4097), (1, 20_000), (40, 9_001)])
def test_one_reading_is_numpys(monkeypatch, n, d, dtype):
    monkeypatch.setattr(meter, "BLOCK", 3 * 4096)  # several blocks, and a rest
    read, active = Meter("cpu"), torch.zeros(d, dtype=torch.bool)
    flat = values_of_all_sizes(n, d, dtype)
    if dtype == torch.float32:
        flat = torch.cat([flat, flat], dim=1)[:, :d]  # rows that do not follow one another
    whole = torch.zeros(N_BINS, dtype=torch.int64).numpy()
    for rows in flat.split(max(1, n // 2)):
        moments, codes = read(rows, active)
        torch.testing.assert_close(moments, row_moments(rows), rtol=1e-6, atol=0)
        whole += fold_codes(codes.numpy())
    values = flat.float().numpy()
    assert np.array_equal(whole, histogram(values)) and whole.sum() == n * d
    assert np.array_equal(active.numpy(), (values != 0).any(axis=0)) and not active[-1]


def test_bins_are_octaves_around_zero_with_what_is_beyond():
    edges = bin_edges()
    assert len(edges) == N_BINS + 1 and np.array_equal(edges, -edges[::-1]) and (np.diff(edges) > 0).all()
    assert np.array_equal(np.log2(edges[34:-1]), np.arange(-16, 17))
    flat = torch.tensor([[-torch.inf, -65536.0, -1.5, 1e-6, 1.0, 1.9, 2.0, 3e8]])
    _, codes = Meter("cpu")(flat, torch.zeros(8, dtype=torch.bool))
    assert {int(place): int(n) for place, n in enumerate(fold_codes(codes.numpy())) if n} == {
        0: 2,  # out of range below
        16: 1,  # from -2 to -1
        33: 1,  # near zero
        50: 2,  # from 1 to 2
        51: 1,
        66: 1,  # out of range above
    }


def sparse(rows: torch.Tensor) -> tuple[float, float]:
    _, squares, magnitudes = row_moments(rows).numpy()
    return sparseness(squares, magnitudes, rows.shape[1])


def test_sparseness_has_its_closed_forms():
    d = 10_000
    assert sparse(torch.eye(16)[:3]) == pytest.approx((1 / 16, 1))
    assert sparse(-3 * torch.ones(2, 7)) == pytest.approx((1, 0), abs=1e-7)
    some = torch.zeros(2, d)
    some[:, : d // 4] = -2  # a quarter of the features, equally
    assert sparse(some) == pytest.approx((1 / 4, (100 - 50) / 99), rel=1e-6)
    uniform = (torch.arange(d)[None] + 0.5) / d  # (1/2)^2 / (1/3), and 1 - sqrt(3/4) of features without end
    assert sparse(uniform) == pytest.approx((3 / 4, (1 - 0.75**0.5) * 100 / 99), rel=1e-6)
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(20, d, generator=generator)
    assert sparse(normal)[0] == pytest.approx(2 / np.pi, rel=0.01)  # (E|z|)^2 of a normal variable
    assert sparse(1e-12 * normal) == pytest.approx(sparse(normal), rel=1e-5)  # no unit


def test_silent_rows_are_left_out_and_counted():
    rows = torch.eye(4)[:3]
    with_silence = torch.cat([rows, torch.zeros(2, 4)])
    found = summarize(row_moments(with_silence).numpy(), 4, 1, histogram(with_silence.numpy()))
    assert found.n_silent == 2 and (found.treves_rolls, found.hoyer) == pytest.approx(sparse(rows))
    assert found.dead_share == 0.25
    silent = summarize(row_moments(torch.zeros(2, 4)).numpy(), 4, 4, histogram(np.zeros(8)))
    assert np.isnan([silent.treves_rolls, silent.hoyer]).all() and silent.dead_share == 1 and silent.n_silent == 2
    one = summarize(row_moments(torch.ones(3, 1)).numpy(), 1, 0, histogram(np.ones(3)))
    assert one.treves_rolls == 1 and np.isnan(one.hoyer)  # of one feature there is no other to compare with


class TinyTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 2, stride=2)
        layer = {"dim_feedforward": 24, "batch_first": True, "norm_first": True}
        self.layers = nn.Sequential(*(nn.TransformerEncoderLayer(16, 2, **layer) for _ in range(2)))

    def forward(self, x):
        return self.layers(self.patches(x).flatten(2).mT).mean(1)


def loop(net, paths) -> dict[str, np.ndarray]:
    """Every module's last output whole, in float64, cloned by plain hooks, a picture a pass; by its dotted path."""
    found, hooks = {}, []

    def keep(path, output):
        if isinstance(output, torch.Tensor):
            found.setdefault(path, []).append(output.clone().double().numpy())

    for path, module in net.named_modules():
        hooks.append(module.register_forward_hook(lambda m, i, output, path=path: keep(path, output)))
    with torch.no_grad():
        for path in paths:
            net(to_tensor(Image.open(path))[None])
    for hook in hooks:
        hook.remove()
    return {path: np.stack(maps).reshape(len(maps), -1) for path, maps in found.items() if maps}


@pytest.mark.parametrize("make", [None, TinyTransformer])
def test_telemetry_of_a_store_is_that_of_a_plain_loop(net, pictures, tmp_path, make):
    torch.manual_seed(0)
    net = (make() if make else net).eval()
    with torch.no_grad():
        first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
        first.bias[1] = -50  # after a ReLU, this channel is dead
    stores = [run(net, pictures, tmp_path / f"{n}.zarr", batch_size=n) for n in (1, 4, 64)]
    maps = loop(net, pictures)
    compared = n_dead = 0
    for record in stores[0].maps:
        telemetry = [store.telemetry(record.uid) for store in stores]
        assert all(np.array_equal(t.activation_histogram, telemetry[0].activation_histogram) for t in telemetry)
        assert telemetry[0].activation_histogram.sum() == len(pictures) * record.n_features
        calls = len(maps[record.path]) // len(pictures) if record.path in maps else 0
        if calls != 1 or record.path == "act":  # called several times
            continue
        whole, compared = maps[record.path], compared + 1
        L1, L2 = np.abs(whole).sum(axis=1), np.sqrt((whole**2).sum(axis=1))
        d = whole.shape[1]
        for found in telemetry:
            assert found.activation_mean == pytest.approx(whole.mean(), rel=1e-5, abs=1e-6)
            assert found.activation_std == pytest.approx(whole.std(), rel=1e-5)
            assert found.dead_share == (whole == 0).all(axis=0).mean()
            assert found.treves_rolls == pytest.approx(((L1 / d) ** 2 / (L2**2 / d)).mean(), rel=1e-5)
            assert found.hoyer == pytest.approx(((d**0.5 - L1 / L2) / (d**0.5 - 1)).mean(), rel=1e-4)
            assert found.n_silent == 0
            assert np.array_equal(found.activation_histogram, histogram(whole))
        n_dead += found.dead_share > 0
    assert compared >= 5
    first_relu = [store.telemetry(r.uid).dead_share for store in stores for r in store.maps if r.path == "act"][:1]
    assert make or first_relu[0] >= 0.25


def test_aliases_share_what_their_map_is_like(net, pictures, tmp_path):
    store = run(net, pictures, tmp_path / "x.zarr")
    first, other = store.telemetry("ReLU-1-5"), store.telemetry("Dropout-2-4")
    assert first[:-1] == other[:-1] and np.array_equal(first[-1], other[-1])


def test_half_precision_counts_the_values_as_they_were(net, pictures, tmp_path):
    half = run(net, pictures, tmp_path / "x.zarr", precision="bfloat16", eps=0.1)  # no map is projected
    for record in half.maps:
        assert np.array_equal(half.telemetry(record.uid).activation_histogram, histogram(half[record.uid]))


def test_features_that_are_only_near_zero_live(pictures, tmp_path):
    class Shrinking(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Flatten()

        def forward(self, x):
            x = x.clone()
            x[:, 0, 0, :4] = 0
            x[:, 0, 1, :4] = 1e-30
            return self.last(x)

    store = run(Shrinking(), pictures, tmp_path / "x.zarr", batch_size=3)
    assert store.telemetry("Flatten-1-1").dead_share == 4 / 192


def test_one_file_of_totals_stands_beside_the_progress_and_a_lost_one_starts_anew(net, pictures, tmp_path, monkeypatch):
    whole = run(net, pictures, tmp_path / "whole.zarr", batch_size=4)
    commit, out, begun = StoreWriter.commit, tmp_path / "x.zarr", []

    def once_more(self, rows_done):
        if self.rows_done == 8:
            raise KeyboardInterrupt
        commit(self, rows_done)

    for lost in (False, True):
        monkeypatch.setattr(StoreWriter, "commit", once_more)
        with pytest.raises(KeyboardInterrupt):
            run(net, pictures, out, batch_size=4)
        monkeypatch.undo()
        files = list(out.with_name("x.zarr.partial").glob("totals*"))
        assert [file.name for file in files] == ["totals-8.bin"]
        if lost:
            files[0].write_bytes(files[0].read_bytes()[:-1] + b"\xaa")
        begun.clear()
        monkeypatch.setattr(StoreWriter, "commit", lambda self, rows: (begun.append(rows), commit(self, rows)))
        resumed = run(net, pictures, out, batch_size=4)
        assert begun == ([4, 8, 11] if lost else [11])
        for record in whole.maps:
            first, other = whole.telemetry(record.uid), FeatureStore(resumed.path).telemetry(record.uid)
            assert first[:-1] == other[:-1] and np.array_equal(first[-1], other[-1])
        run(net, pictures, out, seed=9)  # other content: the next round begins anew

"""Statistics of activations against plain NumPy, and figures by the data that they draw."""

import gc
import tracemalloc
import weakref
from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from deepjuice.hooks import (
    HISTOGRAM_2019,
    HISTOGRAM_2019_POSITIVE,
    HISTOGRAM_2022,
    ActivationStats,
    Histogram,
    Hook,
    append_stats,
    get_hist,
    get_min,
)
from juicyfruits.errors import InputError

NAMED = {"2022": HISTOGRAM_2022, "2019": HISTOGRAM_2019, "2019 positive": HISTOGRAM_2019_POSITIVE}


def record(*outputs, **options):
    """Return a hook that was told of outputs."""
    hook, layer = Hook(nn.Identity(), print), nn.Identity()
    for output in outputs:
        append_stats(hook, layer, None, output, **options)
    return hook


def wide(*shape, seed=0):
    """Return numbers that leave every range on both sides, none on the edge of a bin."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 6 + 0.01


@pytest.mark.parametrize("name", NAMED)
def test_statistics_are_numpys(name):
    histogram, batches = NAMED[name], [wide(7, 5, 3, 2, seed=i) for i in range(4)]
    hook = record(*batches, histogram=histogram)
    assert type(hook.stats) is tuple and [type(part) for part in hook.stats] == [list] * 3
    assert hook.histogram is histogram
    for i, batch in enumerate(batches):
        values = batch.double().numpy()
        mean, std, counts = (part[i] for part in hook.stats)
        assert float(mean) == pytest.approx(values.mean(), abs=1e-6)
        assert float(std) == pytest.approx(values.std(ddof=1), rel=1e-6)
        values = np.abs(values) if histogram.absolute else values
        expected, _ = np.histogram(values, histogram.bins, (histogram.low, histogram.high))
        assert counts.tolist() == expected.tolist()
        assert hook.below[i] == (values < histogram.low).sum()
        assert hook.above[i] == (values > histogram.high).sum() > 0
        assert counts.sum() + hook.below[i] + hook.above[i] == values.size
    for part in hook.stats:
        assert all(number.dtype == torch.float32 and number.device.type == "cpu" for number in part)


def test_the_lessons_own_lines_give_the_same_to_the_bit():
    """Both courses count with histc and divide bins by their sum."""
    batches = [wide(6, 4, 3, seed=i) for i in range(3)]
    hook = record(*batches)
    assert torch.equal(torch.stack(hook.stats[0]), torch.stack([b.mean() for b in batches]))
    assert torch.equal(torch.stack(hook.stats[1]), torch.stack([b.std() for b in batches]))
    counts = torch.stack([b.abs().histc(40, 0, 10) for b in batches]).t()
    assert torch.equal(get_hist(hook), torch.log(1 + counts)) and get_hist(hook).shape == (40, 3)
    assert torch.equal(get_min(hook), counts[0] / counts.sum(0))
    hook = record(*batches, histogram=HISTOGRAM_2019)
    counts = torch.stack([b.histc(bins=40, min=-7, max=7) for b in batches]).t()
    assert torch.equal(get_hist(hook), counts.log1p())
    assert torch.equal(get_min(hook), (counts[19] + counts[20] + counts[21]) / counts.sum(0))


def test_near_zero_is_below_a_quarter_in_2022_and_from_minus_035_to_07_in_2019():
    values = torch.tensor([-0.36, -0.34, 0.0, 0.24, 0.26, 0.69, 0.71, 12.0])
    assert get_min(record(values)).item() == pytest.approx(2 / 7)  # 12 is out of range
    assert get_min(record(values, histogram=HISTOGRAM_2019)).item() == pytest.approx(5 / 7)


def test_statistics_of_ones_own_function_have_histograms_and_shares_too():
    """As seed 002 writes them: a hook that has stats and nothing else."""
    own = SimpleNamespace(stats=([], [], [torch.tensor([3.0, 1.0]), torch.tensor([0.0, 0.0])]))
    assert get_min(own)[0] == 0.75 and get_min(own)[1].isnan()
    assert torch.equal(get_hist(own)[:, 0], torch.tensor([4.0, 2.0]).log())


def test_values_on_the_edges_and_outside():
    histogram = Histogram(4, -1, 1)
    values = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0, -1.001, 1.001, 1.002, torch.inf, -torch.inf, torch.nan])
    hook = record(values, histogram=histogram)
    assert hook.stats[2][0].tolist() == [1, 1, 1, 2]
    assert (hook.below, hook.above, hook.nans) == ([2], [3], [1])
    assert hook.stats[0][0].isnan() and hook.stats[1][0].isnan()


@pytest.mark.parametrize(
    "wrong", [{"bins": 0}, {"low": 1.0}, {"high": float("nan")}, {"near_zero": (3, 3)}, {"near_zero": (0, 5)}]
)
def test_a_histogram_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match="expected bins, a range from low to high, and bins near zero among them"):
        Histogram(**{"bins": 4, "low": 0.0, "high": 1.0, **wrong})


def test_more_values_than_a_float_counts_by_ones(monkeypatch):
    monkeypatch.setattr("deepjuice.hooks.histogram._PIECE", 64)
    values = wide(50, 7)
    expected, _ = np.histogram(values.abs().numpy(), 40, (0, 10))
    assert record(values).stats[2][0].tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_and_counted_in_float32(dtype):
    values = torch.full((100, 400), 3.0, dtype=dtype)
    values[0] = 0.0
    hook = record(values)
    assert hook.stats[0][0].item() == pytest.approx(2.97) and hook.stats[0][0].dtype == torch.float32
    assert hook.stats[2][0][12] == 39600 and hook.stats[2][0].sum() == 40000


def test_double_precision_stays():
    hook = record(wide(5, 4).double())
    assert all(part[0].dtype == torch.float64 for part in hook.stats)


def test_dead_units_of_a_relu():
    batch = torch.ones(6, 5, 2, 2)
    batch[:, 1] = 0  # dead
    batch[:, 2], batch[3, 2, 1, 0] = 0, 0.1  # alive at one place for one input
    batch[:, 4] = 0  # dead
    assert record(batch).dead == [0.4]
    assert record(batch, dead_threshold=0.1).dead == pytest.approx([0.6])
    assert record(batch[:, :, 0, 0]).dead == pytest.approx(
        [0.6]
    )  # features of a linear layer; unit 2 is not seen alive
    assert record(batch[:, 1, 0, 0]).dead == [1.0]  # one unit
    assert record(batch.movedim(1, -1), unit_dim=-1).dead == [0.4]
    assert record(-batch).dead == [0.4]  # negative is alive
    batch[0, 1, 0, 0] = torch.nan
    assert record(batch).dead == pytest.approx([0.2])
    with pytest.raises(InputError, match=r"unit_dim=4: expected a dimension of an output of shape \(6, 5, 2, 2\)"):
        record(batch, unit_dim=4)


@pytest.mark.filterwarnings("error")
def test_empty_batches_and_single_values():
    hook = record(torch.ones(2, 3), torch.ones(0, 3), torch.ones(1))
    means, stds, hists = hook.stats
    assert torch.stack(means).isnan().tolist() == [False, True, False]
    assert torch.stack(stds).isnan().tolist() == [False, True, True]
    assert [hist.sum() for hist in hists] == [6, 0, 1]
    assert get_min(hook).isnan().tolist() == [False, True, False] and np.isnan(hook.dead).tolist() == [0, 1, 0]


def test_of_a_nested_output_the_first_tensor_of_floats_is_taken():
    expected = record(wide(3, 4)).stats[0]
    for output in [(wide(3, 4), torch.ones(2)), {"ids": torch.arange(3), "x": wide(3, 4)}, [None, (wide(3, 4),)]]:
        assert record(output).stats[0] == expected
    for output in [torch.arange(3), None, "text", (), torch.ones(2, dtype=torch.complex64)]:
        with pytest.raises(InputError, match=r"'Identity' \(Identity\) holds no floating-point tensor.*mod_filter"):
            record(output)


def test_the_graph_is_neither_kept_nor_changed():
    x = wide(3, 4).requires_grad_()
    hook = record(x * 2)
    assert not any(part[0].requires_grad for part in hook.stats)


def test_gradients_have_statistics_too():
    layer = nn.Linear(3, 2)
    with Hook(layer, append_stats, is_forward=False) as hook:
        (layer(torch.ones(4, 3, requires_grad=True)) * torch.tensor([1.0, 3.0])).sum().backward()
    assert hook.stats[0][0] == 2.0


class Net(nn.Module):
    """Three layers, one of which never runs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.unused, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 1, 1), nn.Conv2d(4, 2, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu() * 9)


@pytest.fixture(params=[HISTOGRAM_2022, HISTOGRAM_2019], ids=["2022", "2019"])
def run(request):
    """Return statistics of a net that was run, and by name what its layers gave."""
    net, stats, given = Net(), ActivationStats(nn.Conv2d, request.param), {"conv": [], "head": []}
    for name, outputs in given.items():
        net.get_submodule(name).register_forward_hook(lambda m, i, o, outputs=outputs: outputs.append(o.detach()))
    with stats.listen(net):
        for i in range(6):
            net(wide(8, 1, 6, 6, seed=i))
    return stats, given


def shown(hook):
    return torch.stack(hook.stats[2]).t().log1p().numpy()


def test_color_dim_draws_the_histograms(run):
    stats, given = run
    chart = stats.color_dim()
    assert tuple(chart.get_size_inches()) == (11, 5) and len(chart.axes) == 2
    for panel, hook, name in zip(chart.axes, stats[[0, 2]], given, strict=True):
        (image,) = panel.images
        assert np.array_equal(image.get_array(), shown(hook)) and image.get_array().shape == (40, 6)
        assert image.origin == "lower" and panel.get_title() == name and not panel.axison
    assert tuple(stats.color_dim(figsize=(4, 3)).get_size_inches()) == (4, 3)


def test_dead_chart_draws_shares_near_zero(run):
    stats, given = run
    chart = stats.dead_chart()
    assert tuple(chart.get_size_inches()) == (11, 5)
    for panel, name in zip(chart.axes, given, strict=True):
        (line,) = panel.lines
        first, last = stats[0].histogram.near_zero
        expected = []
        for output in given[name]:
            values = output.abs() if stats[0].histogram.absolute else output
            counts, _ = np.histogram(values.numpy(), 40, (stats[0].histogram.low, stats[0].histogram.high))
            expected.append(counts[first:last].sum() / counts.sum())
        assert line.get_ydata() == pytest.approx(expected, abs=1e-6) and max(expected) > 0.01
        assert panel.get_ylim() == (0, 1) and panel.get_title() == name


def test_plot_stats_draws_means_and_deviations(run):
    stats, given = run
    chart = stats.plot_stats()
    assert tuple(chart.get_size_inches()) == (10, 4)
    means, stds = chart.axes
    assert means.get_title() == "Means" and stds.get_title() == "Stdevs"
    for panel, statistic in ((means, np.mean), (stds, partial(np.std, ddof=1))):
        assert [line.get_label() for line in panel.lines] == ["0", "2"]
        for line, outputs in zip(panel.lines, given.values(), strict=True):
            expected = [statistic(output.double().numpy()) for output in outputs]
            assert np.array(line.get_ydata(), dtype=float) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert [text.get_text() for text in stds.get_legend().get_texts()] == ["0", "2"] and means.get_legend() is None


def test_a_panel_for_each_layer_in_a_grid_near_a_square():
    net = nn.Sequential(*[nn.ReLU() for _ in range(7)])
    stats = ActivationStats(nn.ReLU)
    with stats.listen(net):
        net(wide(4, 3))
    for chart in (stats.color_dim(), stats.dead_chart()):
        rows_columns = chart.axes[0].get_gridspec().get_geometry()
        assert rows_columns == (2, 4) and [panel.get_title() for panel in chart.axes[:7]] == list("0123456")
        assert not chart.axes[7].axison and not chart.axes[7].lines and not chart.axes[7].images


def test_a_chart_shows_itself_in_a_notebook_and_is_known_to_nobody_else(run):
    stats, _ = run
    for show in (stats.color_dim, stats.dead_chart, stats.plot_stats):
        chart = show()
        assert chart._repr_png_().startswith(b"\x89PNG")
        gone = weakref.ref(chart)
        del chart
        gc.collect()
        assert gone() is None
    assert matplotlib.pyplot.get_fignums() == []


def test_the_table(run):
    stats, given = run
    table = stats.table()
    columns = ["layer", "batch", "mean", "std", "near_zero", "dead", "below", "above", "nans", "n_values"]
    assert list(table) == columns and len(table) == 12
    assert table.layer.tolist() == ["conv"] * 6 + ["head"] * 6 and table.batch.tolist() == [*range(6), *range(6)]
    for row, output in zip(table.itertuples(), [*given["conv"], *given["head"]], strict=True):
        assert row.mean == pytest.approx(output.double().mean().item(), abs=1e-5)
        assert row.std == pytest.approx(output.double().std().item(), rel=1e-5)
        assert row.n_values == output.numel() and row.nans == 0
        counted = output.abs() if stats[0].histogram.absolute else output
        assert row.above == (counted > stats[0].histogram.high).sum()
        assert row.below == (counted < stats[0].histogram.low).sum()
    assert table.near_zero.to_numpy() == pytest.approx(torch.cat([get_min(stats[0]), get_min(stats[2])]).numpy())
    assert pd.api.types.is_integer_dtype(table.above)


def test_without_records_figures_and_table_say_what_to_do():
    for stats in (ActivationStats(), ActivationStats(nn.Conv2d)):
        if stats.mod_filter is nn.Conv2d:
            with stats.listen(Net().eval()) as heard:  # in eval mode, for which it is not
                assert len(heard) == 3
        for show in (stats.color_dim, stats.dead_chart, stats.plot_stats, stats.table):
            with pytest.raises(InputError, match=r"nothing was recorded of .* in training mode unless on_valid=True"):
                show()
    with pytest.raises(InputError, match="nothing was recorded of 'Identity'"):
        get_hist(record())


def test_options_reach_the_statistics():
    net = nn.Sequential(nn.Identity())
    stats = ActivationStats(nn.Identity, dead_threshold=2.0, unit_dim=-1, on_valid=True, on_train=False, every=2)
    batch = torch.full((2, 3, 4), 3.0)
    batch[..., 0] = 1.0
    with stats.listen(net):
        for _ in range(3):
            net.train()(batch)
            net.eval()(batch)
    assert stats.table().dead.tolist() == [0.25, 0.25]


def test_a_record_takes_little_memory_whatever_the_size_of_the_map():
    layer, n_records = nn.Identity(), 300
    big = torch.ones(4, 8, 16, 16)
    stats = ActivationStats(nn.Identity)
    with stats.listen(layer):
        layer(big)
        tracemalloc.start()
        for _ in range(n_records):
            layer(big)
        python_bytes = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert python_bytes / n_records < 1500
    # besides what Python counts, each tensor of a record holds its own numbers alone: two scalars and 40 counts
    sizes = [part[-1].untyped_storage().nbytes() for part in stats[0].stats]
    assert sizes == [4, 4, 160]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_what_the_cpu_gives():
    batches = [wide(6, 4, 3, seed=i) for i in range(3)]
    expected, found = record(*batches), record(*[batch.cuda() for batch in batches])
    torch.testing.assert_close(found.stats, expected.stats)
    assert torch.equal(torch.stack(found.stats[2]), torch.stack(expected.stats[2])) and found.above == expected.above
    assert found.stats[0][0].device.type == "cpu"
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(record(batches[0].cuda()).stats[2][0], expected.stats[2][0])
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_is_waited_for_once_a_record(recwarn):
    hook, layer, batch = Hook(nn.Identity(), print), nn.Identity(), wide(6, 4, 3).cuda()
    append_stats(hook, layer, None, batch)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        append_stats(hook, layer, None, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum("synchronizing" in str(warning.message) for warning in recwarn) == 1

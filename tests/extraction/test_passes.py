"""Passes over the inputs: out of memory, stopping early, precision, and nothing left behind."""

import logging

import pytest
import torch
from torch import nn

from deepjuice.extraction import BatchedFeatureMaps, FeatureExtractor, get_feature_maps
from deepjuice.extraction.inputs import Inputs
from deepjuice.extraction.passes import run_pass
from juicyfruits.errors import InputError

CPU = torch.device("cpu")


class Scale(nn.Module):
    """Acts on each value alone, so that the number of inputs at once changes no bit (a convolution's would)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8))

    def forward(self, x):
        return x * self.weight


class Hungry(nn.Module):
    """Runs out of memory half-way when more than `most` inputs come at once."""

    def __init__(self, most=None):
        super().__init__()
        self.most = most
        self.first, self.act, self.last = Scale(), nn.ReLU(inplace=True), nn.Flatten()

    def forward(self, x):
        y = self.act(self.first(x))
        if self.most is not None and len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.last(y)


@pytest.fixture
def hungry():
    torch.manual_seed(0)
    return Hungry()


X = torch.randn(11, 3, 8, generator=torch.Generator().manual_seed(0))
OPTIONS = {"remove_duplicates": False, "progress": False, "sample_size": 1}


def extract(net, **options):
    return get_feature_maps(net, list(X.split(5)), "cpu", **OPTIONS, **options)


def of_batches(maps):
    """Every tensor under (number of the batch, uid)."""
    batches = [maps] if isinstance(maps, dict) else list(maps)
    return {(number, uid): tensor for number, batch in enumerate(batches) for uid, tensor in batch.items()}


@pytest.mark.parametrize("strategy", ["join", "list", "stack"])
@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_out_of_memory_halves_batches_and_changes_no_bit(hungry, strategy, most, caplog):
    options = {"batch_strategy": strategy, "flatten": most % 2 == 0}
    expected = of_batches(extract(hungry, **options))
    hungry.most = most
    with caplog.at_level(logging.WARNING):
        got = of_batches(extract(hungry, **options))
    assert list(got) == list(expected) and len(got) == 4 * (1 if strategy == "join" else 3)
    for key, tensor in expected.items():
        assert torch.equal(got[key], tensor), key
    assert "out of memory with 5 inputs at once; going on with 2" in caplog.text


@pytest.mark.parametrize("rows", [5, 2])
def test_tensor_fn_sees_whole_batches_when_memory_runs_out(hungry, rows):
    def pairs(tensor, batch_iter=None):
        assert batch_iter is None or len(tensor) == (5, 5, 1)[batch_iter]
        return torch.stack([part.mean(0) for part in tensor.split(rows)])

    expected = extract(hungry, tensor_fn=pairs)
    hungry.most = 2
    got = extract(hungry, tensor_fn=pairs)
    assert {uid: torch.equal(got[uid], expected[uid]) for uid in expected} == dict.fromkeys(expected, True)
    scaled = (X * hungry.first.weight).detach()
    by_hand = torch.stack([part.mean(0) for batch in scaled.split(5) for part in batch.split(rows)])
    torch.testing.assert_close(got["Scale-1-1"], by_hand)


def test_one_input_that_does_not_fit_is_told_and_other_errors_are_not_hidden(hungry):
    hungry.most = 0
    with pytest.raises(InputError, match="cpu: out of memory with a single input"):
        run_pass(hungry, Inputs.of(X), lambda event: None, CPU)
    with pytest.raises(RuntimeError, match="must match the size"):
        run_pass(hungry, Inputs.of(torch.randn(2, 9, 8)), lambda event: None, CPU)


def test_nothing_is_left_behind_after_an_error(hungry):
    hungry.train()
    hungry.act.eval()
    hungry.most = 0
    with pytest.raises((InputError, torch.OutOfMemoryError)):
        extract(hungry)
    assert hungry.training and hungry.first.training and not hungry.act.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in hungry.modules())
    assert torch.is_grad_enabled()


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return x + 1


def test_passes_end_after_their_last_map():
    net = nn.Sequential(*(Counts() for _ in range(4)))
    x = list(torch.rand(6, 2).split(2))
    maps = get_feature_maps(net, x, "cpu", keep=["Counts-1-2"], progress=False)
    torch.testing.assert_close(maps["Counts-1-2"], torch.cat(x) + 2)
    assert [module.runs for module in net] == [1 + 3, 1 + 3, 1, 1]  # once for the sample, once a batch

    extractor = FeatureExtractor(net, x, "cpu", keep="Counts", skip="Counts-1-4", memory_limit=48, progress=False)
    assert extractor.get_batches() == [["Counts-1-1"], ["Counts-1-2"], ["Counts-1-3"]]
    for module in net:
        module.runs = 0
    for depth, maps in enumerate(extractor, 1):
        torch.testing.assert_close(maps[f"Counts-1-{depth}"], torch.cat(x) + depth)
    assert [module.runs for module in net] == [9, 6, 3, 0]


def test_a_pass_ends_after_the_call_that_made_one_of_several_tensors():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x + 1

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.after = Pair(), Counts()

        def forward(self, x):
            return self.after(sum(self.pair(x)))

    net = Net()
    maps = get_feature_maps(net, torch.ones(3, 2), "cpu", keep=["Pair-1-1.1"], progress=False)
    assert list(maps) == ["Pair-1-1.1"] and maps["Pair-1-1.1"].eq(2).all() and net.after.runs == 1


def test_rows_are_counted_from_the_start_row(hungry):
    rows = []
    run_pass(hungry, Inputs.of(list(X.split(4))), lambda event: None, CPU, after_batch=rows.append, start_row=20)
    assert rows == [slice(20, 24), slice(24, 28), slice(28, 31)]


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_computed_by_autocast_and_near_the_full_one(precision):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten())
    full, half = extract(net), extract(net, precision=precision)
    assert {tensor.dtype for tensor in half.values()} == {getattr(torch, precision)}
    with torch.no_grad(), torch.autocast("cpu", getattr(torch, precision)):
        expected = torch.cat([net[0](batch) for batch in X.split(5)])
    assert torch.equal(half["Conv1d-1-1"], expected) and net[0].weight.dtype == torch.float32
    torch.testing.assert_close(half["Conv1d-1-1"].float(), full["Conv1d-1-1"], rtol=0.02, atol=0.02)
    plan = FeatureExtractor(net, X, "cpu", precision=precision, progress=False)
    assert {record.itemsize for record in plan.inspection.records} == {
        4
    }  # looked at in full: nothing is equal by rounding
    with pytest.raises(InputError, match="precision='half': expected one of 'float32', 'float16', 'bfloat16'"):
        extract(net, precision="half")


def test_a_list_of_maps_stacks_into_what_joining_gives(hungry):
    joined, listed = extract(hungry), extract(hungry, batch_strategy="list")
    stacked = BatchedFeatureMaps(listed, progress=False).join_batches()
    assert [len(batch["Scale-1-1"]) for batch in listed] == [5, 5, 1]
    assert list(stacked) == list(joined)
    assert all(torch.equal(stacked[uid], joined[uid]) for uid in joined)

"""What modules may return, and what becomes of it."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from deepjuice.extraction import FeatureExtractor, get_feature_maps, inspect_maps
from juicyfruits.errors import InputError


class Returns(nn.Module):
    """Ends in whatever `make` makes of a linear layer's output."""

    def __init__(self, make):
        super().__init__()
        self.linear, self.make = nn.Linear(4, 3), make

    def forward(self, x):
        return self.make(self.linear(x))


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: list
    note: str = "no tensor"


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


X = torch.linspace(-1, 1, 20).view(5, 4)


def maps_of(net, x=X, **options):
    torch.manual_seed(0)
    batches = list(x.split(2))
    return get_feature_maps(net, batches, "cpu", **{"remove_duplicates": False, "progress": False, **options})


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda y: (y, y + 1), {".0": 0, ".1": 1}),
        (lambda y: {"a": y, "b": {"c": y + 1}}, {".a": 0, ".b.c": 1}),
        (lambda y: Answer(y, [y + 1, y + 2]), {".logits": 0, ".hidden.0": 1, ".hidden.1": 2}),
        (lambda y: [y + 1, [y + 2]], {".0": 1, ".1.0": 2}),
        (lambda y: Pair(y + 1, y + 2), {".0": 1, ".1": 2}),
        (lambda y: (y + 1, None), {"": 1}),
        (lambda y: (y + 1, y.argmax(1), y > 0), {".0": 1}),
    ],
    ids=["tuple", "dict", "dataclass", "list", "namedtuple", "one", "mixed"],
)
def test_every_tensor_of_an_output_is_a_map_of_its_own(make, expected):
    net = Returns(make)
    maps = maps_of(net)
    linear = net.linear(X).detach()
    assert set(maps) == {"Linear-1-1", *(f"Returns-0-1{key}" for key in expected)}
    for key, added in expected.items():
        torch.testing.assert_close(maps[f"Returns-0-1{key}"], linear + added)


@pytest.mark.parametrize(
    ("make", "uid", "reason"),
    [
        (lambda y: None, "Returns-0-1", "an output of type NoneType without tensors"),
        (lambda y: 3, "Returns-0-1", "an output of type int without tensors"),
        (lambda y: object(), "Returns-0-1", "an output of type object without tensors"),
        (lambda y: y.argmax(1), "Returns-0-1", "values of type int64, not floating point"),
        (lambda y: (y, y > 0), "Returns-0-1.1", "values of type bool, not floating point"),
        (lambda y: y.sum(), "Returns-0-1", r"shape \[\] for 5 inputs: the first dimension is not the batch"),
        (lambda y: y[0], "Returns-0-1", r"shape \[3\] for 5 inputs"),
        (lambda y: y[:, 0], "Returns-0-1", r"shape \[5\]: a number an input, not a map"),
        (lambda y: y.mT, "Returns-0-1", r"shape \[3, 5\] for 5 inputs"),
        (lambda y: y.to_sparse(), "Returns-0-1", "a nested or sparse tensor"),
    ],
    ids=["none", "int", "object", "integers", "booleans", "0-d", "batchless", "1-d", "transposed", "sparse"],
)
def test_what_is_no_map_is_refused_by_name(make, uid, reason):
    net = Returns(make)
    assert uid not in [record.uid for record in inspect_maps(net, X).records]
    with pytest.raises(InputError, match=rf"feature map '{uid}' cannot be kept: {reason}"):
        get_feature_maps(net, X, "cpu", keep=[uid], sample_size=5, progress=False)
    assert "Linear-1-1" in maps_of(net)


class Repeats(nn.Module):
    """A module called three times, one never called, and two layers that share their weight."""

    def __init__(self):
        super().__init__()
        self.step, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)
        self.tied = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)])
        self.tied[1].weight = self.tied[0].weight
        self.again = self.step  # the same module under a second name

    def forward(self, x):
        return self.tied[1](self.tied[0](self.again(self.step(self.step(x)))))


def test_modules_called_several_times_never_or_sharing_weights():
    net = Repeats()
    maps = maps_of(net)
    assert list(maps) == [
        *("Repeats-0-1", "Linear-1-1", "Linear-1-2", "Linear-1-3", "Linear-2-1", "Linear-2-2"),
    ]
    y = X
    for uid in ("Linear-1-1", "Linear-1-2", "Linear-1-3"):
        y = net.step(y)
        torch.testing.assert_close(maps[uid], y.detach())
    for uid in ("Linear-2-1", "Linear-2-2"):
        y = y @ net.tied[0].weight.T
        torch.testing.assert_close(maps[uid], y.detach())
    assert list(maps_of(net, keep=["step"])) == ["Linear-1-1", "Linear-1-2", "Linear-1-3"]
    with pytest.raises(InputError, match="feature map 'idle' is not one of this model's 6"):
        maps_of(net, keep=["idle"])


def test_parametrized_modules_give_their_maps_and_no_weights():
    torch.manual_seed(0)
    net = nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(4, 4)), nn.ModuleList([nn.Identity()])[0], nn.Linear(4, 2)
    ).eval()
    parametrizations.weight_norm(net[2])
    inspection = inspect_maps(net, X[:4])  # as many inputs as the first layer's weight has rows
    uids = [record.uid for record in inspection.records]
    assert uids == ["Sequential-0-1", "ParametrizedLinear-1-1", "Identity-1-2", "ParametrizedLinear-1-3"]
    assert [r for r in inspection.refused.values() if "parametrization" in r]
    maps = maps_of(net)
    torch.testing.assert_close(maps["ParametrizedLinear-1-1"], (X @ net[0].weight.T + net[0].bias).detach())
    torch.testing.assert_close(maps["ParametrizedLinear-1-3"], net(X).detach())


def test_a_model_that_goes_back_to_train_mode_is_refused_by_name():
    class Restless(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout()

        def forward(self, x):
            self.drop.train()
            return self.drop(x)

    net = nn.Sequential(nn.Linear(4, 3), Restless()).train()
    net[0].eval()
    with pytest.raises(InputError, match=r"module '1.drop' \(Dropout\): expected eval mode"):
        maps_of(net)
    assert [net.training, net[0].training, net[1].drop.training] == [True, False, True]


def test_maps_of_attention_and_recurrence():
    torch.manual_seed(0)
    x = torch.randn(5, 6, 4)
    lstm = nn.LSTM(4, 3, batch_first=True)
    maps = maps_of(nn.Sequential(lstm), x)
    outputs, (hidden, _) = lstm(x)
    torch.testing.assert_close(maps["LSTM-1-1.0"], outputs.detach())
    assert "LSTM-1-1.1.0" not in maps  # (layers, n, d): counts the inputs along its second dimension
    hiddens = maps_of(nn.Sequential(lstm), x, input_dim=1, keep=["LSTM-1-1.1.0"])
    torch.testing.assert_close(hiddens["LSTM-1-1.1.0"], hidden.movedim(1, 0).detach())


def test_a_forward_fn_can_run_a_part_of_the_model():
    class TwoTowers(nn.Module):
        def __init__(self):
            super().__init__()
            self.image, self.text = nn.Linear(4, 3), nn.Linear(4, 2)

        def encode_image(self, x):
            return self.image(x)

    net = TwoTowers()
    maps = maps_of(net, forward_fn=lambda model, x: model.encode_image(2 * x))
    assert list(maps) == ["Linear-1-1"]
    torch.testing.assert_close(maps["Linear-1-1"], net.image(2 * X).detach())


def test_a_map_that_is_missing_in_a_later_batch_is_told():
    class Sometimes(nn.Module):
        def forward(self, x):
            return (x, x + 1 if len(x) == 2 else None)

    net = nn.Sequential(Sometimes())
    with pytest.raises(InputError, match=r"Sometimes-1-1.0, rows 4-4: .* got none"):
        maps_of(net, sample_size=2, keep=["Sometimes-1-1.0"])
    stacked = maps_of(net, sample_size=2, batch_strategy="stack")
    assert stacked.get_irregular_shapes() == {
        f"{uid}.{place}": [(4,), (4,), None] for uid in ("Sequential-0-1", "Sometimes-1-1") for place in (0, 1)
    }


def test_the_callers_model_and_inputs_are_as_they_were():
    class AddsInPlace(nn.Module):
        def forward(self, x):
            return x.add_(1)

    net, before = nn.Sequential(AddsInPlace(), nn.Linear(4, 3)), X.clone()
    expected = net[1](X + 1).detach()
    extractor = FeatureExtractor(net, X, "cpu", memory_limit=5 * 4 * 4, progress=False)
    for _ in range(2):  # several groups, several times
        maps = {uid: tensor for group in extractor for uid, tensor in group.items()}
        torch.testing.assert_close(maps["Linear-1-2"], expected)
    assert len(extractor) > 1 and torch.equal(X, before) and net.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())

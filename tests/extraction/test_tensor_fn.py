"""Functions that are applied to every map as it comes."""

import pytest
import torch
from torch import nn

from deepjuice.extraction import FeatureExtractor, get_feature_maps
from juicyfruits.errors import InputError

X = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))


def two_layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU())


def test_tensor_fn_gets_what_it_asks_for():
    net, seen = two_layers(), []

    def note(tensor, batch_iter=None, uid=None, **rest):
        seen.append((uid, batch_iter, len(tensor), rest))
        return tensor[:, :1]

    maps = get_feature_maps(net, list(X.split(4)), "cpu", tensor_fn=note, keep="Linear-1-1", progress=False)
    assert torch.equal(maps["Linear-1-1"], torch.cat([net[0](batch)[:, :1] for batch in X.split(4)]).detach())
    assert [call for call in seen if call[0] == "Linear-1-1"] == [
        ("Linear-1-1", batch_iter, rows, {}) for batch_iter, rows in ((None, 4), (0, 4), (1, 4), (2, 2))
    ]
    rests = []
    get_feature_maps(net, X, "cpu", tensor_fn=lambda x, **rest: rests.append(rest) or x, keep=["0"], progress=False)
    assert rests == [{"batch_iter": None}] * 3 + [{"batch_iter": 0}]  # all three maps of the sample, one of the pass
    plain = get_feature_maps(net, X, "cpu", tensor_fn=torch.abs, keep="Linear-1-1", progress=False)
    assert torch.equal(plain["Linear-1-1"], net[0](X).detach().abs())


def test_tensor_fn_gets_the_mask_of_the_batch():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 3)

        def forward(self, input_ids, attention_mask):
            return self.embed(input_ids)

    net = Reads()
    batches = [
        {"input_ids": torch.randint(9, (n, length)), "attention_mask": torch.ones(n, length).tril()}
        for n, length in ((3, 5), (2, 4))
    ]

    def mean(tensor, mask):
        return (tensor * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    maps = get_feature_maps(net, batches, "cpu", tensor_fn=mean, progress=False)
    by_hand = [
        net.embed(batch["input_ids"])[row, : row + 1].mean(0)
        for batch in batches
        for row in range(len(batch["input_ids"]))
    ]
    torch.testing.assert_close(maps["Embedding-1-1"], torch.stack(by_hand).detach())


def pair_means(tensor):
    return torch.stack([pair.mean(0) for pair in tensor.split(2)])


@pytest.mark.parametrize("options", [{"n_inputs": 6}, {"n_samples": 6}, {"reduce_size_by": 2}, {}])
@pytest.mark.parametrize("strategy", ["join", "stack"])
def test_tensor_fn_may_leave_fewer_rows(options, strategy):
    net, batches = two_layers(), list(X.split(5))
    options = {"tensor_fn": pair_means, "batch_strategy": strategy, "progress": False, **options}
    maps = get_feature_maps(net, batches, "cpu", **options)
    maps = maps if strategy == "join" else maps.join_batches()
    by_hand = torch.stack([net[0](pair).mean(0) for batch in batches for pair in batch.split(2)]).detach()
    assert maps.get_input_size() == 6  # three of each batch of five
    torch.testing.assert_close(maps["Linear-1-1"], by_hand)
    assert maps["Linear-1-1"].untyped_storage().nbytes() == 6 * 3 * 4  # nothing is set aside for rows that never came


def test_rows_that_are_not_as_many_as_expected_are_told():
    net, batches = two_layers(), list(X.split(5))
    for n_inputs in (5, 7):
        with pytest.raises(InputError, match=rf"n_inputs={n_inputs}"):
            get_feature_maps(net, batches, "cpu", tensor_fn=pair_means, n_inputs=n_inputs, progress=False)
    with pytest.raises(InputError, match=r"n_inputs=7: expected as many rows in every map, got 10 in Linear-1-1"):
        FeatureExtractor(net, X, "cpu", n_inputs=7, batch_strategy="list", progress=False).get("Linear-1-1")
    with pytest.raises(InputError, match="tensor_fn of feature map Linear-1-1: expected a tensor of at most 4 rows"):
        get_feature_maps(net, X, "cpu", tensor_fn=lambda tensor: tensor.repeat(2, 1), progress=False)
    with pytest.raises(ZeroDivisionError) as told:
        get_feature_maps(net, X, "cpu", tensor_fn=lambda tensor: 1 / 0, progress=False)
    assert "tensor_fn was given feature map Linear-1-1, shape [4, 3]" in told.value.__notes__[0]

import numpy as np
import pytest
import torch
from torch import nn

from deepjuice.extraction import BatchedFeatureMaps, FeatureExtractor, FeatureMaps, get_feature_maps
from deepjuice.reduction import (
    SignedSums,
    SparseProjection,
    compute_srp,
    get_feature_map_srps,
    jl_width,
    make_srp_matrix,
)
from juicyfruits.errors import InputError

CLASSES = {"sparse": SparseProjection, "signed_sums": SignedSums}


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_matrix(x, width, method="sparse", seed=0):
    """Multiply by the matrix itself, in float64."""
    R = CLASSES[method](x[0].numel(), width, seed).dense()
    return (x.reshape(len(x), -1).double() @ R.double().T).float()


@pytest.mark.parametrize("method", CLASSES)
@pytest.mark.parametrize("seed", [0, 3])
def test_it_is_a_product_with_the_matrix(method, seed):
    x = draw(6, 4, 15, 15)
    got = compute_srp(x, n_projections=50, seed=seed, method=method)
    torch.testing.assert_close(got, by_matrix(x, 50, method, seed), rtol=1e-5, atol=2e-5)
    assert torch.equal(compute_srp(x.numpy(), 50, seed=seed, method=method), got)
    assert not torch.equal(compute_srp(x, 50, seed=seed + 1, method=method), got)


@pytest.mark.parametrize(("n", "eps"), [(5, 0.5), (20, 0.9)])
def test_the_width_follows_from_the_number_of_inputs(n, eps):
    x = draw(n, 300)
    for auto in (None, "auto"):
        assert compute_srp(x, auto, eps=eps).shape == (n, jl_width(n, eps))
    assert compute_srp(draw(4, 5546)).shape == (4, 1188)  # int(4 ln 4 / (0.1^2 / 2 - 0.1^3 / 3)), by hand


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_narrow_maps_stay_exactly_as_they_are(dtype):
    x = draw(5, 2, 25, dtype=dtype)
    got = compute_srp(x, n_projections=50)
    assert got.dtype == dtype and torch.equal(got, x.flatten(1))
    assert compute_srp(x, n_projections=49).shape == (5, 49)


def test_containers_keep_their_kind_and_widths_share_a_matrix():
    x, y = draw(5, 200), draw(5, 200, seed=1)
    as_dict = compute_srp({"x": x, "y": y}, 20)
    as_list = compute_srp([x, [y]], 20)
    assert torch.equal(as_dict["x"], as_list[0]) and torch.equal(as_dict["y"], as_list[1][0])
    torch.testing.assert_close(as_dict["y"], by_matrix(y, 20), rtol=1e-5, atol=2e-5)


def test_a_matrix_made_before_serves_all_widths_up_to_its_own():
    matrix = make_srp_matrix(n_features=300, n_projections=20, seed=2, method="signed_sums").clone().to("cpu")
    for width in (300, 200, 10):
        x = draw(4, width)
        assert torch.equal(compute_srp(x, srp_matrix=matrix), compute_srp(x, 20, seed=2, method="signed_sums"))
    with pytest.raises(InputError, match="maps of 301 features: expected at most 300"):
        compute_srp(draw(4, 301), srp_matrix=matrix)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 5))


QUIET = {"device": "cpu", "progress": False}


def test_maps_in_every_form_give_the_same(net):
    x = draw(7, 3, 8, 8)
    whole = get_feature_maps(net, x, **QUIET, remove_duplicates=False)
    expected = get_feature_map_srps(whole, 30)
    assert type(expected) is FeatureMaps and expected.aliases == whole.aliases != {}
    assert {uid: tuple(t.shape) for uid, t in expected.items()} == {
        uid: (7, min(30, t[0].numel())) for uid, t in whole.items()
    }
    for uid, tensor in whole.items():
        narrow = tensor[0].numel() <= 30
        reference = tensor.flatten(1) if narrow else by_matrix(tensor, 30)
        torch.testing.assert_close(expected[uid], reference, rtol=1e-5, atol=2e-5)
    forms = [dict(whole)]
    forms += [
        get_feature_maps(net, list(x.split(3)), **QUIET, remove_duplicates=False, batch_strategy=strategy)
        for strategy in ("list", "stack")
    ]
    small = 7 * 4 * whole[next(iter(whole))][0].numel() + 7 * 4 * 150
    forms += [
        FeatureExtractor(net, list(x.split(3)), **QUIET, batch_strategy=s, memory_limit=small, initial_report=False)
        for s in ("join", "list", "stack")
    ]
    assert len(forms[-1]) > 1
    for form in forms:
        got = get_feature_map_srps(form, 30)
        assert type(got) is FeatureMaps and list(got) == list(expected)
        for uid in expected:
            torch.testing.assert_close(got[uid], expected[uid], rtol=1e-5, atol=1e-5)
        assert got.aliases.items() <= expected.aliases.items()  # those of one group of layers know each other
    in_one_group = FeatureExtractor(net, x, **QUIET, initial_report=False)
    assert get_feature_map_srps(in_one_group, 30).aliases == expected.aliases
    assert torch.equal(get_feature_map_srps(whole["Conv2d-1-1"], 30), expected["Conv2d-1-1"])


def test_the_width_is_that_of_all_inputs_not_of_a_batch():
    batches = [{"a": draw(4, 300)}, {"a": draw(2, 300, seed=1)}]
    got = get_feature_map_srps(batches, eps=0.5)
    assert got["a"].shape == (6, jl_width(6, 0.5))
    assert torch.equal(got["a"], get_feature_map_srps({"a": torch.cat([b["a"] for b in batches])}, eps=0.5)["a"])


def test_maps_that_cannot_be_joined_are_named():
    batched = BatchedFeatureMaps([{"a": draw(2, 30), "b": draw(2, 3)}, {"a": draw(2, 40), "b": draw(2, 3)}], False)
    with pytest.raises(InputError, match="feature maps a: expected one shape in all batches"):
        get_feature_map_srps(batched, 10)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("method", CLASSES)
def test_tensors_stay_where_they_are(device, method):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    x = draw(5, 400)
    matrix = make_srp_matrix(400, 20, method=method)
    here = compute_srp(x, srp_matrix=matrix)
    there = compute_srp(x.to(device), srp_matrix=matrix)
    assert there.device.type == device and here.device.type == "cpu"
    moved = get_feature_map_srps({"x": x}, 20, method=method, device=device)["x"]
    assert moved.device.type == device
    for got in (there, moved):
        torch.testing.assert_close(got.cpu(), here, rtol=1e-5, atol=2e-5)


def test_nothing_that_comes_in_changes():
    x = draw(5, 400).requires_grad_()
    before = x.detach().clone()
    assert not compute_srp(x, 20).requires_grad
    assert torch.equal(x, before) and x.requires_grad


@pytest.mark.parametrize(
    ("features", "settings", "message"),
    [
        (torch.ones(5), {}, r"a map of shape \[5\]"),
        (torch.ones(5, 4, dtype=torch.int64), {}, "expected floating-point values"),
        (np.ones((1, 9)), {}, "projection width for n=1"),
        (torch.ones(5, 9), {"eps": 1.0}, "eps=1.0"),
        (torch.ones(5, 9), {"n_projections": 0}, "n_projections=0: expected positive"),
        (torch.ones(5, 9), {"n_projections": "all"}, "n_projections='all'"),
        (torch.ones(5, 9), {"n_projections": 3, "method": "dense"}, "expected one of 'signed_sums', 'sparse'"),
        (torch.ones(5, 9), {"srp_matrix": torch.ones(3, 9)}, "srp_matrix of type Tensor"),
        ({"a": "text"}, {"n_projections": 3}, "is of type str"),
    ],
)
def test_bad_input(features, settings, message):
    for function in (compute_srp, get_feature_map_srps):
        with pytest.raises(InputError, match=message):
            function(features, **settings)


@pytest.mark.parametrize("maps", ["text", 3, [torch.ones(2, 3)], None])
def test_what_holds_no_maps_is_refused(maps):
    with pytest.raises(InputError, match="expected FeatureMaps, batches of them, or a FeatureExtractor"):
        get_feature_map_srps(maps)

"""FeatureExtractor: groups under a memory limit, its methods and settings, and what it prints."""

import pandas as pd
import pytest
import torch
from torch import nn

from deepjuice.extraction import BatchedFeatureMaps, FeatureExtractor, FeatureMaps, get_feature_maps, inspect_maps
from juicyfruits.errors import InputError

X = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def make(net, x=X, **options):
    return FeatureExtractor(net, x, "cpu", **{"progress": False, **options})


@pytest.fixture
def whole(net):
    return get_feature_maps(net, X, "cpu", remove_duplicates=False, progress=False)


@pytest.mark.parametrize("limit", [5_000, 10_000, 20_000, 100_000])
def test_groups_are_filled_greedily_in_order_and_hold_every_map_once(net, whole, limit):
    extractor = make(net, memory_limit=limit)
    groups, used = [], 0  # the plain loop
    for uid, tensor in whole.items():
        size = tensor.numel() * 4
        if not groups or used + size > limit:
            groups, used = [*groups, []], 0
        groups[-1].append(uid)
        used += size
    assert extractor.get_batches() == groups and len(extractor) == len(groups)
    for _ in range(2):  # can be gone through again
        found = list(extractor)
        assert [list(maps) for maps in found] == groups
        for maps in found:
            assert sum(tensor.numel() * 4 for tensor in maps.values()) <= limit
            assert all(torch.equal(tensor, whole[uid]) for uid, tensor in maps.items())


def test_get_takes_uids_groups_numbers_paths_and_lists(net, whole):
    extractor = make(net, memory_limit=10_000)
    assert len(extractor) == 5
    for number, uids in enumerate(extractor.get_batches()):
        for which in (number, number - len(extractor), uids):
            maps = extractor.get(which)
            assert list(maps) == uids and all(torch.equal(maps[uid], whole[uid]) for uid in uids)
    assert list(extractor.get("Linear-2-5")) == ["Linear-2-5"]
    assert list(make(net).get("act")) == ["ReLU-1-2", "ReLU-1-4", "ReLU-1-5"]
    assert isinstance(make(net, list(X.split(4)), batch_strategy="stack").get(0), BatchedFeatureMaps)
    with pytest.raises(InputError, match="extractor batch 5: expected 0 to 4"):
        extractor.get(5)
    with pytest.raises(InputError, match=r"did you mean 'Linear-2-5'"):
        extractor.get("Linear-2-6")
    with pytest.raises(InputError, match=r"memory limit 9.77 KB: the feature maps together need .* FeatureExtractor"):
        extractor.get(extractor.get_uids())


def test_search_and_keep(net):
    extractor = make(net)
    assert extractor.search_uids("conv2d") == ["Conv2d-1-1", "Conv2d-2-1", "Conv2d-2-2"]
    assert extractor.search_uids("blocks.1") == ["Conv2d-2-2"]
    extractor.update_keep(["Linear-2-5", "Conv2d-1-1"])
    assert extractor.get_keep() == extractor.get_uids() == ["Conv2d-1-1", "Linear-2-5"]
    extractor.update_keep("ReLU")
    assert list(next(iter(extractor))) == ["ReLU-1-2", "ReLU-1-4", "ReLU-1-5"]
    with pytest.raises(InputError, match="leave none of the 12"):
        extractor.modify_settings(skip="act")
    extractor.modify_settings(keep=None, skip="act")
    assert len(extractor.get_uids()) == 9
    for wrong, told in (("Conv3d", "'Conv3d' is not"), (["Linear-2-55"], "did you mean 'Linear-2-5'"), ([3], "got 3")):
        with pytest.raises(InputError, match=told):
            extractor.update_keep(wrong)
    assert len(extractor.get_uids()) == 9


def test_maps_larger_than_the_limit_are_an_error_or_left_out(net, whole):
    with pytest.raises(InputError, match=r"memory limit 2.93 KB: feature map Conv2d-1-1 alone needs 3.94 KB for 7"):
        make(net, memory_limit=3000)
    extractor = make(net, memory_limit=3000, exclude_oversize=True)
    large = [uid for uid, tensor in whole.items() if tensor.numel() * 4 > 3000]
    assert [record.uid for record in extractor.excluded] == large and 0 < len(large) < len(whole)
    assert extractor.get_uids() == [uid for uid in whole if uid not in large]
    assert extractor.get_keep() == list(whole)
    assert f"Left out (larger than the limit): {', '.join(large)}" in repr(extractor)
    kept = get_feature_maps(net, X, "cpu", memory_limit=3000, exclude_oversize=True, progress=False)
    assert not set(kept) & set(large)
    with pytest.raises(InputError, match="each of the 12 feature maps alone is larger"):
        make(net, memory_limit=10, exclude_oversize=True)


def test_metadata_tell_uid_batch_and_size(net, whole):
    extractor = make(net, memory_limit=10_000)
    table = extractor.get_batch_metadata()
    assert isinstance(table, pd.DataFrame) and table["uid"].tolist() == extractor.get_uids()
    assert table["bytes"].tolist() == [tensor[0].numel() * 4 for tensor in whole.values()]
    for number, uids in enumerate(extractor.get_batches()):
        assert extractor.get_batch_metadata(number)["uid"].tolist() == uids
        assert set(table[table["uid"].isin(uids)]["batch"]) == {number}
    with pytest.raises(InputError, match="extractor batch 9"):
        extractor.get_batch_metadata(9)


def test_one_projection_serves_all_maps(net, whole):
    from deepjuice.reduction import compute_srp, jl_width

    extractor = make(net, flatten=True)
    widest = max(tensor[0].numel() for tensor in whole.values())
    assert extractor.get_srp_kwargs(mega_matrix=True, eps=0.5, seed=3) == {
        "n_features": widest,
        "n_projections": jl_width(7, 0.5),
        "seed": 3,
    }
    apart = extractor.get_srp_kwargs(mega_matrix=False)
    assert {uid: kwargs["n_features"] for uid, kwargs in apart.items()} == {
        uid: tensor[0].numel() for uid, tensor in whole.items()
    }
    matrix = extractor.get_global_srp_matrix(eps=0.5)
    maps = next(iter(extractor))
    for uid, tensor in maps.items():
        projected = compute_srp(tensor, srp_matrix=matrix)
        assert torch.equal(projected, compute_srp(tensor, n_projections=jl_width(7, 0.5)))
        assert projected.shape == (7, min(tensor.shape[1], jl_width(7, 0.5))), uid


def test_settings_change_from_the_next_iteration_on_or_not_at_all(net, whole):
    extractor = make(net)
    extractor.modify_settings(flatten=True, batch_progress=True, batch_strategy="list")
    assert [tensor.ndim for tensor in next(iter(extractor))[0].values()] == [2] * 12
    extractor.modify_settings(memory_limit="10 KB")
    before = extractor.get_batches()
    assert len(before) == 5
    for wrong in ({"flaten": True}, {"batch_strategy": "pile"}, {"keep": "Conv9"}, {"memory_limit": "lots"}):
        with pytest.raises(InputError):
            extractor.modify_settings(**{"flatten": False, **wrong})
    assert extractor.get_batches() == before and extractor.settings.flatten
    extractor.modify_settings(memory_limit="auto", tensor_fn=lambda tensor: tensor.flatten(1)[:, :2])
    assert [tuple(tensor.shape) for tensor in next(iter(extractor))[0].values()] == [(7, 2)] * 12
    assert {record.n_features for record in extractor.inspection.records} == {2}  # looked at anew


@pytest.mark.parametrize("call", [get_feature_maps, FeatureExtractor])
def test_unknown_settings_are_refused_by_name(net, call):
    for name, hint in (("memory_limits", "memory_limit"), ("tensorfn", "tensor_fn"), ("n_sample", "n_samples")):
        with pytest.raises(InputError, match=f"setting '{name}' of {call.__name__}: did you mean.*'{hint}'"):
            call(net, X, "cpu", **{name: 1})
    for first, other in (("memory_limit", "max_memory_limit"), ("n_inputs", "n_samples")):
        with pytest.raises(InputError, match=f"{first} and its other name are two names of one setting"):
            call(net, X, "cpu", **{first: 7, other: 7})
    for wrong in ({"n_inputs": 0}, {"sample_size": 1.5}, {"reduce_size_by": 0.5}, {"input_dim": -1}, {"tensor_fn": 3}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}=.*: expected"):
            call(net, X, "cpu", **wrong)


def test_a_look_already_taken_is_used_again(net):
    seen = []
    forward = net.forward
    net.forward = lambda x: seen.append(len(x)) or forward(x)
    extractor = make(net)
    assert seen == [4, 1, 2]  # what maps there are, what memory they take
    seen.clear()
    get_feature_maps(net, X, "cpu", metadata=extractor, progress=False)
    make(net, metadata=inspect_maps(net, X[:2]))
    assert seen == [7, 2, 1, 2]
    with pytest.raises(InputError, match="metadata of type dict"):
        make(net, metadata={})


def test_reports_are_printed_once_or_not_at_all(net, capfd):
    shown = make(net, initial_report=True)
    assert capfd.readouterr().out.splitlines() == [
        "Extracting sample feature_maps with torchinfo (CPU to CPU)",
        *repr(shown).splitlines(),
    ]
    for strategy in ("join", "list", "stack"):
        for maps in make(net, list(X.split(3)), batch_strategy=strategy, report_irregularities=True):
            joined = maps.join_batches() if strategy == "stack" else maps
            assert isinstance(joined, (FeatureMaps, list))
    assert capfd.readouterr() == ("", "")


def test_a_group_of_one_is_no_larger_than_the_limit():
    net = nn.Sequential(*(nn.Linear(8, 8) for _ in range(5)))
    x = torch.rand(4, 8)
    extractor = make(net, x, memory_limit=2 * 4 * 8 * 4)
    assert [len(uids) for uids in extractor.get_batches()] == [2, 2, 2]
    assert make(net, x, max_memory_limit=2 * 4 * 8 * 4).get_batches() == extractor.get_batches()


def test_several_passes_over_a_shuffling_loader_are_refused(net):
    loader = torch.utils.data.DataLoader(X, batch_size=3, shuffle=True)
    assert len(FeatureExtractor(net, loader, "cpu", progress=False)) == 1
    limit = max(record.n_bytes for record in make(net).inspection.records) * len(X)
    with pytest.raises(InputError, match="DataLoader that shuffles"):
        FeatureExtractor(net, loader, "cpu", memory_limit=limit, progress=False)

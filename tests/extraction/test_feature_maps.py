import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models

from deepjuice import BatchedFeatureMaps, FeatureExtractor, FeatureMaps, get_feature_maps
from deepjuice.extraction import inspect_maps
from juicyfruits.errors import InputError
from tests.extraction.plain_hooks import by_plain_hooks


@pytest.fixture(scope="module")
def alexnet():
    torch.manual_seed(0)
    return models.alexnet(weights=None)


def test_alexnet_has_24_maps_of_which_six_are_duplicates(alexnet):
    inspection = inspect_maps(alexnet, torch.randn(2, 3, 224, 224))
    assert (len(inspection.records), len(inspection.distinct)) == (24, 18)
    assert {r.uid: r.alias_of for r in inspection.records if r.alias_of} == {
        "Sequential-1-1": "MaxPool2d-2-13",
        "AdaptiveAvgPool2d-1-2": "MaxPool2d-2-13",
        "Dropout-2-14": "MaxPool2d-2-13",
        "Dropout-2-17": "ReLU-2-16",
        "Sequential-1-3": "Linear-2-20",
        "AlexNet-0-1": "Linear-2-20",
    }


@pytest.mark.parametrize("strategy", ["join", "list", "stack"])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_maps_equal_plain_hooks_for_every_strategy_and_batch_size(net, strategy, batch_size):
    x = torch.rand(7, 3, 8, 8)
    got = get_feature_maps(
        net, list(x.split(batch_size)), "cpu", batch_strategy=strategy, remove_duplicates=False, progress=False
    )
    if strategy != "join":
        got = BatchedFeatureMaps(got, progress=False) if strategy == "list" else got
        got.progress = False
        got = got.join_batches()
    records = inspect_maps(net, x).records
    expected = by_plain_hooks(net, x)
    in_completion_order = sorted(records, key=lambda record: record.order)
    assert [r.path for r in in_completion_order] == [path for path, _ in expected]
    for record, (_, tensor) in zip(in_completion_order, expected, strict=True):
        torch.testing.assert_close(got[record.uid], tensor, rtol=1e-5, atol=1e-6)
    assert list(got) == [record.uid for record in records]


def test_irregular_maps_are_named_and_left_out(capsys):
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.same, self.pad = nn.Linear(3, 3), nn.Identity()

        def forward(self, x):
            return self.same(x).sum(1, keepdim=True) + 0 * self.pad(x.repeat(1, len(x)))[:, :1]

    maps = get_feature_maps(Growing(), [torch.rand(2, 3), torch.rand(4, 3)], "cpu", batch_strategy="stack")
    assert maps.get_irregular_shapes() == {"Identity-1-2": [(6,), (12,)]}
    capsys.readouterr()
    assert list(maps.join_batches()) == ["Growing-0-1", "Linear-1-1"]
    assert "Identity-1-2" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"Identity-1-2.*batch_strategy='stack'"):
        get_feature_maps(Growing(), [torch.rand(2, 3), torch.rand(4, 3)], "cpu", progress=False)


def test_keep_and_skip(net):
    x = torch.rand(2, 3, 8, 8)
    kept = get_feature_maps(net, x, "cpu", keep=["Linear-2-5", "TinyNet-0-1"], progress=False)
    assert list(kept) == ["TinyNet-0-1", "Linear-2-5"]  # asked for by name, so the duplicate stays
    assert "Linear-2-5" not in get_feature_maps(net, x, "cpu", skip=["Linear-2-5"], progress=False)


def test_wrong_arguments_are_told_with_their_remedy(net):
    x = torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match="batch_strategy='joined'"):
        get_feature_maps(net, x, "cpu", batch_strategy="joined")
    with pytest.raises(InputError, match="did you mean 'Linear-2-5'"):
        get_feature_maps(net, x, "cpu", keep=["Linear-2-6"], progress=False)
    with pytest.raises(InputError, match=r"memory limit 100.00 B: feature map TinyNet-0-1|Conv2d-1-1 alone needs"):
        FeatureExtractor(net, x, "cpu", memory_limit=100, progress=False)
    extractor = FeatureExtractor(net, x, "cpu", progress=False)
    with pytest.raises(InputError, match="did you mean 'flatten'"):
        extractor.modify_settings(flaten=True)
    with pytest.raises(InputError, match="one of them"):
        FeatureExtractor(net, x, "cpu", memory_limit="1GB", max_memory_limit="1GB")
    with pytest.raises(InputError, match="expected a DataLoader"):
        get_feature_maps(net, "pictures", "cpu")
    with pytest.raises(InputError, match="at least one batch"):
        BatchedFeatureMaps([])


def test_feature_maps_count_what_they_hold():
    maps = FeatureMaps({"a": torch.zeros(3, 4), "b": torch.zeros(3, 4)}, aliases={"b": "a"})
    assert maps.get_input_size() == 3 and "(1 duplicates)" in repr(maps) and FeatureMaps().get_input_size() == 0


def test_loaders_with_samplers_or_a_dropped_last_batch_give_the_rows_they_give():
    from torch.utils.data import RandomSampler, SubsetRandomSampler, TensorDataset

    x = torch.arange(10.0)[:, None].repeat(1, 3)
    net, dataset = nn.Sequential(nn.Identity()), TensorDataset(x)

    def rows(**options):
        loader = DataLoader(dataset, batch_size=4, **options)
        return get_feature_maps(net, loader, "cpu", remove_duplicates=False, progress=False)["Identity-1-1"][:, 0]

    assert rows(drop_last=True).tolist() == list(range(8))
    assert sorted(rows(sampler=SubsetRandomSampler([0, 1, 2])).tolist()) == [0, 1, 2]
    assert len(rows(sampler=RandomSampler(dataset, num_samples=20, replacement=True))) == 20

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(x)

    with pytest.raises(InputError, match="IterableDataset"):
        get_feature_maps(net, DataLoader(Stream(), batch_size=4), "cpu", progress=False)


def test_half_and_double_models_get_inputs_of_their_own_precision():
    for dtype, itemsize in ((torch.float64, 8), (torch.bfloat16, 2)):
        net = nn.Sequential(nn.Linear(4, 3)).to(dtype)
        maps = get_feature_maps(net, torch.randn(5, 4), "cpu", progress=False)
        assert maps["Linear-1-1"].dtype == dtype
        assert inspect_maps(net, torch.randn(5, 4, dtype=dtype)).records[0].n_bytes == 3 * itemsize


def test_maps_that_differ_in_the_last_bit_are_no_duplicates():
    class Nudge(nn.Module):
        def forward(self, x):
            return x * (1 + 2**-50)

    net = nn.Sequential(nn.Identity(), Nudge()).double()
    assert len(inspect_maps(net, torch.rand(3, 4, dtype=torch.float64)).distinct) == 2


X = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))


def two_layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU())


def test_flattened_maps_are_the_same_values_in_rows(net):
    x = torch.rand(5, 3, 8, 8)
    for strategy in ("join", "list"):
        options = {"batch_strategy": strategy, "remove_duplicates": False, "progress": False}
        maps = get_feature_maps(net, list(x.split(3)), "cpu", **options)
        flat = get_feature_maps(net, list(x.split(3)), "cpu", flatten=True, **options)
        for wide, rows in zip(*([m] if strategy == "join" else m for m in (maps, flat)), strict=True):
            for uid, tensor in wide.items():
                assert torch.equal(rows[uid], tensor.flatten(1)) and rows[uid].is_contiguous()


def test_duplicates_among_maps_chosen_by_a_part_of_their_names():
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Sequential(nn.Dropout(), nn.ReLU()), nn.Identity())
    maps = get_feature_maps(net, X, "cpu", keep=["Dropout"], progress=False)
    assert list(maps) == ["Dropout-1-2"]  # the first of them, although it repeats Linear-1-1
    ends = get_feature_maps(net, X, "cpu", keep=["Sequential-0", "Sequential-1", "ReLU"], progress=False)
    assert list(ends) == ["ReLU-2-2"]  # leaves complete before the containers that end in them
    named = get_feature_maps(net, X, "cpu", keep=["Dropout-1-2", "Dropout-2-1", "Linear"], progress=False)
    assert list(named) == ["Linear-1-1", "Dropout-1-2", "Dropout-2-1"]
    assert named.aliases == {"Dropout-1-2": "Linear-1-1", "Dropout-2-1": "Linear-1-1"}


def test_inputs_can_be_saved_with_the_maps():
    net, batches = two_layers(), list(X.split(4))
    joined = get_feature_maps(net, batches, "cpu", save_inputs=True, progress=False)
    assert torch.equal(joined.inputs, X)
    stacked = get_feature_maps(net, batches, "cpu", save_inputs=True, batch_strategy="stack", progress=False)
    assert [len(batch.inputs) for batch in stacked] == [4, 4, 2] and torch.equal(stacked.join_batches().inputs, X)
    assert get_feature_maps(net, batches, "cpu", progress=False).inputs is None


def test_a_dry_run_says_what_would_be_kept_and_runs_the_sample_only(alexnet, capsys):
    rows = []
    handle = alexnet.features[0].register_forward_hook(lambda module, x, y: rows.append(len(y)))
    table = get_feature_maps(alexnet, [torch.randn(4, 3, 224, 224), torch.empty(60, 3, 224, 224)], "cpu", dry_run=True)
    handle.remove()
    assert capsys.readouterr().out == (
        "Extracting sample feature_maps with torchinfo (CPU to CPU)\n"
        "get_feature_maps() Dry Run Information\n"
        "  # Inputs: 64; # Feature Maps: 18\n"
        "  # Duplicates (Removed): 6\n"
        "  Total memory required: 262.60 MB\n"
    )
    assert rows == [4] and len(table) == 18 and table["bytes"].sum() == 1_075_688 * 4


def test_progress_false_is_silent(capfd):
    net = two_layers()
    for options in ({}, {"dry_run": True}, {"report_irregularities": True}, {"batch_strategy": "stack"}):
        maps = get_feature_maps(net, list(X.split(4)), "cpu", progress=False, **options)
        if isinstance(maps, BatchedFeatureMaps):
            maps.join_batches()
    assert capfd.readouterr() == ("", "")
    get_feature_maps(net, X, "cpu", batch_progress=False)
    assert capfd.readouterr().err == ""


def test_bars_inside_another_make_room_for_it():
    from deepjuice.extraction.progress import progress_bar

    with progress_bar("outer", True, 2) as outer, progress_bar("inner", True, 2) as inner:
        assert (outer.leave, inner.leave) == (True, False)


class Lengths(nn.Module):
    """Its first layer's shape follows the longest text of a batch, its second's does not."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 3), nn.Linear(3, 2)

    def forward(self, input_ids):
        return self.head(self.embed(input_ids).mean(1))


def test_joining_maps_of_several_lengths_leaves_them_out_when_a_report_is_asked_for(capsys):
    torch.manual_seed(0)
    net = Lengths()
    batches = [{"input_ids": torch.randint(9, (2, length))} for length in (5, 5, 7)]
    stacked = get_feature_maps(
        net, batches, "cpu", batch_strategy="stack", report_irregularities=True, save_inputs=True
    )
    assert "Irregular feature maps: Embedding-1-1." in capsys.readouterr().out
    assert stacked.get_irregular_shapes() == {"Embedding-1-1": [(5, 3), (5, 3), (7, 3)]}
    joined = get_feature_maps(net, batches, "cpu", report_irregularities=True)
    assert "Irregular feature maps: Embedding-1-1." in capsys.readouterr().out
    for maps in (joined, stacked.join_batches()):
        assert list(maps) == ["Linear-1-2"] and list(maps.irregular) == ["Embedding-1-1"]
        assert torch.equal(maps["Linear-1-2"], torch.cat([net(**batch) for batch in batches]).detach())
    assert "  Left out (shapes differ between batches): Embedding-1-1\n" in capsys.readouterr().out
    assert [x["input_ids"].shape[1] for x in stacked.join_batches().inputs] == [5, 5, 7]
    with pytest.raises(InputError, match=r"Embedding-1-1, rows 4-5: expected shape \[5, 3\].*got \[7, 3\]"):
        get_feature_maps(net, batches, "cpu", progress=False)

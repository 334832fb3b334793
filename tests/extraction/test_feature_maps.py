import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models

from deepjuice import BatchedFeatureMaps, FeatureExtractor, FeatureMaps, get_feature_maps
from deepjuice.extraction import inspect_maps
from juicyfruits.errors import InputError


@pytest.fixture(scope="module")
def alexnet():
    torch.manual_seed(0)
    return models.alexnet(weights=None)


def by_plain_hooks(model, x):
    """The oracle: clone every module's output in a forward hook of its own, one list entry a call."""
    found, handles = [], []

    def hook(path):
        def clone(module, inputs, output):
            found.append((path, output.clone() if isinstance(output, torch.Tensor) else output))

        return clone

    for path, module in model.named_modules():
        handles.append(module.register_forward_hook(hook(path)))
    with torch.no_grad():
        model.eval()(x)
    for handle in handles:
        handle.remove()
    return found


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


def test_the_handles_print_what_the_tutorial_prints(alexnet, capsys):
    loader = DataLoader(torch.randn(160, 3, 224, 224).unbind(), batch_size=64)
    maps = get_feature_maps(alexnet, loader, device="cpu", batch_strategy="list")
    printed = capsys.readouterr().out
    assert printed == (
        "Extracting sample feature_maps with torchinfo (CPU to CPU)\n"
        "Keeping 18 / 24 total maps (6 duplicates removed).\n"
    )
    handle = "FeatureMaps Handle\n  18 maps; {}; {} MB \n  0 maps on GPU (0 duplicates)"
    assert [repr(m) for m in maps] == [
        handle.format("64 inputs", "262.60"),
        handle.format("64 inputs", "262.60"),
        handle.format("32 inputs", "131.30"),
    ]
    assert repr(BatchedFeatureMaps(maps)) == (
        "Batch Tensor Maps Handler\n  Total Batch Count: 3\n  # Total Inputs: 160\n"
        "  # of Unique Feature Maps: 18\n  No irregularities found."
    )
    extractor = FeatureExtractor(alexnet, loader, device="cpu", batch_strategy="stack", max_memory_limit="16GB")
    assert capsys.readouterr().out == (
        "Extracting sample feature_maps with torchinfo (CPU to CPU)\n"
        "FeatureExtractor Handle for AlexNet\n"
        "  24 feature maps (+6 duplicates); 160 inputs\n"
        "  Memory required for full extraction: 677.15 MB\n"
        "  Memory usage limiting device set to: cpu\n"
        "  Memory usage limit currently set to: 16.000 GB\n"
        "  1 batch(es) required for current memory limit \n"
        "   Batch-001: 24 feature maps; 677.15 MB\n"
    )
    extractor.modify_settings(flatten=True)
    joined = next(iter(extractor)).join_batches()
    assert joined["Conv2d-2-1"].shape == (160, 193600) and joined["Linear-2-15"].shape == (160, 4096)


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


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_32"])
def test_maps_of_torchvision_models_equal_plain_hooks(name):
    torch.manual_seed(0)
    model = models.get_model(name, weights=None)
    x = torch.rand(2, 3, 224, 224)
    records = inspect_maps(model, x).records
    maps = get_feature_maps(model, x, "cpu", remove_duplicates=False, progress=False)
    expected = [(p, o) for p, o in by_plain_hooks(model, x) if isinstance(o, torch.Tensor) and o.ndim > 1]
    by_call = {}
    for path, tensor in expected:
        by_call.setdefault(path, []).append(tensor)
    for record in records:
        outputs = by_call.get(record.path)
        if outputs is not None:  # attention returns a tuple, which the hook above leaves out
            assert torch.equal(maps[record.uid], outputs[record.call])
    assert len(expected) > 50


def test_groups_are_filled_greedily_in_the_order_calls_begin():
    net = nn.Sequential(*(nn.Linear(8, 8) for _ in range(5)))
    x = torch.rand(4, 8)
    extractor = FeatureExtractor(net, x, "cpu", memory_limit=2 * 4 * 8 * 4, initial_report=False, progress=False)
    groups = [list(maps) for maps in extractor]
    assert len(extractor) == 3 and [len(group) for group in groups] == [2, 2, 2]
    assert groups[0] == ["Sequential-0-1", "Linear-1-1"]
    whole = get_feature_maps(net, x, "cpu", remove_duplicates=False, progress=False)
    for maps in extractor:
        for uid, tensor in maps.items():
            assert torch.equal(tensor, whole[uid])


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
        FeatureExtractor(net, x, "cpu", memory_limit=100, initial_report=False)
    extractor = FeatureExtractor(net, x, "cpu", initial_report=False)
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


class AddsInPlace(nn.Module):
    def forward(self, x):
        return x.add_(1)


def test_the_callers_inputs_are_never_changed():
    torch.manual_seed(0)
    net, x = nn.Sequential(AddsInPlace(), nn.Linear(4, 3)), torch.randn(6, 4)
    before, expected = x.clone(), net[1](x + 1).detach()
    extractor = FeatureExtractor(net, x, "cpu", memory_limit=6 * 4 * 4, initial_report=False, progress=False)
    for _ in range(2):  # several groups, several times
        maps = {uid: tensor for group in extractor for uid, tensor in group.items()}
        torch.testing.assert_close(maps["Linear-1-2"], expected)
    assert len(extractor) > 1 and torch.equal(x, before)


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

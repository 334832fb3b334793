import pytest
import torch

from deepjuice.extraction import FeatureExtractor, get_feature_maps, inspect_maps
from deepjuice.extraction.metadata import get_feature_map_metadata
from juicyfruits.errors import InputError


@pytest.fixture
def x():
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_it_describes_the_maps_that_are_really_made(net, x):
    table = get_feature_map_metadata(net, x, device="cpu")
    maps = get_feature_maps(net, x, device="cpu", progress=False, remove_duplicates=False)
    assert set(table.model_layer) == set(maps)
    for row in table.itertuples():
        tensor = maps[row.model_layer]
        assert row.shape == tuple(tensor.shape[1:])
        assert row.n_features == tensor[0].numel()
        assert row.bytes == tensor[0].numel() * tensor.element_size()
        same = [uid for uid in table.model_layer if torch.equal(maps[uid].flatten(), tensor.flatten())]
        assert row.duplicate_of == (None if same[0] == row.model_layer else same[0])
    kept = get_feature_maps(net, x, device="cpu", progress=False)
    assert set(table.model_layer[table.duplicate_of.isna()]) == set(kept)


def test_modules_and_the_order_of_their_calls_are_those_of_plain_hooks(net, x):
    table = get_feature_map_metadata(net, x, device="cpu")
    names = {module: name for name, module in net.named_modules()}
    finished = []
    for module in names:
        module.register_forward_hook(lambda module, inputs, output: finished.append(module))
    net.eval()(x)
    assert table.layer_path.tolist() == [names[module] for module in finished]
    assert table["class"].tolist() == [type(module).__name__ for module in finished]
    assert table.depth.tolist() == [len(path.split(".")) if path else 0 for path in table.layer_path]
    assert table.call.tolist() == [finished[:i].count(module) for i, module in enumerate(finished)]
    assert table.call.max() == 2  # the activation is called three times
    assert table.model_layer_index.tolist() == list(range(len(finished)))
    assert table.model_layer_depth.tolist() == [i / (len(finished) - 1) for i in range(len(finished))]


def test_what_has_looked_at_the_model_is_not_asked_to_run_it_again(net, x):
    expected = get_feature_map_metadata(net, [x[:2], x[2:]], device="cpu")
    extractor = FeatureExtractor(net, x, device="cpu", initial_report=False)
    inspection = inspect_maps(net, x)
    net.forward = None
    for source in (extractor, inspection):
        assert get_feature_map_metadata(source).equals(expected)


def test_bad_input(net, x):
    with pytest.raises(InputError, match="TinyNet: expected inputs"):
        get_feature_map_metadata(net)
    with pytest.raises(InputError, match="Inspection: expected no inputs"):
        get_feature_map_metadata(inspect_maps(net, x), x)
    with pytest.raises(InputError, match="metadata of a str: expected a model"):
        get_feature_map_metadata("alexnet")

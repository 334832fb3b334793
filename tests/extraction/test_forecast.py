"""What `deepjuice plan` foretells, against the maps and stores that are really made."""

import numpy as np

from deepjuice.extraction import FeatureExtractor, forecast, get_feature_maps
from deepjuice.loaders import get_data_loader

from .conftest import to_tensor
from .test_stage import EPS, run

OPTIONS = {"eps": EPS, "device": "cpu", "batch_size": 4}


def test_bytes_and_shapes_are_those_of_the_real_maps_and_store(net, pictures, tmp_path):
    found = forecast(net, to_tensor, pictures, **OPTIONS)
    maps = get_feature_maps(net, get_data_loader(pictures, to_tensor), "cpu", progress=False)
    store = run(net, pictures, tmp_path / "x.zarr")
    table = found.maps.set_index("model_layer")
    assert set(table.index) == set(maps)
    for uid, tensor in maps.items():
        row = table.loc[uid]
        assert row["bytes"] == tensor.nbytes == len(pictures) * row["bytes_an_input"]
        assert row["columns"] == store[uid].shape[1] and row["stored_bytes"] == store[uid].nbytes
    assert found.store_bytes == sum(store[record.uid].nbytes for record in store.maps)
    order = [record.uid for record in store.maps]
    assert (np.diff(table.loc[order, "peak_host"]) >= 0).all()
    assert f"Projected to {found.width} columns in one pass" in str(found)


def test_passes_of_an_extractor_are_those_of_a_plain_greedy_loop(net, pictures):
    extractor = FeatureExtractor(
        net, get_data_loader(pictures, to_tensor, 4), "cpu", memory_limit="20KB", progress=False
    )
    groups, used = [[]], 0
    for record in extractor.inspection.records:
        size = len(pictures) * record.n_features * 4
        if used + size > 20 * 1024 and groups[-1]:
            groups, used = [*groups, []], 0
        groups[-1].append(record)
        used += size
    plan = extractor.plan()
    assert extractor.get_batches() == [[record.uid for record in group] for group in groups] and len(groups) > 2
    assert plan["maps"].tolist() == [len(group) for group in groups]
    assert plan["bytes"].tolist() == [4 * len(pictures) * sum(r.n_features for r in group) for group in groups]
    assert plan["ends_with"].tolist() == [max(group, key=lambda r: r.order).uid for group in groups]


def test_a_map_too_large_to_keep_is_named(net, pictures, monkeypatch):
    roomy = forecast(net, to_tensor, pictures * 2000, **OPTIONS)
    assert len(roomy.chunks) == 1 and not roomy.obstacle
    monkeypatch.setattr("deepjuice.extraction.plan.held_memory", lambda device: 1_000_000)
    tight = forecast(net, to_tensor, pictures * 2000, **OPTIONS, memory_limit="5MB")
    assert tight.chunks.empty and "alone needs" in tight.obstacle and tight.obstacle in str(tight)

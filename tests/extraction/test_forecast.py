"""What `deepjuice plan` foretells, against the maps and stores that are really made."""

import numpy as np
import pandas as pd
import pytest
import torch

from deepjuice.cli import main
from deepjuice.extraction import FeatureExtractor, forecast, get_feature_maps
from deepjuice.loaders import get_data_loader
from deepjuice.memory import held_memory, total_limit
from deepjuice.sizes import parse_bytes
from juicyfruits import write_benchmark

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


def test_chunks_stay_within_the_limit_of_the_whole_process(net, pictures, monkeypatch):
    many = pictures * 1000
    monkeypatch.setattr("deepjuice.extraction.plan.held_memory", lambda device: 1_000_000)
    found = forecast(net, to_tensor, many, **OPTIONS, memory_limit="30MB")
    limit = parse_bytes("30MB")
    kept = found.maps["bytes"].sum()
    assert (
        len(found.chunks) > 1 and found.chunks["bytes"].sum() == kept and found.chunks["maps"].sum() == len(found.maps)
    )
    assert (found.chunks["peak_host"] <= limit).all()
    one_more = found.chunks["bytes"].iloc[:-1].to_numpy() + found.maps["bytes"].max()
    assert (one_more > limit - 5_000_000).all()  # none could have held much more
    assert f"{len(found.chunks)} passes" in str(found)


def test_half_the_disk_for_float16(net, pictures):
    whole, half = (forecast(net, to_tensor, pictures, **OPTIONS, dtype=dtype) for dtype in ("float32", "float16"))
    assert whole.store_bytes == 2 * half.store_bytes == whole.maps["stored_bytes"].sum()


def test_without_a_limit_groups_leave_room_for_the_pass(net):
    wide = torch.nn.Sequential(torch.nn.Linear(8, 100_000), torch.nn.Linear(100_000, 2))
    x = torch.randn(1000, 8)
    extractor = FeatureExtractor(wide, x, "cpu", progress=False)
    forward = 4 * len(x) * (100_000 + 2)  # what a pass holds besides the maps that it keeps: both layers' outputs
    free = total_limit(None, "cpu") - held_memory("cpu")
    assert extractor.memory_limit < free - forward + 500_000_000  # free memory moves a little between two looks
    assert FeatureExtractor(wide, x, "cpu", memory_limit="1GB", progress=False).memory_limit == 2**30


@pytest.fixture(scope="module")
def benchmark(pictures, tmp_path_factory):
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i}" for i in range(len(pictures))]})
    responses = np.random.default_rng(0).standard_normal((3, len(pictures)))
    neuroids = pd.DataFrame({"neuroid_id": list("abc"), "subject": "s", "roi_V1": True})
    folder = tmp_path_factory.mktemp("plan") / "tiny"
    write_benchmark(folder, stimuli, pictures, neuroids=neuroids, responses=responses)
    return str(folder)


def test_the_command_prints_the_plan_and_writes_the_table(benchmark, tmp_path, capsys):
    options = ["--csv", str(tmp_path / "maps.csv"), "--batch-size", "2", "--device", "cpu"]
    assert main(["plan", "torchvision_squeezenet1_1_random", benchmark, *options]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("SqueezeNet: ") and "in one pass, batches of 2: predicted peak" in printed
    table = pd.read_csv(tmp_path / "maps.csv")
    assert len(table) == int(printed.split("SqueezeNet: ")[1].split(" maps")[0])
    assert table["model_layer"][0] == "Conv2d-2-1" and table["bytes_an_input"][0] == 4 * 64 * 111 * 111


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["torchvision_squeezenet1_1_randm"], "did you mean 'torchvision_squeezenet1_1_random'"),
        (["all_minilm_l6_v2"], "all_minilm_l6_v2"),
        (
            ["torchvision_squeezenet1_1_random", "--memory-limit", "2MB"],
            "memory limit 2.00 MB: one input at a time needs",
        ),
        (["torchvision_squeezenet1_1_random", "--batch-size", "0"], "batch_size=0"),
    ],
)
def test_bad_input_ends_with_one_sentence(benchmark, capsys, arguments, said):
    model, *options = arguments
    assert main(["plan", model, benchmark, "--device", "cpu", *options]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("deepjuice plan: error: ") and error.count("\n") == 1

"""Loaders from tables: which column, which rows together, which batch; and averages over groups."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from deepjuice import FeatureExtractor, get_data_loader, get_feature_maps
from deepjuice.extraction.tensor_fns import average_groups
from juicyfruits.errors import InputError


def to_tensor(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()


def lengths(texts):
    return {"n": torch.tensor([[float(len(text))] for text in texts])}


@pytest.fixture
def frames(tmp_path, monkeypatch):
    """Frames of five videos, shuffled among each other; the number in a name is the picture's grey value."""
    monkeypatch.chdir(tmp_path)
    videos = list("bacbadbebbcb")
    names = [f"{value:02d}.png" for value in range(len(videos))]
    for value, name in enumerate(names):
        Image.new("RGB", (3, 2), (value, value, value)).save(name)
    table = pd.DataFrame({"video": videos, "frame": names, "n": range(len(videos))})
    return table.set_index(pd.Index(range(100, 100 + len(videos)), name="row"))


def grey(batch):
    return batch[:, 0, 0, 0].int().tolist()


def test_groups_are_brought_together_and_never_split(frames):
    loader = get_data_loader(frames, to_tensor, 4, num_workers=0, group_keys="video")
    # b has six frames, more than a batch; a (2) and c (2) fill one; d and e (1 each) are left
    assert [grey(batch) for batch in loader] == [[0, 3, 6, 8, 9, 11], [1, 4, 2, 10], [5, 7]]
    table = loader.batch_data
    assert table["video"].tolist() == list("bbbbbbaaccde")
    assert table["group_index"].tolist() == [0] * 6 + [1] * 2 + [2] * 2 + [3, 4]
    assert table["batch_iter"].tolist() == [0] * 6 + [1] * 4 + [2] * 2
    assert table["batch_index"].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 0, 1]
    pd.testing.assert_frame_equal(table[["video", "frame", "n"]].sort_index(), frames)
    assert len(loader) == 3 and list(frames.columns) == ["video", "frame", "n"]


@pytest.mark.parametrize(("batch_size", "workers"), [*((size, 0) for size in range(1, 13)), (3, 1)])
def test_any_batch_size_keeps_the_rules(frames, batch_size, workers):
    loader = get_data_loader(frames, to_tensor, batch_size, workers, group_keys=["video"])
    table = loader.batch_data
    seen = []
    for i, batch in enumerate(loader):
        mine = table[table["batch_iter"] == i]
        assert grey(batch) == mine["n"].tolist()
        assert len(batch) <= batch_size or mine["video"].nunique() == 1
        seen += mine["video"].drop_duplicates().tolist()
    assert seen == frames["video"].drop_duplicates().tolist()


def test_several_columns_name_a_group_also_categorical_ones(frames):
    frames["half"] = pd.Categorical(["x", "y"] * 6, categories=["z", "y", "x"])
    loader = get_data_loader(frames, to_tensor, 4, 0, group_keys=["video", "half"])
    table = loader.batch_data
    expected = frames.groupby(["video", "half"], sort=False, observed=True)["n"].apply(list)
    assert sorted(table.groupby("group_index")["n"].apply(list)) == sorted(expected)
    assert table["group_index"].is_monotonic_increasing and table["group_index"].nunique() == len(expected)


def test_a_table_without_groups_stays_in_its_order(frames):
    loader = get_data_loader(frames, to_tensor, 5, num_workers=0)
    assert [grey(batch) for batch in loader] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert loader.batch_data["batch_iter"].tolist() == [0] * 5 + [1] * 5 + [2] * 2
    assert loader.batch_data["group_index"].tolist() == list(range(12))
    assert not hasattr(get_data_loader(list(frames["frame"]), to_tensor), "batch_data")


def test_what_a_table_leaves_open_is_asked(frames):
    frames["still"] = frames["frame"]
    with pytest.raises(InputError, match=r"one column of picture paths, got 2 \('frame', 'still'.*data_key"):
        get_data_loader(frames, to_tensor)
    assert grey(next(iter(get_data_loader(frames, to_tensor, 2, 0, data_key="still")))) == [0, 1]
    with pytest.raises(InputError, match=r"one column of texts, got 3 \('video', 'frame', 'still'"):
        get_data_loader(frames, lengths, input_modality="text")
    with pytest.raises(InputError, match=r"got 0 \(none of 'n'\)"):
        get_data_loader(frames[["n"]], to_tensor)
    with pytest.raises(InputError, match=r"column 'fram' .* did you mean 'frame'"):
        get_data_loader(frames, to_tensor, data_key="fram")
    with pytest.raises(InputError, match=r"column 'vdeo' .* did you mean 'video'"):
        get_data_loader(frames, to_tensor, data_key="frame", group_keys="vdeo")
    with pytest.raises(InputError, match=r"expected a DataFrame that has them, got list"):
        get_data_loader(list(frames["frame"]), to_tensor, group_keys="video")


def test_tables_that_cannot_be_packed_are_told(frames):
    frames.loc[103, "video"] = None
    with pytest.raises(InputError, match=r"got none for 1 rows, the first in row 3; fill in 'video'"):
        get_data_loader(frames, to_tensor, data_key="frame", group_keys="video")
    with pytest.raises(InputError, match="column 'batch_iter' is one that a loader adds"):
        get_data_loader(frames.rename(columns={"n": "batch_iter"}), to_tensor, data_key="frame")
    with pytest.raises(InputError, match="expected a list of at least one"):
        get_data_loader(frames.iloc[:0], to_tensor, data_key="frame", group_keys="video")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_extraction_over_groups_gives_the_maps_of_the_rows(frames, net, batch_size):
    loader = get_data_loader(frames, to_tensor, batch_size, 0, group_keys="video")
    maps = get_feature_maps(net, loader, "cpu", progress=False)
    pictures = torch.stack([to_tensor(Image.open(name)) for name in loader.batch_data["frame"]])
    with torch.no_grad():
        torch.testing.assert_close(maps["Linear-1-4"], net(pictures))
    assert maps.get_input_size() == 12


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("extractor", [False, True])
def test_averages_over_groups_equal_those_of_pandas(frames, net, batch_size, extractor):
    whole = get_feature_maps(net, get_data_loader(frames, to_tensor, 5, 0), "cpu", flatten=True, progress=False)
    loader = get_data_loader(frames, to_tensor, batch_size, 0, group_keys="video")
    settings = {"device": "cpu", "tensor_fn": average_groups(loader), "n_inputs": 5, "progress": False}
    if extractor:
        (maps,) = FeatureExtractor(net, loader, **settings)
    else:
        maps = get_feature_maps(net, loader, **settings)
    for uid, expected in whole.items():
        rows = pd.DataFrame(expected.numpy()).groupby(frames["video"].to_numpy(), sort=False).mean()
        np.testing.assert_allclose(maps[uid].flatten(1), rows, rtol=1e-5, atol=1e-6)
    assert maps["Conv2d-1-1"].shape == (5, 4, 1, 2)


def test_averages_keep_the_dtype_and_know_their_loader(frames):
    loader = get_data_loader(frames, to_tensor, 4, 0, group_keys="video")
    average = average_groups(loader)
    tensor = torch.full((6, 2), 60_000.0, dtype=torch.float16)  # whose sum has no place in half precision
    assert torch.equal(average(tensor, batch_iter=0), tensor[:1])
    assert average(tensor[:4]).shape == (1, 2)  # the first look: the first rows, all of video b
    with pytest.raises(InputError, match=r"expected 4 rows in batch 1, got a map of shape \[6, 2\]"):
        average(tensor, batch_iter=1)
    with pytest.raises(InputError, match="expected a loader with groups"):
        average_groups(get_data_loader(list(frames["frame"]), to_tensor))


def test_texts_of_one_group_stay_together():
    captions = pd.DataFrame({"video": list("cacb"), "caption": ["a", "bb", "ccc", "dddd"]})
    loader = get_data_loader(captions, lengths, 2, input_modality="text", group_keys="video")
    assert [batch["n"].flatten().tolist() for batch in loader] == [[1, 3], [2, 4]]
    assert loader.batch_data["caption"].tolist() == ["a", "ccc", "bb", "dddd"]

import numpy as np
import pytest
import torch
from PIL import Image

from deepjuice import get_data_loader
from juicyfruits.errors import InputError


def to_tensor(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()


@pytest.fixture
def paths(tmp_path):
    for value in range(5):
        Image.new("L" if value % 2 else "RGB", (4, 3), value if value % 2 else (value, 9, 9)).save(
            tmp_path / f"{value}.png"
        )
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_as_rgb_and_the_last_is_what_is_left(paths, workers):
    batches = list(get_data_loader(paths, to_tensor, batch_size=2, num_workers=workers))
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, 3, 4), (2, 3, 3, 4), (1, 3, 3, 4)]
    assert torch.cat(batches)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_is_named(paths, workers):
    paths[3].write_text("no picture")
    with pytest.raises(InputError, match=r"3.png"):
        list(get_data_loader(paths, to_tensor, batch_size=2, num_workers=workers))


def test_no_paths_is_an_error():
    for paths in ([], "picture.png"):
        with pytest.raises(InputError, match="at least one"):
            get_data_loader(paths, to_tensor)


def test_pictures_of_different_sizes_are_told(tmp_path):
    for size in (4, 5):
        Image.new("RGB", (size, 4)).save(tmp_path / f"{size}.png")
    with pytest.raises(InputError, match=r"one size after preprocessing, got \(3, 4, 4\) and \(3, 4, 5\)"):
        list(get_data_loader(sorted(tmp_path.iterdir()), to_tensor))

"""What once went wrong in silence: stale stores, features that were broadcast, maps that took another's name."""

import json
import shutil

import numpy as np
import pytest
import torch
import zarr
from torch import nn
from torchvision.transforms import v2

from deepjuice.extraction import get_feature_maps
from deepjuice.extraction.feature_maps import BatchedFeatureMaps
from deepjuice.extraction.identity import preprocessing_text, weights_digest
from deepjuice.extraction.inputs import Inputs
from deepjuice.extraction.store_writer import StoreWriter
from deepjuice.loaders import get_data_loader
from deepjuice.reduction import METHODS, make_projection
from juicyfruits.errors import InputError

from .conftest import to_tensor
from .test_stage import run, same_files

FACTOR = 2
QUIET = {"device": "cpu", "progress": False}


def with_global(picture):
    return to_tensor(picture) * FACTOR


def with_default(picture, factor=3):
    return to_tensor(picture) * factor


def test_another_slope_or_code_is_another_model(net, pictures, tmp_path):
    one, other = (nn.Sequential(nn.Conv2d(3, 2, 3), nn.LeakyReLU(slope)) for slope in (0.1, 0.9))
    other.load_state_dict(one.state_dict())
    first = run(one, pictures, tmp_path / "x.zarr")
    values = first["LeakyReLU-1-2"]
    second = run(other, pictures, tmp_path / "x.zarr")
    assert second.digest != first.digest and not np.allclose(second["LeakyReLU-1-2"], values)

    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x

    twice = Twice

    class Twice(nn.Module):  # the same name, another forward
        def forward(self, x):
            return 3 * x

    assert weights_digest(twice()) != weights_digest(Twice())
    assert weights_digest(Twice()) == weights_digest(Twice().train())


def test_a_preprocessing_that_cannot_be_known_is_never_taken_for_the_same():
    for unknown in (with_global, with_default, v2.Compose([v2.Lambda(to_tensor)]), lambda picture: FACTOR):
        assert preprocessing_text(unknown) != preprocessing_text(unknown)
    known = v2.Compose([v2.PILToTensor(), v2.Resize(8)])
    assert preprocessing_text(known) == preprocessing_text(known)


def test_pictures_that_are_looked_at_are_spread_over_all(pictures):
    inputs = Inputs.of(get_data_loader(pictures, to_tensor))
    expected = torch.stack([to_tensor(get_picture(pictures[i])) for i in (0, 2, 5, 8)])  # of eleven
    assert torch.equal(inputs.sample, expected)


def get_picture(path):
    from juicyfruits.pictures import open_rgb

    return open_rgb(path)


def test_tensor_fn_may_work_in_place(net):
    x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = get_feature_maps(net, x, remove_duplicates=False, **QUIET)
    doubled = get_feature_maps(net, x, remove_duplicates=False, tensor_fn=lambda tensor: tensor.mul_(2), **QUIET)
    for uid, tensor in plain.items():
        assert torch.equal(doubled[uid], 2 * tensor)


def test_two_tensors_of_one_name_are_refused():
    class Out(nn.Module):
        def forward(self, x):
            return {"a/b": x, "a_b": 2 * x}

    with pytest.raises(InputError, match="output of Out-0-1: two of its tensors would have one name"):
        get_feature_maps(Out(), torch.ones(3, 4), **QUIET)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_compiled_modules_are_refused_and_leave_no_hook():
    scripted = nn.Sequential(nn.Linear(4, 3), torch.jit.trace(nn.ReLU(), torch.ones(2, 3)))
    for model in (scripted, torch.compile(nn.Linear(4, 3), backend="eager")):
        with pytest.raises(InputError, match="is compiled"):
            get_feature_maps(model, torch.ones(3, 4), **QUIET)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        assert model(torch.ones(2, 4)).shape == (2, 3)


@pytest.mark.parametrize("method", METHODS)
def test_projections_take_rows_of_their_width_only(method):
    project = make_projection(100, 10, method)
    for wrong in (torch.ones(1, 91), torch.ones(2, 110), torch.ones(4, 1), torch.ones(100), torch.ones(2, 10, 10)):
        with pytest.raises(InputError, match=r"expected shape \(n, 100\)"):
            project(wrong)
    with pytest.raises(InputError, match="expected shape"):
        make_projection(5, 10, method)(torch.ones(2, 6))
    for n_features, width in ((0, 3), (3, 0), (-1, 3)):
        with pytest.raises(InputError, match="at least 1 of each"):
            make_projection(n_features, width, method)


def test_joining_takes_the_rows_that_each_map_has():
    a, b = torch.arange(6.0)[:, None], torch.arange(4.0)[:, None]
    joined = BatchedFeatureMaps([{"a": a[:4], "b": b[:1]}, {"a": a[4:], "b": b[1:]}], progress=False).join_batches()
    assert torch.equal(joined["a"], a) and torch.equal(joined["b"], b)


def test_a_zarr_group_of_someone_else_is_never_replaced(net, pictures, tmp_path):
    zarr.create_group(tmp_path / "mine.zarr", attributes={"thesis": 1})
    with pytest.raises(InputError, match="is a Zarr group but no feature store"):
        run(net, pictures, tmp_path / "mine.zarr")
    assert json.loads((tmp_path / "mine.zarr" / "zarr.json").read_text())["attributes"] == {"thesis": 1}


@pytest.mark.parametrize("damage", ["row_means/c/0/0", "features/Conv2d-1-1/c/0/0", "ones/Conv2d-1-1/c/0", "flip"])
def test_a_damaged_unfinished_store_is_begun_anew(net, pictures, tmp_path, monkeypatch, damage):
    whole = run(net, pictures, tmp_path / "whole.zarr", batch_size=4)

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run(net, pictures, tmp_path / "x.zarr", batch_size=4)
    partial = tmp_path / "x.zarr.partial"
    if damage == "flip":
        values = partial / "row_mean_squares" / "c" / "0" / "0"
        data = bytearray(values.read_bytes())
        data[1] ^= 4
        values.write_bytes(data)
    else:
        (partial / damage).unlink()
    assert same_files(run(net, pictures, tmp_path / "x.zarr", batch_size=4).path, whole.path)
    shutil.rmtree(tmp_path / "x.zarr")


def test_an_error_in_a_loader_process_is_told_in_one_sentence(net, pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    loader = get_data_loader([*pictures[:9], broken, pictures[9]], to_tensor, 4, num_workers=1)
    with pytest.raises(InputError, match=r"broken\.png") as told:
        get_feature_maps(net, loader, **QUIET)
    assert "Traceback" not in str(told.value) and "\n" not in str(told.value)

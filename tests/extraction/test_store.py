"""Writing a store where the disk or the process fails, and what its settings do to its values."""

import json
import time

import numpy as np
import pytest
import torch
from torch import nn

from deepjuice.extraction import FeatureStore, store_writer
from deepjuice.extraction.store_writer import StoreWriter
from juicyfruits.errors import InputError

from .test_stage import run, same_files


@pytest.mark.parametrize("method", ["write", "commit", "_create"])
def test_a_full_disk_is_told_nothing_looks_finished_and_a_rerun_resumes(net, pictures, tmp_path, monkeypatch, method):
    whole = run(net, pictures, tmp_path / "whole.zarr", batch_size=4)
    real, rows = getattr(StoreWriter, method), []

    def full(self, *args):
        rows.append(getattr(self, "rows_done", 0))
        if method == "_create" or rows[-1] == 4:
            raise OSError("No space left on device")
        real(self, *args)

    out = tmp_path / "x.zarr"
    monkeypatch.setattr(StoreWriter, method, full)
    with pytest.raises(OSError, match="No space left") as kept:  # the traceback holds the writer, and so its lock
        run(net, pictures, out, batch_size=4)
    assert kept.value and not out.exists()
    progress = tmp_path / "x.zarr.partial" / "progress.json"
    assert method == "_create" or json.loads(progress.read_text())["rows_done"] == 4
    monkeypatch.undo()
    assert same_files(run(net, pictures, out, batch_size=4).path, whole.path)


def test_a_kill_while_an_older_store_is_removed_needs_no_hand(net, pictures, tmp_path, monkeypatch):
    whole = run(net, pictures, tmp_path / "whole.zarr")
    out = run(net, pictures, tmp_path / "x.zarr", seed=1).path

    def half(path):
        if path.is_dir():
            (path / "zarr.json").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(store_writer, "remove", half)
    with pytest.raises(KeyboardInterrupt):
        run(net, pictures, out)
    monkeypatch.undo()
    assert same_files(run(net, pictures, out).path, whole.path)
    assert {path.name for path in tmp_path.iterdir()} == {"whole.zarr", "x.zarr"}


def test_float16_stores_the_rounded_values_and_refuses_what_it_cannot_hold(net, pictures, tmp_path):
    single = run(net, pictures, tmp_path / "single.zarr")
    half = run(net, pictures, tmp_path / "half.zarr", dtype="float16")
    assert half.digest != single.digest
    for record in single.maps:
        assert half[record.uid].dtype == np.float16
        assert np.array_equal(half[record.uid], single[record.uid].astype(np.float16))
    with torch.no_grad():
        net.head[2].bias += 1e5
    with pytest.raises(InputError, match=r"feature map Linear-2-5: expected finite values"):
        run(net, pictures, tmp_path / "x.zarr", dtype="float16")
    assert not (tmp_path / "x.zarr").exists()


@pytest.mark.parametrize("option", ["method", "precision", "dtype"])
def test_settings_enter_the_identity(net, pictures, tmp_path, option):
    values = {"method": ["sparse", "signed_sums"], "precision": ["float32", "float16", "bfloat16"]}
    values["dtype"] = ["float32", "float16"]
    stores = [run(net, pictures, tmp_path / f"{v}.zarr", **{option: v}) for v in values[option]]
    assert len({store.digest for store in stores}) == len(stores)
    for store in stores[1:] if option == "precision" else []:
        for record in store.maps:  # bfloat16 has 8 bits of a digit
            first, other = stores[0][record.uid], store[record.uid]
            assert np.linalg.norm(other - first) < 0.03 * np.linalg.norm(first)


class Overwriting(nn.Module):
    def __init__(self, most=None):
        super().__init__()
        self.most = [most or 99]  # no plain attribute, which would enter the identity
        self.keep, self.last = nn.Identity(), nn.Flatten()

    def forward(self, x):
        y = self.keep(x * 3)
        y.add_(1)
        if len(x) > self.most[0]:
            raise torch.OutOfMemoryError("out of memory")
        return self.last(y)


def test_maps_are_stored_as_they_were_however_late_they_are_written(pictures, tmp_path, monkeypatch):
    write = StoreWriter.write
    monkeypatch.setattr(StoreWriter, "write", lambda *args: (time.sleep(0.05), write(*args)))
    store = run(Overwriting(), pictures, tmp_path / "x.zarr", batch_size=4, eps=0.1)  # no map is projected
    np.testing.assert_allclose(store["Flatten-1-2"], store["Identity-1-1"] + 1, rtol=1e-6)


def test_memory_that_runs_out_changes_no_bit(pictures, tmp_path, caplog):
    whole = run(Overwriting(), pictures, tmp_path / "whole.zarr", batch_size=8, eps=0.1)
    halved = run(Overwriting(most=4), pictures, tmp_path / "halved.zarr", batch_size=8, eps=0.1)
    assert "out of memory with 8 inputs at once; going on with 4" in caplog.text
    assert same_files(halved.path, whole.path)


def test_a_model_in_double_precision_is_stored_in_single(net, pictures, tmp_path):
    single = run(net, pictures, tmp_path / "single.zarr")
    double = run(net.double(), pictures, tmp_path / "double.zarr")
    assert double.digest != single.digest and isinstance(double, FeatureStore)
    for record in single.maps:
        assert double[record.uid].dtype == np.float32
        np.testing.assert_allclose(double[record.uid], single[record.uid], rtol=1e-4, atol=1e-5)


def test_a_store_of_another_version_is_told_from_a_damaged_one(net, pictures, tmp_path):
    out = run(net, pictures, tmp_path / "x.zarr").path
    attributes = json.loads((out / "zarr.json").read_text())
    attributes["attributes"]["header"] = {"stage_version": 1, "weights_digest": "old"}
    (out / "zarr.json").write_text(json.dumps(attributes))
    with pytest.raises(InputError, match=r"version \d of extraction writes, got a store of version 1; delete it"):
        FeatureStore(out)
    assert len(run(net, pictures, out)) > 0  # it is replaced


def test_features_of_other_stimuli_are_told(net, pictures, tmp_path):
    store = run(net, pictures, tmp_path / "x.zarr")
    store.check_stimuli("mine", store.header.stimulus_digest)
    with pytest.raises(InputError, match=r"expected features of the stimuli of 'mine' \(other\), got others \("):
        store.check_stimuli("mine", "other")

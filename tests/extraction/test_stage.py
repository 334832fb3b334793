import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deepjuice.extraction import FeatureStore, extract_features, get_feature_maps
from deepjuice.extraction.identity import preprocessing_text, weights_digest
from deepjuice.extraction.store_writer import StoreWriter
from deepjuice.loaders import get_data_loader
from deepjuice.reduction import METHODS, jl_width
from juicyfruits.errors import InputError

from .conftest import to_tensor

EPS = 0.9  # few columns, so that even these small maps are projected


def run(net, pictures, out, preprocess=to_tensor, **options):
    options = {"model_uid": "tiny", "stimulus_digest": "s", "eps": EPS, "device": "cpu", "progress": False, **options}
    return extract_features(net, preprocess, pictures, out, **options)


@pytest.fixture
def store(net, pictures, tmp_path):
    return run(net, pictures, tmp_path / "tiny.zarr", batch_size=4)


@pytest.mark.parametrize("method", METHODS)
def test_every_distinct_map_is_there_once_projected_as_a_plain_product(net, pictures, tmp_path, method):
    store = run(net, pictures, tmp_path / "tiny.zarr", batch_size=4, method=method)
    width = jl_width(len(pictures), EPS)
    maps = get_feature_maps(net, get_data_loader(pictures, to_tensor), "cpu", flatten=True, progress=False)
    assert {record.uid for record in store.maps} == set(maps)
    wide = 0
    for uid, whole in maps.items():
        n_features = whole.shape[1]
        if n_features > width:
            wide += 1
            R = METHODS[method](n_features, width, seed=0).dense()
            np.testing.assert_allclose(store[uid], whole.double() @ R.double().T, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(store.ones(uid), R.sum(1), rtol=1e-5, atol=1e-5)
        else:
            assert np.array_equal(store[uid], whole)
            assert np.array_equal(store.ones(uid), np.ones(n_features))
        np.testing.assert_allclose(store.row_means(uid), whole.mean(1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(store.row_mean_squares(uid), (whole**2).mean(1), rtol=1e-5, atol=1e-6)
    assert 0 < wide < len(maps)


def test_duplicates_are_aliases_and_maps_stand_in_the_order_of_computation(store):
    aliases = {record.uid: record.alias_of for record in store.header.maps if record.alias_of}
    assert aliases["Flatten-2-3"] == aliases["Dropout-2-4"] == "ReLU-1-5"
    assert np.array_equal(store["Dropout-2-4"], store["ReLU-1-5"])
    orders = [record.order for record in store.maps]
    assert orders == sorted(orders)


@pytest.mark.parametrize("batch_size", [1, 3, 11, 64])
def test_batch_size_changes_nothing(net, pictures, store, tmp_path, batch_size):
    other = run(net, pictures, tmp_path / "other.zarr", batch_size=batch_size)
    assert other.digest == store.digest
    for record in store.maps:
        np.testing.assert_allclose(other[record.uid], store[record.uid], rtol=1e-5, atol=1e-5)


def same_files(a, b):
    names = {p.relative_to(a) for p in a.rglob("*") if p.is_file()}
    assert names == {p.relative_to(b) for p in b.rglob("*") if p.is_file()}
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


@pytest.mark.parametrize("blocks_before_kill", [0, 1, 2])
def test_an_interrupted_run_resumes_at_the_last_whole_block_to_the_bit(
    net, pictures, store, tmp_path, monkeypatch, blocks_before_kill
):
    class Killed(BaseException):
        pass

    commit, done = StoreWriter.commit, []

    def dying(self, rows_done):
        if len(done) == blocks_before_kill:
            raise Killed  # the rows of this block are on the disk, but do not count
        done.append(1)
        commit(self, rows_done)

    out = tmp_path / "killed.zarr"
    monkeypatch.setattr(StoreWriter, "commit", dying)
    with pytest.raises(Killed):
        run(net, pictures, out, batch_size=4)
    assert not out.exists()
    with pytest.raises(InputError, match="only an unfinished one"):
        FeatureStore(out)
    monkeypatch.setattr(StoreWriter, "commit", lambda self, rows: (done.append(1), commit(self, rows)))
    run(net, pictures, out, batch_size=4)
    assert len(done) == 3  # 11 pictures in blocks of 4: none was computed twice
    assert same_files(out, store.path)
    assert not out.with_name("killed.zarr.partial").exists()


def test_the_same_content_is_not_extracted_twice_and_other_content_is(net, pictures, store, monkeypatch):
    before = json.loads((store.path / "zarr.json").read_text())
    monkeypatch.setattr("deepjuice.extraction.stage._fill", lambda *a: pytest.fail("extracted again"))
    run(net, pictures, store.path)
    monkeypatch.undo()
    assert json.loads((store.path / "zarr.json").read_text()) == before
    for change in ({"seed": 1}, {"stimulus_digest": "other"}, {"eps": 0.8}, {"model_uid": "other"}):
        assert run(net, pictures, store.path, **change).digest != store.digest
    with torch.no_grad():
        net.conv.bias += 1
    assert run(net, pictures, store.path).digest != store.digest


def test_a_partial_store_of_other_content_is_not_resumed(net, pictures, store, tmp_path, monkeypatch):
    commit = StoreWriter.commit

    def once(self, rows_done):
        if self.rows_done:
            raise KeyboardInterrupt
        commit(self, rows_done)

    out = tmp_path / "two.zarr"
    monkeypatch.setattr(StoreWriter, "commit", once)
    with pytest.raises(KeyboardInterrupt):
        run(net, pictures, out, batch_size=4, seed=5)
    monkeypatch.undo()
    assert same_files(run(net, pictures, out, batch_size=4).path, store.path)


def test_a_corrupt_picture_is_named_and_nothing_looks_finished(net, pictures, tmp_path):
    folder = shutil.copytree(pictures[0].parent, tmp_path / "pictures")
    paths = sorted(folder.iterdir())
    paths[9].write_bytes(paths[9].read_bytes()[:60])
    with pytest.raises(InputError, match=r"09.png"):
        run(net, paths, tmp_path / "x.zarr", batch_size=4)
    assert not (tmp_path / "x.zarr").exists()
    shutil.copy(pictures[9], paths[9])
    assert len(run(net, paths, tmp_path / "x.zarr", batch_size=4)) > 0


def test_a_picture_that_gives_nan_is_named_by_row(net, pictures, tmp_path):
    def preprocess(picture):
        tensor = to_tensor(picture)
        return tensor * torch.nan if picture.getpixel((0, 0)) == Image.open(pictures[6]).getpixel((0, 0)) else tensor

    with pytest.raises(InputError, match=r"feature map Conv2d-1-1: expected finite values.*row 6"):
        run(net, pictures, tmp_path / "x.zarr", preprocess=preprocess)
    assert not (tmp_path / "x.zarr").exists()


def test_too_small_a_limit_is_refused_with_what_is_needed(net, pictures, tmp_path):
    with pytest.raises(InputError, match=r"memory limit 1.00 KB: one input at a time needs \d+"):
        run(net, pictures, tmp_path / "x.zarr", memory_limit="1KB")
    assert not list(tmp_path.glob("x.zarr*"))


def test_outputs_that_are_no_maps_are_left_out_by_name(pictures, tmp_path, caplog):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat, self.count = nn.Flatten(), nn.Identity()

        def forward(self, x):
            self.count((x > 0).long())
            return self.flat(x)

    store = run(Odd(), pictures, tmp_path / "odd.zarr")
    assert [record.uid for record in store.maps] == ["Flatten-1-2"]
    assert "Identity-1-1 is not a feature map" in caplog.text and "int64" in caplog.text


def test_weights_digest_follows_every_value(net):
    before = weights_digest(net)
    assert before == weights_digest(net)
    with torch.no_grad():
        net.norm.running_mean[2] = 1e-3
    assert weights_digest(net) != before


def test_unknown_maps_and_wrong_folders_are_refused(store, tmp_path):
    with pytest.raises(InputError, match="did you mean"):
        store["Conv2d-1-99"]
    with pytest.raises(InputError, match="found nothing; run deepjuice extract"):
        FeatureStore(tmp_path / "absent.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(InputError, match="is damaged: it cannot be read"):
        FeatureStore(tmp_path / "empty.zarr")


def test_a_kill_between_the_last_block_and_the_rename_is_survived(net, pictures, store, tmp_path, monkeypatch):
    def killed(self):
        raise KeyboardInterrupt

    finish, out = StoreWriter.finish, tmp_path / "late.zarr"
    monkeypatch.setattr(StoreWriter, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        run(net, pictures, out)
    monkeypatch.setattr(StoreWriter, "finish", finish)
    monkeypatch.setattr("deepjuice.extraction.stage._fill", lambda *a: pytest.fail("extracted again"))
    assert same_files(run(net, pictures, out).path, store.path)


def test_a_kill_just_before_the_rename_leaves_a_store_that_is_only_renamed(net, pictures, store, tmp_path, monkeypatch):
    partial = shutil.copytree(store.path, tmp_path / "x.zarr.partial")
    (partial / "zarr.0123.partial").write_text("{")  # of a kill while Zarr wrote
    monkeypatch.setattr("deepjuice.extraction.stage._fill", lambda *a: pytest.fail("extracted again"))
    assert same_files(run(net, pictures, tmp_path / "x.zarr").path, store.path)


def test_a_function_is_known_by_its_source_and_not_by_its_address():
    def other(picture):
        return picture

    assert preprocessing_text(to_tensor) == preprocessing_text(to_tensor) and " at 0x" not in preprocessing_text(
        to_tensor
    )
    assert preprocessing_text(to_tensor) != preprocessing_text(other)
    bound = 3
    assert preprocessing_text(lambda picture: bound) != preprocessing_text(lambda picture: bound)  # nothing is known
    assert preprocessing_text(nn.ReLU()) == "ReLU()"


def test_what_is_not_a_store_is_never_replaced(net, pictures, tmp_path):
    thesis = tmp_path / "folder" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("precious")
    (tmp_path / "file").write_text("precious")
    for out in (thesis.parent, tmp_path / "file"):
        with pytest.raises(InputError, match="choose another place"):
            run(net, pictures, out)
    assert thesis.read_text() == (tmp_path / "file").read_text() == "precious"


def test_two_writers_of_one_store_do_not_mix(net, pictures, store, tmp_path):
    other = store.path.with_name("shared.zarr")
    ones = {record.uid: store.ones(record.uid) for record in store.maps}
    with StoreWriter(other, store.header, ones), pytest.raises(InputError, match="another process is writing it"):
        run(net, pictures, other)
    assert run(net, pictures, other).digest == store.digest
    assert not [path for path in other.parent.iterdir() if "lock" in path.name or "partial" in path.name]


@pytest.mark.parametrize(
    "damage", ["lost chunk", "flipped bit", "header", "row means", "ones", "histograms", "zarr.json"]
)
def test_a_damaged_store_is_refused(net, pictures, store, tmp_path, damage):
    broken = shutil.copytree(store.path, tmp_path / "broken.zarr")
    chunk = next((broken / "features" / "Conv2d-1-1" / "c").rglob("0"))
    if chunk.is_dir():
        chunk = next(path for path in chunk.rglob("*") if path.is_file())
    if damage == "lost chunk":
        chunk.unlink()
    elif damage == "flipped bit":
        data = bytearray(chunk.read_bytes())
        data[100] ^= 4
        chunk.write_bytes(data)
    elif damage == "row means":
        shutil.rmtree(broken / "row_means" / "c")
    elif damage == "histograms":
        chunk = next(path for path in (broken / "histograms" / "c").rglob("*") if path.is_file())
        chunk.write_bytes(bytes(chunk.stat().st_size))
    elif damage == "ones":
        shutil.rmtree(broken / "ones" / "Conv2d-1-1")
    elif damage == "header":
        text = (broken / "zarr.json").read_text()
        (broken / "zarr.json").write_text(text.replace('"tiny"', '"huge"'))
    else:
        (broken / "zarr.json").write_text("[]")
    with pytest.raises(InputError, match=r"is damaged: .*; delete it and extract again"):
        opened = FeatureStore(broken)
        for record in opened.maps:
            opened[record.uid], opened.ones(record.uid)


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"rows_done": 99}'])
def test_a_damaged_record_of_progress_starts_anew(net, pictures, store, tmp_path, text):
    partial = shutil.copytree(store.path, tmp_path / "x.zarr.partial")
    whole = json.loads((partial / "zarr.json").read_text())
    del whole["attributes"]["checksum"]  # which only a whole store has
    (partial / "zarr.json").write_text(json.dumps(whole))
    (partial / "progress.json").write_text(text)
    assert same_files(run(net, pictures, tmp_path / "x.zarr").path, store.path)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"num_workers": -1}, {"seed": -1}, {"seed": 2**40}, {"eps": 0}])
def test_impossible_settings_are_refused_before_anything_is_written(net, pictures, tmp_path, options):
    with pytest.raises(InputError):
        run(net, pictures, tmp_path / "x.zarr", **options)
    assert not list(tmp_path.iterdir())

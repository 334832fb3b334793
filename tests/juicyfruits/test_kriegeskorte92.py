"""Made-up data in the structure of the release, and as a folder of arrays; and a real folder where there is one."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from folders import edit
from PIL import Image
from scipy.io import savemat
from serving import serve

from juicyfruits import InputError, kriegeskorte92
from juicyfruits.kriegeskorte92 import BRAINS, FOLDER, MODELS, OBJECTS
from juicyfruits.remote import NotFound

REAL = os.environ.get("DEEPJUICE_REAL_BRAINS", Path(__file__).parents[3] / "shared" / "data")
UPPER = np.triu_indices(92, 1)
FLAGS = ("human", "face", "animal", "natural")


def made_up():
    rng = np.random.default_rng(0)
    rdms = rng.random((11, 92, 92)).astype(np.float32)
    rdms = rdms + rdms.swapaxes(1, 2)
    rdms[:, range(92), range(92)] = 0
    return {
        "human": rdms[:8].reshape(4, 2, 92, 92),
        "monkey": rdms[8],
        "models": {"animacy": rdms[9], "V1": rdms[10]},
        "pictures": list(rng.integers(0, 255, (92, 6, 5, 3), dtype=np.uint8)),
        "categories": [f"kind {i % 6}" for i in range(92)],
        "flags": rng.integers(0, 2, (92, 4), dtype=np.uint8),
    }


def real():
    folder = Path(REAL) / "k92"
    if not folder.is_dir():
        pytest.skip(f"no recordings in {REAL}; docs/real-brains.md says where they are published")
    arrays, table = np.load(folder / "rdms.npz"), pd.read_csv(folder / "stimuli.csv")
    return {
        "human": arrays["hIT_subj_session"],
        "monkey": arrays["mIT_674neurons"],
        "models": {key.removeprefix("model_"): arrays[key] for key in arrays if key.startswith("model_")},
        "pictures": [np.asarray(Image.open(folder / "images" / file)) for file in table["file"]],
        "categories": list(table["category"]),
        "flags": table[list(FLAGS)].to_numpy(np.uint8),
    }


def structs(rows, *fields):
    """A MATLAB struct array of shape (1, ...), from nested lists of tuples."""
    shape = np.array([[len(item) for item in row] for row in rows]).shape if isinstance(rows[0], list) else (len(rows),)
    flat = [item for row in rows for item in row] if isinstance(rows[0], list) else rows
    array = np.empty(len(flat), dtype=[(name, object) for name in fields])
    for i, item in enumerate(flat):
        array[i] = item
    return array.reshape(1, *shape)


def write_release(root, data):
    folder = root / FOLDER
    folder.mkdir(parents=True)
    brains = [
        [(rdm, f"hIT | {name} | Session: {i + 1}", [0, 0, 0]) for i, rdm in enumerate(sessions)]
        for name, sessions in zip(("BE", "KO", "SN", "TI"), data["human"], strict=True)
    ]
    savemat(folder / BRAINS, {"RDMs": structs(brains, "RDM", "name", "color")})
    mean = data["human"].mean(axis=(0, 1))
    areas = [("mIT_674neurons", [0, 0, 0], data["monkey"][UPPER]), ("hITvisStim_316vx", [0, 0, 0], mean[UPPER])]
    objects = list(zip(data["pictures"], data["categories"], *data["flags"].T, strict=True))
    content = {"RDMs_mIT_hIT_fig1": structs(areas, "name", "color", "RDM")}
    savemat(folder / OBJECTS, content | {"stimuli_92objs": structs(objects, "image", "category", *FLAGS)})
    models = [(rdm, [0, 0, 0], name) for name, rdm in data["models"].items()]
    savemat(folder / MODELS, {"Models": structs(models, "RDM", "color", "name")})
    return root


def write_arrays(root, data):
    (root / "images").mkdir(parents=True)
    files = [f"stim_{number:02d}.png" for number in range(1, 93)]
    for file, picture in zip(files, data["pictures"], strict=True):
        Image.fromarray(picture).save(root / "images" / file)
    flags = dict(zip(FLAGS, data["flags"].T, strict=True))
    pd.DataFrame({"file": files, "category": data["categories"], **flags}).to_csv(root / "stimuli.csv", index=False)
    models = {f"model_{name}": rdm for name, rdm in data["models"].items()}
    np.savez(root / "rdms.npz", hIT_subj_session=data["human"], mIT_674neurons=data["monkey"], **models)
    return root


def test_fetched_and_prepared_it_holds_what_the_release_holds(tmp_path):
    data = made_up()
    write_release(tmp_path / "web", data)
    with serve(tmp_path / "web") as url:
        records = kriegeskorte92.fetch(url, tmp_path / "fetched")
    assert [record.key for record in records] == list(kriegeskorte92.KEYS)
    benchmark = kriegeskorte92.prepare(tmp_path / "fetched", tmp_path / "out", sessions=True, models=["V1"])
    assert benchmark.rois == ["IT", "IT_monkey", "IT_session1", "IT_session2", "model_V1"]
    assert list(benchmark.rdms["IT"]) == list(benchmark.rdms["IT_session2"]) == [f"human{i}" for i in range(1, 5)]
    for i, two in enumerate(data["human"].astype(float), 1):
        np.testing.assert_allclose(benchmark.rdms["IT"][f"human{i}"], (two[0] + two[1]) / 2, rtol=1e-6)
        np.testing.assert_array_equal(benchmark.rdms["IT_session1"][f"human{i}"], data["human"][i - 1, 0])
        np.testing.assert_array_equal(benchmark.rdms["IT_session2"][f"human{i}"], data["human"][i - 1, 1])
    np.testing.assert_array_equal(benchmark.rdms["IT_monkey"]["monkey"], data["monkey"])
    np.testing.assert_array_equal(benchmark.rdms["model_V1"]["model"], data["models"]["V1"])
    for i, picture in enumerate(data["pictures"]):
        np.testing.assert_array_equal(np.asarray(benchmark.get_stimulus(f"stim_{i + 1:02d}")), picture)
    assert list(benchmark.stimulus_data["category"]) == data["categories"]
    np.testing.assert_array_equal(benchmark.stimulus_data[list(FLAGS)], data["flags"])
    assert "Neuron 60(6)" in benchmark.info["source"] and benchmark.info["licence"].startswith("MIT")


@pytest.mark.parametrize("source", [made_up, real])
def test_both_layouts_give_the_same_benchmark(source, tmp_path):
    data = source()
    options = {"sessions": True, "models": list(data["models"]), "name": "k92"}
    release, arrays = write_release(tmp_path / "a", data), write_arrays(tmp_path / "b", data)
    benchmarks = [kriegeskorte92.prepare(root, root / "out", **options) for root in (release, arrays)]
    assert benchmarks[0].digest == benchmarks[1].digest and benchmarks[0].info == benchmarks[1].info


def test_people_and_monkey_are_apart_in_the_real_data(tmp_path):
    benchmark = kriegeskorte92.prepare(write_release(tmp_path / "a", real()), tmp_path / "out")
    own = np.array([rdm[UPPER] for rdm in benchmark.rdms["IT"].values()])
    assert len(own) == 4
    monkey = benchmark.rdms["IT_monkey"]["monkey"][UPPER]
    assert np.corrcoef(own.mean(axis=0), monkey)[0, 1] == pytest.approx(0.49, abs=0.005)  # the paper's figure 2
    assert benchmark.stimulus_data.groupby("category").size().to_dict() == {
        "human bodypart": 12,
        "human face": 12,
        "nonhuman bodypart": 12,
        "nonhuman face": 12,
        "natural inanimate": 23,
        "artificial inanimate": 21,
    }


def drop_models(data):
    data["models"] = {"animacy": data["models"]["animacy"]}


def drop_an_object(data):
    for key in ("pictures", "categories", "flags"):
        data[key] = data[key][:-1]


def drop_a_session(data):
    data["human"] = data["human"][:, :1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_models, "no model matrix 'V1'; known are 'animacy'"),
        (drop_an_object, "91 objects"),
        (drop_a_session, r"4 subjects x 2 sessions, but is \(4,"),
    ],
)
def test_a_release_of_another_kind_is_told(spoil, message, tmp_path):
    data = made_up()
    spoil(data)
    write_release(tmp_path / "web", data)
    with pytest.raises(InputError, match=message):
        kriegeskorte92.prepare(tmp_path / "web", tmp_path / "out", models=["V1"])
    assert not (tmp_path / "out").exists()


def objects(**changes):
    """The content of OBJECTS with other values in the fields of all objects."""
    whole = dict(image=np.zeros((2, 2, 3), np.uint8), category="x", **dict.fromkeys(FLAGS, 1)) | changes
    areas = structs([("mIT", np.ones(4186))], "name", "RDM")
    return {"RDMs_mIT_hIT_fig1": areas, "stimuli_92objs": structs([tuple(whole.values())] * 92, *whole)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (BRAINS, {"other": 1}, "lacks the variable 'RDMs'; it has other"),
        (OBJECTS, {"RDMs_mIT_hIT_fig1": structs([("mIT", np.ones(5))], "name", "RDM")}, r"one of \(5,\)"),
        (OBJECTS, {"RDMs_mIT_hIT_fig1": structs([("hIT", np.ones(4186))], "name", "RDM")}, "no mIT among hIT"),
        (MODELS, {"Models": structs([(np.ones(4186),)], "RDM")}, "lacks the field 'name'"),
        (MODELS, None, "cannot be read as a MATLAB file"),
        (
            MODELS,
            {"Models": structs([("V1", "text")], "name", "RDM")},
            "must hold matrices of real numbers, but has <U4",
        ),
        (MODELS, {"Models": structs([("V1", np.array([["a"], [2]], object))], "name", "RDM")}, "but has object"),
        (MODELS, {"Models": np.array([["a"], [2]], object)}, "'Models' must be a struct, but is object"),
        (OBJECTS, {"RDMs_mIT_hIT_fig1": structs([(7, np.ones(4186))], "name", "RDM")}, "no mIT among 7"),
        (OBJECTS, objects(human="yes"), "'human' must hold true/false or 1/0, but has 'yes'"),
        (OBJECTS, objects(human=7), "'human' must hold true/false or 1/0, but has '7'"),
    ],
)
def test_a_spoiled_file_is_named(name, content, message, tmp_path):
    path = write_release(tmp_path / "web", made_up()) / FOLDER / name
    savemat(path, content) if content else path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=f"(?s){name}.*{message}"):
        kriegeskorte92.prepare(tmp_path / "web", tmp_path / "out")


def test_a_folder_of_arrays_that_lacks_something_is_told(tmp_path):
    source = write_arrays(tmp_path / "own", made_up())
    (source / "images" / "stim_07.png").unlink()
    with pytest.raises(InputError, match=r"stim_07.png"):
        kriegeskorte92.prepare(source, tmp_path / "out")
    np.savez(source / "rdms.npz", hIT_subj_session=np.zeros((4, 92, 92)), mIT_674neurons=np.zeros((92, 92)))
    with pytest.raises(InputError, match=r"must be \(4, 2, 92, 92\), but is \(4, 92, 92\)"):
        kriegeskorte92.prepare(source, tmp_path / "out")
    np.savez(source / "rdms.npz", hIT_subj_session=np.zeros((4, 2, 92, 92)))
    with pytest.raises(InputError, match="lacks 'mIT_674neurons'"):
        kriegeskorte92.prepare(source, tmp_path / "out")
    with pytest.raises(InputError, match="neither demos"):
        kriegeskorte92.prepare(tmp_path, tmp_path / "out")


def test_text_in_place_of_a_picture_names_no_file(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    source = write_release(tmp_path / "web", made_up())
    savemat(source / FOLDER / OBJECTS, objects(image=str(tmp_path / "a.png")))
    with pytest.raises(InputError, match="'stim_01' must be uint8"):
        kriegeskorte92.prepare(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("file", "", "images cannot be read as a picture"),
        ("file", 7, "7 cannot be read as a picture"),
        ("human", "yes", "stimuli.csv: column 'human' must hold true/false or 1/0, but has 'yes'"),
        ("human", "", "stimuli.csv: column 'human' must hold true/false or 1/0, but has ''"),
        ("human", 7, "stimuli.csv: column 'human' must hold true/false or 1/0, but has '7'"),
    ],
)
def test_a_table_with_other_values_is_told(column, value, message, tmp_path):
    source = write_arrays(tmp_path / "own", made_up())
    edit(source, "stimuli.csv", lambda table: table.assign(**{column: value}))
    with pytest.raises(InputError, match=message):
        kriegeskorte92.prepare(source, tmp_path / "out")


@pytest.mark.parametrize("key", ["hIT_subj_session", "mIT_674neurons"])
@pytest.mark.parametrize("dtype", [str, complex])
def test_arrays_that_are_no_real_numbers_are_told(key, dtype, tmp_path):
    source = write_arrays(tmp_path / "own", made_up())
    arrays = dict(np.load(source / "rdms.npz"))
    np.savez(source / "rdms.npz", **{**arrays, key: arrays[key].astype(dtype)})
    with pytest.raises(InputError, match=f"rdms.npz: {key} must hold matrices of real numbers"):
        kriegeskorte92.prepare(source, tmp_path / "out")


def test_a_file_that_the_source_lacks_is_told(tmp_path):
    (write_release(tmp_path / "web", made_up()) / FOLDER / OBJECTS).unlink()
    with serve(tmp_path / "web") as url, pytest.raises(NotFound, match=OBJECTS):
        kriegeskorte92.fetch(url, tmp_path / "fetched")

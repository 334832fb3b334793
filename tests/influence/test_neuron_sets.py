"""Files of neuron sets: whole ones come back, damaged and forged ones are refused before scipy trusts them."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from deepjuice import versions
from deepjuice.influence.neuron_sets import NeuronSets, ProfiledLayer, SetsHeader
from juicyfruits.errors import InputError

N, SIZES = 6, (3, 40)
LAYERS = tuple(ProfiledLayer(index, (f"op{index}",), (f"Op-1-{index}",), size) for index, size in enumerate(SIZES))
HEADER = SetsHeader("tiny", "w", "p", "s", N, "channel", 0.1, versions.PROFILE, LAYERS)


@pytest.fixture
def sets():
    members = [np.random.default_rng(0).random((N, size)) < 0.3 for size in SIZES]
    members[0][2], members[1][-1] = False, False  # pictures without neurons
    return NeuronSets(HEADER, {layer: sp.csr_matrix(of) for layer, of in enumerate(members)})


@pytest.fixture
def path(sets, tmp_path):
    sets.save(tmp_path / "p.npz")
    return tmp_path / "p.npz"


def forge(path, **changes):
    """Put other arrays, made of the old ones by functions, into a file; those made None go."""
    with np.load(path) as file:
        arrays = dict(file)
    arrays |= {name: change(arrays.get(name)) for name, change in changes.items()}
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})


def in_header(**values):
    return {"header": lambda text: np.array(json.dumps(json.loads(str(text)) | values))}


def put(place, value):
    def change(array):
        array = array.copy()
        array[place] = value
        return array

    return change


def test_what_was_saved_comes_back(sets, path):
    found = NeuronSets.load(path)
    assert found.header == HEADER
    for layer in range(len(SIZES)):
        assert (found[layer] != sets[layer]).nnz == 0
        np.testing.assert_array_equal(found.rdm(layer), sets.rdm(layer))


def test_sets_without_any_neuron_come_back(tmp_path):
    NeuronSets(HEADER, {layer: sp.csr_matrix((N, size), dtype=bool) for layer, size in enumerate(SIZES)}).save(
        tmp_path / "p.npz"
    )
    assert not NeuronSets.load(tmp_path / "p.npz").rdm(1).any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"indices_1": put(0, 40)}, "layer 1: indices are 2 to 40, expected 0 to 39"),
        ({"indices_1": put(0, 2**30)}, f"layer 1: indices are 2 to {2**30}, expected 0 to 39"),
        ({"indices_1": put(0, -(10**6))}, "layer 1: indices are -1000000 to 39, expected 0 to 39"),
        ({"indptr_0": lambda a: a[:-1]}, "layer 0: indptr are 6, expected 7 for 6 stimuli"),
        ({"indptr_0": lambda a: np.append(a, a[-1])}, "layer 0: indptr are 8, expected 7 for 6 stimuli"),
        ({"indptr_0": lambda a: a[:0]}, "layer 0: indptr are 0, expected 7 for 6 stimuli"),
        ({"indptr_1": put(2, 10**6)}, "layer 1: indptr do not ascend from 0 to"),
        ({"indptr_1": put(2, -1)}, "layer 1: indptr do not ascend from 0 to"),
        ({"indptr_1": put(0, 1)}, "layer 1: indptr do not ascend from 0 to"),
        ({"indptr_1": put(-1, 3)}, "layer 1: indptr do not ascend from 0 to"),
        ({"indices_1": lambda a: a[:-1]}, "layer 1: indptr do not ascend from 0 to"),
        ({"indices_1": lambda a: a[::-1]}, "layer 1: indices of a row are not in ascending order, each once"),
        ({"indices_1": lambda a: put(1, a[0])(a)}, "layer 1: indices of a row are not in ascending order"),
        ({"indices_1": lambda a: a + 0.5}, "layer 1: indices are float64"),
        ({"indices_1": lambda a: a[None]}, r"layer 1: indices are int32 \(1, "),
        ({"indptr_1": lambda a: a > 0}, "layer 1: indptr are bool"),
        ({"indptr_1": lambda a: a[None]}, r"layer 1: indptr are int32 \(1, "),
        ({"indptr_1": lambda a: np.array(3)}, r"layer 1: indptr are int64 \(\)"),
        ({"indices_2": lambda _: np.zeros(3, np.int32)}, "its header and its arrays differ in 'indices_2'"),
        ({"indices_1": lambda _: None}, "its header and its arrays differ in 'indices_1'"),
        (in_header(layers=[]), "the layers in its header are none, expected 0, 1 and on"),
        (in_header(n_stimuli=5), "layer 0: indptr are 7, expected 6 for 5 stimuli"),
        (in_header(n_stimuli=0), "the number of stimuli in its header is 0, expected a whole number from 1 up"),
        (in_header(n_stimuli="6"), "the number of stimuli in its header is '6', expected a whole number"),
    ],
)
def test_damaged_files_are_refused_with_the_remedy(path, changes, said):
    forge(path, **changes)
    remedy = "delete the file and run deepjuice profile again"
    with pytest.raises(InputError, match=rf"^profiles {re.escape(str(path))} are damaged: .*{said}.*; {remedy}\.$"):
        NeuronSets.load(path)


def test_layers_that_are_not_numbered_from_the_input_on_are_refused(path):
    NeuronSets(replace(HEADER, layers=LAYERS[1:]), {1: sp.csr_matrix((N, SIZES[1]), dtype=bool)}).save(path)
    with pytest.raises(InputError, match="the layers in its header are '1', expected 0, 1 and on"):
        NeuronSets.load(path)


@pytest.mark.parametrize("version", [999, 0, None])
def test_files_of_another_version_are_refused_with_the_remedy(path, version):
    forge(path, **in_header(stage_version=version, layers="of another kind"))
    expected = f"expected what version {versions.PROFILE} of profiling writes, got a file of version {version}; delete"
    with pytest.raises(InputError, match=expected):
        NeuronSets.load(path)


@pytest.mark.parametrize("content", [b"", b"mine", b"PK\x03\x04 and no more"])
def test_anything_else_is_told_as_such(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as profiles as `deepjuice profile` writes them"):
        NeuronSets.load(path)


@pytest.mark.parametrize("header", ["no JSON", "[1]", "{}", '{"stage_version": 1}'])
def test_files_with_another_header_are_told_as_such(path, header):
    forge(path, header=lambda _: np.array(header))
    with pytest.raises(InputError, match="cannot be read as profiles as `deepjuice profile` writes them"):
        NeuronSets.load(path)

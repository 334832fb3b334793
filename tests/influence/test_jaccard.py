"""Similarities of profiles against sets in plain loops, and against deep-data-profiler 2.0.1."""

import warnings
from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from deepjuice.influence import Profile
from deepjuice.influence.jaccard import (
    avg_jaccard,
    instance_jaccard,
    jaccard,
    jaccard_matrix,
    jaccard_simple,
    layer_jaccards,
)
from juicyfruits.errors import InputError

SHAPES = {0: (1, 4), 1: (1, 9), 2: (3, 20), 3: (1, 5)}


@pytest.fixture(scope="module")
def ddp():
    with warnings.catch_warnings(), torch.random.fork_rng():
        import deep_data_profiler
    return deep_data_profiler


def random_parts(seed, layers=SHAPES):
    """Counts of neurons and synapses, with an explicit zero and a number that stands twice, as sums may have."""
    rng, neurons, synapses = np.random.default_rng(seed), {}, {}
    for layer in layers:
        dense = rng.integers(1, 4, SHAPES[layer]) * (rng.random(SHAPES[layer]) < 0.5)
        row, column = np.nonzero(np.ones(SHAPES[layer]))
        values = dense.ravel()
        row, column, values = (np.append(part, part[-1]) for part in (row, column, values))
        neurons[layer] = sp.coo_matrix((values, (row, column)), SHAPES[layer])
        if layer:
            shape = (np.prod(SHAPES[layer]), np.prod(SHAPES[layer - 1]))
            synapses[layer] = sp.coo_matrix(rng.random(shape) < 0.2 + 0.15 * layer, dtype=np.int64)
    return neurons, synapses


def made(seed, layers=SHAPES, of=Profile, **kwargs):
    neurons, synapses = random_parts(seed, layers)
    return of(neurons, {}, synapses, {}, num_inputs=1, **kwargs)


def members(profile, neuron, layer):
    counts = (profile.neuron_counts if neuron else profile.synapse_counts).get(layer)
    if counts is None:
        return set()
    dense = counts.toarray()
    return {(layer, i, j) for i, j in product(*map(range, dense.shape)) if dense[i, j]}


def iou(a, b):
    return len(a & b) / len(a | b) if a | b else 0.0


def pooled(profile, neuron, layers):
    return set().union(*(members(profile, neuron, layer) for layer in layers))


@pytest.mark.parametrize("neuron", [True, False])
@pytest.mark.parametrize("layers", [None, [2, 3]])
def test_similarities_are_those_of_sets(neuron, layers):
    one, two = made(0), made(1)
    over = layers or (SHAPES if neuron else [1, 2, 3])
    a, b = pooled(one, neuron, over), pooled(two, neuron, over)
    assert jaccard(one, two, neuron, layers) == pytest.approx(iou(a, b), abs=1e-15)
    assert instance_jaccard(one, two, neuron, layers) == pytest.approx(len(a & b) / len(a), abs=1e-15)
    assert instance_jaccard(two, one, neuron, layers) == pytest.approx(len(a & b) / len(b), abs=1e-15)
    mean = np.mean([iou(members(one, neuron, layer), members(two, neuron, layer)) for layer in over])
    assert avg_jaccard(one, two, neuron, layers) == pytest.approx(mean, abs=1e-15)
    assert 0.1 < iou(a, b) < 0.9 and abs(mean - iou(a, b)) > 1e-3


@pytest.mark.parametrize("neuron", [True, False])
def test_deep_data_profiler_finds_the_same(ddp, neuron):
    ours, theirs = [made(0), made(1)], [made(seed, of=ddp.Profile) for seed in (0, 1)]
    for theirs_of, ours_of in (
        (ddp.jaccard, jaccard),
        (ddp.avg_jaccard, avg_jaccard),
        (ddp.instance_jaccard, instance_jaccard),
    ):
        assert ours_of(*ours, neuron) == pytest.approx(theirs_of(*theirs, neuron), abs=1e-15)
        assert ours_of(*ours, neuron=neuron) < ours_of(ours[0], ours[0], neuron=neuron) == 1
    for layer in (1, 2):
        pair = [random_parts(seed)[0][layer] for seed in (0, 1)]
        assert jaccard_simple(*pair) == pytest.approx(ddp.jaccard_simple(*pair), abs=1e-15)


@pytest.mark.parametrize("neuron", [True, False])
def test_the_matrix_holds_every_pair(neuron):
    profiles = [made(seed) for seed in range(5)] + [made(9, [2, 3]), Profile(), made(4)]
    found, by_layer = jaccard_matrix(profiles, neuron), layer_jaccards(profiles, neuron)
    assert found.shape == (8, 8) and found.dtype == np.float64
    layers = list(SHAPES) if neuron else [1, 2, 3]
    assert list(by_layer) == layers
    for i, j in product(range(8), repeat=2):
        one, two = profiles[i], profiles[j]
        assert found[i, j] == pytest.approx(iou(pooled(one, neuron, layers), pooled(two, neuron, layers)), abs=1e-15)
        for layer in layers:
            expected = iou(members(one, neuron, layer), members(two, neuron, layer))
            assert by_layer[layer][i, j] == pytest.approx(expected, abs=1e-15)
    assert np.diag(found).tolist() == [1, 1, 1, 1, 1, 1, 0, 1] and found[4, 7] == 1
    np.testing.assert_array_equal(jaccard_matrix(profiles, neuron, layers=[2]), by_layer[2])


def test_an_empty_profile_has_nothing_in_common():
    for empty in (Profile(), Profile(random_parts(0)[0]), Profile({1: sp.coo_matrix((1, 9))}, num_inputs=1)):
        for pair in ([made(0), empty], [empty, made(0)], [empty, empty]):
            assert jaccard(*pair) == avg_jaccard(*pair) == instance_jaccard(*pair) == 0
            assert jaccard(*pair, neuron=False) == avg_jaccard(*pair, neuron=False) == 0
            assert jaccard(*pair, layers=[1]) == 0
    assert jaccard(Profile(), Profile(), layers=[1]) == 0


def test_what_only_one_or_neither_profile_has_in_a_layer():
    none, some = sp.coo_matrix((1, 9)), sp.coo_matrix(np.ones((1, 9)))
    assert jaccard_simple(none, none) == 0 and jaccard_simple(none, some) == 0
    one = Profile({1: some, 2: none, 3: some}, num_inputs=1)
    two = Profile({1: some, 2: none, 4: some}, num_inputs=1)
    assert avg_jaccard(one, two) == avg_jaccard(two, one) == pytest.approx(1 / 3)  # layers 1, 3 and 4
    assert jaccard(one, two) == pytest.approx(9 / 27)
    assert avg_jaccard(one, two, layers=[1, 2]) == 1 and avg_jaccard(one, two, layers=[2]) == 0


def test_what_cancels_in_a_sum_is_in_both():
    assert jaccard_simple(sp.coo_matrix([[1, -1, 0]]), np.array([[-1, 1, 2]])) == pytest.approx(2 / 3)


def test_synapses_of_a_wide_layer_take_no_more_than_there_are():
    """A dense matrix of them would take 10^13 numbers."""
    shape = (3_000_000, 3_000_000)
    places = [([0, 2_999_999], [5, 2_999_999]), ([1, 2_999_999], [5, 2_999_999])]
    wide = [Profile(synapse_counts={1: sp.coo_matrix((np.ones(2), place), shape)}, num_inputs=1) for place in places]
    assert jaccard(*wide, neuron=False) == pytest.approx(1 / 3)


def test_profiles_that_cannot_be_compared_are_refused():
    one = made(0, neuron_type="channel")
    view = Profile({1: {(1, (0,)): 1}}, num_inputs=1, neuron_type="channel (dict)")
    other = Profile({1: sp.coo_matrix(np.ones((1, 8)))}, num_inputs=1)
    for bad, said in (
        (view, "got a dictionary view"),
        (made(0, neuron_type="element"), "types channel, element"),
        (other, r"layer 1 has neuron_counts of shapes \(1, 9\) and \(1, 8\)"),
        (3, "got int"),
        (None, "got NoneType"),
    ):
        for compare in (jaccard, avg_jaccard, instance_jaccard):
            with pytest.raises(InputError, match=said):
                compare(one, bad)
        with pytest.raises(InputError, match=said):
            layer_jaccards([one, bad])
    for layers in ([7], [], "1", 1, [1.5]):
        with pytest.raises(InputError, match=r"expected a list of layers of the profiles, \[0, 1, 2, 3\]"):
            jaccard(one, one, layers=layers)
    with pytest.raises(InputError, match="got none"):
        jaccard_matrix([])
    with pytest.raises(InputError, match="put it in a list"):
        jaccard_matrix(one)
    with pytest.raises(InputError, match="expected one shape"):
        jaccard_simple(sp.coo_matrix((1, 9)), sp.coo_matrix((1, 8)))

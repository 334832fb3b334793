"""Sums of profiles, what they share, and their views as dictionaries."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp

from deepjuice.influence import ChannelProfiler, ElementProfiler, Profile, SpatialProfiler, SVDProfiler, TorchProfiler
from juicyfruits.errors import InputError

PARTS = ("neuron_counts", "neuron_weights", "synapse_counts", "synapse_weights")


def profile(counts, weights, **options):
    """Make a profile of layer 1 whose neurons and synapses have these counts and weights."""
    counts, weights = sp.coo_matrix([counts]), sp.coo_matrix([weights])
    options = {"num_inputs": 1, "neuron_type": "channel", **options}
    return Profile({1: counts}, {1: weights}, {1: counts.copy()}, {1: weights.copy()}, **options)


@pytest.fixture
def one():
    return profile([2, 1, 0, 3], [0.25, 0.75, 0, 0])


@pytest.fixture
def other():
    return profile([1, 0, 1, 1], [0.5, 0, 0.5, 0])


def state(p):
    return [{layer: m.toarray().tolist() for layer, m in getattr(p, part).items()} for part in PARTS]


def test_counts_add_up_and_weights_are_means_by_counts(one, other):
    before = state(one), state(other)
    total = one + other
    assert total.neuron_counts[1].toarray().tolist() == [[3, 1, 1, 4]]
    expected = [(0.25 * 2 + 0.5 * 1) / 3, 0.75, 0.5, 0]
    np.testing.assert_allclose(total.neuron_weights[1].toarray()[0], expected)
    np.testing.assert_allclose(total.synapse_weights[1].toarray()[0], expected)
    assert total.synapse_counts[1].toarray().tolist() == [[3, 1, 1, 4]]
    assert total.num_inputs == 2 and total.neuron_type == "channel"
    assert total.total == 9 and total.size == 4 and total.num_synapses == 4
    assert (state(one), state(other)) == before


def test_weights_of_sums_no_longer_sum_to_one(one, other):
    assert (one + other).neuron_weights[1].sum() == pytest.approx(19 / 12)


def test_addition_in_place_is_addition_and_keeps_the_object(one, other):
    expected, same = one + other, one
    same += other
    assert same is one and one == expected and one.num_inputs == 2
    other += expected  # and nothing of what was added changes with it
    assert one == expected


def test_addition_in_place_does_not_share_what_it_took(one):
    empty = Profile()
    empty += one
    assert empty == one and empty.activation_shapes == one.activation_shapes
    empty += one
    assert empty.num_inputs == 2 and one.num_inputs == 1 and one.neuron_counts[1].sum() == 6


def test_sum_begins_with_nothing(one, other):
    assert sum([one, other]) == one + other == sum([one, other], start=Profile()) == sum([one, other], Profile())
    assert sum([one]) == one and sum([one]) is not one and sum([one]).neuron_counts[1] is not one.neuron_counts[1]


def test_an_empty_profile_adds_nothing(one):
    assert Profile() + one == one == one + Profile()
    assert (Profile() + Profile()) == Profile() and Profile().total == Profile().size == Profile().num_synapses == 0
    assert list(Profile()) == []


def test_sums_do_not_depend_on_order_or_grouping(one, other):
    third = profile([1, 5, 1, 0], [0.1, 0.9, 0, 0])
    left, right = (one + other) + third, third + (other + one)
    for part in PARTS:
        np.testing.assert_allclose(getattr(left, part)[1].toarray(), getattr(right, part)[1].toarray())


def test_layers_that_only_one_has_are_kept(one):
    third = Profile({2: sp.coo_matrix([[0, 4]])}, {2: sp.coo_matrix([[0, 1.0]])}, num_inputs=1, neuron_type="channel")
    total = one + third
    assert sorted(total) == [1, 2] and total.neuron_counts[2].toarray().tolist() == [[0, 4]]
    assert total.neuron_weights[2].toarray().tolist() == [[0, 1]]
    assert (total.neuron_weights[1] != one.neuron_weights[1]).nnz == 0


def test_different_types_are_mixed_with_a_warning(one):
    places = profile([1, 1, 1, 1], [0.25] * 4, neuron_type="spatial")
    with pytest.warns(UserWarning, match="profiles of channel and spatial neurons are mixed"):
        total = one + places
    assert total.neuron_type == "mixed" and total.num_inputs == 2
    with pytest.warns(UserWarning, match="mixed and channel"):
        total += one
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (one + profile([1, 1, 1, 1], [0.25] * 4, neuron_type=None)).neuron_type == "channel"


@pytest.mark.filterwarnings("error")
def test_other_shapes_are_refused_and_nothing_changes(one):
    elements = Profile(
        {0: sp.coo_matrix([[1]]), 1: sp.coo_matrix(np.eye(4))},
        {1: sp.coo_matrix(np.eye(4) / 4)},
        num_inputs=1,
        neuron_type="element",
    )
    before = state(one), state(elements)
    with pytest.raises(InputError, match=r"layer 1 has neuron_counts of shape \(1, 4\) \(channel\) and \(4, 4\)"):
        one += elements
    with pytest.raises(InputError, match=r"\(4, 4\) \(element\) and \(1, 4\) \(channel\)"):
        elements + one
    assert (state(one), state(elements)) == before
    assert (one.num_inputs, one.neuron_type, elements.num_inputs) == (1, "channel", 1)


@pytest.mark.parametrize("what", [1, "profile", None, [1]])
def test_what_is_no_profile_cannot_be_added(one, what):
    with pytest.raises(TypeError):
        one + what
    with pytest.raises(TypeError):
        what + one
    with pytest.raises(TypeError):
        one += what


def test_profiles_are_equal_by_their_values(one):
    assert one == profile([2, 1, 0, 3], [0.25, 0.75, 0, 0]) and one != profile([2, 1, 0, 4], [0.25, 0.75, 0, 0])
    assert one != profile([2, 1, 0, 3], [0.25, 0.7, 0.05, 0]) and one != "profile"
    assert one != profile([2, 1, 0, 3], [0.25, 0.75, 0, 0], num_inputs=2)
    assert one != profile([2, 1, 0, 3], [0.25, 0.75, 0, 0], neuron_type="spatial")
    assert one != profile([2, 1, 0], [0.25, 0.75, 0]) and one != Profile()
    reordered = copy.deepcopy(one)
    for part in PARTS:
        m = getattr(reordered, part)[1]
        getattr(reordered, part)[1] = sp.coo_matrix((m.data[::-1], (m.row[::-1], m.col[::-1])), m.shape)
    assert reordered == one
    with pytest.raises(TypeError):
        hash(one)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_are_equal_and_apart(one, again):
    for p in (one, Profile()):
        assert again(p) == p and again(p) is not p
    made = again(one)
    made += one
    assert made.num_inputs == 2 and one == profile([2, 1, 0, 3], [0.25, 0.75, 0, 0])


def test_profiles_tell_of_their_layers(one):
    assert list(one) == [1] and repr(one) == "Profile(channel neurons of 1 layers, num_inputs=1)"
    assert repr(Profile()) == "Profile(neurons of 0 layers, num_inputs=0)"


@pytest.fixture(scope="module")
def resnet(small_resnet):
    return small_resnet(n_blocks=1)


def found(name, index, shapes, kind):
    """Return the flat number of a neuron, by the name that a dictionary gives it."""
    layer, numbers = name
    _, channels, *positions = shapes[layer]
    if len(numbers) == 1:
        assert kind in ("channel", "svd") or not positions
        sizes = (channels,)
    else:
        sizes = tuple(positions) if kind == "spatial" else (channels, *positions)
    assert layer == index and len(numbers) == len(sizes)
    return int(np.ravel_multi_index(numbers, sizes)), int(np.prod(sizes))


@pytest.mark.parametrize("kind", [ChannelProfiler, ElementProfiler, SpatialProfiler, SVDProfiler])
def test_dictionaries_name_the_neurons_of_a_residual_network(kind, resnet, picture):
    """Each entry of a matrix stands under the name that it should have; of sums, the block tells the contributor."""
    profiler = kind(resnet, example=picture(48))
    p = profiler.create_profile(picture(48))
    view = profiler.dict_view(p)
    assert view.neuron_type == f"{p.neuron_type} (dict)" and view.is_dict_view and not p.is_dict_view
    assert (view.total, view.size, view.num_synapses) == (p.total, p.size, p.num_synapses) and view.num_inputs == 1
    shapes = p.activation_shapes
    for part in ("neuron_counts", "neuron_weights"):
        for layer, matrix in getattr(p, part).items():
            flat = {r * matrix.shape[1] + c: v for r, c, v in zip(matrix.row, matrix.col, matrix.data, strict=True)}
            got = {found(name, layer, shapes, p.neuron_type)[0]: v for name, v in getattr(view, part)[layer].items()}
            assert got == flat, (part, layer)
    if kind is SVDProfiler:
        assert view.synapse_counts == {}
        return
    sums = [layer.index for layer in profiler.layers if layer.rule == "contrib_add"]
    assert len(sums) == 4 and {len(p.pred_dict[layer]) for layer in sums} == {2}
    for part in ("synapse_counts", "synapse_weights"):
        for layer, matrix in getattr(p, part).items():
            got = {}
            for (before, neuron), value in getattr(view, part)[layer].items():
                block = p.pred_dict[layer].index(before[0])
                start = sum(width(p, i) for i in p.pred_dict[layer][:block])
                row, n = found(neuron, layer, shapes, p.neuron_type)
                column, _ = found(before, before[0], shapes, p.neuron_type)
                got[block * n + row, start + column] = value
            expected = {(r, c): v for r, c, v in zip(matrix.row, matrix.col, matrix.data, strict=True)}
            assert got == expected, (part, layer)


def width(p, layer):
    """Return the number of neurons of a layer."""
    _, channels, *positions = p.activation_shapes[layer]
    if not positions or p.neuron_type == "channel":
        return channels
    return int(np.prod(positions)) * (1 if p.neuron_type == "spatial" else channels)


def test_keys_are_tuples_of_plain_numbers_and_contributors_come_first(small_vgg, picture):
    profiler = TorchProfiler(small_vgg(), example=picture())
    view = profiler.create_profile(picture(), channels=False).dict_view()
    for (before, neuron), weight in view.synapse_weights[2].items():
        assert before[0] == 1 and neuron[0] == 2 and type(weight) is float
        assert [type(i) for i in (before[0], *before[1], *neuron[1])] == [int] * 7
    assert {len(numbers) for _, numbers in view.neuron_counts[2]} == {3}
    last = max(view.neuron_counts)
    assert {len(numbers) for _, numbers in view.neuron_counts[last]} == {1}
    assert all(type(count) is int for count in view.neuron_counts[2].values())


def test_views_cannot_be_viewed_or_added_and_mixtures_have_no_names(one, resnet, picture):
    p = ChannelProfiler(resnet, example=picture(48)).create_profile(picture(48), layers_to_profile=[1])
    view = p.dict_view()
    assert view == p.dict_view() and view != p
    for bad in (view, Profile({1: sp.coo_matrix([[1]])}, num_inputs=1), profile([1], [1.0], neuron_type="mixed")):
        with pytest.raises(InputError, match="dict_view"):
            bad.dict_view()
    for left, right in ((view, view), (p, view), (view, p)):
        with pytest.raises(InputError, match="dictionary views cannot be added"):
            left + right

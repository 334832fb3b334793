"""Feature visualisation against activations that plain hooks take, numpy's singular vectors, and closed forms."""

import runpy
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import nn

from deepjuice.influence import (
    ElementProfiler,
    FeatureObjective,
    Reading,
    SpatialProfiler,
    SVDProfiler,
    TorchProfiler,
    channel_objective,
    dictionary_objective,
    dictionary_optimization,
    diversity,
    influential_neurons,
    neuron_objective,
    svd_objective,
    visualise,
)
from deepjuice.synthesis import PixelScale
from juicyfruits.errors import InputError

SIZE = (12, 10)
SCALE = PixelScale(-torch.ones(3), 2 * torch.ones(3), SIZE)
QUIET = {"progress": False}
EXAMPLES = Path(__file__).parents[2] / "examples"


class Net(nn.Module):
    """Its one ReLU works in place and is called three times; the last layer but one is a sum."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 5)
        self.n_last = 0

    def forward(self, x):
        x = self.relu(self.conv1(x))
        x = self.relu(x + self.relu(self.norm(self.conv2(x))))
        self.n_last += 1
        return self.fc(x.mean((2, 3)))


class Tokens(nn.Module):
    """Pictures in four tokens of seven channels, which stand last."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 7, (6, 5), (6, 5))
        self.mlp = nn.Linear(7, 7)

    def forward(self, x):
        return F.gelu(self.mlp(self.patch(x).flatten(2).transpose(1, 2)))


@pytest.fixture(scope="module")
def net(seeded):
    return seeded(Net, 5)


@pytest.fixture(scope="module")
def x():
    return torch.randn(4, 3, *SIZE, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def plain(net, x):
    """What the layers give out, computed without hooks, by the names that profiles give them."""
    with torch.no_grad():
        first = F.conv2d(x, net.conv1.weight, net.conv1.bias, padding=1)
        second = F.conv2d(first.relu(), net.conv2.weight, padding=1)
        normed = net.norm(second).relu()
        total = (first.relu() + normed).relu()
        return {"conv1": first, "conv2": second, 1: first.relu(), 2: normed, 3: total, "fc": net(x)}


def values(net, objective, x, scale=SCALE):
    """The objective of pictures, as a visualisation reports it."""
    return visualise(net, objective, scale, natural=x, n_steps=1, **QUIET).natural


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["conv1", "conv2", 1, 2, 3])
def test_channels_and_neurons_are_those_that_the_network_computes(net, x, plain, layer):
    close(values(net, channel_objective(layer, 4), x), plain[layer][:, 4].mean((1, 2)))
    close(values(net, neuron_objective(layer, 4, (3, 9)), x), plain[layer][:, 4, 3, 9])
    close(values(net, neuron_objective(layer, 4), x), plain[layer][:, 4, 6, 5])


def test_layers_are_named_by_path_by_call_or_by_number(net, x, plain):
    close(values(net, channel_objective("relu", 1), x), plain[1][:, 1].mean((1, 2)))
    for name, layer in {"ReLU-1-2": 1, "ReLU-1-5": 2, "ReLU-1-6": 3}.items():
        close(values(net, channel_objective(name, 1), x), plain[layer][:, 1].mean((1, 2)))
    for name in ("fc", "", 5):
        close(values(net, channel_objective(name, 2), x), plain["fc"][:, 2])
        close(values(net, neuron_objective(name, 2), x), plain["fc"][:, 2])
    assert TorchProfiler(net).create_layers()[2][0] == ["conv2", "norm", "relu:2"]


def test_channels_of_tokens_stand_last(seeded, x):
    net = seeded(Tokens, 0)
    with torch.no_grad():
        mlp = net.mlp(net.patch(x).flatten(2).transpose(1, 2))
    close(values(net, channel_objective("mlp", 6), x), mlp[:, :, 6].mean(1))
    close(values(net, neuron_objective("mlp", 6, (3,)), x), mlp[:, 3, 6])
    close(values(net, neuron_objective(2, 6, (3,)), x), F.gelu(mlp)[:, 3, 6])  # the network itself returns it
    u = np.linalg.svd(net.mlp.weight.detach().numpy())[0][:, 1]
    response = (mlp - net.mlp.bias).detach().numpy() @ u
    np.testing.assert_allclose(values(net, svd_objective("mlp", 1), x).abs(), abs(response.mean(1)), atol=1e-5)


@pytest.mark.parametrize("layer", ["conv1", 1, "conv2", 2])
@pytest.mark.parametrize("direction", [0, 3])
def test_a_singular_direction_responds_like_its_right_singular_vector_as_a_kernel(net, x, plain, layer, direction):
    name = {1: "conv1", 2: "conv2"}.get(layer, layer)
    weight, below = getattr(net, name).weight.detach(), {"conv1": x, "conv2": plain[1]}[name]
    _, s, vt = np.linalg.svd(weight.flatten(1).double().numpy(), full_matrices=False)
    kernel = torch.from_numpy(s[direction] * vt[direction]).float().view(1, *weight.shape[1:])
    response = F.conv2d(below, kernel, padding=1)[:, 0]
    mean = values(net, svd_objective(layer, direction), x)
    sign = torch.sign(mean[0] * response[0].mean())
    close(mean, sign * response.mean((1, 2)))
    close(values(net, svd_objective(layer, direction, (3, 9)), x), sign * response[:, 3, 9])
    close(values(net, svd_objective(layer, direction, neuron=True), x), sign * response[:, 6, 5])


def test_directions_are_those_of_svd_profiles(net):
    picture = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    profile = SVDProfiler(net).create_influential(picture, [1, 2], threshold=0.5, aggregation="max")
    found = influential_neurons(profile, n_largest=2)
    projections = SVDProfiler(net).create_projections(picture, [1, 2])
    for layer, neurons in found.items():
        mine = values(
            net, svd_objective(layer, neurons[0][0][0]), picture, PixelScale(*[torch.ones(3)] * 2, (224, 224))
        )
        close(mine, projections[layer][0, neurons[0][0][0]].mean()[None])


def gram_cosines(maps):
    """Cosines of all pairs of images' Gram matrices, one by one."""
    maps = maps.flatten(2).double().numpy()
    grams = [np.array([[a @ b for a in image] for b in image]).ravel() for image in maps]
    return np.array([[a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for a in grams] for b in grams])


def test_diversity_is_minus_the_mean_cosine_with_the_other_images(net, x, plain):
    for layer in ("conv1", 3):
        cosines = gram_cosines(plain[layer])
        expected = [-np.mean(np.delete(row, i)) for i, row in enumerate(cosines)]
        np.testing.assert_allclose(values_of_batch(net, diversity(layer), x), expected, rtol=1e-4)
    a, b = plain["fc"][0].numpy(), plain["fc"][1].numpy()
    expected = -((a @ b) ** 2) / (a @ a) / (b @ b)  # of vectors
    np.testing.assert_allclose(values_of_batch(net, diversity("fc"), x[:2]), [expected] * 2, rtol=1e-4)


def values_of_batch(net, objective, x):
    return visualise(net, objective, SCALE, natural=x, n_images=2, n_steps=1, **QUIET).natural


def test_diversity_makes_images_differ(net):
    made = {}
    for weight in (0.0, 30.0):
        objective = channel_objective("conv2", 0) + weight * diversity("conv2")
        made[weight] = visualise(net, objective, SCALE, n_images=3, n_steps=60, **QUIET).images
    with torch.no_grad():
        alike = {
            weight: (gram_cosines(net.conv2(net.conv1(SCALE(images)).relu())).sum() - 3) / 6
            for weight, images in made.items()
        }
    assert alike[30.0] < alike[0.0] - 0.1


def test_sums_and_multiples(net, x, plain):
    one, other = channel_objective("conv1", 0), neuron_objective(3, 2, (0, 1))
    a, b = plain["conv1"][:, 0].mean((1, 2)), plain[3][:, 2, 0, 1]
    close(values(net, 2 * one + other * -0.5, x), 2 * a - 0.5 * b)
    close(values(net, sum([one, other, one]), x), 2 * a + b)
    assert (one + other).readings == {Reading("conv1"), Reading(3)}
    with pytest.raises(TypeError):
        one + 3
    with pytest.raises(TypeError):
        one * other
    with pytest.raises(InputError, match="weight nan of an objective: expected a finite number"):
        float("nan") * one


def test_gradients_of_all_objectives_are_those_of_finite_differences():
    maps = torch.randn(3, 4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for objective in (
        channel_objective("a", 1),
        neuron_objective("a", 2, (1, 0)),
        svd_objective("a", 3) * 2.5,
        diversity("a"),
        dictionary_objective({"a": [(1, 0.5), ((2, 0, 1), 3.0)]}) + diversity("a"),
    ):
        assert torch.autograd.gradcheck(
            lambda a, objective=objective: objective({reading: a for reading in objective.readings}),
            maps.clone().requires_grad_(),
        )


def test_images_of_a_linear_layer_are_its_gradient():
    """f(image) - l2 mean (2 image - 1)^2, f linear with the gradient w, is greatest at 2 image - 1 = N w / (4 l2)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Conv2d(4, 3, 3), nn.ReLU()).eval()
    u, _, _ = np.linalg.svd(net[1].weight.detach().flatten(1).numpy(), full_matrices=False)
    pixels = torch.full((1, 3, *SIZE), 0.5, requires_grad=True)
    maps = net[1](net[0](SCALE(pixels)))
    direction = torch.einsum("c,nchw->nhw", torch.from_numpy(u[:, 1]), maps)
    for objective, value in {
        channel_objective("1", 2): maps[0, 2].mean(),
        neuron_objective("1", 1, (0, 3)): maps[0, 1, 0, 3],
        svd_objective("1", 1, neuron=True): direction[0, 3, 2],
    }.items():
        (w,) = torch.autograd.grad(value, pixels, retain_graph=True)
        l2 = w.numel() * w.abs().max().item() / 4 / 0.8
        options = {"l2": l2, "total_variation": 0, "jitter": 0, "n_steps": 700, "image": "pixels"}
        lit = 2 * visualise(net, objective, SCALE, **options, **QUIET).images - 1
        expected = w * w.numel() / 4 / l2
        sign = torch.sign((lit * expected).sum()) if next(iter(objective.readings)).svd else 1
        torch.testing.assert_close(lit, sign * expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize("objective", [channel_objective(3, 1), svd_objective("conv2", 0), channel_objective("fc", 3)])
def test_images_exceed_noise_and_smooth_pictures(net, objective):
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(200, 3, *SIZE, generator=generator)
    smooth = F.interpolate(torch.rand(200, 3, 3, 3, generator=generator), SIZE, mode="bicubic").clamp(0, 1)
    options = {"total_variation": 1e-3, "l2": 1e-3, "jitter": 1, "n_steps": 120, **QUIET}  # responses are about 0.1
    made = visualise(net, objective, SCALE, natural=SCALE(torch.cat([noise, smooth])), **options)
    best, spread = made.natural.max(), made.natural.std()
    assert made.reached > best + spread and made.reached > made.start + 3 * spread


def test_the_same_seed_gives_the_same_images_and_the_network_stays_as_it_was(net):
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    def make(seed):
        torch.rand(1)  # on torch's own generator nothing depends
        objective = dictionary_objective({2: [1, (4, 0.5)], "conv1": [0]}) + diversity(1)
        return visualise(net, objective, SCALE, n_images=2, n_steps=10, seed=seed, **QUIET)

    first, again, other = make(0), make(0), make(1)
    assert torch.equal(first.images, again.images) and torch.equal(first.history, again.history)
    assert not torch.allclose(first.images, other.images, atol=0.01)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_pass_ends_with_the_last_layer_that_is_needed(net):
    for layer, n_passes in {"conv1": 1, "fc": 6}.items():  # one pass finds the layers
        net.n_last = 0
        visualise(net, channel_objective(layer, 0), SCALE, n_steps=3, **QUIET)
        assert net.n_last == n_passes


def test_a_dictionary_is_the_weighted_sum_of_its_neurons(net, x, plain):
    a, b = plain["conv1"], plain[2]
    middle = a[:, 0, 6, 5] + 3 * a[:, 5, 6, 5] - 2 * b[:, 1, 2, 7] + b[:, 2, 0, 0]
    neurons = {"conv1": [0, ((5,), 3)], 2: [((1, 2, 7), -2), (2, 0, 0)]}
    close(values(net, dictionary_objective(neurons), x), middle)
    means = {"conv1": [0, (5, 3)]}
    expected = a[:, 0].mean((1, 2)) + 3 * a[:, 5].mean((1, 2))
    close(values(net, dictionary_objective(means, neuron=False), x), expected)
    close(values(net, dictionary_objective(means, "element", neuron=False), x), a[:, 0, 6, 5] + 3 * a[:, 5, 6, 5])
    both = values(net, svd_objective("conv2", 1) + 2 * svd_objective("conv2", 4), x)
    close(values(net, dictionary_objective({"conv2": [1, (4, 2.0)]}, "svd", neuron=False), x), both)
    at = values(net, svd_objective("conv2", 1, neuron=True) + svd_objective("conv2", 4, (0, 2)), x)
    close(values(net, dictionary_objective({"conv2": [1, (4, 0, 2)]}, "svd"), x), at)
    many = values(net, dictionary_objective({"conv1": [0] * 3000}), x)
    torch.testing.assert_close(many, 3000 * a[:, 0, 6, 5], rtol=1e-3, atol=1e-3)


def test_dictionary_optimization_is_the_same_spelled_as_upstream(net):
    neurons = {"conv2": [1, ((4, 2, 2), 0.5)]}
    ours = visualise(net, dictionary_objective(neurons), SCALE, n_steps=7, **QUIET)
    theirs = dictionary_optimization(net, neurons, threshold=7, preprocess=SCALE, **QUIET)
    assert torch.equal(ours.images, theirs.images) and theirs.history.shape == (7, 1)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    one = {"threshold": 1, "neuron_type": "channel", "neuron": False, "n_images": 2, **QUIET}
    made = dictionary_optimization(net, {"conv1": [3]}, image="pixels", **one)
    assert made.images.shape == (2, 3, 224, 224)
    normalised = (made.images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    close(made.reached, net.conv1(normalised)[:, 3].mean((1, 2)).detach())


@pytest.mark.parametrize("kind", ["channel", "element"])
def test_the_neurons_of_a_profile(net, x, plain, kind):
    profiler = {"channel": TorchProfiler, "element": ElementProfiler}[kind](net, example=x)
    profile = profiler.create_profile(x[:1], layers_to_profile=[1, 2, 3], threshold=0.6)
    found = influential_neurons(profile, n_largest=3)
    assert set(found) == {1, 2, 3} and all(1 <= len(neurons) <= 3 for neurons in found.values())
    expected = 0.0
    for layer, neurons in found.items():
        weights = profile.neuron_weights[layer].toarray()
        falling = sorted(weights[weights > 0].tolist(), reverse=True)[:3]
        assert [weight for _, weight in neurons] == falling
        for index, weight in neurons:
            if kind == "channel":
                assert weights[0, index[0]] == weight
                expected = expected + weight * plain[layer][:, index[0]].mean((1, 2))
            else:
                assert weights[index[0], index[1] * SIZE[1] + index[2]] == weight
                expected = expected + weight * plain[layer][(slice(None), *index)]
    close(values(net, dictionary_objective(found, kind, neuron=False), x), expected)
    assert influential_neurons(profile.dict_view(), [2], 1) == {2: found[2][:1]}
    with pytest.raises(InputError, match=r"layers \[5\]: no neurons of them influence this profile"):
        influential_neurons(profile, [5])


def test_profiles_of_places_have_no_such_neurons(net, x):
    profile = SpatialProfiler(net, example=x).create_profile(x[:1], layers_to_profile=[1])
    with pytest.raises(InputError, match="profile of spatial neurons: expected one of 'channel', 'element', 'svd'"):
        influential_neurons(profile)


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (channel_objective("conv3", 0), "layer 'conv3': the network calls no such module; did you mean 'conv"),
        (channel_objective(7, 0), "layer 7: expected a number from 1 to 5"),
        (channel_objective(0, 0), "layer 0: expected a number from 1 to 5"),
        (channel_objective(4, 0), r"layer 4 \(mean\): no module returns what it computes; name a module"),
        (channel_objective("conv1", 6), "layer 'conv1': expected a channel from 0 to 5, got 6"),
        (channel_objective("conv1", -1), "layer 'conv1': expected a channel from 0 to 5, got -1"),
        (channel_objective("conv1", 1.0), "expected a channel from 0 to 5, got 1.0"),
        (
            neuron_objective(2, 0, (0, 10)),
            r"layer 2: expected a position within \(12, 10\), counted from 0, got \(0, 10",
        ),
        (neuron_objective(2, 0, (3,)), r"layer 2: expected a position within \(12, 10\), counted from 0, got \(3,\)"),
        (svd_objective("norm", 0), "layer 'norm': expected a convolution or a linear layer, .* got BatchNorm2d"),
        (svd_objective(3, 0), r"layer 3 \(add, relu:3\): no module"),
        (svd_objective("fc", 5), "layer 'fc': expected a direction from 0 to 4, got 5"),
        (diversity("conv1"), "diversity in layer 'conv1': expected several images, got one; set n_images"),
        (dictionary_objective({"conv1": ["a"]}), "expected a channel from 0 to 5, got 'a'"),
        ("conv1", "objective: expected one such as channel_objective gives, got str"),
    ],
)
def test_bad_objectives_are_told_in_one_sentence(net, objective, said):
    with pytest.raises(InputError, match=said):
        visualise(net, objective, SCALE, n_steps=1, **QUIET)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_bad_networks_and_dictionaries_are_refused(seeded):
    net = seeded(Net, 1)
    net.norm.train()
    with pytest.raises(InputError, match=r"training mode, .* call model.eval\(\)"):
        visualise(net, channel_objective("conv1", 0), SCALE, **QUIET)
    with pytest.raises(InputError, match=r"model to visualise: expected a torch\.nn\.Module, got function"):
        visualise(lambda x: x, channel_objective("conv1", 0), SCALE, **QUIET)
    with pytest.raises(InputError, match=r"does not take images \(1, 3, 12, 10\)"):
        visualise(nn.Conv2d(1, 2, 3).eval(), channel_objective("", 0), SCALE, **QUIET)
    for bad in (Pair(), nn.Flatten(0)):
        with pytest.raises(InputError, match="layer '': its output is not one tensor"):
            visualise(bad.eval(), channel_objective("", 0), SCALE, **QUIET)
    with pytest.raises(InputError, match="neuron_type 'spatial': expected one of 'channel', 'element', 'svd'"):
        dictionary_objective({"conv1": [0]}, "spatial")
    for nothing in ({}, {"conv1": []}):
        with pytest.raises(InputError, match="expected one at least, got none"):
            dictionary_objective(nothing)
    for bad in (["conv1"], {"conv1": "fc"}):
        with pytest.raises(InputError, match="expected a dictionary of layers and lists of neurons"):
            dictionary_objective(bad)
    with pytest.raises(InputError, match="weight 'much' of an objective"):
        dictionary_objective({"conv1": [(0, "much")]})


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_networks_in_other_precision_are_read_in_single(net, x, plain):
    half = deepcopy(net).bfloat16()
    for objective in (channel_objective(2, 1), svd_objective("conv1", 0), diversity("conv1")):
        expected = values_of_batch(net, objective, x)
        found = values_of_batch(half, objective, x)  # the sign of a direction may turn when weights are rounded
        torch.testing.assert_close(found.abs(), expected.abs(), rtol=0.05, atol=0.01)
        close(values_of_batch(deepcopy(net).double(), objective, x), expected)
    objective = dictionary_objective({"conv1": [0] * 3000})  # in half precision, a sum of 3000 equal terms stops at 256
    torch.testing.assert_close(values(half, objective, x), 3000 * plain["conv1"][:, 0, 6, 5], rtol=0.05, atol=30)


def test_an_objective_of_ones_own(net, x, plain):
    reading = Reading("conv1")
    contrast = FeatureObjective(frozenset({reading}), lambda held: held[reading].flatten(1).std(dim=1))
    close(values(net, contrast, x), plain["conv1"].flatten(1).std(dim=1))


def test_the_example_runs(tmp_path, capsys):
    """Seven images, each of which raises its objective in a few steps, and a figure that shows something."""
    picture = Image.fromarray(load_sample_image("flower.jpg"))
    picture.save(tmp_path / "picture.png")
    example = runpy.run_path(str(EXAMPLES / "feature_visualisation.py"))
    example["main"](tmp_path / "picture.png", tmp_path / "figure.png", 4)
    lines = capsys.readouterr().out.splitlines()
    values = np.array([[float(part.split()[-1]) for part in line.split("start")[1].split(",")] for line in lines])
    assert values.shape == (7, 3) and (values[:, 1] > values[:, 0]).all()
    assert [line.split(":")[0] for line in lines[4:]] == ["named"] * 3
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.size == (880, 490) and np.ptp(np.asarray(figure.convert("L"))) > 200

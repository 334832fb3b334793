"""Synthesis of images against closed forms; on the miniature, against the receptive fields that it was made with."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torchvision.transforms import v2

from deepjuice import extract_features, get_deepjuice_model
from deepjuice.attached import attach_encoder, fit_encoder, gradient_map
from deepjuice.synthesis import OPPONENT, OPPONENT_SD, PixelScale, drive_region, optimise_image
from juicyfruits import Benchmark, write_benchmark
from juicyfruits.errors import InputError
from juicyfruits.nsd.prepare import prepare_nsd
from juicyfruits.synthetic.mini import make_mini
from tests.tiny_net import to_tensor

SIZE = (6, 8)
QUIET = {"progress": False}
PLAIN = {"total_variation": 0, "jitter": 0, "progress": False}


def weights(*shape, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(1)) / np.prod(shape)


@pytest.mark.parametrize("image", ["fourier", "pixels"])
def test_a_linear_objective_in_an_l2_ball_is_climbed_to_its_maximum(image):
    """w.x - l2 mean (2 x - 1)^2 is greatest at 2 x - 1 = N w / (4 l2), N values an image: along the gradient."""
    w = weights(3, *SIZE)
    made = optimise_image(lambda x: (w * x).sum((1, 2, 3)), SIZE, image=image, l2=1.0, n_steps=600, n_images=2, **PLAIN)
    best = 0.5 + w.numel() * w / 8
    assert best.min() > 0.05 and best.max() < 0.95 and made.images.shape == (2, 3, *SIZE)
    torch.testing.assert_close(made.images, best.expand(2, -1, -1, -1), rtol=0, atol=5e-3)
    torch.testing.assert_close(made.reached, (w * made.images).sum((1, 2, 3)))
    assert made.history.shape == (600, 2) and torch.equal(made.history[0], made.start)


def test_grey_images_climb_in_what_all_colours_share():
    w = weights(3, *SIZE)
    made = optimise_image(lambda x: (w * x).sum((1, 2, 3)), SIZE, colour=False, l2=1.0, n_steps=600, **PLAIN)
    best = 0.5 + w.numel() * w.mean(0) / 8
    torch.testing.assert_close(made.images[0], best.expand(3, -1, -1), rtol=0, atol=2e-3)


def test_total_variation_is_the_mean_difference_of_neighbours():
    """An edge stays where the objective gains more by it than the penalty takes, and else goes."""
    signs = torch.ones(SIZE)
    signs[:, :4] = -1  # of the objective: left dark, right light

    def edge(weight):
        options = {**PLAIN, "total_variation": weight, "l2": 0, "n_steps": 300, "colour": False}
        x = optimise_image(lambda x: (signs * x).mean((1, 2, 3)), SIZE, **options).images[0, 0]
        return (x[:, 4:].mean() - x[:, :4].mean()).item()

    # an edge of height h gains h / 2, and costs weight * h / 7, the share of neighbours that it parts
    assert edge(2.5) > 0.7 and edge(4.5) < 0.05


def test_shifts_are_those_that_were_asked_for():
    """With steps of no length, what the objective sees is the same image, moved round by up to three pixels."""
    seen = []

    def objective(x):
        seen.append(x.detach()[0])
        return x.mean((1, 2, 3))

    made = optimise_image(objective, SIZE, learning_rate=0.0, jitter=3, n_steps=60, **QUIET)
    moves = {(dy, dx): made.images[0].roll((dy, dx), (1, 2)) for dy in range(-3, 4) for dx in range(-3, 4)}
    found = [[move for move, moved in moves.items() if torch.equal(moved, x)] for x in seen[1:-1]]
    assert len(found) == 60 and all(len(match) >= 1 for match in found)
    assert {0} < {match[0][0] for match in found} and len({match[0][1] for match in found}) == 7
    assert torch.equal(seen[0], seen[-1])


def test_images_begin_as_noise_with_the_spectrum_and_colours_of_nature():
    def zero(x):
        return 0 * x.sum((1, 2, 3))

    made = optimise_image(zero, (64, 64), n_images=40, learning_rate=0.0, n_steps=1, **QUIET)
    logits = made.images.double().logit()
    power = torch.fft.fft2(logits).abs().square().mean((0, 1))[0, 1:32]
    slope = np.polyfit(np.log(np.arange(1, 32)), np.log(power.numpy()), 1)[0]
    assert abs(slope + 2) < 0.1
    axes = torch.einsum("ncyx,rc->rnyx", logits, (OPPONENT / OPPONENT.norm(dim=1, keepdim=True)).double())
    spread = axes.flatten(1).std(1)
    np.testing.assert_allclose(spread / spread[0], OPPONENT_SD, rtol=0.1)
    options = {"n_images": 9, "learning_rate": 0.0, "n_steps": 1, "colour": False, **QUIET}
    plain = optimise_image(zero, (64, 64), image="pixels", **options)
    assert plain.images.logit().std().item() == pytest.approx(0.1, rel=0.02)
    assert axes[0].std().item() / 3**0.5 == pytest.approx(0.1, rel=0.15)


def test_the_same_seed_gives_the_same_image_to_the_bit():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 1))

    def make(seed):
        torch.rand(1)  # on torch's own generator nothing depends
        return optimise_image(lambda x: net(x)[:, 0], SIZE, seed=seed, n_images=3, n_steps=20, jitter=2, **QUIET)

    first, again, other = make(0), make(0), make(1)
    assert torch.equal(first.images, again.images) and torch.equal(first.history, again.history)
    assert not torch.allclose(first.images, other.images, atol=0.01)
    assert (first.reached > first.start).all() and all(p.grad is None for p in net.parameters())


def test_progress_is_shown_unless_it_is_not_wanted(capsys):
    optimise_image(lambda x: x.mean((1, 2, 3)), SIZE, n_steps=2, label="making light")
    assert "making light: 100%" in capsys.readouterr().err
    optimise_image(lambda x: x.mean((1, 2, 3)), SIZE, n_steps=2, **QUIET)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": "wavelets"}, "'fourier', 'pixels'"),
        ({"n_steps": 0}, "1 at least"),
        ({"seed": -1}, "a seed from 0"),
        ({"jitter": 6}, "jitter 6"),
    ],
)
def test_impossible_settings_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        optimise_image(lambda x: x.mean((1, 2, 3)), SIZE, **options, **QUIET)


def test_objectives_that_are_none_are_refused():
    with pytest.raises(InputError, match=r"one number for each of 2 images, got \(\)"):
        optimise_image(lambda x: x.mean(), SIZE, n_images=2, **QUIET)
    with pytest.raises(InputError, match="one number for each of 1 images, got NoneType"):
        optimise_image(lambda x: None, SIZE, **QUIET)
    with pytest.raises(InputError, match="its value has no gradient"):
        optimise_image(lambda x: x.mean((1, 2, 3)).detach(), SIZE, **QUIET)
    with pytest.raises(InputError, match="l2=nan: expected finite weights"):
        optimise_image(lambda x: x.mean((1, 2, 3)), SIZE, l2=torch.nan, **QUIET)
    with pytest.raises(InputError, match="expected finite numbers"):
        optimise_image(lambda x: x.mean((1, 2, 3)) * torch.nan, SIZE, **QUIET)


def test_scale_and_size_are_read_from_a_preprocessing():
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    tail = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    scale = PixelScale.of(v2.Compose([v2.Resize(20), v2.CenterCrop((16, 12)), *tail]))
    assert scale.size == (16, 12)
    images = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scale(images), v2.Normalize(mean, std)(images), rtol=1e-4, atol=1e-5)
    lite = PixelScale.of(get_deepjuice_model("efficientnet_lite0_random")[1])
    assert lite.size == (224, 224)
    torch.testing.assert_close(lite(images), (images * 255 - 127) / 128, rtol=1e-4, atol=1e-5)
    for bad in (
        lambda picture: to_tensor(picture).square(),
        lambda picture: to_tensor(picture).mean(0, keepdim=True),
        lambda picture: to_tensor(picture) + torch.linspace(0, 1, 8),
        lambda picture: to_tensor(picture).flip(0),
        lambda picture: to_tensor(picture.convert("L").convert("RGB")),
        lambda picture: torch.zeros(3, 8, 8),
        lambda picture: {"pixel_values": to_tensor(picture)},
    ):
        with pytest.raises(InputError, match="scales each of three colours linearly"):
            PixelScale.of(bad)


def scaled(picture):
    return 4 * to_tensor(picture) - 1


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """A linear network, an encoder on it, and the inputs of the pictures that it was fitted on."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("linear")
    pictures = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(24)]
    neuroids = pd.DataFrame({"neuroid_id": ["n0", "n1", "n2"], "subject": "a", "roi_V1": True})
    responses = rng.standard_normal((3, 192)) @ np.stack([p.reshape(-1) for p in pictures]).T / 1000
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i:02d}" for i in range(24)]})
    benchmark = write_benchmark(folder / "b", stimuli, pictures, neuroids=neuroids, responses=responses)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 40)).eval()
    options = {"model_uid": "net", "stimulus_digest": benchmark.stimulus_digest, "device": "cpu", **QUIET}
    store = extract_features(net, scaled, benchmark.image_paths, folder / "net.zarr", **options)
    fit = fit_encoder(store, benchmark, "2", "V1", device="cpu")
    inputs = torch.stack([scaled(benchmark.get_stimulus(i)) for i in range(24)])
    return attach_encoder(net, fit), fit, inputs, fit.predict(store["Linear-1-3"]).float()


@pytest.mark.parametrize("voxel", [None, 2, "n1"])
def test_images_that_drive_a_linear_network_lie_along_the_folded_weights(linear, voxel):
    model, fit, inputs, predicted = linear
    folded = (fit.coefficients.T.float() @ model.wrapped_model[2].weight.detach()).view(3, 3, 8, 8)
    chosen = {None: slice(None), 2: [2], "n1": [1]}[voxel]
    w = 4 * folded[chosen].mean(0)  # gain of the preprocessing
    l2 = 192 * w.abs().max().item() / 4 / 0.8
    made = drive_region(model, preprocess=scaled, voxel=voxel, natural=inputs, l2=l2, n_steps=600, **PLAIN)
    torch.testing.assert_close(made.images[0], 0.5 + 192 * w / 8 / l2, rtol=0, atol=6e-3)
    torch.testing.assert_close(made.natural, predicted[:, chosen].mean(1), rtol=0, atol=1e-5)
    again = model(4 * made.images - 1)[1]["V1"][:, chosen].mean(1)
    torch.testing.assert_close(made.reached, again.detach(), rtol=1e-5, atol=1e-5)
    assert made.reached > made.start


def test_driving_leaves_the_model_as_it_was(linear):
    model, _, inputs, _ = linear
    model.train()
    scale = PixelScale(-torch.ones(3), 4 * torch.ones(3), (8, 8))
    training = drive_region(model, "V1", preprocess=scale, n_steps=2, **QUIET)
    assert all(module.training for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    model.eval()
    halves = drive_region(model, preprocess=scaled, natural=[inputs[:9], inputs[9:]], n_steps=2, **QUIET)
    whole = drive_region(model, preprocess=scaled, natural=inputs, n_steps=2, **QUIET)
    torch.testing.assert_close(halves.natural, whole.natural)
    assert torch.equal(halves.images, whole.images)
    torch.testing.assert_close(training.images, whole.images)


def test_regions_and_sizes_that_are_not_the_fits_are_refused(linear):
    model = linear[0]
    with pytest.raises(InputError, match="encoder 'V2' is not attached to this model; did you mean 'V1'"):
        drive_region(model, "V2", preprocess=scaled, **QUIET)
    for natural in (torch.full((1, 3, 8, 8), torch.nan), [(torch.zeros(1, 3, 8, 8), 0)], torch.zeros(3, 8, 8), []):
        with pytest.raises(InputError, match="natural: expected"):
            drive_region(model, preprocess=scaled, natural=natural, **QUIET)


class Front(nn.Sequential):
    """The stem and the first seven blocks of EfficientNet-Lite0, whose output has 80 channels at 14 x 14."""

    def __init__(self, whole):
        super().__init__(whole._conv_stem, whole._bn0, whole._swish, *whole._blocks[:7])


LAST = "9"  # path of the seventh block


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """One subject of the miniature, its features, the network, and receptive fields by neuroid."""
    folder = tmp_path_factory.mktemp("mini")
    sizes = {"n_subjects": 1, "n_unique": 0, "volume": (9, 10, 9), "picture_size": 224}
    source = make_mini(folder / "source", **sizes)
    prepare_nsd(source, folder / "brain")
    benchmark, truth = Benchmark(folder / "brain"), np.load(source / "truth.npz")
    whole, preprocess = get_deepjuice_model("efficientnet_lite0_imagenet1k")
    net = Front(whole).eval()
    options = {"model_uid": "front", "stimulus_digest": benchmark.stimulus_digest, "num_workers": 0}
    options |= {"device": "cpu", **QUIET}
    store = extract_features(net, preprocess, benchmark.image_paths, folder / "net.zarr", **options)
    fields = dict(zip(truth["subj01_neuroid_id"].astype(str), truth["subj01_field"], strict=False))  # the early ones
    return benchmark, store, net, preprocess, fields


def ranks_of_own_fields(model, inputs, neuroids, fields):
    """For each voxel's field, the share of other voxels' maps that weigh less there than its own does: (voxel,).

    Maps are means over pictures; what they have in common, their mean over voxels, is divided out.
    """
    maps = np.stack([gradient_map(model, inputs, voxel=str(name)).mean(0).numpy() for name in neuroids])
    maps = np.log(np.stack([gaussian_filter(m / m.mean(), 0.03 * len(m)) for m in maps]))
    place = (np.arange(maps.shape[1]) + 0.5) / maps.shape[1]
    across, down = (
        np.exp(-((place - fields[:, [axis]]) ** 2) / (2 * fields[:, [2]] ** 2)) for axis in (0, 1)
    )  # of Gaussian fields
    window = down[:, :, None] * across[:, None, :]
    inside = np.einsum("iyx,jyx->ij", maps - maps.mean(0), window / window.sum((1, 2), keepdims=True))
    return (inside < np.diag(inside)).sum(0) / (len(inside) - 1)


@pytest.mark.slow
def test_gradient_maps_of_early_voxels_fall_on_their_receptive_fields(mini):
    """By chance the mean rank of n voxels is 0.5 with a standard error of 0.29 / sqrt(n)."""
    benchmark, store, net, preprocess, fields = mini
    neuroids = np.random.default_rng(0).permutation(benchmark.get_roi_indices(False)["EVC"]["subj01"])[:32]
    truth = np.stack([fields[neuroid] for neuroid in neuroids])
    inputs = torch.stack([preprocess(benchmark.get_stimulus(i)) for i in range(1, 240, 60)])
    shuffled, mean = Benchmark(benchmark.folder), {}
    order = np.random.default_rng(1).permutation(len(benchmark.image_paths))
    shuffled.responses = np.asarray(benchmark.responses)[:, order]
    for name, brain in {"own": benchmark, "shuffled": shuffled}.items():
        fit = fit_encoder(store, brain, LAST, "EVC", stimuli="all", device="cpu")
        model = attach_encoder(net, fit)
        mean[name] = ranks_of_own_fields(model, inputs, neuroids, truth).mean()
    assert mean["own"] > 0.75 and abs(mean["shuffled"] - 0.5) < 3 * 0.29 / 32**0.5


@pytest.mark.slow
def test_driving_images_exceed_all_natural_ones(mini):
    benchmark, store, net, preprocess, _ = mini
    model = attach_encoder(net, fit_encoder(store, benchmark, LAST, "EVC", device="cpu"))
    inputs = torch.stack([preprocess(benchmark.get_stimulus(i)) for i in range(1, 240, 8)])
    made = drive_region(model, preprocess=preprocess, natural=inputs, n_steps=40, **QUIET)
    assert made.reached > made.natural.max() + 3 * made.natural.std()
    assert made.images.min() >= 0 and made.images.max() <= 1

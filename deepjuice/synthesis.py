"""Images made to order: those that raise any objective, such as a region's predicted response.

An image is held as a spectrum, or as pixels, in opponent colours, and squashed into [0, 1]. Adam climbs the objective
less two penalties, on a slightly shifted copy each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from deepjuice.attached.attach import RegionResponse, Voxel
from deepjuice.hooks import ModelExtender
from deepjuice.loaders import Preprocess
from deepjuice.tracing import evaluating
from juicyfruits.errors import InputError

Objective = Callable[[Tensor], Tensor]
KINDS = ("fourier", "pixels")
START_SD = 0.1  # of the logits at the start: an image close to grey

_COLOURS = ((0, 0, 0), (255, 255, 255), (51, 51, 51), (255, 0, 0), (0, 255, 0), (0, 0, 255))
OPPONENT = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
OPPONENT_SD = torch.tensor([1.0, 0.29, 0.13])
"""Light, red against blue, green against both: the principal axes of colour in 1,200 natural pictures (macaque V4,
session 201025 of docs/real-brains.md), and their standard deviations relative to the first."""


@dataclass(frozen=True, eq=False)
class Synthesis:
    """Images that were made, and how far they came. Tensors are float32 on the CPU.

    Attributes:
        images: (n, 3, height, width) in [0, 1].
        start: (n,) objective before the first step.
        reached: (n,) objective of `images`.
        history: (steps, n) objective of the shifted image before each step.
        natural: (m,) what natural pictures reach, where some were given.
    """

    images: Tensor
    start: Tensor
    reached: Tensor
    history: Tensor
    natural: Tensor | None = None


@dataclass(frozen=True, eq=False)
class PixelScale:
    """How a model takes pictures: inputs = offset + gain * pixels, for pixels in [0, 1].

    Attributes:
        offset, gain: (3,), a value a colour channel: -mean / std and 1 / std of the usual normalisation.
        size: (height, width).
    """

    offset: Tensor
    gain: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, preprocess: Preprocess) -> PixelScale:
        """Find out by what a preprocessing makes of plain pictures: black, white, and of several colours.

        Raises:
            InputError: for one that does anything but scale each colour of a plain picture.

        >>> from torchvision.transforms import v2
        >>> scale = PixelScale.of(v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Resize((4, 6))]))
        >>> scale.size, scale.gain
        ((4, 6), tensor([1., 1., 1.]))
        """
        made = [preprocess(Image.new("RGB", (256, 256), colour)) for colour in _COLOURS]
        found = all(isinstance(x, Tensor) and x.is_floating_point() and x.shape == made[0].shape for x in made)
        if found and made[0].ndim == 3 and len(made[0]) == 3:
            offset, gain = made[0][:, 0, 0], (made[1] - made[0])[:, 0, 0]
            scale = cls(offset, gain, tuple(made[0].shape[1:]))
            close = 1e-3 * float(gain.abs().max())
            pixels = torch.tensor(_COLOURS)[:, :, None, None] / 255
            if gain.abs().min() > 0 and torch.allclose(torch.stack(made), scale(pixels), rtol=0, atol=close):
                return scale
        raise InputError(
            "preprocess: expected one that scales each of three colours linearly, got another; give "
            "PixelScale(offset, gain, size) in its place."
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Turn images (n, 3, height, width) in [0, 1] into inputs of the model."""
        return self.offset.to(images)[:, None, None] + self.gain.to(images)[:, None, None] * images


@torch.inference_mode(False)
def drive_region(
    model: ModelExtender,
    roi: str | None = None,
    *,
    preprocess: Preprocess | PixelScale,
    voxel: Voxel = None,
    size: tuple[int, int] | None = None,
    natural: Tensor | Iterable[Tensor] | None = None,
    **kwargs: Any,
) -> Synthesis:
    """Synthesise images that raise the predicted response of a region, or of some of its voxels.

    Args:
        model: what `attach_encoder` returned; its modes and gradients are left as they were.
        roi, voxel: whose response, as of `RegionResponse`: by default the mean of the region's voxels.
        preprocess: the model's, from which scale and size of its inputs are read (`PixelScale.of`).
        size: (height, width) of the images; by default that of the preprocessing.
        natural: inputs of natural pictures, or a loader of them, whose predicted responses are returned beside.
        **kwargs: of `optimise_image`: n_images, n_steps, seed, image, colour, learning_rate, jitter, total_variation,
            l2, progress.

    Raises:
        InputError: for an unknown region or voxel, images of another size than the fit's, and NaN.
    """
    response = RegionResponse(model, roi, voxel)
    options = {"size": size, "natural": natural, "device": response.device, "label": f"driving {response.roi}"}
    with evaluating(model):
        return synthesise(response, preprocess, **options, **kwargs)


@torch.inference_mode(False)
def synthesise(
    response: Objective,
    preprocess: Preprocess | PixelScale,
    *,
    size: tuple[int, int] | None = None,
    natural: Tensor | Iterable[Tensor] | None = None,
    device: str | torch.device = "cpu",
    **kwargs: Any,
) -> Synthesis:
    """Synthesise images that raise a number that a network computes of its inputs.

    Args:
        response: inputs of the network (n, 3, height, width) -> (n,) numbers to be raised, on `device`.
        preprocess: the network's, from which scale and size of its inputs are read (`PixelScale.of`).
        size: (height, width) of the images; by default that of the preprocessing.
        natural: inputs of natural pictures, or batches of them, whose numbers are returned beside.
        device: of the network.
        **kwargs: of `optimise_image`.

    Raises:
        InputError: as `PixelScale.of` and `optimise_image`, and for `natural` that is no pictures.
    """
    scale = preprocess if isinstance(preprocess, PixelScale) else PixelScale.of(preprocess)
    with torch.no_grad():
        reached = None if natural is None else _natural(response, natural, device)
    made = optimise_image(lambda images: response(scale(images)), size or scale.size, device=device, **kwargs)
    return Synthesis(made.images, made.start, made.reached, made.history, reached)


def _natural(response: Objective, pictures: Tensor | Iterable[Tensor], device: str | torch.device) -> Tensor:
    reached = []
    for x in [pictures] if isinstance(pictures, Tensor) else pictures:
        if not isinstance(x, Tensor) or x.ndim != 4 or not torch.isfinite(x).all():
            raise InputError(
                "natural: expected finite inputs of the model, (n, channel, height, width), or batches of them; give "
                "what preprocess makes of pictures."
            )
        reached.append(response(x.to(device)).float().cpu())
    if not reached:
        raise InputError("natural: expected pictures, got none; leave it out.")
    return torch.cat(reached)


@torch.inference_mode(False)
@torch.enable_grad()
def optimise_image(
    objective: Objective,
    size: tuple[int, int],
    *,
    n_images: int = 1,
    n_steps: int = 256,
    seed: int = 0,
    image: str = "fourier",
    colour: bool = True,
    learning_rate: float = 0.05,
    jitter: int = 4,
    total_variation: float = 0.1,
    l2: float = 0.1,
    device: str | torch.device = "cpu",
    label: str = "synthesis",
    progress: bool = True,
) -> Synthesis:
    """Climb an objective of images by Adam, from noise close to grey.

        loss = - objective + total_variation * mean |differences of neighbours| + l2 * mean (2 image - 1)^2

    The same seed gives the same images to the bit on the same CPU.

    Args:
        objective: images (n, 3, height, width) in [0, 1] -> (n,) numbers to be raised, each of its own image.
        size: (height, width).
        n_images: each from other noise.
        n_steps: of Adam.
        seed: of the noise at the start and of the shifts.
        image: `'fourier'` (a spectrum whose frequencies f weigh 1 / f, as in natural pictures) or `'pixels'`.
        colour: whether colours are free; otherwise the images are grey.
        learning_rate: of Adam.
        jitter: largest shift in pixels each step, the same for all images; 0 for none.
        total_variation, l2: weights of the penalties, in units of the objective.
        device: where images are made.
        label: of the bar.
        progress: whether to show it.

    Raises:
        InputError: for impossible settings, and an objective that gives NaN or not one number an image.
    """
    _check(size, n_images, n_steps, seed, image, jitter)
    generator = torch.Generator().manual_seed(seed)
    shape = (n_images, 3 if colour else 1, *size)
    values = START_SD * torch.randn(_parameters(shape, image), generator=generator)
    values = values.to(device).requires_grad_()
    optimiser = torch.optim.Adam([values], lr=learning_rate)
    history: list[Tensor] = []

    def reached() -> Tensor:
        with torch.no_grad():
            return _value(objective, _draw(values, shape, image), "the end").float().cpu()

    start = reached()
    with tqdm(total=n_steps, desc=label, unit="step", disable=not progress) as bar:
        for step in range(n_steps):
            images = _draw(values, shape, image)
            value = _value(objective, _shift(images, jitter, generator), f"step {step + 1}")
            loss = (total_variation * _variation(images) + l2 * (2 * images - 1).square().mean((1, 2, 3)) - value).sum()
            if not torch.isfinite(loss):
                raise InputError(f"total_variation={total_variation}, l2={l2}: expected finite weights.")
            (values.grad,) = torch.autograd.grad(loss, values)
            optimiser.step()
            history.append(value.detach().float().cpu())
            bar.set_postfix(response=f"{history[-1].mean():.3f}", refresh=False)
            bar.update()
    images = _draw(values, shape, image).detach().cpu()
    return Synthesis(images, start, reached(), torch.stack(history))


def _parameters(shape: tuple[int, ...], image: str) -> tuple[int, ...]:
    """Return the shape of what is optimised: pixels, or real and imaginary parts of a spectrum."""
    return shape if image == "pixels" else (*shape[:3], shape[3] // 2 + 1, 2)


def _draw(values: Tensor, shape: tuple[int, ...], image: str) -> Tensor:
    """Turn what is optimised into images (n, 3, height, width) in [0, 1]."""
    if image == "fourier":
        height, width = shape[2:]
        fy, fx = torch.fft.fftfreq(height, device=values.device), torch.fft.rfftfreq(width, device=values.device)
        frequency = torch.hypot(fy[:, None], fx[None]).clamp(min=1 / max(height, width))
        weight = 1 / (frequency * frequency.reciprocal().square().mean().mul(2).sqrt())  # pixels vary as they do
        values = torch.fft.irfft2(torch.view_as_complex(values) * weight, s=(height, width), norm="ortho")
    if shape[1] == 1:
        return values.sigmoid().expand(-1, 3, -1, -1)
    to_rgb = (OPPONENT_SD[:, None] * OPPONENT / OPPONENT.norm(dim=1, keepdim=True)).to(values)
    return torch.einsum("nchw,cr->nrhw", values, 3**0.5 * to_rgb).sigmoid()


def _shift(images: Tensor, jitter: int, generator: torch.Generator) -> Tensor:
    if not jitter:
        return images
    dy, dx = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
    return images.roll((dy, dx), dims=(2, 3))


def _variation(images: Tensor) -> Tensor:
    return sum(images.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (2, 3))


def _value(objective: Objective, images: Tensor, when: str) -> Tensor:
    value = objective(images)
    if not isinstance(value, Tensor) or value.shape != (len(images),):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"objective: expected one number for each of {len(images)} images, got {got}.")
    if torch.is_grad_enabled() and not value.requires_grad:
        raise InputError("objective: its value has no gradient; compute it from the images, and do not detach it.")
    if not torch.isfinite(value).all():
        raise InputError(f"objective at {when}: expected finite numbers, got NaN or infinity; check model and fit.")
    return value


def _check(size: tuple[int, int], n_images: int, n_steps: int, seed: int, image: str, jitter: int) -> None:
    if image not in KINDS:
        raise InputError(f"image {image!r}: expected one of {', '.join(map(repr, KINDS))}.")
    if min(n_images, n_steps) < 1 or not 0 <= seed < 2**32:
        raise InputError(f"{n_images} images, {n_steps} steps, seed {seed}: expected 1 at least, and a seed from 0.")
    if len(size) != 2 or min(size) < 2 or not 0 <= jitter < min(size):
        raise InputError(
            f"size {size}, jitter {jitter}: expected (height, width) from 2 on, and a smaller jitter from 0."
        )

"""Which pixels drive a voxel: gradients of its predicted response."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepjuice.attached.attach import RegionResponse, Voxel
from deepjuice.hooks import ModelExtender
from deepjuice.tracing import evaluating
from juicyfruits.errors import InputError


@torch.inference_mode(False)
def gradient_map(
    model: ModelExtender,
    images: Tensor,
    roi: str | None = None,
    voxel: Voxel = None,
    *,
    times_input: bool = False,
    n_noisy: int = 0,
    noise: float = 0.1,
    seed: int = 0,
) -> Tensor:
    """Return how much every pixel of every picture drives a predicted response: (n, height, width) float32, CPU.

        map_yx = sqrt(sum over channels c of (d response / d image_cyx)^2)

    The model is left as it was: modes, gradients of parameters.

    Args:
        model: what `attach_encoder` returned.
        images: (n, channel, height, width), as `preprocess` returns them.
        roi, voxel: whose response, as of `RegionResponse`.
        times_input: whether gradients are multiplied by the image first.
        n_noisy: copies of each picture with Gaussian noise whose gradients are averaged (Smilkov et al. 2017,
            arXiv:1706.03825); 0 for the gradient at the picture itself.
        noise: standard deviation of that noise, as a share of each picture's range of values.
        seed: of that noise.

    Raises:
        InputError: for an unknown region or voxel, and images with NaN or of another size than the fit's.
    """
    response = RegionResponse(model, roi, voxel)
    if not isinstance(images, Tensor):
        raise InputError(f"images: expected a tensor, got {type(images).__name__}; give what preprocess returns.")
    if images.ndim != 4 or not len(images) or not images.is_floating_point() or not torch.isfinite(images).all():
        raise InputError(
            f"images: expected finite floating-point values of shape (n, channel, height, width), got {images.dtype} "
            f"of shape {tuple(images.shape)}, or NaN; give what preprocess returns."
        )
    if not isinstance(n_noisy, int) or n_noisy < 0 or not 0 <= noise < math.inf:
        raise InputError(
            f"n_noisy={n_noisy!r}, noise={noise}: expected a whole number of copies from 0, and a deviation from 0."
        )
    with evaluating(model):
        images = images.detach().clone().to(response.device)  # tensors of an inference mode have no gradients
        gradient = _mean_gradient(response, images, n_noisy, noise, seed)
    if times_input:
        gradient = gradient * images
    return gradient.norm(dim=1).float().cpu()


def _mean_gradient(response: RegionResponse, images: Tensor, n_noisy: int, noise: float, seed: int) -> Tensor:
    if not n_noisy:
        return _gradient(response, images)
    generator = torch.Generator().manual_seed(seed)
    spread = noise * (images.amax(dim=(1, 2, 3), keepdim=True) - images.amin(dim=(1, 2, 3), keepdim=True))
    total = torch.zeros_like(images)
    for _ in range(n_noisy):
        total += _gradient(response, images + spread * torch.randn(images.shape, generator=generator).to(images))
    return total / n_noisy


@torch.enable_grad()
def _gradient(response: RegionResponse, images: Tensor) -> Tensor:
    images = images.clone().requires_grad_()  # a model may change its input in place
    (gradient,) = torch.autograd.grad(response(images * 1).sum(), images)
    return gradient

"""A fitted encoder as a module: from a layer's output to predicted voxels, with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from deepjuice.attached.fit import FittedEncoder
from deepjuice.reduction import make_projection
from deepjuice.reduction.projection import Projection
from deepjuice.tracing import tensors_in
from juicyfruits.errors import InputError


class EncoderHead(nn.Module):
    """Predict the voxels of a `FittedEncoder` from its layer's output: flatten, project, then one linear map.

    Buffers, float32, which `state_dict` holds and `.to` moves: `mean` (k,), `weight` (n_voxels, k), `bias` (n_voxels,).
    The projection follows from the seed and is drawn anew on each device.

    Args:
        fit: what to predict with.

    Attributes:
        fit: the same.
    """

    mean: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, fit: FittedEncoder):
        super().__init__()
        self.fit = fit
        self.register_buffer("mean", fit.mean.float())
        self.register_buffer("weight", fit.coefficients.T.float().contiguous())
        self.register_buffer("bias", fit.intercept.float())
        self._projection = self._draw(torch.device("cpu"))

    def forward(self, output: Any) -> Tensor:
        """Return (n, n_voxels) from what the layer returned for n pictures.

        Raises:
            InputError: where the layer's map has another size than in the fit.
        """
        layer = self.fit.layer
        found = dict(tensors_in(layer.call_uid, output))
        if layer.uid not in found:
            raise InputError(
                f"output of {layer.path!r}: expected the map {layer.uid}, got {', '.join(found) or 'none'}."
            )
        features = found[layer.uid].flatten(1)
        if tuple(found[layer.uid].shape[1:]) != layer.shape:
            raise InputError(
                f"map {layer.uid} ({layer.path}): expected shape {list(layer.shape)} a picture as in the fit, got "
                f"{list(found[layer.uid].shape[1:])}; give pictures of the size that the model's preprocess returns."
            )
        if self._projection[0] != features.device:
            self._projection = self._draw(features.device)
        with torch.autocast(features.device.type, enabled=False):
            projected = self._projection[1](features).to(self.weight.dtype)
            return nn.functional.linear(projected - self.mean, self.weight, self.bias)

    def _draw(self, device: torch.device) -> tuple[torch.device, Projection]:
        how = self.fit.reduction
        n_features = self.fit.layer.n_features
        return device, make_projection(n_features, how["width"], how["method"], how["seed"], device)

    def extra_repr(self) -> str:
        """Say what is predicted from what."""
        return f"{self.fit.layer.uid} -> {len(self.fit.neuroids)} voxels of {self.fit.roi}"

"""A network that returns predicted voxels beside its output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from deepjuice.attached.fit import FittedEncoder
from deepjuice.attached.head import EncoderHead
from deepjuice.attached.refit import refit_encoder
from deepjuice.extraction.identity import weights_digest
from deepjuice.hooks import ModelExtender
from juicyfruits.errors import InputError, near_names

Voxel = int | str | Tensor | None


def attach_encoder(
    model: nn.Module,
    scores_or_fit: FittedEncoder | str | Path | xr.Dataset,
    layer: str | None = None,
    roi: str | None = None,
    *,
    name: str | None = None,
    **kwargs: Any,
) -> ModelExtender:
    """Return a network whose call gives (output, {name: predicted voxels (n, n_voxels)}), in eval mode.

    Its inputs are what the model's `preprocess` returns. Predictions are those of the fit to rounding where the network
    computes in the store's precision; gradients reach the inputs.

    Args:
        model: the network whose maps were fitted, in eval mode; or what this function returned, to which one more
            encoder is added.
        scores_or_fit: what `fit_encoder` returned, or a model's score file (or dataset), whose fit is made again.
        layer, roi: as of `fit_encoder`; they may be left out with a fit.
        name: of the encoder in the network; by default the region's.
        **kwargs: of `refit_encoder`, for a score file: store, benchmark, subject, stimuli, device.

    Raises:
        InputError: as `refit_encoder`; for a model in training mode or of other weights than were fitted, and for a
            map of another than the first call of its module. ValueError where the name is taken.
    """
    wrapped = model.wrapped_model if isinstance(model, ModelExtender) else model
    if any(module.training for module in wrapped.modules()):
        raise InputError("model to attach an encoder to: expected eval mode, got training mode; call model.eval().")
    if isinstance(model, ModelExtender) and not model.return_orig_out:
        raise InputError("model to attach an encoder to: it gives only its extensions' output; set return_orig_out.")
    fit = _as_fit(scores_or_fit, layer, roi, kwargs)
    if fit.layer.call:
        raise InputError(
            f"layer {fit.layer.uid}: it is call {fit.layer.call + 1} of module {fit.layer.path!r}, and encoders can be "
            "attached to first calls only; choose the first, or a module that contains the others."
        )
    found = weights_digest(wrapped)
    if found != fit.weights_digest:
        raise InputError(
            f"model to attach an encoder to: expected {fit.model_uid} as it was fitted (weights digest "
            f"{fit.weights_digest}), got another ({found}); load that model, or extract and fit this one."
        )
    head = EncoderHead(fit)
    parameter = next(wrapped.parameters(), None)
    if parameter is not None:
        head.to(parameter.device)
    extended = model if isinstance(model, ModelExtender) else ModelExtender(model, {})
    extended.register_extension(name or fit.roi, fit.layer.path, head)
    return extended.eval()


def _as_fit(given: Any, layer: str | None, roi: str | None, kwargs: dict[str, Any]) -> FittedEncoder:
    if not isinstance(given, (FittedEncoder, str, Path, xr.Dataset)):
        raise InputError(f"attach_encoder: expected a fit or a score file, got {type(given).__name__}.")
    if not isinstance(given, FittedEncoder):
        if layer is None or roi is None:
            raise InputError("attach_encoder: expected layer and roi beside a score file; name both.")
        return refit_encoder(given, layer, roi, **kwargs)
    if kwargs:
        raise InputError(f"attach_encoder: {', '.join(kwargs)} can be given with a score file only; leave it out.")
    if layer not in (None, given.layer.uid, given.layer.path) or roi not in (None, given.roi):
        raise InputError(
            f"attach_encoder: expected the fit's own layer {given.layer.uid} and region {given.roi!r}, got {layer!r} "
            f"and {roi!r}; leave both out."
        )
    return given


class RegionResponse:
    """The predicted response of a region, a number a picture: an objective for gradients and synthesis.

    Args:
        model: what `attach_encoder` returned.
        roi: name of the encoder; it may be left out where there is one.
        voxel: `None` for the mean over the region's voxels; the number or the id of one voxel; or weights (n_voxels,).

    Attributes:
        device: where the model is.
    """

    def __init__(self, model: ModelExtender, roi: str | None = None, voxel: Voxel = None):
        heads = {name: h for name, h in _extensions(model).items() if isinstance(h, EncoderHead)}
        if roi is None and len(heads) == 1:
            roi = next(iter(heads))
        if roi not in heads:
            raise InputError(f"encoder {roi!r} is not attached to this model; {near_names(roi, heads)}")
        head = heads[roi]
        self.model, self.roi, self.device = model, roi, head.weight.device
        self._weights = _voxel_weights(head.fit, voxel).to(head.weight)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return (n,) for what `preprocess` made of n pictures (n, channel, height, width)."""
        return self.model(inputs)[1][self.roi] @ self._weights


def _extensions(model: nn.Module) -> dict[str, nn.Module]:
    if not isinstance(model, ModelExtender) or not model.return_orig_out:
        raise InputError(f"model: expected what attach_encoder returned, got {type(model).__name__}.")
    return dict(model.extension_models.items())


def _voxel_weights(fit: FittedEncoder, voxel: Voxel) -> Tensor:
    n = len(fit.neuroids)
    if voxel is None:
        return torch.full((n,), 1 / n)
    if isinstance(voxel, str):
        if voxel not in fit.neuroids:
            raise InputError(f"voxel {voxel!r} of {fit.roi!r} is unknown; {near_names(voxel, fit.neuroids)}")
        voxel = fit.neuroids.index(voxel)
    weights = torch.as_tensor(voxel)
    if weights.ndim == 0 and not weights.is_floating_point():
        if not 0 <= int(weights) < n:
            raise InputError(f"voxel {int(weights)} of {fit.roi!r}: expected a number from 0 to {n - 1}.")
        return torch.nn.functional.one_hot(weights.long(), n)
    if weights.shape != (n,) or not torch.isfinite(weights.float()).all():
        raise InputError(
            f"voxel weights of {fit.roi!r}: expected {n} finite numbers, got shape {tuple(weights.shape)}, or NaN; "
            "give one number a voxel."
        )
    return weights

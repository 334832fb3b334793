"""Profilers of one type of neuron each, spelled as in the second release of DeepDataProfiler."""

from __future__ import annotations

from functools import partial
from numbers import Real

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from deepjuice.influence.accept import accept, at_least_single
from deepjuice.influence.contributions import linear_weights
from deepjuice.influence.element import ELEMENT_RULES
from deepjuice.influence.layers import Layer
from deepjuice.influence.neurons import Norm, check_finite, largest_channels
from deepjuice.influence.profile import Profile
from deepjuice.influence.profiler import LayersToProfile, TorchProfiler, check_threshold
from deepjuice.influence.spatial import SPATIAL_RULES, largest_places
from deepjuice.influence.windows import Convolution
from juicyfruits.errors import InputError, near_names

AGGREGATIONS = ("sum", "max", "min")


class ChannelProfiler(TorchProfiler):
    """Profiles whose neurons are channels; the arguments are those of `TorchProfiler`."""

    def create_profile(
        self,
        x: Tensor,
        threshold: float = 0.1,
        layers_to_profile: LayersToProfile = None,
        norm: Norm | None = None,
    ) -> Profile:
        """Return the profile of a picture, or the sum of several ones'; see `TorchProfiler.create_profile`."""
        return super().create_profile(x, None, layers_to_profile, threshold, norm, channels=True)


class ElementProfiler(TorchProfiler):
    """Profiles whose neurons are elements: a channel at one position."""

    def create_profile(
        self,
        x: Tensor,
        threshold: float = 0.1,
        layers_to_profile: LayersToProfile = None,
        use_abs: bool = False,
    ) -> Profile:
        """Return the profile of a picture, or the sum of several ones'.

        Args:
            x, threshold, layers_to_profile: see `TorchProfiler.create_profile`.
            use_abs: whether magnitudes influence, instead of positive activations.
        """
        influence = partial(largest_channels, threshold=check_threshold("threshold", threshold), use_abs=use_abs)
        profiles = self._profiles(x, layers_to_profile, influence, ELEMENT_RULES, threshold, "element")
        return sum(profiles, start=Profile())


class SpatialProfiler(TorchProfiler):
    """Profiles whose neurons are places: the vector of all channels at one position."""

    def create_profile(
        self,
        x: Tensor,
        infl_threshold: float = 0.97,
        contrib_threshold: float = 0.1,
        layers_to_profile: LayersToProfile = None,
        use_quantile: bool = True,
        max_infl: int = 100,
        norm: float = 2,
    ) -> Profile:
        """Return the profile of a picture, or the sum of several ones'.

        Args:
            x, layers_to_profile: see `TorchProfiler.create_profile`.
            infl_threshold: quantile of a layer's norms, above which places influence; or share of their sum.
            contrib_threshold: share of a place's vector that is followed.
            use_quantile: which of the two `infl_threshold` is.
            max_infl: how many places of a layer influence at most.
            norm: order of the norm over channels.
        """
        if not isinstance(max_infl, int) or isinstance(max_infl, bool) or max_infl < 1:
            raise InputError(f"max_infl {max_infl!r}: expected a whole number from 1.")
        if not isinstance(norm, Real) or isinstance(norm, bool) or not norm > 0:
            raise InputError(f"norm {norm!r}: expected the order of a vector norm, a positive number or infinity.")
        influence = partial(
            largest_places,
            threshold=check_threshold("infl_threshold", infl_threshold),
            use_quantile=use_quantile,
            max_infl=max_infl,
            norm=float(norm),
        )
        threshold = check_threshold("contrib_threshold", contrib_threshold)
        profiles = self._profiles(x, layers_to_profile, influence, SPATIAL_RULES, threshold, "spatial", same_sign=False)
        return sum(profiles, start=Profile())


class SVDProfiler(TorchProfiler):
    """Profiles whose neurons are singular directions of weights, of convolutions and linear layers.

    The weights (out, everything else) are U S V'; a layer's activation without its bias is projected onto U. Signs of
    directions are arbitrary.

    Attributes:
        svd_dict: layer -> (names of its operations, U of (n_channels, n_directions)); of weights as they were when it
            was computed: after a change, set it to `create_svd()`.
    """

    def __init__(
        self,
        model: nn.Module,
        device: str | torch.device | None = None,
        compute_svd: bool = True,
        example: Tensor | None = None,
    ):
        super().__init__(model, device, example)
        self.svd_dict = self.create_svd() if compute_svd else {}

    def create_svd(self, layers_to_find: LayersToProfile = None) -> dict[int, tuple[list[str], Tensor]]:
        """Decompose the weights of layers; those without weights are left out."""
        found = {}
        for layer in self.chosen(layers_to_find, "layers_to_find"):
            if (weight := _weight(layer)) is not None:
                u = torch.linalg.svd(at_least_single(weight.flatten(1)), full_matrices=False).U
                found[layer.index] = (list(layer.names), u)
        return found

    def create_projections(self, x: Tensor, layers_to_find: LayersToProfile = None) -> dict[int, Tensor]:
        """Return layer -> projections (n, n_directions, positions) of the activations of its first operation."""
        layers = [layer for layer in self.chosen(layers_to_find, "layers_to_find") if _weight(layer) is not None]
        held = self.hold(x, layers, layers)
        missing = [layer.index for layer in layers if layer.index not in self.svd_dict]
        if missing:
            self.svd_dict |= self.create_svd(missing)
        projections = {}
        for layer in layers:
            y, bias = layer.arrange(held[layer.head.index], layer.head_places), _bias(layer)
            y = check_finite(layer, y if bias is None else y - bias[:, None])
            projections[layer.index] = self.svd_dict[layer.index][1].T @ at_least_single(y)
        return projections

    def create_influential(
        self,
        x: Tensor,
        layers_to_find: LayersToProfile = None,
        threshold: float = 0.1,
        aggregation: str = "sum",
    ) -> Profile:
        """Return the profile of a picture, or the sum of several ones'; it has no synapses.

        Args:
            x: (n, ...).
            layers_to_find: as `layers_to_profile` of `TorchProfiler.create_profile`.
            threshold: share of the directions' influence that is followed.
            aggregation: `'sum'`: influence is the magnitude of a direction's mean over positions; `'max'`, `'min'`: all
                directions count, and their weight is the largest or smallest projection.
        """
        if aggregation not in AGGREGATIONS:
            raise InputError(f"aggregation {aggregation!r} is unknown; {near_names(aggregation, AGGREGATIONS)}")
        check_threshold("threshold", threshold)
        projections = self.create_projections(x, layers_to_find)
        profiles = []
        for picture in range(len(x)):
            weights = {
                index: _direction_weights(projection[picture], threshold, aggregation)
                for index, projection in projections.items()
            }
            counts = {
                index: sp.coo_matrix((np.ones(w.nnz, np.int64), (w.row, w.col)), w.shape)
                for index, w in weights.items()
            }
            shapes = {index: (1, w.shape[1]) for index, w in weights.items()}
            before = {index: list(self.layers[index].predecessors) for index in weights}
            profiles.append(Profile(counts, weights, {}, {}, shapes, before, 1, "svd"))
        return sum(profiles, start=Profile())

    def create_profile(
        self,
        x: Tensor,
        threshold: float = 0.1,
        layers_to_profile: LayersToProfile = None,
        aggregation: str = "sum",
    ) -> Profile:
        """Return `create_influential`'s profile."""
        return self.create_influential(x, layers_to_profile, threshold, aggregation)


def _direction_weights(projection: Tensor, threshold: float, aggregation: str) -> sp.coo_matrix:
    if aggregation == "sum":
        values = projection.mean(dim=1).abs()[None]
        found = accept(values, threshold)
        column, weight = found.column, found.weight
    else:
        weight = projection.amax(dim=1) if aggregation == "max" else projection.amin(dim=1)
        column = torch.arange(len(weight))
    column, weight = column.cpu().numpy(), weight.double().cpu().numpy()
    return sp.coo_matrix((weight, (np.zeros_like(column), column)), (1, len(projection)))


def _weight(layer: Layer) -> Tensor | None:
    if layer.rule == "contrib_conv2d":
        return Convolution.of(layer.head).weight
    return linear_weights(layer)[0] if layer.rule == "contrib_linear" else None


def _bias(layer: Layer) -> Tensor | None:
    if layer.rule == "contrib_linear":
        return linear_weights(layer)[1]
    return Convolution.of(layer.head).bias

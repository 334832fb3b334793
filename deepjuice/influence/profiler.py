"""Profilers: they follow a network's answer back to the neurons and synapses that carried it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Integral, Real

import torch
from torch import Tensor, nn

from deepjuice.devices import get_device
from deepjuice.influence.assembly import NeuronSpace, assemble
from deepjuice.influence.channel import CHANNEL_RULES, Rule
from deepjuice.influence.contributions import Contributions
from deepjuice.influence.element import ELEMENT_RULES
from deepjuice.influence.example import find_example
from deepjuice.influence.grouping import find_layers
from deepjuice.influence.layers import Layer
from deepjuice.influence.neurons import NORMS, Neurons, Norm, activation, largest_channels
from deepjuice.influence.profile import Profile
from deepjuice.tracing import check_heard
from juicyfruits.errors import InputError

Influence = Callable[[Layer, Tensor], Neurons]
LayersToProfile = list[int] | tuple[int, int] | None


class ProfiledModel:
    """A network as a profiler holds it.

    Attributes:
        model: the network.
    """

    def __init__(self, model: nn.Module):
        self.model = model

    def available_modules(self) -> OrderedDict[str, nn.Module]:
        """Return its modules without children, by dotted name, in the order of their registration."""
        return OrderedDict((name, m) for name, m in self.model.named_modules() if name and not any(m.children()))


class TorchProfiler:
    """Follow a network's answers back to the neurons and synapses that carried them.

    The network's operations are recorded on one example and grouped into layers: a convolution, linear map, pooling,
    sum or concatenation begins one, and norms and activations that follow belong to it. Nothing stays attached to the
    network. See docs/influence.md for the rules.

    Args:
        model: a network in eval mode that takes one tensor of pictures (n, channels, height, width), or of vectors
            (n, features), and returns one tensor.
        device: where it is put; by default it stays where it is.
        example: a batch like the inputs, of which the first is used to find the layers; by default grey pictures of a
            size that the network takes (224, 299, 32, 28, 64 or 96 pixels).

    Attributes:
        model: a `ProfiledModel`; `model.available_modules()` lists the modules.
        layers: what `create_layers` describes; see `Layer`.

    Raises:
        InputError: for a network in training mode, one that returns several tensors, and operations that cannot be
            followed, by name.
    """

    def __init__(self, model: nn.Module, device: str | torch.device | None = None, example: Tensor | None = None):
        if not isinstance(model, nn.Module):
            raise InputError(f"model to profile: expected a torch.nn.Module, got {type(model).__name__}.")
        for path, module in model.named_modules():
            check_heard(path, module)
        if device is not None:
            model.to(get_device(device))
        self.model = ProfiledModel(model)
        self._check_eval()
        self._graph = find_example(model, example)
        self.layers = find_layers(self._graph)

    def create_layers(self) -> OrderedDict[int, list]:
        """Return number -> [names of the layer's operations, name of the rule for its contributors]; 0 is the input."""
        return OrderedDict((layer.index, [list(layer.names), layer.rule]) for layer in self.layers)

    def create_profile(
        self,
        x: Tensor,
        layerdict: Mapping[int, list] | None = None,
        layers_to_profile: LayersToProfile = None,
        threshold: float = 0.1,
        norm: Norm | None = None,
        channels: bool = True,
    ) -> Profile:
        """Return the profile of a picture; of several pictures, the sum of their profiles.

        Args:
            x: (n, ...) float, n from 1.
            layerdict: layers to profile, of `create_layers()`; all by default.
            layers_to_profile: their numbers in a list, or (first, behind the last) in a tuple.
            threshold: share of a layer's influence, and of a neuron's value, that is followed, in (0, 1].
            norm: order of the norm of its map, (height, width) as a matrix, by which a channel is ranked instead of its
                maximum: `'fro'` (root of the sum of squares), `'nuc'`, 1, 2 or infinity (`torch.linalg.matrix_norm`).
            channels: whether neurons are channels, or elements.

        Raises:
            InputError: for bad input: training mode, unknown layers, a threshold outside (0, 1], NaN in `x`.
        """
        if layerdict is not None:
            layers_to_profile = self._among(layerdict, layers_to_profile)
        return sum(self.create_profiles(x, layers_to_profile, threshold, norm=norm, channels=channels), start=Profile())

    def create_profiles(
        self,
        x: Tensor,
        layers_to_profile: LayersToProfile = None,
        threshold: float = 0.1,
        norm: Norm | None = None,
        channels: bool = True,
    ) -> list[Profile]:
        """Return the profile of each picture of a batch; see `create_profile`."""
        if channels not in (True, False):
            raise InputError(f"channels {channels!r}: expected True, or False for elements.")
        if norm is not None and not channels:
            raise InputError("norm: ranks channels; leave it out of a profile of elements.")
        if norm is not None and (isinstance(norm, bool) or norm not in NORMS):
            raise InputError(f"norm {norm!r}: expected the order of a matrix norm, {', '.join(map(repr, NORMS))}.")
        influence = partial(largest_channels, threshold=check_threshold("threshold", threshold), norm=norm)
        rules, kind = (CHANNEL_RULES, "channel") if channels else (ELEMENT_RULES, "element")
        return self._profiles(x, layers_to_profile, influence, rules, threshold, kind)

    def returned_by(self, layer: Layer) -> tuple[str, ...]:
        """Return the uids (`Class-depth-index`) of the module calls that return a layer's activation, outer first."""
        return tuple(uid for uid, operation in self._graph.returned.items() if operation == layer.tail)[::-1]

    def dict_view(self, profile: Profile) -> Profile:
        """Return a profile with dictionaries in place of matrices."""
        return profile.dict_view()

    def _profiles(
        self,
        x: Tensor,
        layers_to_profile: LayersToProfile,
        influence: Influence,
        rules: Mapping[str, Rule],
        threshold: float,
        kind: str,
        same_sign: bool = True,
    ) -> list[Profile]:
        found = self.follow(x, layers_to_profile, influence, rules, threshold, same_sign)
        return assemble(self.layers, found, len(x), NeuronSpace(kind))

    def follow(
        self,
        x: Tensor,
        layers_to_profile: LayersToProfile,
        influence: Influence,
        rules: Mapping[str, Rule],
        threshold: float,
        same_sign: bool = True,
    ) -> dict[int, tuple[Neurons, Contributions]]:
        """Return layer -> its influential neurons, and what contributed to them, of all pictures of a batch.

        Args:
            x, layers_to_profile, threshold: see `create_profile`.
            influence: finds a layer's neurons by its activation (n, channels, positions).
            rules: find their contributors.
            same_sign: whether activations count only where the layer's first operation had the same sign.
        """
        chosen = self.chosen(layers_to_profile)
        heads = [layer for layer in chosen if layer.rule == "contrib_linear" or (same_sign and not layer.keeps_signs)]
        held = self.hold(x, chosen, heads)
        found = {}
        for layer in chosen:
            neurons = influence(layer, activation(layer, held, same_sign))
            before = [self.layers[index] for index in layer.predecessors]
            found[layer.index] = neurons, rules[layer.rule](layer, before, neurons, held, threshold)
        return found

    def hold(self, x: Tensor, layers: Iterable[Layer], heads: Iterable[Layer]) -> dict[int, Tensor]:
        """Put a batch through the network; return what layers read and give out, and first operations of some."""
        self._check_eval()
        first = self.layers[0].head.shape
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"x: expected a torch tensor of floats, got {got}; use the network's preprocessing.")
        if x.ndim != len(first) or not len(x):
            raise InputError(
                f"x {tuple(x.shape)}: expected a batch like {('n', *first[1:])}; unsqueeze(0) one picture."
            )
        if not torch.isfinite(x).all():
            raise InputError("x: expected finite numbers, got NaN or infinity; check the preprocessing.")
        if tuple(x.shape[1:]) != first[1:]:
            raise InputError(
                f"x {tuple(x.shape)}: the layers were found with {first[1:]}; for other sizes, make a profiler with "
                "this x as its example."
            )
        keep = {index for layer in layers for index in (layer.tail, *(source.operation for source in layer.inputs))}
        keep |= {layer.head.index for layer in heads}
        parameter = next(self.model.model.parameters(), x)
        try:
            return self._graph.run(x.to(parameter.device, parameter.dtype), keep)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # such as of a view with a fixed number of pictures
            said = str(error).splitlines()[0]
            raise InputError(
                f"x {tuple(x.shape)}: the network does not take it, unlike its example ({said})."
            ) from error

    def _check_eval(self) -> None:
        if self.model.model.training:
            raise InputError(
                "the network is in training mode, in which dropout and norms change its answers; call model.eval()."
            )

    def chosen(self, layers_to_profile: LayersToProfile, name: str = "layers_to_profile") -> list[Layer]:
        """Return layers by their numbers, sorted; see `create_profile`. Errors call the numbers `name`."""
        last = len(self.layers) - 1
        if layers_to_profile is None:
            return self.layers[1:]
        numbers = list(layers_to_profile) if isinstance(layers_to_profile, (list, tuple, range)) else None
        if numbers is None or not all(isinstance(n, Integral) and not isinstance(n, bool) for n in numbers):
            raise InputError(
                f"{name} {layers_to_profile!r}: expected a list of numbers of layers, or a tuple of the first and the "
                "one behind the last."
            )
        if isinstance(layers_to_profile, tuple):
            if len(numbers) != 2:
                raise InputError(f"{name} {layers_to_profile}: a tuple is a range of two; give a list.")
            numbers = list(range(max(1, numbers[0]), min(last + 1, numbers[1])))
        unknown = [n for n in numbers if not 1 <= n <= last]
        if unknown or not numbers:
            raise InputError(
                f"{name} {layers_to_profile}: expected numbers from 1 to {last}, as create_layers() lists them."
            )
        return [self.layers[n] for n in sorted(set(numbers))]

    def _among(self, layerdict: Mapping[int, list], layers_to_profile: LayersToProfile) -> LayersToProfile:
        known = self.create_layers()
        if not isinstance(layerdict, Mapping) or any(
            not isinstance(layer, (list, tuple)) or known.get(n) != list(layer) for n, layer in layerdict.items()
        ):
            raise InputError("layerdict: expected what create_layers() of this profiler returns, or a part of it.")
        numbers = [n for n in layerdict if n]
        if not numbers:
            raise InputError("layerdict: it has no layers but the input; give what create_layers() returns.")
        if layers_to_profile is None:
            return numbers
        chosen = [layer.index for layer in self.chosen(layers_to_profile)]
        if not set(chosen) <= set(numbers):
            raise InputError(f"layers_to_profile {layers_to_profile}: expected layers of layerdict, {numbers}.")
        return chosen


def check_threshold(name: str, threshold: float) -> float:
    """Return a threshold that lies in (0, 1]."""
    if not isinstance(threshold, Real) or isinstance(threshold, bool) or not 0 < threshold <= 1:
        raise InputError(f"{name} {threshold!r}: expected a share above 0, and at most 1.")
    return float(threshold)

"""Feature visualisation: images made to order that raise channels, neurons or singular directions of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from deepjuice.influence.feature_objectives import FeatureObjective, LayerName, Reading, dictionary_objective
from deepjuice.influence.grouping import find_layers
from deepjuice.influence.layers import Layer
from deepjuice.loaders import Preprocess
from deepjuice.synthesis import PixelScale, Synthesis, synthesise
from deepjuice.tracing import Event, Tracer, evaluating
from deepjuice.tracing.events import Call
from deepjuice.tracing.graph import CallGraph
from juicyfruits.errors import InputError, near_names

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@torch.inference_mode(False)
def visualise(
    model: nn.Module,
    objective: FeatureObjective,
    preprocess: Preprocess | PixelScale,
    *,
    size: tuple[int, int] | None = None,
    natural: Tensor | Iterable[Tensor] | None = None,
    **kwargs: Any,
) -> Synthesis:
    """Make images that raise an objective of a network's activations, by `optimise_image`.

    A pass ends with the last layer that is needed. A unit that gives no gradient stays as it is, such as one behind a
    ReLU that is 0 for all images: name the layer before the ReLU, or begin from another seed.

    Args:
        model: a network of pictures (n, 3, height, width), in eval mode; nothing of it is changed.
        objective: `channel_objective`, `neuron_objective`, `svd_objective`, `dictionary_objective`, `diversity`, and
            their sums and multiples.
        preprocess: the network's, from which scale and size of its inputs are read.
        size: (height, width) of the images; by default that of the preprocessing.
        natural: inputs of natural pictures, or batches of them, whose objective is returned beside.
        **kwargs: of `optimise_image`: n_images, n_steps, seed, image, colour, learning_rate, jitter, total_variation,
            l2, progress. The penalties are in units of the objective.

    Raises:
        InputError: for a network in training mode, an unknown layer, a channel or a position that it does not have,
            singular directions of what has no weights, and settings that `optimise_image` refuses.

    >>> from deepjuice.influence import channel_objective
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    >>> scale = PixelScale(torch.zeros(3), torch.ones(3), (8, 8))
    >>> made = visualise(net, channel_objective("0", 2), scale, n_steps=20, progress=False)
    >>> made.images.shape, bool(made.reached > made.start)
    (torch.Size([1, 3, 8, 8]), True)
    """
    _check(model, objective)
    scale = preprocess if isinstance(preprocess, PixelScale) else PixelScale.of(preprocess)
    size = size or scale.size
    parameter = next(model.parameters(), torch.zeros(()))
    grey = scale(torch.full((1, 3, *size), 0.5)).to(parameter.device, parameter.dtype)
    with evaluating(model), _LayerReader(model, objective.readings, grey) as read:
        return synthesise(
            lambda inputs: objective(read(inputs.to(parameter.dtype))),
            scale,
            size=size,
            natural=natural,
            device=parameter.device,
            label="visualising",
            **kwargs,
        )


def dictionary_optimization(
    model: nn.Module,
    neurons: Mapping[LayerName, Sequence[Any]],
    *,
    threshold: int = 512,
    neuron_type: str = "channel",
    neuron: bool = True,
    preprocess: Preprocess | PixelScale | None = None,
    **kwargs: Any,
) -> Synthesis:
    """Make images that raise many neurons at once, spelled as in DeepDataProfiler.

    Args:
        model: see `visualise`.
        neurons, neuron_type, neuron: see `dictionary_objective`. `influential_neurons` gives those of a profile.
        threshold: number of steps.
        preprocess: the network's; by default colours are scaled by ImageNet's mean and deviation, at 224 pixels.
        **kwargs: of `visualise`. What DeepDataProfiler has as InputFeature(type, dims) are the three settings `image`
            (`'fourier'` or `'pixels'`), `size` and `n_images`.

    Raises:
        InputError: as `visualise` and `dictionary_objective`.
    """
    if preprocess is None:
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        preprocess = PixelScale(-mean / std, 1 / std, (224, 224))
    objective = dictionary_objective(neurons, neuron_type, neuron)
    return visualise(model, objective, preprocess, n_steps=threshold, **kwargs)


Arrange = Callable[[Tensor], Tensor]
"""Turns a module's output into (n, channels or directions, *positions)."""


class _LayerReader:
    """Put batches through a network and return {reading: activations}, with gradients; each pass ends with the last.

    Calls of modules are listened to one by one, so that a module which is called several times can be read each time.
    """

    def __init__(self, model: nn.Module, readings: Iterable[Reading], example: Tensor):
        places = _Places(model, example)
        self._readings: dict[str, list[tuple[Reading, Arrange]]] = {}
        for reading in readings:
            uid, arrange = places.find(reading)
            self._readings.setdefault(uid, []).append((reading, arrange))
        self._tracer = Tracer(model, self._heard, stop_after=self._readings)

    def __enter__(self) -> _LayerReader:
        self._tracer.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._tracer.__exit__(*exc)

    def __call__(self, x: Tensor) -> dict[Reading, Tensor]:
        self._held: dict[Reading, Tensor] = {}
        self._tracer(x)
        return self._held

    def _heard(self, event: Event) -> None:
        if event.call.uid in self._readings:
            if not isinstance(event.output, Tensor) or event.output.ndim < 2:
                raise InputError(f"layer {event.call.path!r}: its output is not one tensor (n, channels, ...).")
            output = event.output.clone().float()  # later layers may overwrite theirs in place
            for reading, arrange in self._readings[event.call.uid]:
                self._held[reading] = arrange(output)


class _Places:
    """Finds which call of which module gives what an objective reads."""

    def __init__(self, model: nn.Module, example: Tensor):
        self._model, self._example = model, example
        self._graph: CallGraph | None = None
        with Tracer(model, lambda event: None) as tracer:
            try:
                tracer(example)
            except RuntimeError as error:  # of torch, about sizes
                said = str(error).splitlines()[0]
                raise InputError(f"size: the network does not take images {tuple(example.shape)} ({said}).") from error
            self._calls: list[Call] = tracer.calls

    def find(self, reading: Reading) -> tuple[str, Arrange]:
        """Return the uid of a call, and how its output becomes the reading."""
        if isinstance(reading.layer, Integral):
            call, arrange = self._numbered(self._layer(int(reading.layer)), reading.svd)
        else:
            call = self._named(reading.layer)
            arrange = _channels_second(self._model.get_submodule(call.path))
        if not reading.svd:
            return call.uid, arrange
        project = _projection(reading.layer, self._model.get_submodule(call.path))
        return call.uid, lambda output: project(arrange(output))

    def _named(self, name: str) -> Call:
        found = next((call for call in self._calls if name in (call.path, call.uid)), None)
        if found is None:
            known = dict.fromkeys(call.path for call in self._calls if call.path)
            raise InputError(f"layer {name!r}: the network calls no such module; {near_names(name, known)}")
        return found

    def _layer(self, number: int) -> Layer:
        self._graph = self._graph or CallGraph(self._model, self._example)
        layers = find_layers(self._graph)
        if not 1 <= number < len(layers):
            raise InputError(
                f"layer {number}: expected a number from 1 to {len(layers) - 1}, as create_layers() lists them."
            )
        return layers[number]

    def _numbered(self, layer: Layer, head: bool) -> tuple[Call, Arrange]:
        operation, places = (layer.head.index, layer.head_places) if head else (layer.tail, layer.tail_places)
        uid = next((uid for uid, returned in self._graph.returned.items() if returned == operation), None)
        if uid is None:
            raise InputError(
                f"layer {layer.index} ({', '.join(layer.names)}): no module returns what it computes; name a module."
            )

        def arrange(output: Tensor) -> Tensor:
            return layer.arrange(output, places).view(len(output), layer.n_channels, *layer.positions)

        return next(call for call in self._calls if call.uid == uid), arrange


def _channels_second(module: nn.Module) -> Arrange:
    """Return what lays a module's outputs out as (n, channels, ...): last are those of linear maps, and of tokens."""

    def arrange(output: Tensor) -> Tensor:
        last = output.ndim == 3 or isinstance(module, nn.Linear)
        return output.movedim(-1, 1) if last else output

    return arrange


def _projection(layer: LayerName, module: nn.Module) -> Arrange:
    """Return what projects outputs (n, channels, ...) of a module onto the left singular vectors of its weights."""
    if not isinstance(module, (nn.Conv2d, nn.Linear)):
        raise InputError(
            f"layer {layer!r}: expected a convolution or a linear layer, whose weights have singular directions, got "
            f"{type(module).__name__}."
        )
    u = torch.linalg.svd(module.weight.detach().float().flatten(1), full_matrices=False).U
    bias = 0 if module.bias is None else module.bias.detach().float()
    return lambda output: ((output.movedim(1, -1) - bias) @ u).movedim(-1, 1)


def _check(model: nn.Module, objective: FeatureObjective) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"model to visualise: expected a torch.nn.Module, got {type(model).__name__}.")
    if not isinstance(objective, FeatureObjective):
        raise InputError(f"objective: expected one such as channel_objective gives, got {type(objective).__name__}.")
    if any(module.training for module in model.modules()):
        raise InputError(
            "the network is in training mode, in which dropout and norms change its answers; call model.eval()."
        )

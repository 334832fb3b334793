"""A function that is told of every call of a module: one hook, or a list of them."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from deepjuice.tracing import attach, evaluating
from juicyfruits.errors import InputError


class Hook:
    """Call `f` whenever a module has run, or with `is_forward=False` when its gradients are known.

    `f` watches: what it returns does not change the output. A hook that is dropped is off, so keep it in a variable;
    the module does not keep it alive. Use it as a context manager, or end it with `remove()`, any number of times.
    What `f` has written on it stays, and a copy or pickle keeps that too, but listens to nothing.

    Args:
        module: what is listened to.
        f: takes `(hook, module, input, output)`, or `(module, input, output)`, whose return value is kept in
            `hook.stored`. Which it is, is told by how many positional arguments `f` can take, four before three;
            `*args` can take four. Backward, input and output are the gradients with respect to these, as tuples.
        is_forward: whether the forward or the backward pass is meant.
        detach: the form with three arguments gets tensors that are cut off from the graph.
        cpu: and that are on the CPU.

    Attributes:
        name: what `HooksCallback` calls the layer by, its dotted path; else the class of the module.
        stored: the last value that the form with three arguments returned; None before.

    Raises:
        InputError: where `module` is not a module, or `f` takes neither three nor four arguments.

    >>> layer, shapes = nn.Linear(3, 2), []
    >>> with Hook(layer, lambda hook, module, input, output: shapes.append(tuple(output.shape))):
    ...     _ = layer(torch.ones(5, 3))
    >>> _ = layer(torch.ones(7, 3))
    >>> shapes
    [(5, 2)]
    >>> with Hook(layer, lambda module, input, output: output.sum()) as hook:
    ...     output = layer(torch.ones(5, 3))
    >>> bool(hook.stored == output.sum()), hook.stored.requires_grad
    (True, False)
    """

    _handle = None

    def __init__(
        self,
        module: nn.Module,
        f: Callable[..., Any],
        is_forward: bool = True,
        detach: bool = True,
        cpu: bool = False,
    ):
        if not isinstance(module, nn.Module):
            raise InputError(f"a hook on a {type(module).__name__}: expected a torch.nn.Module to listen to.")
        self.name = type(module).__name__
        self.stored: Any = None
        self._f = with_hook(f, detach, cpu)
        self._handle = attach(module, "end" if is_forward else "backward", self._called)

    def _called(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._f(self, module, inputs, output)

    def remove(self) -> None:
        """Listen no longer."""
        if self._handle is not None:
            self._handle.remove()

    def __enter__(self) -> Hook:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_handle"}


def with_hook(f: Callable[..., Any], detach: bool = True, cpu: bool = False) -> Callable[..., Any]:
    """Return `f` as a function of (hook, module, input, output), whichever of `Hook`'s two forms it has."""
    if not callable(f):
        raise InputError(f"the function of a hook is of type {type(f).__name__}: expected something to call.")
    if _can_take(f, 4):
        return f
    if _can_take(f, 3):
        return partial(_store, f, detach, cpu)
    raise InputError(
        f"the function of a hook, {getattr(f, '__name__', f)!r}, takes neither (hook, module, input, output) nor "
        "(module, input, output); give its other arguments beforehand with functools.partial."
    )


def _can_take(f: Callable[..., Any], n_arguments: int) -> bool:
    try:
        inspect.signature(f).bind(*range(n_arguments))
    except TypeError:
        return False
    except ValueError as error:  # built-in functions do not all say what they take
        raise InputError(f"the function of a hook, {f!r}, does not tell what it takes; wrap it in a lambda.") from error
    return True


def _store(f: Callable, detach: bool, cpu: bool, hook: Hook, module: nn.Module, inputs: Any, output: Any) -> None:
    def given(tensor: Tensor) -> Tensor:
        tensor = tensor.detach() if detach else tensor
        return tensor.cpu() if cpu else tensor

    hook.stored = f(module, *tree_map_only(Tensor, given, (inputs, output)))


class Hooks(list):
    """Hooks with one function on several modules: a list that ends them all when its `with` block ends.

    `hooks[i]` is a hook; a slice, a list of indices or a boolean mask (of Python, NumPy or torch) gives a list of
    hooks. `del hooks[i]` ends what it deletes, for any of these.

    Args:
        modules: a model that is a sequence, as `nn.Sequential` is, or any modules.
        f: as in `Hook`, and so are the other arguments.

    Raises:
        InputError: as `Hook`; no hook is left then.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> with Hooks(net, lambda module, input, output: tuple(output.shape)) as hooks:
    ...     _ = net(torch.ones(5, 4))
    >>> hooks.stored
    [(5, 3), (5, 3), (5, 2)]
    >>> [hook.name for hook in hooks[[True, False, True]]]
    ['Linear', 'Linear']
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        f: Callable[..., Any],
        is_forward: bool = True,
        detach: bool = True,
        cpu: bool = False,
    ):
        try:
            modules = list(modules)
        except TypeError:
            raise InputError(
                f"hooks on a {type(modules).__name__}: expected modules, or a model that is a sequence of them, as "
                "nn.Sequential is; use Hook for one module, or list(model.children())."
            ) from None
        super().__init__([Hook(module, f, is_forward, detach, cpu) for module in modules])

    @property
    def stored(self) -> list[Any]:
        """What each hook has stored last."""
        return [hook.stored for hook in self]

    def remove(self) -> None:
        """Listen no longer; the hooks stay in the list, with what was written on them."""
        for hook in self:
            hook.remove()

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, slice):
            return list(super().__getitem__(which))
        if hasattr(which, "__index__") and not getattr(which, "ndim", 0):
            return super().__getitem__(operator.index(which))
        return [super(Hooks, self).__getitem__(i) for i in _places(which, len(self))]

    def __delitem__(self, which: Any) -> None:
        gone = self[which]
        gone = gone if isinstance(gone, list) else [gone]
        for hook in gone:
            hook.remove()
        self[:] = [hook for hook in self if not any(hook is other for other in gone)]

    def __enter__(self) -> Hooks:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


def _places(which: Any, length: int) -> list[int]:
    """Turn a list of indices or a boolean mask into indices."""
    values = which.tolist() if hasattr(which, "tolist") else list(which)
    if not any(isinstance(value, bool) for value in values):
        return [operator.index(value) for value in values]
    if len(values) != length or not all(isinstance(value, bool) for value in values):
        raise InputError(f"a mask of {len(values)} values: expected one of True and False for each of {length} hooks.")
    return [place for place, chosen in enumerate(values) if chosen]


def hook_output(module: nn.Module, detach: bool = True, cpu: bool = False, grad: bool = False) -> Hook:
    """Return a hook whose `stored` is the module's last output, or with `grad=True` its output's gradients.

    Tensors are copies, so that what comes after the module cannot change them in place.
    """
    return Hook(module, _copy_of_output, not grad, detach, cpu)


def hook_outputs(modules: Iterable[nn.Module], detach: bool = True, cpu: bool = False, grad: bool = False) -> Hooks:
    """Return hooks as `hook_output` does, one for each module.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    >>> with hook_outputs(net) as hooks:
    ...     output = net(torch.ones(5, 4))
    >>> bool((hooks.stored[0].clamp_min(0) == hooks.stored[1]).all())
    True
    """
    return Hooks(modules, _copy_of_output, not grad, detach, cpu)


def _copy_of_output(module: nn.Module, inputs: Any, output: Any) -> Any:
    return tree_map_only(Tensor, Tensor.clone, output)


def model_sizes(model: nn.Module, size: Sequence[int] = (64, 64)) -> list[torch.Size]:
    """Return the output shape of each child of a model, for one input of zeros.

    The input is on the device and of the type of the model's parameters; mode and gradients of the model stay as
    they are.

    Args:
        model: whose children are run in its forward pass, once each or more (the last call counts).
        size: height and width of a picture with as many channels as the first convolution takes; of any other
            number of dimensions, the whole shape of an input without its batch dimension.

    Raises:
        InputError: where there is no convolution to tell the channels, or a child is not run or gives several tensors.

    >>> model_sizes(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Flatten()), (32, 32))
    [torch.Size([1, 8, 16, 16]), torch.Size([1, 2048])]
    """
    first = next(model.parameters(), torch.zeros(0))
    x = torch.zeros(1, *_channels(model, size), *size, device=first.device, dtype=first.dtype)
    children = dict(model.named_children())
    with evaluating(model), Hooks(children.values(), _shape_of_output) as hooks:
        model(x)
    for name, shape in zip(children, hooks.stored, strict=True):
        if shape is None:
            raise InputError(f"{name!r} was not run, or gave no single tensor: expected that of each child of a model.")
    return hooks.stored


def _shape_of_output(module: nn.Module, inputs: Any, output: Any) -> torch.Size | None:
    return output.shape if isinstance(output, Tensor) else None


def _channels(model: nn.Module, size: Sequence[int]) -> tuple[int, ...]:
    if len(size) != 2:
        return ()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return (module.in_channels,)
    raise InputError(f"size {tuple(size)}: there is no Conv2d to tell the channels; give the input's whole shape.")

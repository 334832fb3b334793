"""Hooks that are on while a model is trained: in a loop of one's own, or as a callback of a training library."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from deepjuice.hooks.hook import Hook, Hooks, with_hook
from deepjuice.tracing import check_heard
from juicyfruits.errors import InputError


def noop(x: Any) -> Any:
    """Return what came: as `mod_filter`, every module."""
    return x


class HooksCallback:
    """Call a function at every call of the chosen modules of a model that is trained.

    In a loop of your own, `with callback.listen(model): ...`. It is a callback of learners that, as miniai's do, call
    `before_fit(learn)` and `after_fit(learn)`, or set `callback.learn` beforehand; `as_fastai()` and `as_lightning()`
    give callbacks for these libraries. Every fit begins with new hooks. They can be iterated over, also after the fit.
    Neither the hooks nor the callback keep the model alive.

    Args:
        hookfunc: as the function of `Hook`, in either form.
        mod_filter: which modules of the model, the model itself and all containers among them: a function of a
            module, or a class of modules, or a tuple of classes.
        on_train: listen while the model is in training mode.
        on_valid: listen while it is in eval mode.
        modules: these modules of the model, instead of those that the filter chooses.
        every: listen to every n-th call of a module only.

    Raises:
        InputError: when listening begins, where no module is chosen, or one that is not the model's, and for models
            that were compiled or run on several devices at once, whose modules do not call hooks as they should.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> callback = HooksCallback(lambda module, input, output: tuple(output.shape), nn.Linear)
    >>> with callback.listen(net):
    ...     _ = net(torch.ones(5, 4))
    >>> [(hook.name, hook.stored) for hook in callback]
    [('0', (5, 3))]
    """

    order = 0  # among a learner's callbacks

    def __init__(
        self,
        hookfunc: Callable[..., Any],
        mod_filter: Callable[[nn.Module], Any] | type | tuple[type, ...] = noop,
        on_train: bool = True,
        on_valid: bool = False,
        modules: Iterable[nn.Module] | None = None,
        every: int = 1,
    ):
        if every < 1:
            raise InputError(f"every={every}: expected 1 for every call, 2 for every second, and so on.")
        self.hookfunc = with_hook(hookfunc)
        self.mod_filter = mod_filter
        self.on_train, self.on_valid, self.every = on_train, on_valid, every
        self.modules = None if modules is None else weakref.WeakSet(modules)
        self.hooks = Hooks([], self.hookfunc)

    @contextmanager
    def listen(self, model: nn.Module) -> Iterator[HooksCallback]:
        """Listen to a model within a `with` block, however that ends."""
        self.start(model)
        try:
            yield self
        finally:
            self.remove()

    def start(self, model: nn.Module) -> None:
        """Put new hooks on a model, in the place of those that are on."""
        self.remove()
        for path, module in model.named_modules():
            check_heard(path, module)
        chosen = self._chosen(model)
        self.hooks = Hooks(chosen.values(), _Gate(self, model))
        for name, hook in zip(chosen, self.hooks, strict=True):
            hook.name = name or hook.name

    def remove(self) -> None:
        """Listen no longer; the hooks stay, with what was written on them."""
        self.hooks.remove()

    def _chosen(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the modules to listen to, by their dotted path."""
        named = {name: module for name, module in model.named_modules() if self._is_chosen(module)}
        n_modules = len(list(model.modules()))
        if self.modules is not None and len(named) < len(self.modules):
            raise InputError(
                f"{len(self.modules) - len(named)} of {len(self.modules)} modules to listen to are no part of the "
                f"{type(model).__name__} that is trained: expected modules that model.modules() gives."
            )
        if not named:
            raise InputError(f"mod_filter chose none of the {n_modules} modules of the {type(model).__name__}.")
        return named

    def _is_chosen(self, module: nn.Module) -> bool:
        if self.modules is not None:
            return module in self.modules
        if isinstance(self.mod_filter, (type, tuple)):
            return isinstance(module, self.mod_filter)
        chosen = self.mod_filter(module)
        return chosen is module or bool(chosen)  # an empty Sequential is false

    def before_fit(self, learn: Any = None) -> None:
        """Start, on the model of a learner: of the one given, else of `self.learn`."""
        learn = learn if learn is not None else getattr(self, "learn", None)
        if not isinstance(getattr(learn, "model", None), nn.Module):
            raise InputError(
                "before_fit got no learner with a model: expected a learner's call, or self.learn; in a loop of your "
                "own use `with callback.listen(model)`."
            )
        self.start(learn.model)

    def after_fit(self, learn: Any = None) -> None:
        """End listening, when a fit has ended."""
        self.remove()

    def cleanup_fit(self, learn: Any = None) -> None:
        """End listening, however a fit has ended."""
        self.remove()

    def as_fastai(self) -> Any:
        """Return this as a callback for fastai's Learner. Raises InputError where fastai is not installed."""
        from deepjuice.hooks.fastai_callback import fastai_callback  # which imports fastai

        return fastai_callback(self)

    def as_lightning(self) -> Any:
        """Return this as a callback for Lightning's Trainer. Raises InputError where Lightning is not installed."""
        from deepjuice.hooks.lightning_callback import lightning_callback  # which imports Lightning

        return lightning_callback(self)

    def __iter__(self) -> Iterator[Hook]:
        return iter(self.hooks)

    def __len__(self) -> int:
        return len(self.hooks)

    def __getitem__(self, which: Any) -> Any:
        return self.hooks[which]


class _Gate:
    """A callback's function, called when the model is in a mode that the callback is for.

    It knows neither the callback, so that one that is dropped goes at once, nor keeps the model.
    """

    def __init__(self, callback: HooksCallback, model: nn.Module):
        self._f = callback.hookfunc
        self._on = {True: callback.on_train, False: callback.on_valid}
        self._every = callback.every
        self._model = weakref.ref(model)

    def __call__(self, hook: Hook, module: nn.Module, inputs: Any, output: Any) -> None:
        model = self._model()
        if model is None or not self._on[model.training]:
            return
        n_calls = vars(hook).setdefault("n_calls", 0)
        hook.n_calls += 1
        if n_calls % self._every == 0:
            self._f(hook, module, inputs, output)

    def __reduce__(self):
        return partial, (_silent,)  # what is copied or pickled with a hook listens to nothing


def _silent(*_: Any) -> None:
    """Stand in for a gate in a copy."""

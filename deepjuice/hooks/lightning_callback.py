"""A `HooksCallback` for Lightning's Trainer; Lightning is imported when one is made."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from juicyfruits.errors import InputError

if TYPE_CHECKING:
    from deepjuice.hooks.callback import HooksCallback


def lightning_callback(listener: HooksCallback) -> Any:
    """Return a callback that starts a listener with training and ends it, however training ends.

    The sanity check before training is left out. Raises InputError where Lightning is not installed.
    """

    class ListeningCallback(_callback_class()):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            listener.start(pl_module)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            listener.remove()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            listener.remove()

    return ListeningCallback()


def _callback_class() -> type:
    for name in ("lightning.pytorch", "pytorch_lightning"):  # one library under two names
        try:
            return import_module(name).Callback
        except ModuleNotFoundError as error:
            missing = error.name
    raise InputError(f"a callback for Lightning needs the package {missing!r}: pip install lightning.")

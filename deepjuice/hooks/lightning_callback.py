"""A `HooksCallback` for Lightning's Trainer; Lightning is imported when one is made."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from juicyfruits.errors import InputError

if TYPE_CHECKING:
    from deepjuice.hooks.callback import HooksCallback


def lightning_callback(listener: HooksCallback) -> Any:
    """Return a callback that starts a listener with training, a test or a prediction, and ends it, however that ends.

    Validation is listened to as part of training and alone, but for the sanity check before training. Raises
    InputError where Lightning is not installed.
    """

    class ListeningCallback(_callback_class()):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            listener.start(pl_module)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            listener.remove()

        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.state.fn == "validate":  # not within a fit, whose hooks are on
                listener.start(pl_module)

        on_test_start = on_predict_start = on_train_start

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.state.fn == "validate":
                listener.remove()

        on_test_end = on_predict_end = on_train_end

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

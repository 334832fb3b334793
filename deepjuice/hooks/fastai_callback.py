"""A `HooksCallback` for fastai's Learner; fastai is imported when one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from juicyfruits.errors import InputError

if TYPE_CHECKING:
    from deepjuice.hooks.callback import HooksCallback


def fastai_callback(listener: HooksCallback) -> Any:
    """Return a callback that starts and ends a listener with each fit; its hooks and statistics are the listener's.

    The learning rate finder's fit is left out. Raises InputError where fastai is not installed.
    """
    try:
        from fastai.callback.core import Callback
    except ModuleNotFoundError as error:
        raise InputError(f"a callback for fastai needs the package {error.name!r}: pip install fastai.") from error

    class ListeningCallback(Callback):
        def before_fit(self) -> None:
            if not hasattr(self.learn, "lr_finder"):
                listener.before_fit(self.learn)

        def after_fit(self) -> None:
            listener.after_fit()

    return ListeningCallback()

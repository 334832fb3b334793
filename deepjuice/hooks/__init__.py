"""Listening to a network: what its layers give out, call by call, and networks that return it."""

from deepjuice.hooks.activation_stats import ActivationStats
from deepjuice.hooks.callback import HooksCallback, noop
from deepjuice.hooks.extending import ModelExtender
from deepjuice.hooks.grabbing import ActivationMapGrabber
from deepjuice.hooks.histogram import HISTOGRAM_2019, HISTOGRAM_2019_POSITIVE, HISTOGRAM_2022, Histogram
from deepjuice.hooks.hook import Hook, Hooks, hook_output, hook_outputs, model_sizes
from deepjuice.hooks.hooks_handle import HooksHandle
from deepjuice.hooks.layers import GeneralRelu, Lambda, SequentialModel
from deepjuice.hooks.output_sizes import dummy_output, output_size, output_sizes
from deepjuice.hooks.seeding import set_seed
from deepjuice.hooks.stats import append_stats, get_hist, get_min
from deepjuice.hooks.stumps import ExtendedModelStump, ModelStump

__all__ = [
    "HISTOGRAM_2019",
    "HISTOGRAM_2019_POSITIVE",
    "HISTOGRAM_2022",
    "ActivationMapGrabber",
    "ActivationStats",
    "ExtendedModelStump",
    "GeneralRelu",
    "Histogram",
    "Hook",
    "Hooks",
    "HooksCallback",
    "HooksHandle",
    "Lambda",
    "ModelExtender",
    "ModelStump",
    "SequentialModel",
    "append_stats",
    "dummy_output",
    "get_hist",
    "get_min",
    "hook_output",
    "hook_outputs",
    "model_sizes",
    "noop",
    "output_size",
    "output_sizes",
    "set_seed",
]

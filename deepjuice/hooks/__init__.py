"""Listening to a network: what its layers give out, call by call, and networks that return it."""

from deepjuice.hooks.extending import ModelExtender
from deepjuice.hooks.grabbing import ActivationMapGrabber
from deepjuice.hooks.hooks_handle import HooksHandle
from deepjuice.hooks.output_sizes import dummy_output, output_size, output_sizes
from deepjuice.hooks.stumps import ExtendedModelStump, ModelStump

__all__ = [
    "ActivationMapGrabber",
    "ExtendedModelStump",
    "HooksHandle",
    "ModelExtender",
    "ModelStump",
    "dummy_output",
    "output_size",
    "output_sizes",
]

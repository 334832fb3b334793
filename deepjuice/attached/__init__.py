"""Fitted encoders as parts of the network: predicted voxels beside its output, and which pixels drive them."""

from deepjuice.attached.attach import RegionResponse, attach_encoder
from deepjuice.attached.fit import FittedEncoder, fit_encoder
from deepjuice.attached.gradients import gradient_map
from deepjuice.attached.head import EncoderHead
from deepjuice.attached.refit import refit_encoder

__all__ = [
    "EncoderHead",
    "FittedEncoder",
    "RegionResponse",
    "attach_encoder",
    "fit_encoder",
    "gradient_map",
    "refit_encoder",
]

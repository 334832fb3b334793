"""Influence profiles: which neurons and synapses of a network carried its answer."""

from deepjuice.influence.profile import Profile
from deepjuice.influence.profiler import TorchProfiler
from deepjuice.influence.profilers import ChannelProfiler, ElementProfiler, SpatialProfiler, SVDProfiler

__all__ = ["ChannelProfiler", "ElementProfiler", "Profile", "SVDProfiler", "SpatialProfiler", "TorchProfiler"]

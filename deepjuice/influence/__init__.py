"""Influence profiles: which neurons and synapses of a network carried its answer."""

from deepjuice.influence.feature_objectives import (
    FeatureObjective,
    Reading,
    channel_objective,
    dictionary_objective,
    diversity,
    influential_neurons,
    neuron_objective,
    svd_objective,
)
from deepjuice.influence.neuron_sets import NeuronSets
from deepjuice.influence.profile import Profile
from deepjuice.influence.profiler import TorchProfiler
from deepjuice.influence.profilers import ChannelProfiler, ElementProfiler, SpatialProfiler, SVDProfiler
from deepjuice.influence.stage import profile_images
from deepjuice.influence.visualisation import dictionary_optimization, visualise

__all__ = [
    "ChannelProfiler",
    "ElementProfiler",
    "FeatureObjective",
    "NeuronSets",
    "Profile",
    "Reading",
    "SVDProfiler",
    "SpatialProfiler",
    "TorchProfiler",
    "channel_objective",
    "dictionary_objective",
    "dictionary_optimization",
    "diversity",
    "influential_neurons",
    "neuron_objective",
    "profile_images",
    "svd_objective",
    "visualise",
]

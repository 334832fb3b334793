"""Influence profiles: which neurons and synapses of a network carried its answer."""

from deepjuice.influence.attribution import attribution_graph, draw_attribution_graph, layer_graph
from deepjuice.influence.clustering import ProfileClusters, cluster_profiles
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
from deepjuice.influence.homology import (
    graph_from_tuples,
    mat_from_graph,
    ripser_of_distmat,
    ripser_of_graph,
    tuples_from_dict,
)
from deepjuice.influence.jaccard import (
    avg_jaccard,
    instance_jaccard,
    jaccard,
    jaccard_matrix,
    jaccard_simple,
    layer_jaccards,
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
    "ProfileClusters",
    "Reading",
    "SVDProfiler",
    "SpatialProfiler",
    "TorchProfiler",
    "attribution_graph",
    "avg_jaccard",
    "channel_objective",
    "cluster_profiles",
    "dictionary_objective",
    "dictionary_optimization",
    "diversity",
    "draw_attribution_graph",
    "graph_from_tuples",
    "influential_neurons",
    "instance_jaccard",
    "jaccard",
    "jaccard_matrix",
    "jaccard_simple",
    "layer_graph",
    "layer_jaccards",
    "mat_from_graph",
    "neuron_objective",
    "profile_images",
    "ripser_of_distmat",
    "ripser_of_graph",
    "svd_objective",
    "tuples_from_dict",
    "visualise",
]

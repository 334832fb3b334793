"""Groups of similar profiles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage

from deepjuice.influence.jaccard import Layers, jaccard_matrix
from deepjuice.influence.profile import Profile
from juicyfruits.errors import InputError, near_names

METHODS = ("average", "complete", "single", "weighted")  # scipy's others need Euclidean distances


@dataclass(frozen=True, eq=False)
class ProfileClusters:
    """Which profiles belong together.

    Attributes:
        labels: (n,) int64, the cluster of each profile; numbered from 0 as clusters first occur.
        linkage: (n - 1, 4) float64, one merge a row, as `scipy.cluster.hierarchy.dendrogram` takes it.
        similarity: (n, n) float64, the Jaccard similarities.
    """

    labels: np.ndarray
    linkage: np.ndarray
    similarity: np.ndarray


def cluster_profiles(
    profiles: Iterable[Profile],
    n_clusters: int,
    neuron: bool = True,
    layers: Layers = None,
    method: str = "average",
) -> ProfileClusters:
    """Cluster profiles hierarchically, by the Jaccard distance 1 - similarity.

    An empty profile has distance 1 from all others.

    Args:
        profiles: two at least.
        n_clusters: how many clusters there shall be, from 1 to the number of profiles.
        neuron, layers: what is compared, as of `deepjuice.influence.jaccard_matrix`.
        method: how the distance of clusters follows from those of their members: `'average'`, `'complete'`,
            `'single'` or `'weighted'`.

    Raises:
        InputError: for an impossible number of clusters, an unknown method, and profiles that cannot be compared.

    >>> import scipy.sparse as sp
    >>> rows = [[[1, 1, 1, 0]], [[0, 0, 0, 1]], [[1, 1, 0, 0]]]
    >>> found = cluster_profiles([Profile({1: sp.coo_matrix(row)}, num_inputs=1) for row in rows], n_clusters=2)
    >>> found.labels.tolist()
    [0, 1, 0]
    """
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; {near_names(method, METHODS)}")
    similarity = jaccard_matrix(profiles, neuron, layers)
    n = len(similarity)
    if n < 2:
        raise InputError("profiles to cluster: expected two at least, got one.")
    if not isinstance(n_clusters, Integral) or isinstance(n_clusters, bool) or not 1 <= n_clusters <= n:
        raise InputError(f"n_clusters {n_clusters!r}: expected a whole number from 1 to {n}, the number of profiles.")
    merges = linkage(1 - similarity[np.triu_indices(n, 1)], method)
    return ProfileClusters(cut_tree(merges, n_clusters)[:, 0].astype(np.int64), merges, similarity)

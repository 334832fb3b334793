"""Clusters of profiles against scikit-learn's."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.cluster.hierarchy import dendrogram, fcluster
from sklearn.cluster import AgglomerativeClustering

from deepjuice.influence import Profile
from deepjuice.influence.clustering import cluster_profiles
from deepjuice.influence.jaccard import jaccard_matrix
from juicyfruits.errors import InputError


def profiles_of(groups, seed=0, flip=0.25):
    """A profile for each number: its group's neurons, some of which are exchanged."""
    rng = np.random.default_rng(seed)
    prototypes = rng.random((max(groups) + 1, 80)) < 0.3
    rows = [prototypes[group] ^ (rng.random(80) < flip) for group in groups]
    synapses = [np.outer(row[:9], rng.random(80) < 0.4) for row in rows]
    return [
        Profile(
            {1: sp.coo_matrix(row[None, :30]), 2: sp.coo_matrix(row[None, 30:])},
            {},
            {2: sp.coo_matrix(s)},
            {},
            num_inputs=1,
        )
        for row, s in zip(rows, synapses, strict=True)
    ]


def same_parts(a, b):
    return np.array_equal(a[:, None] == a, b[:, None] == b)


@pytest.fixture(scope="module")
def profiles():
    return profiles_of(np.random.default_rng(1).integers(0, 4, 25))


@pytest.mark.parametrize("method", ["average", "complete", "single"])
@pytest.mark.parametrize("n_clusters", [1, 2, 4, 7, 25])
@pytest.mark.parametrize("chosen", [{}, {"neuron": False}, {"layers": [2]}])
def test_clusters_are_scikit_learns(profiles, method, n_clusters, chosen):
    found = cluster_profiles(profiles, n_clusters, method=method, **chosen)
    similarity = jaccard_matrix(profiles, **chosen)
    theirs = AgglomerativeClustering(n_clusters, metric="precomputed", linkage=method).fit(1 - similarity)
    assert same_parts(found.labels, theirs.labels_)
    assert found.labels.shape == (25,) and found.labels.dtype == np.int64
    assert list(dict.fromkeys(found.labels.tolist())) == list(range(n_clusters))  # numbered as they first occur
    np.testing.assert_array_equal(found.similarity, similarity)


def test_groups_are_found_again():
    groups = np.array([2, 2, 0, 1, 0, 1, 2, 0, 1, 2])
    found = cluster_profiles(profiles_of(groups, flip=0.03), 3)
    assert found.labels.tolist() == [0, 0, 1, 2, 1, 2, 0, 1, 2, 0]


def test_the_linkage_is_what_scipy_draws(profiles):
    found = cluster_profiles(profiles, 4, method="weighted")
    assert sorted(dendrogram(found.linkage, no_plot=True)["leaves"]) == list(range(25))
    assert same_parts(found.labels, fcluster(found.linkage, 4, "maxclust"))
    first = 1 - found.similarity[tuple(found.linkage[0, :2].astype(int))]
    assert found.linkage[0, 2] == pytest.approx(first) and first == pytest.approx(
        1 - np.max(found.similarity - 2 * np.eye(25))
    )


def test_as_many_clusters_as_asked_for_where_all_are_as_far_apart():
    apart = [Profile({1: sp.coo_matrix(row[None])}, num_inputs=1) for row in np.eye(4, dtype=int)] + [Profile()]
    for n_clusters in range(1, 6):
        assert len(set(cluster_profiles(apart, n_clusters).labels.tolist())) == n_clusters


def test_impossible_clusters_are_refused(profiles):
    for n_clusters in (0, 26, 2.0, True):
        with pytest.raises(InputError, match="whole number from 1 to 25"):
            cluster_profiles(profiles, n_clusters)
    with pytest.raises(InputError, match="'ward' is unknown"):
        cluster_profiles(profiles, 2, method="ward")
    with pytest.raises(InputError, match="two at least"):
        cluster_profiles(profiles[:1], 1)
    with pytest.raises(InputError, match="dictionary view"):
        cluster_profiles([*profiles, Profile(num_inputs=1, neuron_type="channel (dict)")], 2)

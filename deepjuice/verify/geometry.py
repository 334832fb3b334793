"""RDMs and their comparisons beside scipy's and rsatoolbox's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from deepjuice.alignment import (
    COMPARISONS,
    compare_rdm_to_many,
    compute_rdm,
    projected_pearson_rdm,
    upper_triangle,
)
from deepjuice.verify.differences import Difference, Quantity, find_differences
from deepjuice.verify.ridge import as_float64

RDM_METHODS = ("pearson", "spearman", "cosine", "euclidean", "squared_euclidean")
RDM = {method: Quantity(f"RDM: {method}", 1e-9) for method in RDM_METHODS}
PROJECTED = Quantity("RDM: pearson, of a projection", 1e-9)
COMPARISON = {name: Quantity(f"comparison of RDMs: {name}", 1e-9) for name in COMPARISONS if name != "concordance"}
"""All but the concordance of RDMs, which neither peer has."""


def compare_rdms_made(X: Tensor) -> list[Difference]:
    """Compare the RDMs of X (n, p) by every method with scipy's and rsatoolbox's.

    Distances that are not bounded are compared in units of the largest one. Rows must vary, for a correlation with a
    constant row has no value.

    >>> any(found.differs for found in compare_rdms_made(torch.randn(6, 9)))
    False
    """
    made = {RDM[method]: as_float64(upper_triangle(compute_rdm(X, method))) for method in RDM_METHODS}
    wide = as_float64(X)
    unit = {RDM["euclidean"]: made[RDM["euclidean"]].max(), RDM["squared_euclidean"]: made[RDM["euclidean"]].max() ** 2}

    def in_units(values: dict[Quantity, np.ndarray]) -> dict[Quantity, np.ndarray]:
        return {quantity: rdm / (unit.get(quantity) or 1.0) for quantity, rdm in values.items()}

    return [
        *find_differences(in_units(made), "scipy", lambda: in_units(scipy_rdms(wide))),
        *find_differences(in_units(made), "rsatoolbox", lambda: in_units(rsatoolbox_rdms(wide))),
    ]


def scipy_rdms(X: np.ndarray) -> dict[Quantity, np.ndarray]:
    """Return the pairs of every RDM by `pdist`."""
    from scipy.spatial.distance import pdist
    from scipy.stats import rankdata

    return {
        RDM["pearson"]: pdist(X, "correlation"),
        RDM["spearman"]: pdist(rankdata(X, axis=1), "correlation"),
        RDM["cosine"]: pdist(X, "cosine"),
        RDM["euclidean"]: pdist(X, "euclidean"),
        RDM["squared_euclidean"]: pdist(X, "sqeuclidean"),
    }


def rsatoolbox_rdms(X: np.ndarray) -> dict[Quantity, np.ndarray]:
    """Return the pairs of the RDMs that rsatoolbox has; its `euclidean` is squared and divided by the channels."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    centred = X - X.mean(axis=0)  # distances stay; |x|^2 + |y|^2 - 2 x'y, as it computes them, lose fewer digits
    squared = calc_rdm(Dataset(centred), method="euclidean").dissimilarities[0] * X.shape[1]
    return {
        RDM["pearson"]: calc_rdm(Dataset(X), method="correlation").dissimilarities[0],
        RDM["euclidean"]: np.sqrt(np.maximum(squared, 0)),
        RDM["squared_euclidean"]: squared,
    }


def compare_projected_rdm(projected: Tensor, row_means: np.ndarray, ones: np.ndarray) -> list[Difference]:
    """Compare the Pearson RDM of projected maps (n, k) with scipy's cosine distances of the centred projections."""

    def scipy_cosine() -> dict[Quantity, np.ndarray]:
        from scipy.spatial.distance import pdist

        return {PROJECTED: pdist(as_float64(projected) - np.outer(row_means.astype(np.float64), ones), "cosine")}

    rdm = projected_pearson_rdm(projected, row_means, ones)
    return find_differences({PROJECTED: as_float64(upper_triangle(rdm))}, "scipy", scipy_cosine)


def constant_rows(projected: Tensor, row_means: np.ndarray, ones: np.ndarray) -> np.ndarray:
    """Tell which rows are constant before or after projection, within the rounding of their dtype: (n,) boolean."""
    eps, X = torch.finfo(projected.dtype).eps, as_float64(projected)
    means, ones = row_means.astype(np.float64), ones.astype(np.float64)
    before = np.linalg.norm(X - np.outer(means, ones), axis=1) <= 16 * eps * np.abs(means) * np.linalg.norm(ones)
    return before | (X.std(axis=1) <= 2 * eps * np.abs(X.mean(axis=1)))


def compare_comparisons(rdm: Tensor, others: Tensor) -> list[Difference]:
    """Compare the comparisons of one RDM (n, n) with others (k, n, n) with scipy's and rsatoolbox's; without NaN.

    >>> rdms = torch.stack([compute_rdm(torch.randn(6, 9)) for _ in range(3)])
    >>> any(found.differs for found in compare_comparisons(rdms[0], rdms[1:]))
    False
    """
    ours = {quantity: as_float64(compare_rdm_to_many(rdm, others, name)) for name, quantity in COMPARISON.items()}
    a, b = as_float64(upper_triangle(rdm)), as_float64(upper_triangle(others))
    return [
        *find_differences(ours, "scipy", lambda: scipy_comparisons(a, b)),
        *find_differences(ours, "rsatoolbox", lambda: rsatoolbox_comparisons(a, b)),
    ]


def scipy_comparisons(a: np.ndarray, b: np.ndarray) -> dict[Quantity, np.ndarray]:
    """Compare the pairs (pairs,) with others (k, pairs) by `scipy.stats`."""
    from scipy import stats
    from scipy.spatial.distance import cdist

    return {
        COMPARISON["pearson"]: np.array([stats.pearsonr(a, row).statistic for row in b]),
        COMPARISON["spearman"]: np.array([stats.spearmanr(a, row).statistic for row in b]),
        COMPARISON["cosine"]: 1 - cdist(a[None], b, "cosine")[0],
    }


def rsatoolbox_comparisons(a: np.ndarray, b: np.ndarray) -> dict[Quantity, np.ndarray]:
    """Compare the pairs (pairs,) with others (k, pairs) by `rsatoolbox.rdm.compare`."""
    from rsatoolbox.rdm import RDMs, compare

    names = {
        "pearson": "corr",
        "spearman": "spearman",
        "rho_a": "rho-a",
        "kendall_tau_a": "tau-a",
        "cosine": "cosine",
        "whitened_cosine": "cosine_cov",
        "whitened_pearson": "corr_cov",
    }
    return {COMPARISON[ours]: compare(RDMs(a[None]), RDMs(b), theirs)[0] for ours, theirs in names.items()}

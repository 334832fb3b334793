"""Representational similarity analysis: the geometry of a model's layer against that of brains.

Classical RSA compares the RDM of the features as they are; encoding RSA compares the RDM of the voxels' responses as
predicted from the features, so that each voxel has chosen and weighted them first. Thin: `compute_rdm` makes the RDMs
and `compare_rdms` says what the comparisons are.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from deepjuice.alignment.geometry.rdm import compute_rdm, projected_pearson_rdm
from deepjuice.alignment.geometry.rdm_compare import compare_rdm_to_many, compare_rdms
from deepjuice.alignment.linalg import ArrayLike, as_tensor
from juicyfruits.errors import InputError

BrainRdms = ArrayLike | Sequence[ArrayLike]
"""One RDM (n, n), or several: a stack (k, n, n) or a sequence."""


def classical_rsa(
    X: ArrayLike, brain_rdms: BrainRdms, rdm_method: str = "pearson", comparison: str = "pearson"
) -> Tensor:
    """Compare the RDM of features X (n, p), made by `rdm_method`, with those of brains: (k,), 0-d for one RDM.

    Errors and NaN as in `compute_rdm` and `compare_rdms`.

    >>> import torch
    >>> X = torch.randn(8, 30)
    >>> classical_rsa(X, [compute_rdm(X), compute_rdm(-X)], comparison="spearman").shape
    torch.Size([2])
    """
    return _against(compute_rdm(X, rdm_method), brain_rdms, comparison)


def projected_rsa(
    projected: ArrayLike,
    row_means: ArrayLike,
    ones_projection: ArrayLike,
    brain_rdms: BrainRdms,
    comparison: str = "pearson",
) -> Tensor:
    """Compare the Pearson RDM of a map known by its random projection with those of brains, as `classical_rsa`.

    The first three are what a feature store holds of a map; see `projected_pearson_rdm`.

    >>> import torch
    >>> X, R = torch.randn(8, 30), torch.randn(20, 30)
    >>> projected_rsa(X @ R.T, X.mean(dim=1), R.sum(dim=1), compute_rdm(X)).item() > 0
    True
    """
    return _against(projected_pearson_rdm(projected, row_means, ones_projection), brain_rdms, comparison)


def encoding_rsa(
    predictions: ArrayLike,
    responses: ArrayLike,
    weights: ArrayLike | None = None,
    rdm_method: str = "pearson",
    comparison: str = "pearson",
) -> float:
    """Compare the RDM of predicted responses (n, voxels) with that of the measured ones (n, voxels).

    The predictions must be of stimuli that the encoding model was not fitted on (test, or held out in turn): on those
    it was fitted on, they carry the noise of the very responses they are compared with. `weights` (voxels,), from 0
    up, say how much a voxel counts in both RDMs: its reliability, or how well it is predicted (clipped at 0, and on
    other stimuli than these, or the comparison chooses what agrees). Raises InputError for unequal shapes; else as
    `compute_rdm` and `compare_rdms`.

    >>> import torch
    >>> Y = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    >>> round(encoding_rsa(2 * Y, Y, weights=[1, 0, 2, 1, 1]), 6)
    1.0
    """
    predictions, responses = as_tensor(predictions, "Predictions"), as_tensor(responses, "Responses")
    if predictions.shape != responses.shape:
        raise InputError(
            f"Predictions and responses must have one shape, but {tuple(predictions.shape)} and "
            f"{tuple(responses.shape)} came; rows are stimuli, columns are voxels."
        )
    predicted, measured = (compute_rdm(Y, rdm_method, weights=weights) for Y in (predictions, responses))
    return compare_rdms(predicted, measured, comparison)


def _against(rdm: Tensor, brain_rdms: BrainRdms, comparison: str) -> Tensor:
    if not isinstance(brain_rdms, (list, tuple)):
        brain_rdms = as_tensor(brain_rdms, "The RDMs of brains")
        one = brain_rdms.ndim < 3
    else:
        one = bool(brain_rdms) and as_tensor(brain_rdms[0], "The first RDM of a brain").ndim == 1  # a row of one RDM
    if one:
        return compare_rdm_to_many(rdm, [as_tensor(brain_rdms, "The RDM of a brain")], comparison)[0]
    return compare_rdm_to_many(rdm, brain_rdms, comparison)

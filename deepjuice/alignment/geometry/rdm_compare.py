"""How alike two dissimilarity matrices (RDMs) are: by correlations, agreement of ranks, and whitened cosines.

Most are the cosine of two vectors made of the pairs of each RDM: as they are (cosine), less their mean (pearson), as
ranks (spearman), as the centred kernel that belongs to the distances (whitened). One RDM, a layer, is compared with
many, subjects and regions, at once. An RDM with a NaN compares with nothing: the answer is NaN. So it is where an RDM
does not vary, or for the cosines, where it is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from deepjuice.alignment.linalg import ArrayLike, as_tensor, average_ranks, is_constant, working_dtype
from juicyfruits.errors import InputError, near_names

COMPARISONS = (
    "pearson",
    "spearman",
    "rho_a",
    "kendall_tau_a",
    "concordance",
    "cosine",
    "whitened_cosine",
    "whitened_pearson",
)


def compare_rdms(a: ArrayLike, b: ArrayLike, method: str = "pearson") -> float:
    """Compare two RDMs (n, n) by their n (n - 1) / 2 pairs above the diagonal: in -1 .. 1.

        pearson, spearman, cosine    of the pairs
        kendall_tau_a     (concordant - discordant) / all pairs of pairs, whether tied or not
        rho_a             spearman if ties were broken at random, on average: 12 (ra - m)'(rb - m) / (N^3 - N)
        concordance       Lin's: 2 cov / (var + var + (difference of means)^2); 1 only for equal RDMs
        whitened_cosine   <Ka, Kb> / (|Ka| |Kb|) of the kernels K = -H D H / 2, with H = I - 1/n
        whitened_pearson  the same after the mean of the pairs is taken from all of them

    With models that predict ties, kendall_tau_a and rho_a do not reward them (Schutt et al. 2023, eLife 12, e82566).
    The whitened ones weigh the pairs by the covariance of distances that share a stimulus, for stimuli with equal,
    independent noise (Diedrichsen et al. 2021, Neurons, Behavior, Data Analysis, and Theory 5(3)); K is found without
    that covariance, of size N x N, and for squared Euclidean distances whitened_cosine is linear CKA. NaN where an RDM
    has a NaN or does not vary (cosine, whitened_cosine: is zero). Raises InputError for unequal sizes, fewer than 3
    stimuli, and an unknown method.

    >>> a = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
    >>> round(compare_rdms(a, a.square(), "spearman"), 6)
    1.0
    """
    return compare_rdm_to_many(a, [b], method)[0].item()


def compare_rdm_to_many(rdm: ArrayLike, others: ArrayLike | Sequence[ArrayLike], method: str = "pearson") -> Tensor:
    """Compare one RDM (n, n) with many (k, n, n), say a layer with every subject and region: (k,), as `compare_rdms`.

    >>> rdms = torch.rand(3, 6, 6)
    >>> compare_rdm_to_many(rdms[0], rdms).shape
    torch.Size([3])
    """
    return compare_pairs(upper_triangle(rdm)[None], upper_triangle(torch.stack(_same_size(rdm, others))), method)


def compare_pairs(a: Tensor, b: Tensor, method: str = "pearson") -> Tensor:
    """Compare RDMs given by their pairs, row by row: a (k, pairs) or (1, pairs) with b (k, pairs) -> (k,).

    As `compare_rdms`. `kendall_tau_a` is counted on the CPU wherever the pairs are; the answer is where b is. For many
    comparisons with the same brains, whose pairs (`upper_triangle`) are then taken once; see `comparison_vectors` too.

    >>> pairs = torch.tensor([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]])
    >>> compare_pairs(pairs[:1], pairs, "spearman")
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    if method not in COMPARISONS:
        raise InputError(f"The RDM comparison {method!r} is unknown; {near_names(method, COMPARISONS)}")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or len(a) not in (1, len(b)):
        raise InputError(
            f"Pairs must be (k, pairs) or (1, pairs) with (k, pairs), but {tuple(a.shape)} and {tuple(b.shape)} came; "
            "take them by upper_triangle from RDMs of the same stimuli."
        )
    dtype = working_dtype(b.device)
    a, b = a.to(b.device, dtype), b.to(dtype)
    if method in _VECTORS:
        return compare_vectors(comparison_vectors(a, method), comparison_vectors(b, method))
    scores = _concordance(a, b) if method == "concordance" else _kendall_tau_a(a, b)
    return scores.masked_fill(_says_nothing(a) | _says_nothing(b), torch.nan)


def comparison_vectors(pairs: Tensor, method: str = "pearson") -> Tensor:
    """Return vectors (k, m) of RDMs (k, pairs) whose inner products (`compare_vectors`) are their comparisons.

    Those of the brains are made once and compared with every layer: by spearman, ranking them is nearly all the work.
    An RDM that compares with nothing has a vector of NaN. Not for kendall_tau_a and concordance.

    >>> comparison_vectors(torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]]), "cosine")
    tensor([[0.5000, 0.0000, 0.0000, 0.5000, 0.5000, 0.5000]], dtype=torch.float64)
    """
    if method not in _VECTORS:
        hint = near_names(method, _VECTORS)
        raise InputError(f"The RDM comparison {method!r} is not an inner product of vectors; {hint}")
    return _VECTORS[method](pairs.to(working_dtype(pairs.device)))


def compare_vectors(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner products of `comparison_vectors`, row by row: a (k, m) or (1, m) with b (k, m) -> (k,)."""
    products = b @ a[0] if len(a) == 1 else torch.linalg.vecdot(a, b)
    return products.clamp(-1.0, 1.0)


def upper_triangle(rdm: ArrayLike) -> Tensor:
    """Return the n (n - 1) / 2 pairs above the diagonal of an RDM (n, n), row by row (scipy's condensed form).

    A stack (k, n, n) gives (k, pairs). What is on and below the diagonal is not read.

    >>> upper_triangle([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
    tensor([1., 2., 3.], dtype=torch.float64)
    """
    matrix = as_tensor(rdm, "An RDM")
    n = matrix.shape[-1] if matrix.ndim else 0
    if matrix.ndim not in (2, 3) or matrix.shape[-2] != n or n < 3 or matrix.is_complex():
        raise InputError(
            f"An RDM must be real and square with 3 stimuli or more, but {tuple(matrix.shape)} of {matrix.dtype} came; "
            "see compute_rdm."
        )
    return matrix.flatten(-2).index_select(-1, _pair_index(n, matrix.device)).to(working_dtype(matrix.device))


@lru_cache(maxsize=16)  # train, test and all stimuli of a few benchmarks; making it costs more than using it
def _pair_index(n: int, device: torch.device) -> Tensor:
    rows, columns = torch.triu_indices(n, n, offset=1, device=device)
    return rows * n + columns


def _same_size(rdm: ArrayLike, others: ArrayLike | Sequence[ArrayLike]) -> list[Tensor]:
    n = len(as_tensor(rdm, "An RDM"))
    matrices = [as_tensor(other, "An RDM") for other in others]
    for k, other in enumerate(matrices):
        if other.shape != (n, n):
            raise InputError(
                f"RDMs must have one size to be compared, but {(n, n)} and {tuple(other.shape)} came (number {k}); "
                "make both from the same stimuli."
            )
    if not matrices:
        raise InputError("An RDM needs at least one other to be compared with, but none came.")
    return matrices


def _deviations(pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs less their mean, and mean and standard deviation of each row."""
    mean = pairs.mean(dim=1, keepdim=True)
    centred = pairs - mean
    return centred, mean[:, 0], torch.linalg.vector_norm(centred, dim=1) / pairs.shape[1] ** 0.5


def _says_nothing(pairs: Tensor) -> Tensor:
    """Tell which rows have a NaN or do not vary."""
    _, mean, std = _deviations(pairs)
    return ~mean.isfinite() | is_constant(std, mean, pairs.dtype)


def _unit(vectors: Tensor, undefined: Tensor | None = None) -> Tensor:
    norms = torch.linalg.vector_norm(vectors, dim=1)
    norms = norms if undefined is None else norms.masked_fill(undefined, torch.nan)
    return vectors / norms[:, None]  # 0 / 0 is NaN


def _pearson(pairs: Tensor) -> Tensor:
    centred, mean, std = _deviations(pairs)
    return _unit(centred, is_constant(std, mean, pairs.dtype))


def _centred_ranks(pairs: Tensor) -> Tensor:
    return average_ranks(pairs).sub_((pairs.shape[1] + 1) / 2)


def _spearman(pairs: Tensor) -> Tensor:
    return _unit(_centred_ranks(pairs), _says_nothing(pairs))


def _rho_a(pairs: Tensor) -> Tensor:
    n = pairs.shape[1]
    return (_centred_ranks(pairs) * (12.0 / (n**3 - n)) ** 0.5).masked_fill(_says_nothing(pairs)[:, None], torch.nan)


def _cosine(pairs: Tensor) -> Tensor:
    return _unit(pairs)


def _whitened_cosine(pairs: Tensor) -> Tensor:
    return _unit(_kernels(pairs))


def _whitened_pearson(pairs: Tensor) -> Tensor:
    return _unit(_kernels(_deviations(pairs)[0]), _says_nothing(pairs))


def _kernels(pairs: Tensor) -> Tensor:
    """H D H of each RDM D as a vector (k, pairs + n): its pairs, which are in it twice, times sqrt 2, its diagonal."""
    n = round((1 + (1 + 8 * pairs.shape[1]) ** 0.5) / 2)
    if n * (n - 1) // 2 != pairs.shape[1]:
        raise InputError(f"Pairs must be all n (n - 1) / 2 of n stimuli to be whitened, but {pairs.shape[1]} came.")
    index = _pair_index(n, pairs.device)
    kernels = pairs.new_empty(len(pairs), len(index) + n)
    for row, kernel in zip(pairs, kernels, strict=True):
        square = row.new_zeros(n * n).index_copy_(0, index, row).view(n, n)
        square = square + square.T
        mean = square.mean(dim=0)
        square = square - mean - (mean - mean.mean())[:, None]
        kernel[:-n] = square.flatten().index_select(0, index) * 2**0.5
        kernel[-n:] = square.diagonal()
    return kernels


def _concordance(a: Tensor, b: Tensor) -> Tensor:
    (a, a_mean, a_std), (b, b_mean, b_std) = _deviations(a), _deviations(b)
    spread = a_std.square() + b_std.square() + (a_mean - b_mean).square()
    return 2.0 * (a * b).mean(dim=1) / spread


def _kendall_tau_a(a: Tensor, b: Tensor) -> Tensor:
    """Kendall's tau-b, which scipy counts in N log N, with the pairs of pairs that are tied put back below the line."""
    a_rows, b_rows = a.cpu().numpy(), b.cpu().numpy()
    taus = []
    for x, y in zip(np.broadcast_to(a_rows, b_rows.shape), b_rows, strict=True):
        tau_b = stats.kendalltau(x, y, method="asymptotic").statistic
        taus.append(tau_b * np.sqrt(_untied_share(x) * _untied_share(y)))
    return torch.as_tensor(taus, dtype=b.dtype, device=b.device)


def _untied_share(values: np.ndarray) -> float:
    counts = np.unique(values, return_counts=True)[1].astype(float)
    return 1.0 - (counts * (counts - 1)).sum() / (len(values) * (len(values) - 1))


_VECTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "pearson": _pearson,
    "spearman": _spearman,
    "rho_a": _rho_a,
    "cosine": _cosine,
    "whitened_cosine": _whitened_cosine,
    "whitened_pearson": _whitened_pearson,
}

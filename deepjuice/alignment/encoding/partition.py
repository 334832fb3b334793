"""How much of the variance of a target each feature space explains alone, and how much several explain alike."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, combinations
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike as NumpyLike
from torch import Tensor
from tqdm.auto import tqdm

from deepjuice.alignment.encoding.banded import BandedRidge
from deepjuice.alignment.encoding.crossval import Encoder, as_spaces, cross_val_score
from deepjuice.alignment.linalg import ArrayLike, as_matrix, as_tensor, column_moments, is_constant, working_dtype
from deepjuice.splits import as_splits
from juicyfruits.errors import InputError

Names = tuple[str, ...]


class VariancePartition(NamedTuple):
    """By tuple of names of feature spaces, in their order, each (t,).

    `r2` is what the spaces explain together, fitted jointly; `parts` what exactly these spaces share and no other has:
    the unique part of `a` is `parts["a",]`, what only `a` and `b` share `parts["a", "b"]`. The parts that touch a set
    of spaces sum to its r2.
    """

    r2: dict[Names, Tensor]
    parts: dict[Names, Tensor]


def variance_partition(
    spaces: Mapping[str, ArrayLike],
    Y: ArrayLike,
    cv: Any = 5,
    groups: NumpyLike | None = None,
    encoder: Encoder | None = None,
    progress: bool = False,
) -> VariancePartition:
    """Partition the held-out variance of targets Y (n,) or (n, t) among feature spaces {name: (n, p_i)}.

        part(S) = sum over subsets T of S of (-1)^(|T| + 1) r2(T and all spaces outside S),    r2(no space) = 0

    r2 is the mean over the splits of `cv` of the coefficient of determination of rows that the fit never saw. Every one
    of the 2^m - 1 subsets of m spaces is fitted by `encoder`: ridge on their columns side by side by default
    (`TorchRidgeGCV`), or a `BandedRidge`, which does not let a large space drown a small one. Held-out r2 is noisy and
    below 0 for a space without any signal, so parts may be below 0 too: that is no error, and not to be cut off. A
    target that is constant in a test set has NaN. Errors as `cross_val_score`. See Lescroart, Stansbury & Gallant
    (2015, Frontiers in Computational Neuroscience 9, 135).

    >>> generator = torch.Generator().manual_seed(0)
    >>> a, b = (torch.randn(60, 3, generator=generator) for _ in "ab")
    >>> partition = variance_partition({"a": a, "b": b}, a[:, 0] + b[:, 0])
    >>> list(partition.parts)
    [('a',), ('b',), ('a', 'b')]
    """
    spaces, _ = as_spaces(spaces)
    splits = as_splits(cv, len(next(iter(spaces.values()))), groups)  # the same for all subsets, whatever cv is
    names = tuple(spaces)
    r2 = {}
    for subset in tqdm(_subsets(names), "variance partition", unit="subset", disable=not progress):
        chosen = {name: spaces[name] for name in subset}
        X = chosen if isinstance(encoder, BandedRidge) else torch.cat(list(chosen.values()), dim=1)
        r2[subset] = cross_val_score(X, Y, splits, encoder=encoder, scoring="r2").mean(dim=0)
    return VariancePartition(r2, {subset: _part(r2, subset, names) for subset in r2})


def split_explained_variance(y: ArrayLike, parts: Mapping[str, ArrayLike]) -> dict[str, Tensor]:
    """Split the explained variance of one prediction among the feature spaces whose parts it is the sum of.

        share_i = (2 cov(p_i, y) - cov(p_i, p)) / var(y),    p = sum_i p_i

    The product measure (Pratt 1987), generalised to predictions that are not of least squares. `y` is (n,) or (n, t)
    and `parts`, as of `BandedRidge.predict_parts`, {name: the same shape}. Shares sum to `explained_variance(y, p)`,
    and are (t,) or 0-d. A share may be below 0; spaces that are alike halve theirs, unlike their unique parts, which
    vanish. A constant target gives NaN.

    >>> split_explained_variance([1.0, 2.0, 3.0], {"a": [1.0, 2.0, 3.0], "b": [0.0, 0.0, 0.0]})
    {'a': tensor(1., dtype=torch.float64), 'b': tensor(0., dtype=torch.float64)}
    """
    matrices, first = as_spaces(parts)
    y = as_tensor(y, "The targets")
    Y = as_matrix(y, "The targets", first.device, min_rows=2)
    if any(part.shape != Y.shape for part in matrices.values()):
        shapes = {name: tuple(part.shape) for name, part in matrices.items()}
        raise InputError(f"Every part must have the targets' shape {tuple(Y.shape)}, but {shapes} came; align them.")
    mean, std = column_moments(Y)
    centred = Y.to(mean.dtype) - mean
    wide = {name: part.to(working_dtype(part.device)) for name, part in matrices.items()}
    deviations = {name: part - part.mean(dim=0) for name, part in wide.items()}
    rest = 2 * centred - sum(deviations.values())
    flat = is_constant(std, mean, Y.dtype)
    total = centred.square().sum(dim=0)
    shares = {
        name: ((part * rest).sum(dim=0) / total).masked_fill(flat, torch.nan) for name, part in deviations.items()
    }
    return {name: share[0] for name, share in shares.items()} if y.ndim == 1 else shares


def _subsets(names: Names) -> list[Names]:
    """All subsets but the empty one, small ones first, names in their order."""
    return list(chain.from_iterable(combinations(names, size) for size in range(1, len(names) + 1)))


def _part(r2: dict[Names, Tensor], subset: Names, names: Names) -> Tensor:
    part = torch.zeros_like(next(iter(r2.values())))
    for size in range(len(subset) + 1):
        for within in combinations(subset, size):
            joint = tuple(name for name in names if name in within or name not in subset)
            if joint:
                part += (-1) ** (size + 1) * r2[joint]
    return part

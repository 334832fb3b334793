"""RDMs for rsatoolbox: its inference, models and plots start from its own `RDMs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING

import torch

from deepjuice.alignment.geometry.rdm_compare import upper_triangle
from deepjuice.alignment.linalg import ArrayLike
from juicyfruits.errors import InputError

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs


def to_rsatoolbox(
    rdms: ArrayLike,
    measure: str | None = None,
    pattern_descriptors: Mapping[str, Sequence] | None = None,
    rdm_descriptors: Mapping[str, Sequence] | None = None,
) -> RDMs:
    """Return one RDM (n, n) or several (k, n, n) as an `rsatoolbox.rdm.RDMs` of k RDMs and n patterns.

    `measure` is the name of the dissimilarity; `pattern_descriptors` have one value a stimulus (stimulus_id),
    `rdm_descriptors` one value an RDM (layer, subject, region). The order of pairs is the same on both sides, and
    values are float64 as they are: rsatoolbox's own Euclidean kinds are squared and divided by the number of channels.
    Raises InputError where rsatoolbox is not installed, for RDMs that are not square, and for descriptors of another
    length.

    >>> rdms = to_rsatoolbox([[0, 1, 2], [1, 0, 3], [2, 3, 0]], "pearson", {"stimulus_id": ["a", "b", "c"]})
    >>> rdms.n_rdm, rdms.n_cond, rdms.dissimilarities.tolist()
    (1, 3, [[1.0, 2.0, 3.0]])
    """
    try:
        from rsatoolbox.rdm import RDMs
    except ImportError as error:
        raise InputError("RDMs for rsatoolbox need it installed, but it is not; pip install rsatoolbox.") from error
    pairs = upper_triangle(rdms).cpu().numpy()
    pairs = pairs[None] if pairs.ndim == 1 else pairs
    n_rdms, n = len(pairs), torch.as_tensor(rdms).shape[-1]
    return RDMs(
        pairs,
        dissimilarity_measure=measure,
        pattern_descriptors=_checked(pattern_descriptors, n, "pattern", "stimuli"),
        rdm_descriptors=_checked(rdm_descriptors, n_rdms, "RDM", "RDMs"),
    )


def _checked(descriptors: Mapping[str, Sequence] | None, n: int, kind: str, things: str) -> dict[str, list]:
    for name, values in (descriptors or {}).items():
        several = isinstance(values, Sized) and not isinstance(values, str)
        if not several or len(values) != n:
            came = f"{len(values)} came" if several else f"a {type(values).__name__} came"
            raise InputError(f"The {kind} descriptor {name!r} must have a value for each of {n} {things}, but {came}.")
    return {name: list(values) for name, values in (descriptors or {}).items()}

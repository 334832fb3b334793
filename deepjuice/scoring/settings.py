"""What a scoring computes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real

from deepjuice.alignment import DEFAULT_ALPHAS, RESAMPLED_COMPARISONS
from juicyfruits.errors import InputError, near_names

METRICS = ("eReg", "cRSA", "eRSA", "pRSA")
DEFAULT_METRICS = METRICS[:3]
RDM_METRICS = ("cRSA", "eRSA", "pRSA")
UNFITTED_METRICS = ("cRSA", "pRSA")  # these need no responses: RDMs of the brain will do


@dataclass(frozen=True)
class ScoreSettings:
    """What is computed.

    Attributes:
        metrics: `eReg` (encoding by ridge regression), `cRSA` (classical RSA), `eRSA` (RSA of the predicted responses),
            `pRSA` (RSA of influence profiles, which must be there).
        alphas: grid of ridge penalties, for z-scored features.
        rois: regions to score; all of the benchmark's by default.
        rdm_comparison: `pearson`, `spearman`, `cosine` or `concordance` between the pairs of two RDMs.
        n_bootstraps: resamples of stimuli (and of subjects, from six up) behind every confidence interval; 0 for none.
        n_permutations: shuffles of test stimuli behind every p-value; 0 for none.
        seed: of resamples and shuffles; models are compared on the same ones.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    alphas: tuple[float, ...] = DEFAULT_ALPHAS
    rois: tuple[str, ...] | None = None
    rdm_comparison: str = "pearson"
    n_bootstraps: int = 1000
    n_permutations: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("metrics", "alphas") if self.rois is None else ("metrics", "alphas", "rois"):
            given = getattr(self, name)
            if isinstance(given, str) or not isinstance(given, Iterable):
                raise InputError(f"{name} {given!r}: expected several in a tuple; write ({given!r},).")
            if not tuple(given):
                raise InputError(f"{name} (): expected one at least; leave {name} out for the default.")
            object.__setattr__(self, name, tuple(given))
        for metric in self.metrics:
            if metric not in METRICS:
                raise InputError(f"metric {metric!r} is unknown; {near_names(metric, METRICS)}")
        if self.rdm_comparison not in RESAMPLED_COMPARISONS:
            hint = near_names(self.rdm_comparison, RESAMPLED_COMPARISONS)
            raise InputError(f"RDM comparison {self.rdm_comparison!r} is unknown; {hint}")
        if not all(isinstance(alpha, Real) and 0 < alpha < float("inf") for alpha in self.alphas):
            raise InputError(f"alphas {self.alphas}: expected positive numbers; leave them out for the default grid.")
        if not all(isinstance(roi, str) for roi in self.rois or ()):
            raise InputError(f"rois {self.rois}: expected names of regions, as the benchmark prints them.")
        for name in ("metrics", "alphas", "rois"):
            values = getattr(self, name) or ()
            if len(set(values)) < len(values):
                raise InputError(f"{name} {values}: expected every one once; leave out the repeated.")
        for name in ("n_bootstraps", "n_permutations", "seed"):
            if not isinstance(getattr(self, name), Integral):
                raise InputError(f"{name} {getattr(self, name)!r}: expected a whole number.")
        for name in ("n_bootstraps", "n_permutations"):
            if getattr(self, name) != 0 and not 20 <= getattr(self, name) <= 10**6:
                raise InputError(f"{name} {getattr(self, name)}: expected 0 for none, or 20 to 10^6; 1000 is usual.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed {self.seed}: expected a whole number from 0 to 2^32 - 1.")

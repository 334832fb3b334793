"""Spectra of a network's weights, which tell without any data how well its layers are trained.

Martin and Mahoney (2021) found that the eigenvalues of trained layers have heavy tails, whose density falls as
lambda^-alpha, and that those of untrained ones have not:

    C. H. Martin and M. W. Mahoney, Implicit self-regularization in deep neural networks: evidence from random matrix
    theory and implications for learning, Journal of Machine Learning Research 22 (165), 2021.
    C. H. Martin and M. W. Mahoney, Traditional and heavy-tailed self regularization in neural network models,
    International Conference on Machine Learning, 2019.
    C. H. Martin, T. Peng and M. W. Mahoney, Predicting trends in the quality of state-of-the-art neural networks
    without access to training or testing data, Nature Communications 12, 4122, 2021.

alpha is fitted as Clauset, Shalizi and Newman (SIAM Review 51, 661, 2009) do it: by maximum likelihood, above the
eigenvalue from which on the fit is closest. `powerlaw` does it: `pip install powerlaw`, or the extra `influence`.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from juicyfruits.errors import InputError

Spectra = Mapping[int, tuple[np.ndarray, float]]
Fits = Mapping[int, tuple[float, float]]

_SENTENCES = {
    "regularized": "regularized; it should do well on pictures that it was not trained on.",
    "somewhat regularized": "somewhat regularized; it probably does well on pictures that it was not trained on.",
    "untrained": "neither regularized nor, most likely, trained.",
    "unknown": "too few eigenvalues to tell.",
}


@dataclass(frozen=True)
class LayerVerdict:
    """What a layer's spectrum says.

    Attributes:
        layer: its number, from 1.
        name: dotted path of the module; `''` for a model that is one layer.
        alpha: exponent of the eigenvalues' density; NaN where it could not be fitted.
        mu: 2 (alpha - 1).
        eig_max: largest eigenvalue.
        verdict: `'regularized'` (mu from 0 to 4), `'somewhat regularized'` (below 7), `'untrained'`, or `'unknown'`
            without an alpha.
    """

    layer: int
    name: str
    alpha: float
    mu: float
    eig_max: float
    verdict: str


def weight_spectrum(weight: Tensor) -> tuple[np.ndarray, float]:
    """Return the eigenvalues of W W' / rows, and the aspect ratio of W: its longer side over the shorter, from 1.

    Args:
        weight: (out, ...); all but the first axis are flattened, so that W is (rows, columns).

    Returns:
        (min(rows, columns),) float64, falling; and the ratio.

    >>> values, ratio = weight_spectrum(torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    >>> values.round(6).tolist(), ratio
    ([4.5, 2.0], 1.5)
    """
    matrix = weight.detach().cpu().double().flatten(1)
    short = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    values = torch.linalg.eigvalsh(short @ short.T).flip(0).clamp(min=0)  # much quicker than singular values
    return values.numpy() / len(matrix), max(matrix.shape) / min(matrix.shape)


def power_law_exponent(eigenvalues: np.ndarray, aspect_ratio: float = 1.0) -> float:
    """Return alpha of the density lambda^-alpha that fits the largest eigenvalues; NaN where there are too few.

    Eigenvalues that are zero but for rounding are left out: of weights of a low rank, they can pass for the beginning
    of a tail with an alpha of 1.

    Args:
        eigenvalues: (n,) from 0 on.
        aspect_ratio: of the matrix, by which the precision of zeros is known.
    """
    try:
        import powerlaw
    except ImportError as error:
        raise InputError(
            f"power laws need powerlaw, which cannot be imported ({error}); pip install powerlaw."
        ) from error
    n = len(eigenvalues)
    zero = (n * aspect_ratio * np.finfo(np.float32).eps) ** 2 * eigenvalues.max(initial=0)
    found = eigenvalues[eigenvalues > zero]
    # From its second version on, powerlaw takes no alpha above 3 unless told to: no layer would be found untrained.
    opened = "parameter_ranges" in inspect.signature(powerlaw.Fit).parameters
    options = {"parameter_ranges": {"alpha": [1, None]}} if opened else {}
    if len(np.unique(found)) < 4:  # of which powerlaw sets the two largest aside
        return math.nan
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of every tail that it tries
        return float(powerlaw.Fit(found, verbose=False, **options).power_law.alpha)


class SpectralAnalysis:
    """Spectra of the weights of a network's linear and two-dimensional convolutional layers.

    Layers are numbered from 1, in the order in which the model has them; a layer that it has twice counts once.

    Args:
        model: any module that has such layers, or is one. Its weights are read when a method is called.

    Attributes:
        names: number -> dotted path of the layer.

    Raises:
        InputError: for a model without such layers; by the methods, where weights are not finite.

    >>> analysis = SpectralAnalysis(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4)))
    >>> analysis.names, [values.shape for values, _ in analysis.spectral_analysis().values()]
    ({1: '0', 2: '3'}, [(8,), (4,)])
    """

    def __init__(self, model: nn.Module):
        if not isinstance(model, nn.Module):
            raise InputError(f"model to analyse: expected a torch.nn.Module, got {type(model).__name__}.")
        self.model = model
        found = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        if not found:
            raise InputError(f"model {type(model).__name__}: expected a Linear or Conv2d layer, found none.")
        self.names = dict(enumerate(found, start=1))

    def __repr__(self) -> str:
        return f"SpectralAnalysis({type(self.model).__name__}, {len(self.names)} layers)"

    def spectral_analysis(self) -> dict[int, tuple[np.ndarray, float]]:
        """Return layer -> what `weight_spectrum` returns of its weight: eigenvalues, and aspect ratio."""
        spectra = {}
        for number, name in self.names.items():
            weight = self.model.get_submodule(name).weight
            if not torch.isfinite(weight).all():
                raise InputError(f"layer {number} ({name!r}): expected finite weights, got NaN or infinity.")
            spectra[number] = weight_spectrum(weight)
        return spectra

    def fit_power_law(self, eig_dict: Spectra | None = None) -> dict[int, tuple[float, float]]:
        """Return layer -> (alpha, largest eigenvalue); alpha is NaN where a layer has too few eigenvalues.

        Args:
            eig_dict: what `spectral_analysis` returned, where it is known.

        Raises:
            InputError: where powerlaw is not installed.
        """
        spectra = self.spectral_analysis() if eig_dict is None else eig_dict
        return {n: (power_law_exponent(values, ratio), float(values.max())) for n, (values, ratio) in spectra.items()}

    def verdicts(self, alpha_dict: Fits | None = None) -> dict[int, LayerVerdict]:
        """Return layer -> what Martin and Mahoney's theory says of it.

        Args:
            alpha_dict: what `fit_power_law` returned, where it is known.
        """
        fits = self.fit_power_law() if alpha_dict is None else alpha_dict
        found = {}
        for n, (alpha, eig_max) in fits.items():
            mu = 2 * (alpha - 1)
            found[n] = LayerVerdict(n, self.names.get(n, ""), alpha, mu, eig_max, _verdict(mu))
        return found

    def layer_RMT(self, alpha_dict: Fits | None = None) -> list[str]:
        """Return a sentence on each layer; `verdicts` has the same for programs."""
        return [
            f"Layer {one.layer} ({one.name or type(self.model).__name__}), mu = {one.mu:.2f}: {_SENTENCES[one.verdict]}"
            for one in self.verdicts(alpha_dict).values()
        ]

    def universal_metric(self, alpha_dict: Fits | None = None) -> float:
        """Return the mean of alpha ln(eig_max) over layers that have an alpha; NaN where none has.

        The smaller it is, the better a network of the same kind does on data that it has not seen (Martin, Peng and
        Mahoney 2021, whose logarithm is to base 10).
        """
        fits = self.fit_power_law() if alpha_dict is None else alpha_dict
        terms = [alpha * math.log(eig_max) for alpha, eig_max in fits.values() if not math.isnan(alpha)]
        return float(np.mean(terms)) if terms else math.nan


def _verdict(mu: float) -> str:
    if math.isnan(mu):
        return "unknown"
    if 0 <= mu <= 4:
        return "regularized"
    return "somewhat regularized" if 4 < mu < 7 else "untrained"

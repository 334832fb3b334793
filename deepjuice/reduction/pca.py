"""Exact principal components on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from deepjuice.alignment.geometry.spectrum import effective_dimensionality
from deepjuice.alignment.linalg import ArrayLike, as_matrix
from deepjuice.devices import get_device
from juicyfruits.errors import InputError


class TorchPCA:
    """Principal components of X (n, p), from the singular values of the centred matrix.

        X - mean = U S V',    explained variance l_i = s_i^2 / (n - 1),    scores Z = (X - mean) V

    The decomposition is done in the precision of X (float32 for half precision, float64 for integers): no Gram matrix,
    whose condition number would be the square, is formed. The entry of largest size in every component is positive, so
    that signs are the same on every machine.

    Args:
        n_components: how many to keep; by default min(n, p).
        device: `cpu`, `cuda`, `cuda:N`, `mps` or `auto`; by default the work is done where X is.

    `fit` sets, as tensors on the device: `components_` (k, p), `mean_` (p,), `explained_variance_` (k,),
    `explained_variance_ratio_` (k,), shares of the variance of all components, also of those not kept; and the numbers
    `n_components_` k and `effective_dimensionality_`, (sum l)^2 / sum l^2 over all components, between 1 and min(n, p):
    how many components of equal variance would be as spread out. scikit-learn's `PCA` is the nearest relative.

    >>> X = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    >>> pca = TorchPCA(n_components=1).fit(X)
    >>> pca.components_, round(pca.explained_variance_.item(), 3), round(pca.effective_dimensionality_, 3)
    (tensor([[1., 0.]]), 4.0, 1.0)
    """

    def __init__(self, n_components: int | None = None, device: str | int | torch.device | None = None):
        if n_components is not None and (not isinstance(n_components, int) or n_components < 1):
            raise InputError(f"n_components={n_components!r}: expected a positive integer, or None for all.")
        self.n_components = n_components
        self.device = None if device is None else get_device(device)

    def fit(self, X: ArrayLike) -> TorchPCA:
        """Find the components of X (n, p), n >= 2; returns itself.

        Raises InputError for NaN or infinity, more components than min(n, p), and X without variance.
        """
        self._decompose(self._matrix(X, min_rows=2))
        return self

    def fit_transform(self, X: ArrayLike) -> Tensor:
        """Fit X (n, p) and return its scores (n, k)."""
        return self.fit(X).transform(X)

    def transform(self, X: ArrayLike) -> Tensor:
        """Return the scores (m, k) of X (m, p), of the dtype of the components."""
        self._check_fitted()
        X = self._matrix(X).to(self.components_)
        if X.shape[1] != len(self.mean_):
            raise InputError(
                f"X must have {len(self.mean_)} features, as what this TorchPCA was fitted to, but {X.shape[1]} came; "
                "transform what was made in the same way."
            )
        return (X - self.mean_) @ self.components_.T

    def inverse_transform(self, Z: ArrayLike) -> Tensor:
        """Return scores Z (m, k) as features (m, p): Z V' + mean."""
        self._check_fitted()
        Z = as_matrix(Z, "Z").to(self.components_)
        if Z.shape[1] != self.n_components_:
            raise InputError(f"Z must have {self.n_components_} components, but {Z.shape[1]} came; see transform.")
        return Z @ self.components_ + self.mean_

    def _decompose(self, X: Tensor) -> None:
        k = min(X.shape) if self.n_components is None else self.n_components
        if k > min(X.shape):
            raise InputError(
                f"n_components={k}: expected at most {min(X.shape)}, the smaller of {X.shape[0]} rows and "
                f"{X.shape[1]} features; ask for fewer."
            )
        self.mean_ = X.mean(dim=0)
        singular, V = _right_singular(X - self.mean_)
        variance = singular.square() / (len(X) - 1)
        total = variance.sum()
        if not total > 0:
            raise InputError("X has no variance: all its rows are equal; expected at least two that differ.")
        self.n_components_ = k
        self.components_ = _with_fixed_signs(V[:k])
        self.explained_variance_ = variance[:k]
        self.explained_variance_ratio_ = variance[:k] / total
        self.effective_dimensionality_ = effective_dimensionality(variance)

    def _matrix(self, X: ArrayLike, min_rows: int = 1) -> Tensor:
        X = as_matrix(X, "X", self.device, min_rows)
        return X if X.dtype in (torch.float32, torch.float64) else X.float()

    def _check_fitted(self) -> None:
        if not hasattr(self, "components_"):
            raise InputError("This TorchPCA has no components yet; call fit(X) first.")


def _right_singular(X: Tensor) -> tuple[Tensor, Tensor]:
    """Return the singular values (k,) and right singular vectors (k, p) of X (n, p), k = min(n, p)."""
    if len(X) >= X.shape[1]:
        return torch.linalg.svd(X, full_matrices=False)[1:]
    left, singular, _ = torch.linalg.svd(X.T, full_matrices=False)  # LAPACK is four times faster on tall matrices
    return singular, left.T


def _with_fixed_signs(components: Tensor) -> Tensor:
    largest = components.abs().argmax(dim=1, keepdim=True)
    return components * components.gather(1, largest).sign()

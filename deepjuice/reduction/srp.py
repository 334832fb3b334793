"""Random projection of feature maps in the hand: tensors, sets of maps, or all that an extractor yields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deepjuice.devices import get_device
from deepjuice.reduction.projection import METHODS, ProjectionPool, jl_width
from deepjuice.tensors import apply_tensor_op, convert_to_tensor
from juicyfruits.errors import InputError

if TYPE_CHECKING:
    from deepjuice.extraction.feature_maps import FeatureMaps


class SRPMatrix:
    """One random projection for all maps of up to so many features, as `make_srp_matrix` returns it.

    Each width of map has a matrix of its own, which follows from the seed and is made on the device where such maps
    are first met; maps that are no wider than `n_projections` stay exactly as they are.
    """

    def __init__(self, n_features: int, n_projections: int, method: str = "sparse", seed: int = 0):
        if n_features < 1 or n_projections < 1:
            raise InputError(f"n_features={n_features}, n_projections={n_projections}: expected positive integers.")
        if method not in METHODS:
            raise InputError(f"projection method {method!r}: expected one of {', '.join(map(repr, METHODS))}.")
        self.n_features, self.n_projections = n_features, n_projections
        self._pool = cache(lambda device: ProjectionPool(n_projections, method, seed, device))

    def __call__(self, features: Tensor) -> Tensor:
        """Project maps (n, d), d <= n_features -> (n, min(d, n_projections)) on their device; float32 if projected."""
        width = features.shape[1]
        if width > self.n_features:
            raise InputError(f"maps of {width} features: expected at most {self.n_features}; make a wider srp_matrix.")
        return features if width <= self.n_projections else self._pool(features.device)[width](features)

    def clone(self) -> SRPMatrix:
        """Return itself: nothing in it changes."""
        return self

    def to(self, device: str | int | torch.device) -> SRPMatrix:
        """Return itself: it works wherever the maps are."""
        return self


def make_srp_matrix(n_features: int, n_projections: int, method: str = "sparse", seed: int = 0) -> SRPMatrix:
    """Return a projection to `n_projections` numbers that `compute_srp` takes as `srp_matrix`.

    Args:
        n_features: width of the widest map, flattened, that it will meet.
        n_projections: k; `jl_width(n_inputs)` keeps distances within 10 %.
        method: `'sparse'` (Li, Hastie & Church 2006) or `'signed_sums'`; see `make_projection`.
        seed: with the widths it fixes every entry, on every machine.

    Raises:
        InputError: for an unknown method and widths below 1.

    >>> matrix = make_srp_matrix(n_features=1000, n_projections=50)
    >>> compute_srp(torch.ones(3, 10, 10, 10), srp_matrix=matrix).shape
    torch.Size([3, 50])
    """
    return SRPMatrix(n_features, n_projections, method, seed)


def compute_srp(
    features: Any,
    n_projections: int | str | None = None,
    eps: float = 0.1,
    seed: int = 0,
    srp_matrix: SRPMatrix | None = None,
    device: str | int | torch.device | None = None,
    method: str = "sparse",
) -> Any:
    """Project maps (n, ...), each flattened to (n, d), to k numbers an input.

    Args:
        features: a tensor or array, or lists and dictionaries of tensors, which give the same containers.
        n_projections: k; by default (or `'auto'`) the Johnson-Lindenstrauss width of n at `eps`, `jl_width(n, eps)`.
        eps: how far distances may be off, as a share; used only for that width.
        seed: with d and k it fixes every entry of the matrix, on every machine.
        srp_matrix: a projection of `make_srp_matrix`, used instead of all the above and of `method`.
        device: where to project; by default every tensor stays where it is.
        method: `'sparse'` or `'signed_sums'`; see `make_projection`.

    Returns:
        (n, k) float32, without gradients; maps with d <= k come back as (n, d), values and dtype as they are.

    Raises:
        InputError: for a tensor without a dimension of features, for integers, and for impossible widths.

    >>> maps = {"wide": torch.ones(4, 30, 30), "narrow": torch.ones(4, 8)}
    >>> {uid: tuple(projected.shape) for uid, projected in compute_srp(maps, n_projections=100).items()}
    {'wide': (4, 100), 'narrow': (4, 8)}
    """
    matrix_for = _matrix_for(n_projections, eps, seed, srp_matrix, method)
    return _project(features, matrix_for, device)


def get_feature_map_srps(
    feature_maps: Any,
    n_projections: int | str | None = None,
    eps: float = 0.1,
    seed: int = 0,
    srp_matrix: SRPMatrix | None = None,
    device: str | int | torch.device | None = None,
    method: str = "sparse",
) -> FeatureMaps | Tensor:
    """Project feature maps of any kind, in a set or one by one; maps of one width share one matrix.

    Args:
        feature_maps: a `FeatureMaps` or dictionary; the batches that `'list'` and `'stack'` make, which are joined; a
            `FeatureExtractor`, or any iterable that yields one of these, group by group; or a single tensor.
        n_projections, eps, seed, srp_matrix, device, method: as for `compute_srp`. The width follows from the number of
            all inputs, not of those in a batch.

    Returns:
        A `FeatureMaps` with (n, k) or, for narrow maps, (n, d) for every uid; a tensor for a tensor.

    Raises:
        InputError: as `compute_srp`, and for batches in which the shape of a map differs, naming it.

    >>> maps = get_feature_map_srps({"Conv2d-1-1": torch.ones(4, 30, 30)}, n_projections=100)
    >>> maps["Conv2d-1-1"].shape
    torch.Size([4, 100])
    """
    matrix_for = _matrix_for(n_projections, eps, seed, srp_matrix, method)
    if isinstance(feature_maps, Tensor) or hasattr(feature_maps, "__array__"):
        return _project(feature_maps, matrix_for, device)
    return _project_maps(feature_maps, matrix_for, device)


def _project_maps(feature_maps: Any, matrix_for: MatrixFor, device: Any) -> FeatureMaps:
    # extraction projects with this package, so that it can be imported only when it is there
    from deepjuice.extraction.feature_maps import BatchedFeatureMaps, FeatureMaps

    if isinstance(feature_maps, Mapping):
        maps = feature_maps if isinstance(feature_maps, FeatureMaps) else FeatureMaps(feature_maps)
        return _project(maps, matrix_for, device)
    if isinstance(feature_maps, (list, tuple)) and feature_maps and all(isinstance(m, Mapping) for m in feature_maps):
        feature_maps = BatchedFeatureMaps(feature_maps, progress=False)
    if isinstance(feature_maps, BatchedFeatureMaps):
        return _project_batches(feature_maps, matrix_for, device)
    if isinstance(feature_maps, (str, bytes, Tensor)) or not isinstance(feature_maps, Iterable):
        raise InputError(
            f"feature maps of type {type(feature_maps).__name__}: expected FeatureMaps, batches of them, or a "
            "FeatureExtractor; compute_srp takes tensors and lists of them."
        )
    found = FeatureMaps()
    for group in feature_maps:
        projected = _project_maps(group, matrix_for, device)
        found.update(projected)
        found.aliases.update(projected.aliases)
    return found


def _project_batches(batched: Any, matrix_for: MatrixFor, device: Any) -> FeatureMaps:
    """Project batch by batch, so that whole maps are never joined."""
    from deepjuice.extraction.feature_maps import BatchedFeatureMaps

    irregular = batched.get_irregular_shapes()
    if irregular:
        raise InputError(
            f"feature maps {', '.join(irregular)}: expected one shape in all batches, but they differ; project what "
            "join_batches() returns, which leaves these out, or pool them to one shape first."
        )
    matrix = matrix_for(batched.get_input_size())
    parts = [_project(batch, lambda n_rows: matrix, device) for batch in batched]
    return BatchedFeatureMaps(parts, progress=False).join_batches()


MatrixFor = Callable[[int], SRPMatrix]


def _matrix_for(
    n_projections: int | str | None, eps: float, seed: int, srp_matrix: SRPMatrix | None, method: str
) -> MatrixFor:
    """Return what gives the projection for a number of inputs, the same one for the same width."""
    if srp_matrix is not None:
        if not isinstance(srp_matrix, SRPMatrix):
            raise InputError(f"srp_matrix of type {type(srp_matrix).__name__}: expected what make_srp_matrix returns.")
        return lambda n_rows: srp_matrix
    if isinstance(n_projections, str) and n_projections != "auto":
        raise InputError(f"n_projections={n_projections!r}: expected a positive integer, 'auto' or None.")
    make = cache(lambda width: SRPMatrix(_ANY_WIDTH, width, method, seed))
    return lambda n_rows: make(jl_width(n_rows, eps) if n_projections in (None, "auto") else n_projections)


_ANY_WIDTH = 2**63 - 1


def _project(features: Any, matrix_for: MatrixFor, device: str | int | torch.device | None) -> Any:
    where = None if device is None else get_device(device)

    def project(tensor: Tensor) -> Tensor:
        if tensor.ndim < 2 or not tensor.is_floating_point():
            raise InputError(
                f"a map of shape {list(tensor.shape)} and {tensor.dtype}: expected floating-point values of shape "
                "(inputs, ...); bring features into the second dimension."
            )
        flat = tensor.detach().flatten(1).to(where)
        return matrix_for(len(flat))(flat)

    return apply_tensor_op(convert_to_tensor(features) if hasattr(features, "__array__") else features, project)

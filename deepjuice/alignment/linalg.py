"""What every measure here shares: checked matrices, work in blocks, moments, ranks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike as NumpyLike
from torch import Tensor

from deepjuice.tensors import convert_to_tensor
from juicyfruits.errors import InputError

log = logging.getLogger(__name__)

ArrayLike = Tensor | NumpyLike
"""A tensor, an array, or what NumPy makes one of."""

BLOCK_BYTES = 64 * 1024**2
"""Working memory of a block: large enough for full-speed products, small beside any data set."""


def working_dtype(device: torch.device) -> torch.dtype:
    """Return the precision of all arithmetic here: float64, and float32 only on mps, which has nothing wider.

    Gram matrices square the condition number: in float32 an eigenvalue of n p = 3e6 would blur everything below 0.4,
    which is where the smallest alphas act. Data stay in their own precision and are widened block by block.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def as_tensor(values: ArrayLike, name: str) -> Tensor:
    """Return `values` as a tensor of their own shape and dtype, not copied where that is possible.

    A table or a read-only array is copied where memory cannot be shared; Python's floats and lists of them are
    float64, as in NumPy. Raises InputError, naming `name`, for text, objects, ragged lists, sparse tensors and masked
    values.

    >>> as_tensor([[1.0, 2.0]], "X").dtype
    torch.float64
    """
    try:
        listed = isinstance(values, (list, tuple)) and not any(isinstance(value, Tensor) for value in values)
        if listed or isinstance(values, float):
            values = np.asarray(values)  # torch would make float32 of Python's floats
        tensor = convert_to_tensor(values)
    except ValueError as error:  # InputError too
        raise InputError(f"{name} must be numbers in rows of one length, but they are not: {error}") from error
    n_masked = np.ma.count_masked(values) if isinstance(values, np.ma.MaskedArray) else 0
    if n_masked or tensor.layout != torch.strided:
        came = f"{n_masked} values are masked" if n_masked else "it is sparse"
        raise InputError(f"{name} must be an array of which every value is there, but {came}; fill it first.")
    return tensor


def as_matrix(values: ArrayLike, name: str, device: torch.device | None = None, min_rows: int = 1) -> Tensor:
    """Return `values` as a finite 2-D floating tensor (1-D becomes one column), not copied where that is possible.

    `device=None` leaves a tensor where it is. Integers become float64. Raises InputError, naming `name`, for what
    `as_tensor` refuses, another number of dimensions, too few rows, no columns, complex numbers, and values that are
    NaN or infinite (counted).
    """
    tensor = as_tensor(values, name)
    if tensor.is_complex() or tensor.ndim not in (1, 2):
        raise InputError(
            f"{name} must be a real array of 1 or 2 dimensions, but {tuple(tensor.shape)} of {tensor.dtype} came; "
            "flatten it to (stimuli, columns)."
        )
    tensor = tensor.detach()
    if device is not None:
        tensor = tensor.to(device)
    if not tensor.is_floating_point():
        tensor = tensor.to(working_dtype(tensor.device))
    matrix = tensor[:, None] if tensor.ndim == 1 else tensor
    n_rows, n_columns = matrix.shape
    if n_rows < min_rows or n_columns < 1:
        raise InputError(
            f"{name} must have at least {min_rows} row(s) and 1 column, but its shape is {(n_rows, n_columns)}; "
            "rows are stimuli, columns are features or voxels."
        )
    _check_finite(matrix, name)
    return matrix


def _check_finite(matrix: Tensor, name: str) -> None:
    low, high = torch.aminmax(matrix)  # both NaN as soon as one value is: no mask of the matrix's size is made
    if not (torch.isfinite(low) and torch.isfinite(high)):
        n_bad = int((~torch.isfinite(matrix)).sum())
        raise InputError(
            f"{name} has {n_bad} of {matrix.numel()} values that are NaN or infinite, but all must be finite; "
            "mask or repair them first."
        )


def blocks(n_items: int, bytes_per_item: int, block_bytes: int = BLOCK_BYTES) -> Iterator[slice]:
    """Cut `n_items` into slices whose working memory stays under `block_bytes` (one item at least).

    >>> list(blocks(5, bytes_per_item=8, block_bytes=16))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, block_bytes // max(1, bytes_per_item))
    for start in range(0, n_items, step):
        yield slice(start, min(start + step, n_items))


def is_constant(std: Tensor, mean: Tensor, dtype: torch.dtype) -> Tensor:
    """Tell which standard deviations are only the rounding of data stored as `dtype`: std <= 2 eps |mean|.

    Features that a network computes in float32 differ in the last bit from batch size to batch size; scaling such a
    column to unit deviation would turn that noise into a feature.
    """
    return std <= 2 * torch.finfo(dtype).eps * mean.abs()


def column_moments(X: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the population standard deviation of every column, each (columns,), in two passes."""
    dtype = working_dtype(X.device)
    mean = torch.empty(X.shape[1], dtype=dtype, device=X.device)
    std = torch.empty_like(mean)
    for columns in blocks(X.shape[1], X.shape[0] * dtype.itemsize):
        block = X[:, columns].to(dtype, copy=True)
        mean[columns] = block.mean(dim=0)
        std[columns] = block.sub_(mean[columns]).square_().mean(dim=0).sqrt_()
    return mean, std


def average_ranks(values: Tensor, dim: int = -1) -> Tensor:
    """Return ranks 1 .. n along `dim`, ties sharing the mean of their ranks (as `scipy.stats.rankdata`).

    >>> average_ranks(torch.tensor([30.0, 10.0, 30.0, 20.0]))
    tensor([3.5000, 1.0000, 3.5000, 2.0000], dtype=torch.float64)
    """
    values = values.movedim(dim, -1)
    order = argsort(values)
    ordered = values.gather(-1, order)
    n = values.shape[-1]
    position = torch.arange(n, device=values.device).expand(values.shape)
    changes = ordered[..., 1:] != ordered[..., :-1]
    ranks = position.to(working_dtype(values.device)) + 1
    if not changes.all():
        edge = torch.ones_like(ordered[..., :1], dtype=torch.bool)
        first = torch.where(torch.cat([edge, changes], dim=-1), position, 0).cummax(dim=-1).values
        last = torch.where(torch.cat([changes, edge], dim=-1), position, n - 1).flip(-1).cummin(dim=-1).values.flip(-1)
        ranks = (first + last).to(ranks.dtype) / 2 + 1
    return torch.empty_like(ranks).scatter_(-1, order, ranks).movedim(-1, dim)


def argsort(values: Tensor) -> Tensor:
    """Return the order of `values` along their last dimension, ties in any."""
    if values.device.type == "cpu" and values.dtype != torch.bfloat16:  # NumPy has no bfloat16; it sorts much faster
        return torch.from_numpy(values.numpy().argsort(axis=-1))
    return values.argsort(dim=-1)


N_STRIPS, STRIPPED_ROWS = 4, 128
"""A symmetric product of so many rows or more is made in so many strips of rows: 4 spare three eighths of it."""


def row_gram(column_blocks: Iterable[Tensor]) -> Tensor:
    """Return X X' (n, n), exactly symmetric, of a matrix X (n, p) given as blocks of its columns: sum of B B'.

    The blocks are one at a time in memory where they come from a generator. Each is multiplied in its own precision,
    which should be `working_dtype`. On the CPU most products above the diagonal are spared, as BLAS's syrk would spare
    all. PyTorch has none, and NumPy's comes with threads that go on spinning where PyTorch's want to work.

    >>> X = torch.arange(6.0).reshape(2, 3)
    >>> row_gram(X[:, columns] for columns in (slice(0, 2), slice(2, 3)))
    tensor([[ 5., 14.],
            [14., 50.]])
    """
    gram = None
    for block in column_blocks:
        product = _times_own_transpose(block)
        gram = product if gram is None else gram.add_(product)
    return gram


def _times_own_transpose(block: Tensor) -> Tensor:
    if block.device.type != "cpu" or len(block) < STRIPPED_ROWS:
        product = block @ block.T
        return (product + product.T) / 2
    product = block.new_empty(len(block), len(block))
    for rows in blocks(len(block), N_STRIPS, len(block)):  # strips of a matrix, each up to its diagonal
        upto = block[: rows.stop]
        torch.mm(block[rows], upto.T, out=product[rows, : rows.stop])
    return product.tril_().add_(product.tril(-1).T)


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (n,), ascending, and eigenvectors (n, n) of a symmetric matrix, in its dtype on its device.

    Solvers fail now and then on a GPU, or in float32. Where one does, or gives numbers that are not finite, the matrix
    is decomposed again in float64, then on the CPU, each time with a warning in the log. Raises InputError where that
    fails too.

    >>> eigh(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))[0]
    tensor([1., 2.])
    """
    device = matrix.device
    tries = dict.fromkeys(
        [(device, matrix.dtype), (device, working_dtype(device)), (torch.device("cpu"), torch.float64)]
    )
    for where, dtype in tries:
        try:
            found = torch.linalg.eigh(matrix.to(where, dtype))
            reason = "numbers that are not finite"
        except RuntimeError as error:  # LinAlgError, errors of the GPU's library, and what a device does not implement
            found, reason = (), error
        if found and all(torch.isfinite(part).all() for part in found):
            values, vectors = (part.to(device, matrix.dtype) for part in found)
            return values, vectors
        log.warning("eigendecomposition of %d rows in %s on %s failed: %s", len(matrix), dtype, where, reason)
    raise InputError(
        f"A symmetric matrix of {len(matrix)} rows must have finite eigenvectors, but none were found, not even in "
        "float64 on the CPU; see that the features are finite and of sensible size."
    )

"""Ridge statistics gathered in one pass: more images than memory holds, and still the exact answer.

For every fold f of the images: how many there are, their means, and the centred products

    gram_f = sum (x - mean_f)(x - mean_f)',   cross_f = sum (y - mean_f)(x - mean_f)',   squares_f = sum (y - mean_f)^2

which is all that ridge regression and every score that is made of moments ask of the images. Batches are joined by the
rule of Chan, Golub & LeVeque (1983, The American Statistician 37, 242-247), around means that follow the data: features
with large offsets lose nothing to cancellation, and a constant one keeps a deviation of exactly 0.
`deepjuice.alignment.encoding.streamed_ridge` fits and scores.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike as NumpyLike
from torch import Tensor
from tqdm.auto import tqdm

from deepjuice.alignment.linalg import BLOCK_BYTES, ArrayLike, as_matrix, blocks, working_dtype
from deepjuice.devices import get_device
from deepjuice.memory import available_memory
from deepjuice.sizes import format_bytes, parse_bytes
from deepjuice.tensors import convert_to_tensor
from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path, check_replaceable, digest, reading

HEADER = "statistics.json"
_ARRAYS = ("count", "x_mean", "y_mean", "y_squares", "gram", "cross")


class RidgeStatistics:
    """What ridge regression needs to know of images, fold by fold, without the images.

    Args:
        n_features, n_targets, n_folds: p, t and k; the statistics take 8 k (p^2 + p t) bytes, whatever the images.
        device: where they are gathered and worked with.
        memory_limit: of the statistics and the work on them, as `'16GB'`; by default what the device has free.
        folder: keep the cross-products, 8 k p t bytes, in a memory-mapped file there, which has no name and is gone as
            soon as the object is, or the process. Every update then goes over the part of the file of every fold it
            has images of: give large batches, and images of one fold together if you can.
        identity: of the data, whatever text tells them from others; saved statistics are loaded only under their own.

    Attributes:
        count: images of every fold, (k,) int64 on the CPU. n_rows: their sum.
        x_mean, y_mean, y_squares, gram, cross: (k, p), (k, t), (k, t), (k, p, p) and (k, t, p), float64 (float32 on
            mps); cross is on the CPU where it is memory-mapped.

    Raises:
        InputError: when the statistics do not fit, telling how many bytes they need.

    >>> stats = RidgeStatistics(n_features=4, n_targets=2, n_folds=2)
    >>> X = torch.randn(10, 4)
    >>> stats.update(X, X[:, :2], folds=[0, 1] * 5)
    >>> stats.count.tolist(), stats.gram.shape
    ([5, 5], torch.Size([2, 4, 4]))
    """

    def __init__(
        self,
        n_features: int,
        n_targets: int,
        n_folds: int,
        *,
        device: str | int | torch.device = "cpu",
        memory_limit: str | int | None = None,
        folder: str | Path | None = None,
        identity: str = "",
    ):
        if min(n_features, n_targets) < 1 or n_folds < 2:
            raise InputError(
                f"Statistics need 1 feature, 1 target and 2 folds at least, but {n_features}, {n_targets} and "
                f"{n_folds} came; see as_splits and fold_labels."
            )
        self.n_features, self.n_targets, self.n_folds = n_features, n_targets, n_folds
        self.device, self.identity = get_device(device), identity
        self.x_dtype: torch.dtype | None = None
        self.y_dtype: torch.dtype | None = None
        self._whole = True
        self._check_room(memory_limit, folder)
        zeros = {"dtype": working_dtype(self.device), "device": self.device}
        self.count = torch.zeros(n_folds, dtype=torch.int64)
        self.x_mean = torch.zeros(n_folds, n_features, **zeros)
        self.y_mean = torch.zeros(n_folds, n_targets, **zeros)
        self.y_squares = torch.zeros(n_folds, n_targets, **zeros)
        self.gram = torch.zeros(n_folds, n_features, n_features, **zeros)
        shape = (n_folds, n_targets, n_features)
        self.cross = torch.zeros(shape, **zeros) if folder is None else _mapped_zeros(shape, folder, self.gram.dtype)

    @property
    def n_rows(self) -> int:
        """Images gathered so far."""
        return int(self.count.sum())

    def update(self, X: ArrayLike, Y: ArrayLike, folds: NumpyLike) -> None:
        """Add images: features (m, p), responses (m, t) and the fold, 0 .. k - 1, in which each is tested (m,).

        All batches must have the dtypes of the first: whether a column is constant is told by its own rounding. A
        batch that is refused leaves the statistics as they were.
        """
        self.check_whole()
        X, Y = as_matrix(X, "X", self.device), as_matrix(Y, "Y", self.device)
        folds = self._checked(X, Y, folds)
        self.x_dtype, self.y_dtype = X.dtype, Y.dtype
        self._whole = False  # an interrupt from here on leaves part of the batch in the sums
        for fold in folds.unique().tolist():
            rows = torch.nonzero(folds == fold)[:, 0].to(self.device)
            self._add(fold, X[rows], Y[rows])
        self._whole = True

    def _add(self, fold: int, X: Tensor, Y: Tensor) -> None:
        old, new = int(self.count[fold]), len(X)
        share, between = new / (old + new), (old * new / (old + new)) ** 0.5
        X, step = _centred(X, self.x_mean[fold], between)
        self.gram[fold].addmm_(X.T, X)
        self.x_mean[fold] += share * step
        for targets in blocks(self.n_targets, 8 * (3 * len(X) + self.n_features)):
            block, step = _centred(Y[:, targets], self.y_mean[fold, targets], between)
            self.y_mean[fold, targets] += share * step
            self.y_squares[fold, targets] += block.square().sum(dim=0)
            self.cross[fold, targets] += (block.T @ X).to(self.cross)
        self.count[fold] += new

    def _checked(self, X: Tensor, Y: Tensor, folds: NumpyLike) -> Tensor:
        folds = torch.as_tensor(_numbered(folds))
        if (X.shape[1], Y.shape[1]) != (self.n_features, self.n_targets) or not len(X) == len(Y) == folds.numel():
            raise InputError(
                f"A batch must be (m, {self.n_features}) features, (m, {self.n_targets}) targets and m folds, but "
                f"{tuple(X.shape)}, {tuple(Y.shape)} and {folds.numel()} came; align them."
            )
        if folds.dtype.is_floating_point or folds.min() < 0 or folds.max() >= self.n_folds:
            raise InputError(
                f"Folds must be whole numbers from 0 to {self.n_folds - 1}, but {folds.min().item()} to "
                f"{folds.max().item()} of {folds.dtype} came; see fold_labels."
            )
        if (self.x_dtype or X.dtype, self.y_dtype or Y.dtype) != (X.dtype, Y.dtype):
            raise InputError(
                f"All batches must be {self.x_dtype} and {self.y_dtype} as the first, but {X.dtype} and {Y.dtype} "
                "came; convert them."
            )
        return folds.reshape(-1)

    def check_whole(self) -> None:
        """Raise InputError if an update was interrupted: part of its batch is in the sums."""
        if not self._whole:
            raise InputError(
                "These statistics hold part of a batch, for an update was interrupted; load what was saved."
            )

    def _check_room(self, memory_limit: str | int | None, folder: str | Path | None) -> None:
        p, t, k = self.n_features, self.n_targets, self.n_folds
        cross = 8 * k * p * t
        needed = 8 * ((k + 4) * p * p + k * (p + 2 * t)) + 2 * BLOCK_BYTES + (0 if folder else cross)
        limit = available_memory(self.device) if memory_limit is None else parse_bytes(memory_limit)
        what = f"Statistics of {p} features, {t} targets and {k} folds need"
        if needed > limit:
            remedy = "" if folder else f"a folder for the {format_bytes(cross)} of cross-products, "
            raise InputError(
                f"{what} {format_bytes(needed)} ({needed} bytes) of memory, but {format_bytes(limit)} may be used; "
                f"give {remedy}fewer features (a projection) or fewer targets at a time."
            )
        if folder is not None and cross > (free := shutil.disk_usage(folder).free):
            raise InputError(
                f"{what} {format_bytes(cross)} ({cross} bytes) on disk, but {folder} has {format_bytes(free)} free; "
                "choose another folder."
            )

    def save(self, path: str | Path) -> None:
        """Write all there is to a folder `path`, whole or not at all; an earlier save there is replaced."""
        self.check_whole()
        check_replaceable(path, HEADER)
        header = {name: getattr(self, name) for name in ("n_features", "n_targets", "n_folds", "identity")}
        header |= {name: str(getattr(self, name)).removeprefix("torch.") for name in ("x_dtype", "y_dtype")}
        with atomic_path(path) as folder:
            folder.mkdir()
            for name in _ARRAYS:
                np.save(folder / f"{name}.npy", getattr(self, name).cpu().numpy())
            (folder / HEADER).write_text(json.dumps(header))

    @classmethod
    def load(cls, path: str | Path, *, identity: str = "", **places: Any) -> RidgeStatistics:
        """Read what `save` wrote; `places` are `device`, `memory_limit` and `folder`, as for new statistics.

        Raises InputError where nothing whole is saved, or the statistics of other data (another `identity`).
        """
        path = Path(path)
        with reading(path / HEADER, "saved statistics"):
            header = json.loads((path / HEADER).read_text())
            dtypes = {name: getattr(torch, header.pop(name), None) for name in ("x_dtype", "y_dtype")}
            sizes = {name: int(header[name]) for name in ("n_features", "n_targets", "n_folds")}
            saved = str(header["identity"])
        if saved != identity:
            raise InputError(
                f"{path} holds the statistics of other data ({saved!r}), expected {identity!r}; delete it or choose "
                "another place."
            )
        stats = cls(**sizes, identity=identity, **places)
        vars(stats).update(dtypes)
        for name in _ARRAYS:
            with reading(path / f"{name}.npy", "saved statistics"):
                values = np.load(path / f"{name}.npy", mmap_mode="c")
            expected = getattr(stats, name)
            if values.shape != expected.shape:
                raise InputError(
                    f"{path} holds {name} of shape {values.shape}, expected {tuple(expected.shape)}; delete it."
                )
            expected.copy_(torch.from_numpy(values))
        return stats


def _numbered(folds: NumpyLike) -> np.ndarray:
    folds = np.asarray(folds)
    if folds.dtype.kind not in "iuf":
        raise InputError(f"Folds must be whole numbers from 0 up, but {folds.dtype} came; see fold_labels.")
    return folds


def _centred(values: Tensor, mean: Tensor, between: float) -> tuple[Tensor, Tensor]:
    """Rows less their mean, with one more row for the way from `mean` to it, and that way itself.

    Products of the rows are then what a batch adds to centred products around `mean`.
    """
    values = values.to(mean.dtype)
    first = values[0].clone()
    values = values - first  # of a constant column exactly 0
    own = values.mean(dim=0)
    step = first + own - mean
    return torch.cat([values - own, between * step[None]]), step


def _mapped_zeros(shape: tuple[int, ...], folder: str | Path, dtype: torch.dtype) -> Tensor:
    numpy_dtype = torch.empty(0, dtype=dtype).numpy().dtype
    with tempfile.TemporaryFile(dir=folder) as file:  # the map outlives the file's name: nothing to clean up, ever
        return torch.from_numpy(np.memmap(file, numpy_dtype, "w+", shape=shape))


def gather_statistics(
    X: Any,
    Y: Any,
    folds: NumpyLike,
    *,
    save_to: str | Path | None = None,
    save_seconds: float = 600.0,
    identity: str = "",
    block_bytes: int = 4 * BLOCK_BYTES,
    progress: bool = False,
    **places: Any,
) -> RidgeStatistics:
    """Stream features X (n, p) and responses Y (n,) or (n, t), blocks of rows at a time, into `RidgeStatistics`.

    Args:
        X, Y: anything that has a shape and gives rows by slices: arrays, tensors, `numpy.load(..., mmap_mode="r")`,
            Zarr and HDF5 arrays; of a feature store `store[uid]`.
        folds: (n,) the fold in which each image is tested, 0 .. k - 1; `fold_labels` makes them of other kinds.
        save_to: folder for the state, written every `save_seconds` and at the end. Where there is one of the same
            data, the work goes on after its last image.
        identity: tells these data from others, such as `f"{store.digest} {uid}"`; shapes and folds are added to it.
        block_bytes: of the features and responses read at a time. Each block rewrites all sums: with hundreds of
            thousands of targets, gigabytes are faster.
        progress: whether to show a bar.
        **places: `device`, `memory_limit` and `folder` of `RidgeStatistics`.

    >>> X = torch.randn(12, 3)
    >>> gather_statistics(X, X[:, 0], folds=[0, 1, 2] * 4).count
    tensor([4, 4, 4])
    """
    folds = _numbered(folds)
    dims = [len(getattr(data, "shape", ())) for data in (X, Y)]
    if dims[0] != 2 or dims[1] not in (1, 2) or not X.shape[0]:
        shapes = [tuple(getattr(data, "shape", ())) or type(data).__name__ for data in (X, Y)]
        raise InputError(
            f"X must be an array (n, p), n from 1 up, and Y one (n,) or (n, t), but {shapes[0]} and {shapes[1]} came; "
            "make arrays."
        )
    rows = X.shape[0], Y.shape[0], len(folds)
    if len(set(rows)) > 1:
        raise InputError(
            f"X, Y and folds must have one row an image, but they have {rows[0]}, {rows[1]} and {rows[2]}; align them."
        )
    width, n_targets = X.shape[1], Y.shape[1] if len(Y.shape) == 2 else 1
    identity = digest(identity, folds, f"{tuple(X.shape)} {tuple(Y.shape)}")
    if save_to is not None and (Path(save_to) / HEADER).exists():
        stats = RidgeStatistics.load(save_to, identity=identity, **places)
    else:
        stats = RidgeStatistics(width, n_targets, int(folds.max()) + 1, identity=identity, **places)
    begin, saved = stats.n_rows, time.monotonic()
    with tqdm(total=len(folds), initial=begin, desc="statistics", unit="image", disable=not progress) as bar:
        for rows in blocks(len(folds) - begin, 8 * (width + n_targets), block_bytes):
            rows = slice(begin + rows.start, begin + rows.stop)
            stats.update(convert_to_tensor(X[rows]), convert_to_tensor(Y[rows]), folds[rows])
            bar.update(rows.stop - rows.start)
            last = rows.stop == len(folds)
            if save_to is not None and (last or time.monotonic() - saved >= save_seconds):
                stats.save(save_to)
                saved = time.monotonic()
    return stats

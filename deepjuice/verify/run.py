"""Verification of a user's own features and brain data: a sample of both, by ours and by the peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepjuice.alignment import TorchRidgeGCV, compute_rdm, projected_pearson_rdm
from deepjuice.alignment.linalg import working_dtype
from deepjuice.devices import get_device
from deepjuice.extraction.store import FeatureStore
from deepjuice.verify.differences import Difference, format_table, largest_of_each
from deepjuice.verify.geometry import compare_comparisons, compare_projected_rdm, compare_rdms_made, constant_rows
from deepjuice.verify.ridge import compare_ridge
from deepjuice.verify.scores import compare_scores
from juicyfruits import Benchmark
from juicyfruits.errors import InputError

N_LAYERS, N_RIDGE, N_RDM = 3, 1000, 200
"""Layers, and stimuli of a ridge regression and of an RDM, at most: peers take minutes for more."""


@dataclass(frozen=True)
class Verification:
    """What was compared (a heading and notes, for people) and what was found, a line a quantity and peer."""

    heading: str
    notes: tuple[str, ...]
    differences: list[Difference]

    @property
    def ok(self) -> bool:
        """Whether no difference exceeds its tolerance."""
        return not any(found.differs for found in self.differences)

    def __str__(self) -> str:
        n_differ = sum(found.differs for found in self.differences)
        end = f"{n_differ} of {len(self.differences)} lines DIFFER." if n_differ else "All that was compared agrees."
        return "\n".join([self.heading, *self.notes, "", format_table(self.differences), "", end])


def verify(
    store: FeatureStore,
    benchmark: Benchmark,
    layers: Sequence[str] | None = None,
    max_neuroids: int = 200,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Verification:
    """Compare our numbers for a user's features and brain data with those of every peer that is installed.

    Ridge regression and voxel scores (for responses), RDMs of the layers and their comparisons with the brain's, as
    `compare_ridge`, `compare_scores`, `compare_rdms_made`, `compare_projected_rdm`, `compare_comparisons` say. Of more
    than 1,000 stimuli for ridge, or 200 for RDMs, and of more than `max_neuroids`, a random sample is taken.

    Args:
        store: features of the benchmark's stimuli.
        benchmark: responses or RDMs.
        layers: uids of maps; the first, the middle and the last of the store by default.
        max_neuroids: largest number of neuroids to fit.
        seed: of the samples.
        device: where our side runs, one that has float64; the peers run on the CPU.

    Raises:
        InputError: when the store is of other stimuli, a layer is unknown, or the device has no float64.
    """
    store.check_stimuli(benchmark.name, benchmark.stimulus_digest)
    device = get_device(device)
    if working_dtype(device) != torch.float64:
        raise InputError(f"device {device} must have float64 to be held to the peers' digits; verify on cpu or cuda.")
    if max_neuroids < 1:
        raise InputError(f"max_neuroids must be 1 or more, but {max_neuroids} came; leave it out for 200.")
    if seed < 0:
        raise InputError(f"The seed must be a whole number from 0 up, but {seed} came; give another.")
    if layers is None:
        layers = [store.maps[k].uid for k in np.unique(np.linspace(0, len(store) - 1, N_LAYERS).astype(int))]
    sample = _Sample(benchmark, max_neuroids, np.random.default_rng(seed), device)
    found: list[Difference] = []
    for uid in layers:
        X = torch.from_numpy(store[uid]).to(sample.device)
        found += sample.geometry(uid, X, store.row_means(uid), store.ones(uid))
        if benchmark.kind == "responses":
            found += sample.encoding(uid, X, seed)
    heading = f"{store.header.model_uid} and {benchmark.name}; layers {', '.join(layers)}; seed {seed}"
    return Verification(heading, tuple(sample.notes), largest_of_each(found))


class _Sample:
    """The stimuli and neuroids that are compared, drawn once; notes say what was drawn and what was left out."""

    def __init__(self, benchmark: Benchmark, max_neuroids: int, rng: np.random.Generator, device: torch.device):
        self.device, self.notes = device, []
        train, test = np.flatnonzero(benchmark.train), np.flatnonzero(benchmark.test)
        self.rows = _draw(rng, np.arange(len(benchmark.train)), N_RDM)
        self.notes.append(f"RDMs of {len(self.rows)} of {len(benchmark.train)} stimuli")
        if benchmark.kind == "rdms":
            rdms = [rdm for by_subject in benchmark.rdms.values() for rdm in by_subject.values()]
            self.brains = [torch.as_tensor(rdm).to(device) for rdm in rdms]
            return
        benchmark.check_varies()
        Y = benchmark.response_data.to_numpy().T
        cells = [index for by_subject in benchmark.get_roi_indices().values() for index in by_subject.values()]
        self.brains = [compute_rdm(torch.tensor(Y[:, index], device=device)) for index in cells]
        self.train, self.test = _draw(rng, train, N_RIDGE // 2), _draw(rng, test, N_RIDGE // 2)
        varies = np.all([np.ptp(Y[rows], axis=0) > 0 for rows in (self.train, self.test)], axis=0)
        neuroids = _draw(rng, np.flatnonzero(varies), max_neuroids)
        self.Y = torch.tensor(Y[:, neuroids], device=device)
        sizes = f"{len(self.train)} train and {len(self.test)} test stimuli"
        self.notes.append(f"ridge on {sizes} and {len(neuroids)} of {Y.shape[1]} neuroids")

    def encoding(self, uid: str, X: Tensor, seed: int) -> list[Difference]:
        """Ridge, and the scores of its test predictions; neuroids with constant predictions have no such scores."""
        X_train, X_test, Y_train, Y_test = X[self.train], X[self.test], self.Y[self.train], self.Y[self.test]
        found = compare_ridge(X_train, Y_train, X_test, seed=seed)
        predictions = TorchRidgeGCV(device=self.device).fit(X_train, Y_train).predict(X_test)
        varies = predictions.std(dim=0) > 1e-10 * Y_train.std(dim=0)
        if not varies.all():
            self.notes.append(f"{uid}: no scores of {int((~varies).sum())} neuroids whose predictions hardly vary")
        return found + (compare_scores(Y_test[:, varies], predictions[:, varies]) if varies.any() else [])

    def geometry(self, uid: str, X: Tensor, row_means: np.ndarray, ones: np.ndarray) -> list[Difference]:
        """RDMs of a layer, and their comparison with the brain's; stimuli with a constant map have no correlations."""
        dead = constant_rows(X, row_means, ones)[self.rows]
        rows = self.rows[~dead]
        if dead.any():
            self.notes.append(f"{uid}: no RDMs of {int(dead.sum())} stimuli whose map is constant")
        brains = torch.stack([rdm[rows][:, rows] for rdm in self.brains])
        defined = ~brains.isnan().flatten(1).any(dim=1)
        if not defined.all():
            self.notes.append(f"{uid}: no comparison with {int((~defined).sum())} RDMs of the brain that hold NaN")
        if len(rows) < 3:
            return []
        found = compare_rdms_made(X[rows]) + compare_projected_rdm(X[rows], row_means[rows], ones)
        rdm = projected_pearson_rdm(X[rows], row_means[rows], ones)
        return found + (compare_comparisons(rdm, brains[defined]) if defined.any() else [])


def _draw(rng: np.random.Generator, items: np.ndarray, most: int) -> np.ndarray:
    """Return all items, or a random sample of them in their order."""
    return items if len(items) <= most else np.sort(rng.choice(items, most, replace=False))

"""What a model can be run over: a loader, a tensor, or a list of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, default_collate

from juicyfruits.errors import InputError

SAMPLE_SIZE = 4  # enough that different layers do not agree by chance, few enough to hash every map of a large network


@dataclass(frozen=True)
class Inputs:
    """Batches that can be gone through again and again, their number, and a few inputs to look at first."""

    batches: Iterable
    n_batches: int
    n_inputs: int
    sample: torch.Tensor

    @classmethod
    def of(cls, inputs: DataLoader | torch.Tensor | list[torch.Tensor]) -> Inputs:
        """Accept a `DataLoader`, one tensor (all inputs as one batch) or a list of batches."""
        if isinstance(inputs, Inputs):
            return inputs
        if isinstance(inputs, torch.Tensor):
            inputs = [inputs]
        if isinstance(inputs, DataLoader):
            dataset = inputs.dataset
            collate = inputs.collate_fn or default_collate
            sample = first_tensor(collate([dataset[i] for i in range(min(SAMPLE_SIZE, len(dataset)))]))
            return cls(inputs, len(inputs), len(dataset), sample)
        if isinstance(inputs, (list, tuple)) and inputs:
            sizes = [len(first_tensor(batch)) for batch in inputs]
            return cls(inputs, len(inputs), sum(sizes), first_tensor(inputs[0])[:SAMPLE_SIZE])
        raise InputError(
            f"inputs of type {type(inputs).__name__}: expected a DataLoader, a tensor or a non-empty list of "
            "tensors; get_data_loader(paths, preprocess) makes a loader."
        )

    def __iter__(self) -> Iterator[torch.Tensor]:
        for batch in self.batches:
            yield first_tensor(batch)


def first_tensor(batch: object) -> torch.Tensor:
    """Return the inputs of a batch that may also carry labels: the tensor, or the first item of a tuple."""
    while isinstance(batch, (tuple, list)) and batch:
        batch = batch[0]
    if not isinstance(batch, torch.Tensor):
        raise InputError(f"a batch of type {type(batch).__name__}: expected a tensor, or a tuple that begins with one.")
    return batch

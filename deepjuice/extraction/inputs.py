"""What a model can be run over: a loader, a tensor, or a list of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler

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
            return cls._of_loader(inputs)
        if isinstance(inputs, (list, tuple)) and inputs:
            sizes = [len(first_tensor(batch)) for batch in inputs]
            return cls(inputs, len(inputs), sum(sizes), first_tensor(inputs[0])[:SAMPLE_SIZE])
        raise InputError(
            f"inputs of type {type(inputs).__name__}: expected a DataLoader, a tensor or a non-empty list of "
            "tensors; get_data_loader(paths, preprocess) makes a loader."
        )

    @classmethod
    def _of_loader(cls, loader: DataLoader) -> Inputs:
        try:
            n_inputs = len(loader.sampler)
        except TypeError:
            raise InputError(
                "a DataLoader over an IterableDataset: expected one whose number of inputs is known; give a list of "
                "its batches, or a dataset with a length."
            ) from None
        if loader.drop_last:
            n_inputs = len(loader) * loader.batch_size
        if isinstance(loader.sampler, SequentialSampler):  # a few inputs are quicker to load than a whole batch
            first = loader.collate_fn([loader.dataset[i] for i in range(min(SAMPLE_SIZE, n_inputs))])
        else:
            first = next(iter(loader))
        return cls(loader, len(loader), n_inputs, first_tensor(first)[:SAMPLE_SIZE])

    def __iter__(self) -> Iterator[torch.Tensor]:
        seen = 0
        for batch in self.batches:
            tensor = first_tensor(batch)
            seen += len(tensor)
            yield tensor
        if seen != self.n_inputs:
            raise InputError(f"the loader was to give {self.n_inputs} inputs, got {seen}; give a list of its batches.")


def to_model(batch: torch.Tensor, model: nn.Module, device: torch.device) -> torch.Tensor:
    """Return a copy of a batch on the model's device and, for floating inputs, in the precision of its weights.

    A copy, since a network whose first layer works in place would otherwise change the caller's inputs.
    """
    weights = next((p.dtype for p in model.parameters() if p.is_floating_point()), batch.dtype)
    return batch.to(device, weights if batch.is_floating_point() else batch.dtype, copy=True)


def first_tensor(batch: object) -> torch.Tensor:
    """Return the inputs of a batch that may also carry labels: the tensor, or the first item of a tuple."""
    while isinstance(batch, (tuple, list)) and batch:
        batch = batch[0]
    if not isinstance(batch, torch.Tensor):
        raise InputError(f"a batch of type {type(batch).__name__}: expected a tensor, or a tuple that begins with one.")
    return batch

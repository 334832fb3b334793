"""What a model can be run over: a loader, a tensor, or a list of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler

from deepjuice.tracing import n_rows
from juicyfruits.errors import InputError

SAMPLE_SIZE = 4  # enough that different layers do not agree by chance, few enough to hash every map of a large network

Batch = torch.Tensor | Mapping[str, torch.Tensor]
ModelInputs = DataLoader | Batch | list[Batch]


@dataclass(frozen=True)
class Inputs:
    """Batches that can be gone through again and again, their number, and a few inputs to look at first.

    A batch is a tensor, or a dictionary of tensors (tokenised text), which reaches the model as keywords.
    """

    batches: Iterable
    n_batches: int
    n_inputs: int
    batch_size: int  # of the largest batch
    sample: Batch

    @classmethod
    def of(cls, inputs: ModelInputs, sample_size: int = SAMPLE_SIZE) -> Inputs:
        """Accept a `DataLoader`, one tensor or dictionary (all inputs as one batch) or a list of batches."""
        if isinstance(inputs, Inputs):
            return inputs
        if isinstance(inputs, (torch.Tensor, Mapping)):
            inputs = [inputs]
        if isinstance(inputs, DataLoader):
            return cls._of_loader(inputs, sample_size)
        if isinstance(inputs, (list, tuple)) and inputs:
            sizes = [n_rows(model_input(batch)) for batch in inputs]
            return cls(inputs, len(inputs), sum(sizes), max(sizes), take(model_input(inputs[0]), slice(0, sample_size)))
        raise InputError(
            f"inputs of type {type(inputs).__name__}: expected a DataLoader, a tensor or a non-empty list of "
            "tensors; get_data_loader(paths, preprocess) makes a loader."
        )

    @classmethod
    def _of_loader(cls, loader: DataLoader, sample_size: int) -> Inputs:
        try:
            n_inputs = len(loader.dataset) if loader.batch_size is None else len(loader.sampler)
        except TypeError:
            raise InputError(
                "a DataLoader over an IterableDataset: expected one whose number of inputs is known; give a list of "
                "its batches, or a dataset with a length."
            ) from None
        if loader.drop_last:
            n_inputs = len(loader) * loader.batch_size
        if isinstance(loader.sampler, SequentialSampler) and loader.batch_sampler is not None:
            # a few inputs are quicker to load than a whole batch, and the first group of a grouped loader may be one
            n = min(sample_size, n_inputs)  # spread over all, since the first few may be alike
            first = loader.collate_fn([loader.dataset[i * n_inputs // n] for i in range(n)])
        else:
            first = next(iter(loader))
        sizes = [loader.batch_size] if loader.batch_size else map(len, loader.batch_sampler or [[0]])
        return cls(loader, len(loader), n_inputs, max(sizes), take(model_input(first), slice(0, sample_size)))

    def __iter__(self) -> Iterator[Batch]:
        seen = 0
        for batch in _told_plainly(self.batches):
            x = model_input(batch)
            seen += n_rows(x)
            yield x
        if seen != self.n_inputs:
            raise InputError(f"the loader was to give {self.n_inputs} inputs, got {seen}; give a list of its batches.")


def _told_plainly(batches: Iterable) -> Iterator:
    """Yield the batches; of a loader process's error, which comes with its traceback, only the end is for users."""
    try:
        yield from batches
    except InputError as error:
        last = str(error).strip().splitlines()[-1]
        raise InputError(last.removeprefix("juicyfruits.errors.InputError: ")) from None


def model_input(batch: object) -> Batch:
    """Return what of a batch goes to the model: the tensor or dictionary, or the first item of a tuple with labels."""
    while isinstance(batch, (tuple, list)) and batch:
        batch = batch[0]
    if isinstance(batch, Mapping) and batch and all(isinstance(value, torch.Tensor) for value in batch.values()):
        return batch
    if not isinstance(batch, torch.Tensor) or batch.ndim == 0:
        raise InputError(
            f"a batch of type {type(batch).__name__}: expected a tensor, a dictionary of tensors, or a tuple that "
            "begins with one."
        )
    return batch


def each(x: Batch, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
    """Apply a function to a batch's tensor, or to every tensor of its dictionary."""
    return {name: change(tensor) for name, tensor in x.items()} if isinstance(x, Mapping) else change(x)


def take(x: Batch, rows: slice) -> Batch:
    """Return some rows of a batch, as views."""
    return each(x, lambda tensor: tensor[rows])


def to_model(x: Batch, model: nn.Module, device: torch.device) -> Batch:
    """Return a copy of a batch on the model's device and, for floating inputs, in the precision of its weights.

    A copy, since a network whose first layer works in place would otherwise change the caller's inputs.
    """
    weights = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)

    def move(tensor: torch.Tensor) -> torch.Tensor:
        dtype = weights if tensor.is_floating_point() and weights else tensor.dtype
        return tensor.to(device, dtype, copy=True)

    return each(x, move)

"""Feature maps in the hand: a dictionary that knows its size, and a list of them, one a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from deepjuice.extraction.inputs import Batch
from deepjuice.extraction.progress import progress_bar, say
from deepjuice.sizes import printed_total
from juicyfruits.errors import InputError


class FeatureMaps(dict[str, torch.Tensor]):
    """Maps by uid, each of shape (inputs, ...); prints as a short report instead of numbers.

    Args:
        maps: uid -> tensor.
        aliases: uid -> uid of the map with the same values, for the duplicates among `maps`.
        inputs: what the model was given, where it was to be saved: a tensor, or a dictionary of tensors (or one a
            batch, in a list, where their shapes differ).
        irregular: uid -> shapes that differ between batches, for maps that were left out for it.

    >>> FeatureMaps({"Linear-1-1": torch.zeros(2, 3)}).get_input_size()
    2
    """

    def __init__(
        self,
        maps: Mapping[str, torch.Tensor] | Iterable = (),
        aliases: Mapping[str, str] | None = None,
        inputs: Batch | list[Batch] | None = None,
        irregular: Mapping[str, list] | None = None,
    ):
        super().__init__(maps)
        self.aliases = dict(aliases or {})
        self.inputs = inputs
        self.irregular = dict(irregular or {})

    def get_input_size(self) -> int:
        """Return the number of inputs, 0 when there are no maps."""
        return next((len(tensor) for tensor in self.values()), 0)

    def __repr__(self) -> str:
        total = printed_total(tensor.numel() * tensor.element_size() for tensor in self.values())
        on_gpu = sum(tensor.device.type != "cpu" for tensor in self.values())
        duplicates = sum(uid in self for uid in self.aliases)
        return (
            f"FeatureMaps Handle\n  {len(self)} maps; {self.get_input_size()} inputs; {total} \n"
            f"  {on_gpu} maps on GPU ({duplicates} duplicates)"
        )


class BatchedFeatureMaps:
    """Feature maps of several loader batches, kept apart so that irregular ones can be found before joining.

    Args:
        batches: one `FeatureMaps` (or uid -> tensor) a batch.
        progress: whether joining shows a bar and says what it does.

    >>> batched = BatchedFeatureMaps([{"a": torch.zeros(2, 3)}, {"a": torch.ones(1, 3)}], progress=False)
    >>> batched.join_batches()["a"].shape
    torch.Size([3, 3])
    """

    def __init__(self, batches: Iterable[Mapping[str, torch.Tensor]], progress: bool = True):
        self.batches = [batch if isinstance(batch, FeatureMaps) else FeatureMaps(batch) for batch in batches]
        self.progress = progress
        if not self.batches:
            raise InputError("BatchedFeatureMaps: expected at least one batch of feature maps, got none.")

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[FeatureMaps]:
        return iter(self.batches)

    def __getitem__(self, index: Any) -> FeatureMaps | list[FeatureMaps]:
        return self.batches[index]

    def get_uids(self) -> list[str]:
        """Return every uid that occurs in some batch, in order of first occurrence."""
        return list(dict.fromkeys(uid for batch in self.batches for uid in batch))

    def get_input_size(self) -> int:
        """Return the number of inputs over all batches."""
        return sum(batch.get_input_size() for batch in self.batches)

    def get_irregular_shapes(self) -> dict[str, list[tuple[int, ...] | None]]:
        """Return uid -> shape of one input's map in every batch, for the maps whose shape is not the same in all.

        A batch that lacks the map has `None`. An empty dict means that everything can be joined.
        """
        shapes = {
            uid: [tuple(batch[uid].shape[1:]) if uid in batch else None for batch in self.batches]
            for uid in self.get_uids()
        }
        return {uid: found for uid, found in shapes.items() if len(set(found)) > 1}

    def join_batches(self) -> FeatureMaps:
        """Join the regularly shaped maps over all batches; the irregular ones are named and left out."""
        irregular = self.get_irregular_shapes()
        say("Joining all regularly shaped feature_maps into a set:", self.progress)
        if irregular:
            say(f"  Left out (shapes differ between batches): {', '.join(irregular)}", self.progress)
        totals = Counter()
        for batch in self.batches:  # tensor_fn may leave fewer rows of some maps than of others
            totals.update({uid: len(tensor) for uid, tensor in batch.items()})
        inputs = join_inputs([batch.inputs for batch in self.batches if batch.inputs is not None])
        joined = FeatureMaps((), self.batches[0].aliases, inputs, irregular)
        done = Counter()
        for batch in progress_bar("Joining Batched Feature Maps", self.progress, iterable=self.batches):
            for uid, tensor in batch.items():
                if uid not in irregular:
                    if uid not in joined:
                        joined[uid] = tensor.new_empty((totals[uid], *tensor.shape[1:]))
                    joined[uid][done[uid] : done[uid] + len(tensor)] = tensor
                    done[uid] += len(tensor)
        return joined

    def get_report(self) -> str:
        """Return the numbers of batches, inputs and maps, and which maps are irregular."""
        irregular = self.get_irregular_shapes()
        found = "No irregularities found." if not irregular else f"Irregular feature maps: {', '.join(irregular)}"
        return (
            f"Batch Tensor Maps Handler\n  Total Batch Count: {len(self)}\n  # Total Inputs: {self.get_input_size()}\n"
            f"  # of Unique Feature Maps: {len(self.get_uids())}\n  {found}"
        )

    def __repr__(self) -> str:
        return self.get_report()


def join_inputs(batches: Sequence[Batch]) -> Batch | list[Batch] | None:
    """Join saved inputs over all batches; where their shapes differ, as texts of several lengths do, give the list."""
    if not batches:
        return None
    first = batches[0]
    try:
        if isinstance(first, torch.Tensor):
            return torch.cat(list(batches))
        return {name: torch.cat([batch[name] for batch in batches]) for name in first}
    except RuntimeError:
        return list(batches)

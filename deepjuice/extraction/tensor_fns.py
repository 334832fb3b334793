"""What can be done to every map as it comes: functions to give as `tensor_fn` to `get_feature_maps`.

They get a whole batch's map, and by name what else they ask for: `batch_iter`, the number of the batch (`None` in the
look at a few inputs that precedes the extraction), and `mask`, its attention mask.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import DataLoader

from deepjuice.reduction.pooling import TOKEN_POOLINGS, check_choice, pool_tokens, summing_dtype
from juicyfruits.errors import InputError


def average_groups(loader: DataLoader) -> Callable[..., torch.Tensor]:
    """Return a function that averages a batch's rows over each group: (n, ...) -> (groups, ...), in order.

    Joined over all batches, row g is the mean of the inputs of group g (`loader.batch_data["group_index"]`). The dtype
    is kept; means are summed in float64 (float32 on mps).

    Args:
        loader: made by `get_data_loader` from a table with `group_keys`.

    Raises:
        InputError: for a loader without `batch_data`; in the pass, when a map has not one row an input.

    >>> import pandas as pd
    >>> from deepjuice.loaders import get_data_loader
    >>> videos = pd.DataFrame({"video": ["a", "a", "b"], "frame": ["1.png", "2.png", "3.png"]})
    >>> average = average_groups(get_data_loader(videos, torch.tensor, data_key="frame", group_keys="video"))
    >>> average(torch.tensor([[1.0], [3.0], [5.0]]), batch_iter=0)
    tensor([[2.],
            [5.]])
    """
    table = getattr(loader, "batch_data", None)
    if table is None:
        raise InputError(
            "average_groups: expected a loader with groups; get_data_loader(table, group_keys=) makes one."
        )
    groups = table["group_index"].to_numpy()
    batches = table["batch_iter"].to_numpy()

    def average(tensor: torch.Tensor, batch_iter: int | None = None) -> torch.Tensor:
        of_rows = groups[: len(tensor)] if batch_iter is None else groups[batches == batch_iter]
        if len(of_rows) != len(tensor):
            raise InputError(
                f"average_groups: expected {len(of_rows)} rows in batch {batch_iter}, got a map of shape "
                f"{list(tensor.shape)}; extract from the loader that it was made for."
            )
        numbers, counts = np.unique(of_rows, return_counts=True)
        place = torch.from_numpy(np.searchsorted(numbers, of_rows)).to(tensor.device)
        working = tensor.to(summing_dtype(tensor))
        sums = working.new_zeros(len(numbers), *tensor.shape[1:]).index_add_(0, place, working)
        shape = (-1,) + (1,) * (tensor.ndim - 1)
        return (sums / torch.from_numpy(counts).to(sums.device).view(shape)).to(tensor.dtype)

    return average


def token_pooling(how: str = "mean") -> Callable[..., torch.Tensor]:
    """Return a function that pools the token maps of a batch to one row a text; other maps stay as they are.

    A map is one of tokens if its shape is (n, tokens, d) with n and tokens those of the batch's attention mask.

    Args:
        how: `'cls'`, `'mean'` or `'last'`, as in `pool_tokens`.

    Raises:
        InputError: for another `how`; in the pass, for batches without `attention_mask`.

    >>> token_pooling("last")(torch.tensor([[[1.0], [2.0], [3.0]]]), mask=torch.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    check_choice("token pooling", how, TOKEN_POOLINGS)

    def pool(tensor: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        if mask is None:
            raise InputError(
                "token_pooling: expected batches that are dictionaries with 'attention_mask', got batches without; "
                "add one, of ones where nothing is padding."
            )
        return pool_tokens(tensor, how, mask) if tensor.ndim == 3 and tensor.shape[:2] == mask.shape else tensor

    return pool

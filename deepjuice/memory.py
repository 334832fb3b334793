"""What this machine has free, what this process holds, and limits on it."""

from __future__ import annotations

import psutil
import torch

from deepjuice.sizes import parse_bytes


def available_memory(device: torch.device | str) -> int:
    """Return the bytes that are free on a device: of the GPU for CUDA, of the host otherwise."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def held_memory(device: torch.device | str) -> int:
    """Return the bytes that this process holds: of tensors on a GPU, of resident memory on the host.

    >>> held_memory("cpu") > 2**20
    True
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.memory_allocated(device)
    if kind == "mps":
        return torch.mps.current_allocated_memory()
    return psutil.Process().memory_info().rss


def total_limit(memory_limit: str | int | None, device: torch.device | str) -> int:
    """Return a limit on all that this process holds on a device, in bytes: by default what it holds and what is free.

    >>> total_limit("2GB", "cpu")
    2147483648
    """
    return available_memory(device) + held_memory(device) if memory_limit is None else parse_bytes(memory_limit)

"""Where tensors live: one way to name a device, and no silent fallback to another."""

from __future__ import annotations

import pandas as pd
import torch

from juicyfruits.errors import InputError, near_names

_GIB = 1024**3


def get_device(name: str | int | torch.device = "auto") -> torch.device:
    """Turn `cpu`, `cuda`, `cuda:N`, `mps`, `auto` or a CUDA index into a device that is really there.

    `auto` takes CUDA where it exists, then Apple's mps, then the CPU; every other name is meant literally. `cuda` is
    resolved to the current CUDA device, so that the answer always carries its index.

    Raises InputError for an unknown name and for a device that this machine does not have.

    >>> get_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    text = f"cuda:{name}" if isinstance(name, int) else str(name).lower()
    kind, _, index = text.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdecimal()):
        hint = near_names(kind, ["auto", "cpu", "cuda", "mps"])
        raise InputError(f"The device must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', but {text!r} came; {hint}")
    if kind == "cuda":
        return _cuda_device(text, index)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("The device 'mps' needs an Apple GPU, but there is none here; choose 'cpu' or 'auto'.")
    return torch.device(kind)


def _cuda_device(text: str, index: str) -> torch.device:
    if not torch.cuda.is_available():
        raise InputError(f"The device {text!r} needs a CUDA GPU, but torch sees none here; choose 'cpu' or 'auto'.")
    n_devices = torch.cuda.device_count()
    number = int(index) if index else torch.cuda.current_device()
    if number >= n_devices:
        raise InputError(f"The device {text!r} must be one of 'cuda:0' to 'cuda:{n_devices - 1}', the GPUs seen here.")
    return torch.device("cuda", number)


def get_device_name(device: str | int | torch.device) -> str:
    """Name a device as it is printed, with its index where it has one: `CUDA:0`, `MPS`, `CPU`.

    >>> get_device_name("cpu")
    'CPU'
    """
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if device.type != "cuda":
        return device.type.upper()
    number = device.index
    if number is None:
        number = torch.cuda.current_device() if torch.cuda.is_available() else 0
    return f"CUDA:{number}"


def get_device_id(device: str | int | torch.device) -> int:
    """Return the index of a device as `torch.Tensor.get_device` counts: 1 for `cuda:1`, 0 for `mps`, -1 for the CPU.

    `cuda` alone is the current CUDA device. Whether the device is there is not checked; see `get_device`. Raises
    InputError for an unknown name.

    >>> get_device_id("cuda:1"), get_device_id("cpu")
    (1, -1)
    """
    try:
        kind, _, number = get_device_name(device).partition(":")
    except RuntimeError:  # torch's word for a name that it does not know
        hint = near_names(str(device), ["cpu", "cuda", "mps"])
        raise InputError(f"The device must be 'cpu', 'cuda', 'cuda:N' or 'mps', but {device!r} came; {hint}") from None
    return -1 if kind == "CPU" else int(number or 0)


def cuda_device_report(to_pandas: bool = True) -> pd.DataFrame | list[dict]:
    """List the CUDA devices with their total and free memory in GB (1024^3 bytes); empty where there are none.

    Columns `Device` (as in `get_device_name`), `Name`, `Total Memory`, `Free Memory`; with `to_pandas=False` the same
    as one dictionary a device.

    >>> "Total Memory" in cuda_device_report().columns
    True
    """
    rows = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(number)
        names = (f"CUDA:{number}", torch.cuda.get_device_name(number))
        rows.append(dict(zip(_REPORT_COLUMNS, (*names, total / _GIB, free / _GIB), strict=True)))
    return pd.DataFrame(rows, columns=_REPORT_COLUMNS) if to_pandas else rows


_REPORT_COLUMNS = ["Device", "Name", "Total Memory", "Free Memory"]

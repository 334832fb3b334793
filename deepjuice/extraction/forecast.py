"""What every way of extracting a model's maps would take, before any of them runs: `deepjuice plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from deepjuice.devices import get_device_name
from deepjuice.extraction.first_look import FirstLook
from deepjuice.extraction.metadata import get_feature_map_metadata
from deepjuice.extraction.plan import MemoryPlan
from deepjuice.extraction.selection import group_by_memory
from deepjuice.loaders import Preprocess
from deepjuice.memory import total_limit
from deepjuice.reduction.projection import DEFAULT_METHOD
from deepjuice.sizes import format_bytes
from juicyfruits.errors import InputError


@dataclass(frozen=True)
class Forecast:
    """What an extraction will hold in memory; printing it gives a report.

    Attributes:
        title: model, maps, inputs and device.
        width, store_bytes: columns that maps are projected to, and the size of the store.
        limit: bytes that bound what the process holds where the model runs.
        projecting: the plan of the one pass that projects all maps.
        maps: a row a distinct map: uid, path, shape, bytes an input and in all, columns and bytes in the store, and the
            peaks of a pass that ends with it.
        chunks: a row a pass that keeps maps whole: their number and bytes, the map it ends with, and its peaks. Empty
            where a single map does not fit; then `obstacle` says which.
    """

    title: str
    width: int
    store_bytes: int
    limit: int
    projecting: MemoryPlan
    maps: pd.DataFrame
    chunks: pd.DataFrame
    obstacle: str

    def __str__(self) -> str:
        maps = self.maps.drop(columns="layer_path")
        whole = (
            f"Kept whole within the limit: {len(self.chunks)} passes of at most {self.projecting.batch_size} inputs at "
            f"once\n{_readable(self.chunks)}"
            if len(self.chunks)
            else f"Kept whole: {self.obstacle}"
        )
        return (
            f"{self.title}\nMemory limit {format_bytes(self.limit)}\n\n"
            f"Projected to {self.width} columns in one pass, batches of {self.projecting.batch_size}: predicted peak "
            f"{self.projecting}; the store takes {format_bytes(self.store_bytes)}\n\n"
            f"{_readable(maps)}\n\n{whole}"
        )


def forecast(
    model: nn.Module,
    preprocess: Preprocess,
    image_paths: Sequence[str | Path],
    *,
    eps: float = 0.1,
    method: str = DEFAULT_METHOD,
    precision: str = "float32",
    dtype: str = "float32",
    device: str | torch.device = "auto",
    batch_size: int = 64,
    memory_limit: str | int | None = None,
    num_workers: int | None = None,
) -> Forecast:
    """Predict the peak memory of an extraction, projected or whole, per map and per chunk; only a few inputs are run.

    Args:
        model, preprocess, image_paths: as for `extract_features`, and so are all others.

    Raises:
        InputError: when not even one input can be projected within the limit, naming what is needed.
    """
    look = FirstLook.of(model, preprocess, image_paths, eps, precision, device, batch_size, num_workers)
    records, n_duplicates = look.inspection.distinct, len(look.inspection.records) - len(look.inspection.distinct)
    n, limit = look.inputs.n_inputs, total_limit(memory_limit, look.device)
    projecting = look.fit(method, limit)
    maps = _maps(look, projecting.batch_size)
    maps["stored_bytes"] = np.dtype(dtype).itemsize * n * maps["columns"]
    chunks, obstacle = pd.DataFrame(), ""
    try:
        groups, _ = group_by_memory(records, n, look.planner.room(projecting.batch_size, limit))
        chunks = look.planner.groups(groups, n, projecting.batch_size, look.device)
    except InputError as error:
        obstacle = str(error)
    return Forecast(
        title=f"{type(model).__name__}: {len(records)} maps (+{n_duplicates} duplicates), {n} inputs, "
        f"on {get_device_name(look.device)}",
        width=look.width,
        store_bytes=int(maps["stored_bytes"].sum()),
        limit=limit,
        projecting=projecting,
        maps=maps,
        chunks=chunks,
        obstacle=obstacle,
    )


def _maps(look: FirstLook, batch_size: int) -> pd.DataFrame:
    records = {record.uid: record for record in look.inspection.distinct}
    table = get_feature_map_metadata(look.inspection)
    table = table[table["model_layer"].isin(records)][["model_layer", "layer_path", "shape"]].reset_index(drop=True)
    found = [records[uid] for uid in table["model_layer"]]
    columns = [min(record.n_features, look.width) for record in found]
    plans = [look.planner.keeping(0, batch_size, look.device, record.call_uid) for record in found]
    return table.assign(
        bytes_an_input=[record.n_bytes for record in found],
        bytes=[look.inputs.n_inputs * record.n_bytes for record in found],
        columns=columns,
        peak_host=[plan.host for plan in plans],
        peak_device=[plan.device for plan in plans],
    )


def _readable(table: pd.DataFrame) -> str:
    """Return a table as text, with sizes in their natural units and without columns that say nothing."""
    shown = table.dropna(axis="columns", how="all")
    for name in shown.columns:
        if "bytes" in name or "peak" in name:
            shown = shown.assign(**{name: shown[name].map(format_bytes)})
    return shown.to_string(index=False)

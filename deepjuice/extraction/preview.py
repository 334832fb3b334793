"""What is known, and said, of a model's maps before any of them is kept."""

from __future__ import annotations

from typing import Any

import pandas as pd
from torch import nn

from deepjuice.devices import get_device_name
from deepjuice.extraction.inputs import Inputs, to_model
from deepjuice.extraction.inspection import Inspection, MapRecord, inspect_maps
from deepjuice.extraction.metadata import get_feature_map_metadata
from deepjuice.extraction.progress import say
from deepjuice.extraction.settings import MapSettings
from deepjuice.sizes import printed_total
from juicyfruits.errors import InputError


def sample_maps(model: nn.Module, inputs: Inputs, settings: MapSettings) -> Inspection:
    """Look at the model with a few inputs, in full precision: rounded, maps would be equal that are not."""
    # the wording is what users' notebooks and logs show
    names = f"{get_device_name(settings.device)} to {get_device_name(settings.output_device)}"
    say(f"Extracting sample feature_maps with torchinfo ({names})", settings.progress)
    transform = settings.transform
    return inspect_maps(
        model,
        to_model(inputs.sample, model.to(settings.device), settings.device),
        forward=settings.forward,
        input_dim=settings.input_dim,
        transform=(lambda uid, tensor: transform(uid, tensor, inputs.sample, None)) if transform else None,
    )


def looked_at(metadata: Any) -> Inspection | None:
    """Return what an earlier look found: an `Inspection`, that of a `FeatureExtractor`, or `None`."""
    inspection = getattr(metadata, "inspection", metadata)
    if not (inspection is None or isinstance(inspection, Inspection)):
        raise InputError(
            f"metadata of type {type(metadata).__name__}: expected an Inspection (inspect_maps) or a FeatureExtractor."
        )
    return inspection


def table_of(inspection: Inspection, records: list[MapRecord]) -> pd.DataFrame:
    """Return the rows of the metadata table for some maps, in their order."""
    table = get_feature_map_metadata(inspection).set_index("model_layer")
    return table.loc[[record.uid for record in records]].reset_index()


def printed_size(records: list[MapRecord], n_rows: int) -> str:
    """Return what maps of so many inputs take, as reports print it."""
    return printed_total((record.n_bytes for record in records), times=n_rows)


def dry_run_report(inspection: Inspection, records: list[MapRecord], n_rows: int, removed: bool) -> str:
    """Return what a dry run says: inputs, maps, duplicates and memory."""
    n_duplicates = len(inspection.records) - len(inspection.distinct)
    needed = printed_total(record.n_bytes * n_rows for record in records)
    return (
        "get_feature_maps() Dry Run Information\n"
        f"  # Inputs: {n_rows}; # Feature Maps: {len(records)}\n"
        f"  # Duplicates ({'Removed' if removed else 'Kept'}): {n_duplicates}\n"
        f"  Total memory required: {needed}"
    )

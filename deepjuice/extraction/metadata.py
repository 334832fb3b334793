"""A table of a network's feature maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import nn

from deepjuice.devices import get_device
from deepjuice.extraction.inputs import Inputs, ModelInputs, to_model
from deepjuice.extraction.inspection import Inspection, inspect_maps
from juicyfruits.errors import InputError

if TYPE_CHECKING:
    from deepjuice.extraction.extractor import FeatureExtractor


def get_feature_map_metadata(
    source: nn.Module | FeatureExtractor | Inspection,
    inputs: ModelInputs | None = None,
    device: str | int | torch.device = "auto",
    input_dim: int = 0,
) -> pd.DataFrame:
    """Return a table of all feature maps of a model, a row a map, in the order of the computation.

    Columns, under the names of score tables where these have them:
        model_layer: uid of the map; `output_uid` is another name of it.
        layer_path, call: dotted path of the module, `''` for the root, and the number of its call, from 0.
        class, depth: class of the module and its nesting, 0 for the root.
        model_layer_index, model_layer_depth: rank in the order in which calls complete, and the same from 0 to 1.
        shape: of one input's map, a tuple; `n_features` and `bytes` are its size, in the precision of the model.
        duplicate_of: uid of the first map with the same values, `None` for a distinct map.

    Args:
        source: a model; or a `FeatureExtractor` or `Inspection`, which have looked at one already.
        inputs: for a model what it can be run over; only a few of them are.
        device: where the model is moved to and run.
        input_dim: which dimension of the maps counts the inputs.

    Raises:
        InputError: for a model without inputs, inputs without a model, and other sources.

    >>> net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Dropout())
    >>> table = get_feature_map_metadata(net, torch.randn(2, 3, 4, 4), device="cpu")
    >>> table[["model_layer", "shape", "bytes", "duplicate_of"]]
          model_layer      shape  bytes duplicate_of
    0      Conv2d-1-1  (2, 2, 2)     32         None
    1     Flatten-1-2       (8,)     32   Conv2d-1-1
    2     Dropout-1-3       (8,)     32   Conv2d-1-1
    3  Sequential-0-1       (8,)     32   Conv2d-1-1
    """
    records = sorted(_inspection(source, inputs, device, input_dim).records, key=lambda record: record.order)
    last = max(len(records) - 1, 1)
    columns = {
        "model_layer": [record.uid for record in records],
        "output_uid": [record.uid for record in records],
        "layer_path": [record.path for record in records],
        "call": [record.call for record in records],
        "class": [record.class_name for record in records],
        "depth": [record.depth for record in records],
        "model_layer_index": [record.order for record in records],
        "model_layer_depth": [record.order / last for record in records],
        "shape": [record.shape for record in records],
        "n_features": [record.n_features for record in records],
        "bytes": [record.n_bytes for record in records],
        # as objects, so that "no other" stays None and is not turned into NaN
        "duplicate_of": pd.Series([record.alias_of for record in records], dtype=object),
    }
    return pd.DataFrame(columns)


def _inspection(
    source: nn.Module | FeatureExtractor | Inspection,
    inputs: ModelInputs | None,
    device: str | int | torch.device,
    input_dim: int,
) -> Inspection:
    if isinstance(source, nn.Module):
        if inputs is None:
            raise InputError(f"metadata of {type(source).__name__}: expected inputs to run it over; give a loader.")
        device = get_device(device)
        return inspect_maps(source, to_model(Inputs.of(inputs).sample, source.to(device), device), input_dim=input_dim)
    if inputs is not None:
        raise InputError(f"metadata of a {type(source).__name__}: expected no inputs, since it has its own.")
    inspection = getattr(source, "inspection", source)
    if isinstance(inspection, Inspection):
        return inspection
    raise InputError(f"metadata of a {type(source).__name__}: expected a model, a FeatureExtractor or an Inspection.")

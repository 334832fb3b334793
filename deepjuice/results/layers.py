"""What every layer is like, a row each: size, dimensions, and what its values are like."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from deepjuice.results.schema import TELEMETRY
from deepjuice.results.tidy import cell_labels

_VALUES = ("n_features", "width", "effective_dimensionality", *TELEMETRY, "n_silent")
LAYER_COLUMNS = ("model_uid", "model_layer", "layer_path", "model_layer_index", "model_layer_depth", *_VALUES)


def layer_table(ds: xr.Dataset) -> pd.DataFrame:
    """Return one row for every layer of `ds`, columns `LAYER_COLUMNS`, of one model's dataset or of the aggregate.

    Counts are int64, everything else float64; a value that is not defined is NaN.
    """
    columns = cell_labels(ds, {"layer": np.arange(ds.sizes["layer"])}) | {"layer_path": ds["layer_path"].values}
    for name in _VALUES:
        values = ds[name].values
        columns[name] = values.astype(np.float64) if values.dtype.kind == "f" else values
    return pd.DataFrame(columns, columns=list(LAYER_COLUMNS))

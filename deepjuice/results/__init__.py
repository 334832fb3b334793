"""Score tables: one xarray schema, a file a model, one table for all (see docs/results-schema.md)."""

from deepjuice.results.best import best_table
from deepjuice.results.cells import SPLITS, existing_cells, measured_pairs
from deepjuice.results.compare import COMPARISON_COLUMNS, MAX_ALL_PAIRS, compare_models
from deepjuice.results.layers import LAYER_COLUMNS, layer_table
from deepjuice.results.merge import aggregate
from deepjuice.results.schema import SCHEMA_VERSION, check_scores
from deepjuice.results.storage import open_scores, read_scores, write_scores
from deepjuice.results.tidy import (
    BEST_COLUMNS,
    MEAN,
    TIDY_COLUMNS,
    UndefinedScores,
    best_layers,
    get_results_max,
    mean_over_subjects,
    to_tidy,
)

__all__ = [
    "BEST_COLUMNS",
    "COMPARISON_COLUMNS",
    "LAYER_COLUMNS",
    "MAX_ALL_PAIRS",
    "MEAN",
    "SCHEMA_VERSION",
    "SPLITS",
    "TIDY_COLUMNS",
    "UndefinedScores",
    "aggregate",
    "best_layers",
    "best_table",
    "check_scores",
    "compare_models",
    "existing_cells",
    "get_results_max",
    "layer_table",
    "mean_over_subjects",
    "measured_pairs",
    "open_scores",
    "read_scores",
    "to_tidy",
    "write_scores",
]

"""All models of a benchmark in one set of tables, made a model at a time."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from deepjuice.results.best import best_table
from deepjuice.results.compare import compare_models
from deepjuice.results.layers import layer_table
from deepjuice.results.scan import Models, scan
from deepjuice.results.schema import LAYER_ARRAYS, OWN_VARIABLES
from deepjuice.results.storage import fill_layers, read_arrays, write_with_room
from deepjuice.results.summary import Glance, summary
from deepjuice.results.tidy import to_tidy
from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path

TABLES = ("scores.nc", "scores.parquet", "layers.parquet", "best_layers.csv", "comparisons.parquet", "summary.txt")
SPREAD = ("score", "score_normalized", "ci_low", "ci_high")  # columns in which hardly a value occurs twice


def aggregate(
    paths: Iterable[str | Path], out_dir: str | Path, report: str | Path | None = None, progress: bool = True
) -> dict[str, Path]:
    """Merge the models' score files of one benchmark into tables under `out_dir`; return {name: path} of what it wrote.

    `scores.nc` (all layers of all models, region level only: per-voxel arrays stay in the models' own files),
    `scores.parquet` (`to_tidy`, a row group a model), `layers.parquet` (`layer_table`), `best_layers.csv`
    (`best_table`), `comparisons.parquet` (`compare_models`) and `summary.txt` (`summary`, which names `report`, by
    default `report.html` beside `out_dir`).

    Files are gone through three times (checked, put into the tables, compared), one model in memory after another; what
    grows with their number are the rows of `layers.parquet`, `best_layers.csv` and `comparisons.parquet`. `progress`
    shows bars. The tables appear together when all are complete, or not at all.

    Raises InputError if there is no file, if one is not valid, if two hold the same model, or if one differs from the
    first in benchmark, metrics, regions, subjects, data, voxels, resamples or ceilings (it says which file and what).
    """
    paths = [Path(p) for p in paths]
    if not paths:
        raise InputError("No score files to aggregate; score at least one model first.")
    out = Path(out_dir)
    written = {name: out / name for name in TABLES}
    for path in written.values():
        if path.is_dir():  # told before hours of work, and before a table is replaced
            raise InputError(f"{path} is a folder; choose another place.")
    models = scan(paths, progress)
    with ExitStack() as stack:
        places = {name: stack.enter_context(atomic_path(path)) for name, path in written.items()}
        best, glance = _write_scores(models, places, progress)
        layer_table(models.ds).to_parquet(places["layers.parquet"], index=False)
        best.to_csv(places["best_layers.csv"], index=False, float_format="%.6g")
        compared = compare_models(best, lambda uid: _resamples(models, uid), models.df, progress=progress)
        compared.to_parquet(places["comparisons.parquet"], index=False)
        text = summary(models.ds, glance, out, report or out.parent / "report.html")
        places["summary.txt"].write_text(text, encoding="utf-8")
    return written


def _write_scores(models: Models, places: dict[str, Path], progress: bool) -> tuple[pd.DataFrame, Glance]:
    """Write what has a row a layer and cell; return all models' best layers, and what the summary shows."""
    write_with_room(models.ds, places["scores.nc"], LAYER_ARRAYS)
    best, glance = [], Glance(models.ds)
    with h5py.File(places["scores.nc"], "a") as arrays, ExitStack() as stack:
        table = None
        for number in tqdm(range(len(models.paths)), "tables", unit="model", disable=not progress):
            part, values = models.read(number)
            fill_layers(arrays, models.layers(number).start, values, LAYER_ARRAYS)
            tidy = to_tidy(part)
            best.append(best_table(part, tidy))
            glance.add(tidy)
            rows = pa.Table.from_pandas(tidy, preserve_index=False, nthreads=1)
            table = table or stack.enter_context(_tidy_writer(places["scores.parquet"], rows.schema))
            table.write_table(rows)
    return pd.concat(best, ignore_index=True), glance


def _tidy_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a table for rows of scores, half as large as by default: bytes of one meaning stand together."""
    others = [name for name in schema.names if name not in SPREAD]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=others, use_byte_stream_split=list(SPREAD))


def _resamples(models: Models, uid: str) -> np.ndarray:
    field = {"best_resamples": OWN_VARIABLES["best_resamples"]}
    return read_arrays(models.paths[uid], field)["best_resamples"]

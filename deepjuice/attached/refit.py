"""The fits behind a score file, made again with the penalties that it records."""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from deepjuice.attached.fit import FittedEncoder, find_layer, fit_encoder
from deepjuice.extraction.store import FeatureStore
from deepjuice.results.storage import open_scores
from juicyfruits import Benchmark
from juicyfruits.benchmark import data_folder
from juicyfruits.errors import InputError


def refit_encoder(
    scores: str | Path | xr.Dataset,
    layer: str,
    roi: str,
    *,
    store: FeatureStore | str | Path | None = None,
    benchmark: Benchmark | str | Path | None = None,
    **kwargs,
) -> FittedEncoder:
    """Fit again what a score file tells of: the same features, responses and penalties (`alpha`).

    Args:
        scores: a model's score file `results/NAME/scores/MODEL.nc`, or the dataset read from it.
        layer, roi, **kwargs: as of `fit_encoder`; without `stimuli='all'` the fit is the one that was scored.
        store: what was scored, or where it is; by default `results/NAME/features/MODEL.zarr` beside a file.
        benchmark: likewise; by default the folder NAME of prepared benchmarks (`data/`, or JUICYFRUITS_DATA).

    Raises:
        InputError: as `fit_encoder`; for a file without encoding scores; where store or benchmark are missing, or are
            others than were scored.
    """
    if not isinstance(scores, xr.Dataset):
        path = Path(scores)
        with open_scores(path) as dataset:
            store = store or path.parents[1] / "features" / f"{dataset.attrs['model_uid']}.zarr"
            return refit_encoder(dataset, layer, roi, store=store, benchmark=benchmark, **kwargs)
    attrs = scores.attrs
    name = f"scores of {attrs.get('model_uid')} on {attrs.get('benchmark')}"
    if "alpha" not in scores:
        raise InputError(f"{name}: expected penalties of encoding (variable 'alpha'), but there are none; score eReg.")
    if store is None:
        raise InputError(f"{name}: a dataset does not say where its features are; give store=, or the file's path.")
    store = store if isinstance(store, FeatureStore) else FeatureStore(store)
    benchmark = data_folder() / attrs["benchmark"] if benchmark is None else benchmark
    benchmark = benchmark if isinstance(benchmark, Benchmark) else Benchmark(benchmark)
    benchmark = benchmark.subset(rois=json.loads(attrs["settings"])["rois"])  # as scoring does
    for what, found, recorded in (
        (f"feature store {store.path}", store.digest, attrs["features_digest"]),
        (f"benchmark {benchmark.folder}", benchmark.digest, attrs["benchmark_digest"]),
    ):
        if found != recorded:
            raise InputError(f"{name}: expected the content {recorded} of {what}, got {found}; score again.")
    record = find_layer(store, layer)
    alpha = scores["alpha"].sel(layer=record.alias_of or record.uid).to_series()
    return fit_encoder(store, benchmark, record.uid, roi, alpha=alpha, **kwargs)

"""The extraction stage: one forward pass over the stimuli, every distinct map projected into a feature store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from deepjuice import versions
from deepjuice.extraction.background import Background
from deepjuice.extraction.first_look import FirstLook
from deepjuice.extraction.identity import preprocessing_text, weights_digest
from deepjuice.extraction.inputs import Inputs
from deepjuice.extraction.inspection import MapRecord
from deepjuice.extraction.meter import Meter
from deepjuice.extraction.passes import run_pass
from deepjuice.extraction.progress import progress_bar
from deepjuice.extraction.store import DTYPES, FeatureStore, StoreHeader, check_is_store
from deepjuice.extraction.store_writer import StoreWriter
from deepjuice.extraction.telemetry import fold_codes
from deepjuice.loaders import Preprocess, get_data_loader
from deepjuice.memory import total_limit
from deepjuice.reduction import METHODS, ProjectionPool
from deepjuice.reduction.projection import DEFAULT_METHOD
from deepjuice.sizes import format_bytes
from deepjuice.tracing import Event, tensors_in
from juicyfruits.errors import InputError

log = logging.getLogger(__name__)


def extract_features(
    model: nn.Module,
    preprocess: Preprocess,
    image_paths: Sequence[str | Path],
    out: str | Path,
    *,
    model_uid: str,
    stimulus_digest: str,
    eps: float = 0.1,
    method: str = DEFAULT_METHOD,
    seed: int = 0,
    precision: str = "float32",
    dtype: str = "float32",
    device: str | torch.device = "auto",
    batch_size: int = 64,
    memory_limit: str | int | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> FeatureStore:
    """Run a model once over pictures and store every distinct map, projected to the Johnson-Lindenstrauss width.

    Nothing is kept but the projected rows and what the map's values are like (docs/telemetry.md): each map is taken
    inside its event and forgotten. A store of the same
    content is left as it is; an interrupted one is resumed at its last whole block.

    Args:
        model, preprocess: as `get_deepjuice_model` returns them.
        image_paths: the stimuli, in the order of the rows.
        out: the `.zarr` folder to write.
        model_uid, stimulus_digest: recorded, and part of the store's identity.
        eps: relative error of distances that sets the width (`jl_width`).
        method: of projection, `'signed_sums'` or `'sparse'` (`deepjuice.reduction.make_projection`).
        seed: of the projections.
        precision: in which the network computes: `'float32'` (as its weights are), `'float16'` or `'bfloat16'`.
        dtype: of the stored values, `'float32'` or `'float16'`.
        device: where the model and the projections run.
        batch_size: pictures a forward pass; halved until the plan fits `memory_limit`.
        memory_limit: most bytes, or a text such as `'4GB'`, that the whole process may come to hold where the model
            runs: resident memory on the CPU, tensors on a GPU. By default what it holds and what is free there.
        num_workers: loader processes (see `get_data_loader`).
        progress: whether to show a bar.

    Raises:
        InputError: for an unreadable picture, a limit too small for one picture, or a map that holds NaN or infinity;
            nothing that looks finished is left. What was written is resumed if the same extraction is run again.
    """
    _check_settings(seed, dtype, method)
    image_paths = list(image_paths)
    check_is_store(Path(out))
    look = FirstLook.of(model, preprocess, image_paths, eps, precision, device, batch_size, num_workers)
    header = StoreHeader(
        model_uid=model_uid,
        weights_digest=weights_digest(model),
        preprocessing=preprocessing_text(preprocess),
        stimulus_digest=stimulus_digest,
        n_stimuli=len(image_paths),
        reduction={"method": method, "width": look.width, "eps": eps, "seed": seed},
        precision=precision,
        dtype=dtype,
        maps=look.inspection.records,
        stage_version=versions.EXTRACT,
    )
    if _is_finished(out, header):
        log.info("%s: %s is up to date", model_uid, out)
        return FeatureStore(out)
    n_at_once = _plan(look, header, memory_limit)
    projections = ProjectionPool(look.width, method, seed, look.device)
    ones = {record.uid: projections.ones(record.n_features).cpu().numpy() for record in header.distinct}
    with StoreWriter(out, header, ones) as writer:
        left = image_paths[writer.rows_done :]
        if writer.rows_done:
            log.info("%s: resuming at stimulus %d", model_uid, writer.rows_done)
        if left:
            loader = get_data_loader(left, preprocess, n_at_once, num_workers)
            rest = Inputs(loader, len(loader), len(left), n_at_once, look.inputs.sample)
            _fill(writer, model, rest, projections, look.device, progress)
        writer.finish()
    return FeatureStore(out)


def _check_settings(seed: int, dtype: str, method: str) -> None:
    if not 0 <= seed < 2**32:
        raise InputError(f"seed {seed}: expected a whole number from 0 to 2^32 - 1.")
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} of a feature store: expected one of {', '.join(map(repr, DTYPES))}.")
    if method not in METHODS:
        raise InputError(f"projection method {method!r}: expected one of {', '.join(map(repr, METHODS))}.")


def _plan(look: FirstLook, header: StoreHeader, memory_limit: str | int | None) -> int:
    """Return how many pictures go through at once, and log what is left out and what the pass will take."""
    for uid, reason in look.inspection.refused.items():
        log.warning("%s: output %s is not a feature map and is left out: %s", header.model_uid, uid, reason)
    limit = total_limit(memory_limit, look.device)
    plan = look.fit(header.reduction["method"], limit)
    n_distinct = len(header.distinct)
    log.info(
        "%s: %d maps (+%d duplicates) of %d stimuli to %d columns; batches of %d; predicted peak %s (limit %s)",
        *(header.model_uid, n_distinct, len(header.maps) - n_distinct, header.n_stimuli, look.width),
        *(plan.batch_size, plan, format_bytes(limit)),
    )
    return plan.batch_size


def _is_finished(out: str | Path, header: StoreHeader) -> bool:
    try:
        return FeatureStore(out).digest == header.digest
    except InputError:
        return False


def _fill(
    writer: StoreWriter,
    model: nn.Module,
    inputs: Inputs,
    projections: ProjectionPool,
    device: torch.device,
    progress: bool,
) -> None:
    """Project every map inside its event and hand the rows to the writer, which works beside the forward pass."""
    header, records = writer.header, {record.uid: record for record in writer.header.distinct}
    waiting: list[tuple[str, slice, torch.Tensor, torch.Tensor, torch.Tensor]] = []
    meter, heard = Meter(device), torch.from_numpy(writer.active)
    active = heard.to(device)  # on the CPU the writer's own

    def project(event: Event) -> None:
        for uid, tensor in tensors_in(event.call.uid, event.output):
            if uid in records:
                flat = tensor.detach().flatten(1)
                _check_width(uid, flat, records[uid], event.rows)
                projected = projections[flat.shape[1]](flat)
                waiting.append((uid, event.rows, projected, *meter(flat, active[writer.features[uid]])))
        if device.type == "cpu":  # elsewhere a copy would wait for the device: there a batch's rows go together
            hand_over()

    def hand_over() -> None:
        for uid, rows, *found in waiting:
            background.run(_write, writer, uid, rows, *(tensor.cpu() for tensor in found))
        waiting.clear()

    def finish(rows: slice) -> None:
        hand_over()
        heard.copy_(active)
        background.run(writer.commit, rows.stop)
        bar.update(rows.stop - rows.start)

    bar = progress_bar(header.model_uid, progress, header.n_stimuli, initial=writer.rows_done, unit="img")
    with Background() as background, bar:
        run_pass(
            *(model, inputs, project, device),
            after_batch=finish,
            precision=header.precision,
            start_row=writer.rows_done,
        )


def _write(
    writer: StoreWriter, uid: str, rows: slice, projected: torch.Tensor, moments: torch.Tensor, codes: torch.Tensor
) -> None:
    with np.errstate(over="ignore"):  # it is refused below, by name
        values = projected.numpy().astype(writer.header.dtype, copy=False)
    bad = ~np.isfinite(moments[0].numpy())
    if writer.header.dtype == "float16":
        bad |= ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise InputError(
            f"feature map {uid}: expected finite values, got NaN or infinity for {int(bad.sum())} stimuli, the first "
            f"in row {rows.start + int(bad.argmax())}; check that picture, weights, preprocessing, precision and dtype."
        )
    writer.write(uid, rows, values, moments.numpy(), fold_codes(codes.numpy()))


def _check_width(uid: str, flat: torch.Tensor, record: MapRecord, rows: slice) -> None:
    if flat.shape != (rows.stop - rows.start, record.n_features):
        raise InputError(
            f"feature map {uid}, stimuli {rows.start}-{rows.stop - 1}: expected {record.n_features} values a picture "
            f"as in the first pictures, got shape {list(flat.shape)}; a map must have one shape for all stimuli."
        )

"""The extraction stage: one forward pass over the stimuli, every distinct map projected into a feature store."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from uuid import uuid4

import numpy as np
import torch
from torch import nn

from deepjuice import versions
from deepjuice.devices import get_device
from deepjuice.extraction.background import Background
from deepjuice.extraction.inputs import Inputs, to_model
from deepjuice.extraction.inspection import MapRecord, inspect_maps
from deepjuice.extraction.moments import row_moments
from deepjuice.extraction.passes import run_pass
from deepjuice.extraction.plan import Planner, fit_batch
from deepjuice.extraction.progress import progress_bar
from deepjuice.extraction.store import DTYPES, FeatureStore, StoreHeader, check_is_store
from deepjuice.extraction.store_writer import StoreWriter
from deepjuice.loaders import Preprocess, get_data_loader
from deepjuice.memory import format_bytes, total_limit
from deepjuice.reduction import METHODS, ProjectionPool, jl_width
from deepjuice.reduction.projection import DEFAULT_METHOD
from deepjuice.tracing import Event, tensors_in
from juicyfruits.errors import InputError

log = logging.getLogger(__name__)

PLAIN = (bool, int, float, str, tuple, type(None))


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

    Nothing is kept but the projected rows: each map is projected inside its event and forgotten. A store of the same
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
    if not 0 <= seed < 2**32:
        raise InputError(f"seed {seed}: expected a whole number from 0 to 2^32 - 1.")
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} of a feature store: expected one of {', '.join(map(repr, DTYPES))}.")
    if method not in METHODS:
        raise InputError(f"projection method {method!r}: expected one of {', '.join(map(repr, METHODS))}.")
    image_paths = list(image_paths)
    check_is_store(Path(out))
    device = get_device(device)
    model = model.to(device)
    inputs = Inputs.of(get_data_loader(image_paths, preprocess, batch_size, num_workers))
    inspection = inspect_maps(model, to_model(inputs.sample, model, device))
    width = jl_width(len(image_paths), eps)
    header = StoreHeader(
        model_uid=model_uid,
        weights_digest=weights_digest(model),
        preprocessing=preprocessing_text(preprocess),
        stimulus_digest=stimulus_digest,
        n_stimuli=len(image_paths),
        reduction={"method": method, "width": width, "eps": eps, "seed": seed},
        precision=precision,
        dtype=dtype,
        maps=inspection.records,
        stage_version=versions.EXTRACT,
    )
    records = header.distinct
    if _is_finished(out, header):
        log.info("%s: %s is up to date", model_uid, out)
        return FeatureStore(out)
    for uid, reason in inspection.refused.items():
        log.warning("%s: output %s is not a feature map and is left out: %s", model_uid, uid, reason)

    limit = total_limit(memory_limit, device)
    planner = Planner(model, inputs, device, precision=precision)
    plan = fit_batch(partial(planner.projecting, records, width, method), min(batch_size, len(image_paths)), limit)
    log.info(
        "%s: %d maps (+%d duplicates) of %d stimuli to %d columns; batches of %d; predicted peak %s (limit %s)",
        *(model_uid, len(records), len(inspection.records) - len(records), len(image_paths), width),
        *(plan.batch_size, plan, format_bytes(limit)),
    )
    projections = ProjectionPool(width, method, seed, device)
    ones = {record.uid: projections.ones(record.n_features).cpu().numpy() for record in records}
    with StoreWriter(out, header, ones) as writer:
        left = image_paths[writer.rows_done :]
        if writer.rows_done:
            log.info("%s: resuming at stimulus %d", model_uid, writer.rows_done)
        if left:
            loader = get_data_loader(left, preprocess, plan.batch_size, num_workers)
            rest = Inputs(loader, len(loader), len(left), plan.batch_size, inputs.sample)
            _fill(writer, model, rest, projections, device, progress)
        writer.finish()
    return FeatureStore(out)


def weights_digest(model: nn.Module) -> str:
    """Return a short SHA-256 (16 hex digits) of a model: weights, buffers, plain attributes, and code of its own.

    Two networks of the same weights may compute different things: a slope, an eps, another forward.
    """
    sha = hashlib.sha256()
    sources = {type(module): _code(type(module)) for module in model.modules()}
    for name, module in model.named_modules():
        plain = {key: value for key, value in vars(module).items() if isinstance(value, PLAIN) and key != "training"}
        sha.update(f"{name} {type(module).__qualname__} {sorted(plain.items())} {sources[type(module)]}".encode())
    for name, tensor in model.state_dict().items():
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


def preprocessing_text(preprocess: Preprocess) -> str:
    """Describe a preprocessing by what it does: an object by its `repr`, a function by its source.

    What cannot be known so (a closure, defaults, globals that are no modules, a Lambda among transforms) gets a text of
    its own each time, so that no store of it is ever taken for the same.
    """
    if not isinstance(preprocess, FunctionType):
        text = repr(preprocess)
        return f"{text} {uuid4()}" if "Lambda(" in text else text
    known = preprocess.__globals__
    read = [known[name] for name in preprocess.__code__.co_names if name in known]
    fixed = all(inspect.ismodule(value) or isinstance(value, type) or inspect.isbuiltin(value) for value in read)
    source = _source(preprocess)
    if source and fixed and not (preprocess.__closure__ or preprocess.__defaults__ or preprocess.__kwdefaults__):
        return f"{preprocess.__module__}.{preprocess.__qualname__} {hashlib.sha256(source.encode()).hexdigest()[:16]}"
    return f"{preprocess.__qualname__} {uuid4()}"


def _code(kind: type[nn.Module]) -> str:
    """Return what a class of modules does: its source, and its forward as compiled, should another have its name."""
    compiled = getattr(kind.forward, "__code__", None)
    if compiled is None or kind.__module__.startswith("torch."):
        return _source(kind)
    constants = [value for value in compiled.co_consts if isinstance(value, PLAIN)]
    return f"{_source(kind)} {compiled.co_code.hex()} {constants} {compiled.co_names}"


def _source(code: type | FunctionType) -> str:
    """Return the source of a class or function; nothing for torch's own, which its version stands for."""
    if code.__module__.startswith("torch."):
        return torch.__version__
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):  # typed at a prompt
        return ""


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
    waiting: list[tuple[str, slice, torch.Tensor, torch.Tensor]] = []

    def project(event: Event) -> None:
        for uid, tensor in tensors_in(event.call.uid, event.output):
            if uid in records:
                flat = tensor.detach().flatten(1)
                _check_width(uid, flat, records[uid], event.rows)
                waiting.append((uid, event.rows, projections[flat.shape[1]](flat), row_moments(flat)))
        if device.type == "cpu":  # elsewhere a copy would wait for the device: there a batch's rows go together
            hand_over()

    def hand_over() -> None:
        for uid, rows, projected, moments in waiting:
            background.run(_write, writer, uid, rows, projected.cpu(), moments.cpu())
        waiting.clear()

    def finish(rows: slice) -> None:
        hand_over()
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


def _write(writer: StoreWriter, uid: str, rows: slice, projected: torch.Tensor, moments: torch.Tensor) -> None:
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
    writer.write(uid, rows, values, moments.numpy())


def _check_width(uid: str, flat: torch.Tensor, record: MapRecord, rows: slice) -> None:
    if flat.shape != (rows.stop - rows.start, record.n_features):
        raise InputError(
            f"feature map {uid}, stimuli {rows.start}-{rows.stop - 1}: expected {record.n_features} values a picture "
            f"as in the first pictures, got shape {list(flat.shape)}; a map must have one shape for all stimuli."
        )

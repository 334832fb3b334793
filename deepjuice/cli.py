"""The command line `deepjuice`: one verb a stage of the pipeline, and a list of the models."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepjuice.versions import __version__
from juicyfruits.errors import InputError, exit_status

# Stages import what they need when they run, so that `deepjuice --help` and errors of usage come at once.


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; bad input ends it with one sentence on stderr and status 2."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return exit_status(f"deepjuice {args.command}", lambda: args.run(args))


def models(args: argparse.Namespace) -> None:
    """List the models of the registry."""
    from deepjuice.model_zoo import get_model_options

    filters = dict(item.partition("=")[::2] for item in args.filter)
    table = get_model_options(filters)
    print(table.drop(columns="url").to_string(index=False) if len(table) else "no model matches")


def extract(args: argparse.Namespace) -> None:
    """Project every map of a model into a feature store."""
    from deepjuice.extraction import extract_features

    benchmark, model, preprocess = _image_model(args)
    store = extract_features(
        *(model, preprocess, benchmark.image_paths, args.out),
        model_uid=args.model,
        stimulus_digest=benchmark.stimulus_digest,
        seed=args.seed,
        **_extraction_options(args),
    )
    print(store, file=sys.stderr)


def plan(args: argparse.Namespace) -> None:
    """Predict what an extraction will hold in memory, map by map and chunk by chunk, without running it."""
    from deepjuice.extraction import forecast

    benchmark, model, preprocess = _image_model(args)
    found = forecast(model, preprocess, benchmark.image_paths, **_extraction_options(args))
    if args.csv:
        found.maps.to_csv(args.csv, index=False)
    print(found)


def _image_model(args: argparse.Namespace) -> tuple:
    """Return the benchmark, and the model with its preprocessing, which must take pictures."""
    from deepjuice.model_zoo import check_takes, get_deepjuice_model, require_modality, with_image_size
    from juicyfruits import Benchmark

    benchmark = Benchmark(args.benchmark)
    require_modality(args.model, "image")
    model, preprocess = get_deepjuice_model(args.model, seed=args.seed)
    if args.image_size is not None:
        preprocess = with_image_size(preprocess, args.image_size)
        check_takes(model, args.image_size)
    return benchmark, model, preprocess


def _extraction_options(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "eps": args.eps,
        "method": args.method,
        "precision": args.precision,
        "dtype": args.dtype,
        "device": args.device,
        "batch_size": args.batch_size,
        "memory_limit": args.memory_limit or None,
        "num_workers": args.workers,
    }


def profile(args: argparse.Namespace) -> None:
    """Profile a model's answers: which neurons carried them."""
    from deepjuice.influence import profile_images

    benchmark, model, preprocess = _image_model(args)
    profile_images(
        *(model, preprocess, benchmark.image_paths, args.out),
        model_uid=args.model,
        stimulus_digest=benchmark.stimulus_digest,
        threshold=args.threshold,
        neurons=args.neurons,
        device=args.device,
        batch_size=args.batch_size,
        num_workers=args.workers,
    )


def score(args: argparse.Namespace) -> None:
    """Score a feature store against a benchmark."""
    from deepjuice.alignment import DEFAULT_ALPHAS
    from deepjuice.benchmark import DEFAULT_METRICS, Part, ScoreSettings, score_model, score_part
    from deepjuice.extraction import FeatureStore
    from deepjuice.influence import NeuronSets
    from deepjuice.results import write_scores
    from deepjuice.scoring.parts import write_part
    from juicyfruits import Benchmark

    part = None if args.part is None else Part.parse(args.part)
    settings = ScoreSettings(
        metrics=tuple(args.metrics or DEFAULT_METRICS),
        alphas=tuple(args.alphas or DEFAULT_ALPHAS),
        rois=tuple(args.rois) if args.rois else None,
        rdm_comparison=args.rdm_comparison,
        n_bootstraps=args.n_bootstraps,
        n_permutations=args.n_permutations,
        seed=args.seed,
    )
    store, benchmark = FeatureStore(args.features), Benchmark(args.benchmark)
    profiles = NeuronSets.load(args.profiles) if args.profiles else None
    if part:
        write_part(score_part(store, benchmark, part, settings, args.device, profiles=profiles), args.out)
    else:
        write_scores(score_model(store, benchmark, settings, args.device, profiles=profiles), args.out)


def join(args: argparse.Namespace) -> None:
    """Make one model's score file of all parts of its scoring."""
    from deepjuice.results import write_scores
    from deepjuice.scoring.join import join_parts
    from deepjuice.scoring.parts import open_parts

    if Path(args.out).resolve() in {Path(part).resolve() for part in args.parts}:
        raise InputError(f"{args.out} is one of the parts, and would be replaced; give the score file another name.")
    with open_parts(args.parts) as parts:
        scores = join_parts(parts)
    write_scores(scores, args.out)


def aggregate(args: argparse.Namespace) -> None:
    """Put the scores of all models into one table."""
    from deepjuice.results import aggregate

    aggregate(args.scores, args.out)


def report(args: argparse.Namespace) -> None:
    """Write the HTML report of a results folder."""
    from deepjuice.report import write_report

    try:
        config = json.loads(args.config)
    except json.JSONDecodeError as error:
        raise InputError(f"--config: expected JSON, got {args.config[:40]!r} ({error}).") from None
    write_report(args.results, args.out, config)


def status(args: argparse.Namespace) -> None:
    """Tell the state of a results folder: what is done, what is not, what failed, what is out of date."""
    from deepjuice.status import folder_status
    from deepjuice.status_text import status_text

    print(status_text(folder_status(args.results), args.all))


def verify(args: argparse.Namespace) -> int:
    """Compare our numbers with those of other packages, on your own features and brain data."""
    from deepjuice.extraction import FeatureStore
    from deepjuice.verify import verify
    from juicyfruits import Benchmark

    store, benchmark = FeatureStore(args.features), Benchmark(args.benchmark)
    found = verify(store, benchmark, args.layers, args.max_neuroids, args.seed, args.device)
    print(found)
    return 0 if found.ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deepjuice", description="Which layer of which network predicts which region of visual cortex?"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(run) -> argparse.ArgumentParser:
        command = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        return command

    command = add(models)
    command.add_argument("filter", nargs="*", metavar="COLUMN=TEXT", help="e.g. source=torchvision architecture=resnet")

    command = add(extract)
    _add_model(command)
    command.add_argument("out", help="feature store to write, .zarr")
    _add_extraction(command)

    command = add(plan)
    _add_model(command)
    command.add_argument("--csv", metavar="FILE", help="also write the table of maps to a file")
    _add_extraction(command)

    command = add(profile)
    _add_model(command)
    command.add_argument("out", help="file of profiles to write, .npz")
    command.add_argument("--threshold", type=float, default=0.1, help="share of influence that is followed (0.1)")
    command.add_argument("--neurons", default="channel", choices=["channel", "element"], help="type (channel)")
    command.add_argument("--seed", type=int, default=0, help="of untrained weights (0)")
    _add_pictures(command, batch_size=8)

    command = add(score)
    command.add_argument("features", help="feature store, .zarr")
    command.add_argument("benchmark", help="folder of a prepared benchmark")
    command.add_argument("out", help="score file to write, .nc")
    command.add_argument("--metrics", nargs="+", help="of eReg, cRSA, eRSA, pRSA (the first three)")
    command.add_argument("--profiles", metavar="FILE", help="of the same model and pictures, .npz, for pRSA")
    command.add_argument("--alphas", nargs="+", type=float, help="grid of ridge penalties (0.1 to 1e8, two a decade)")
    command.add_argument("--rois", nargs="+", help="regions to score (all)")
    comparisons = "pearson, spearman, cosine or concordance (pearson)"
    command.add_argument("--rdm-comparison", default="pearson", help=comparisons)
    command.add_argument("--n-bootstraps", type=int, default=1000, help="resamples behind intervals, 0: none (1000)")
    command.add_argument("--n-permutations", type=int, default=1000, help="shuffles behind p-values, 0: none (1000)")
    command.add_argument("--seed", type=int, default=0, help="of resamples and shuffles (0)")
    command.add_argument(
        "--part", metavar="K/N", help="score the K-th of N ranges of layers only; OUT is a part, for deepjuice join"
    )
    _add_device(command)

    command = add(join)
    command.add_argument("out", help="score file to write, .nc")
    command.add_argument("parts", nargs="+", help="files of all parts, as deepjuice score --part wrote them")

    command = add(aggregate)
    command.add_argument("out", help="results folder to write the tables to")
    command.add_argument("scores", nargs="+", help="score files, one a model")

    command = add(report)
    command.add_argument("results", help="results folder with the aggregated tables")
    command.add_argument("out", help="HTML file to write")
    command.add_argument("--config", default="null", help="the run's configuration, as JSON, to show in the report")

    command = add(status)
    command.add_argument("results", nargs="?", default="results", help="results folder (results)")
    command.add_argument("--all", action="store_true", help="list every model, not only the unfinished ones")

    command = add(verify)
    command.add_argument("features", help="feature store, .zarr")
    command.add_argument("benchmark", help="folder of a prepared benchmark")
    command.add_argument("--layers", nargs="+", metavar="UID", help="maps to verify (the first, middle and last)")
    command.add_argument("--max-neuroids", type=int, default=200, help="neuroids to fit, drawn at random (200)")
    command.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    command.add_argument("--device", default="cpu", help="of our side: cpu, cuda or cuda:N (cpu)")
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="uid of the model, as `deepjuice models` lists it")
    command.add_argument("benchmark", help="folder of a prepared benchmark")


def _add_extraction(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--eps", type=float, default=0.1, help="relative error of distances after projection (0.1)")
    add("--method", default="signed_sums", choices=["signed_sums", "sparse"], help="of projection (signed_sums)")
    add("--seed", type=int, default=0, help="of projections and untrained weights (0)")
    precisions = ["float32", "float16", "bfloat16"]
    add("--precision", default="float32", choices=precisions, help="of the network (float32)")
    add("--dtype", default="float32", choices=["float32", "float16"], help="of the stored values (float32)")
    add("--memory-limit", help="most the process may hold where the model runs, e.g. 4GB; by default what is free")
    _add_pictures(command, batch_size=32)


def _add_pictures(command: argparse.ArgumentParser, batch_size: int) -> None:
    add = command.add_argument
    add("--image-size", type=int, help="height and width of the pictures, pixels (as the model was trained)")
    add("--batch-size", type=int, default=batch_size, help=f"pictures a forward pass ({batch_size})")
    add("--workers", type=int, help="loader processes (by the number of cores)")
    _add_device(command)


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="cpu, cuda, cuda:N, mps or auto (auto)")


if __name__ == "__main__":
    sys.exit(main())

"""`juicyfruits fetch` and `juicyfruits prepare`: a public data set by its name, and the options that it has."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from juicyfruits import cowley_v4, kriegeskorte92
from juicyfruits.benchmark import Benchmark
from juicyfruits.datasets import DATASETS
from juicyfruits.files import atomic_path
from juicyfruits.nsd import layout
from juicyfruits.nsd.design import IMAGE_SETS
from juicyfruits.nsd.fetch import fetch_nsd, list_nsd
from juicyfruits.nsd.prepare import prepare_nsd
from juicyfruits.remote import Record, open_source, stat_files

Sizes = list[tuple[str, int]]
V4_SESSION = "210325"  # with single repeats, so that it has noise ceilings


def add_fetch(parser: argparse.ArgumentParser) -> None:
    """Give `fetch` a subcommand for every public data set."""
    datasets = parser.add_subparsers(required=True, metavar="DATASET")
    for name, (options, fetch, sizes) in {
        "nsd": (_nsd_fetch_options, _fetch_nsd, _list_nsd),
        "kriegeskorte92": (_no_options, _fetch_k92, _list_k92),
        "cowley_v4": (_v4_sessions, _fetch_v4, _list_v4),
    }.items():
        one = datasets.add_parser(name, help=DATASETS[name].title)
        one.add_argument("out", type=Path, metavar="OUT", help="folder to fetch into; what is there is kept")
        one.add_argument(
            "--from",
            dest="url",
            metavar="URL",
            default=DATASETS[name].url,
            help="s3://BUCKET[?endpoint=URL], https://HOST/PATH or a folder (%(default)s)",
        )
        options(one)
        one.add_argument("--jobs", type=int, default=4, help="files fetched at the same time (%(default)s)")
        one.add_argument("--dry-run", action="store_true", help="list what would be fetched, with sizes, and stop")
        one.add_argument("--receipt", type=Path, metavar="FILE", help="write what was fetched there, when all is")
        one.set_defaults(run=_fetch, dataset=name, fetch=fetch, sizes=sizes)


def add_prepare(parser: argparse.ArgumentParser) -> None:
    """Give `prepare` a subcommand for every public data set."""
    datasets = parser.add_subparsers(required=True, metavar="DATASET")
    for name, (options, prepare) in {
        "nsd": (_nsd_prepare_options, _prepare_nsd),
        "kriegeskorte92": (_k92_options, _prepare_k92),
        "cowley_v4": (_v4_session, _prepare_v4),
    }.items():
        one = datasets.add_parser(name, help=DATASETS[name].title)
        one.add_argument("source", type=Path, metavar="SOURCE", help="folder that was fetched, or is laid out so")
        one.add_argument("out", type=Path, metavar="OUT", help="benchmark folder to write, such as data/nsd")
        one.add_argument("--name", help="the benchmark's name; the folder's by default")
        options(one)
        one.set_defaults(run=lambda args: print(args.prepare(args)), prepare=prepare)


def _fetch(args: argparse.Namespace) -> None:
    dataset = DATASETS[args.dataset]
    print(f"{dataset.title}\n{dataset.citation}\ndoi:{dataset.doi}; licence: {dataset.licence}")
    if args.dry_run:
        sizes: Sizes = args.sizes(args)
        for what, n_bytes in sizes:
            print(f"{n_bytes:>16,}  {what}")
        print(f"{sum(n_bytes for _, n_bytes in sizes):>16,}  bytes in all; nothing was fetched")
        return
    fetch: Callable[[argparse.Namespace], list[Record]] = args.fetch
    records = fetch(args)
    if args.receipt:
        with atomic_path(args.receipt) as tmp:
            tmp.write_text(json.dumps([asdict(record) for record in records], indent=1) + "\n")
    print(f"{len(records)} files, {sum(record.size for record in records):,} bytes, are whole in {args.out}")


def _no_options(parser: argparse.ArgumentParser) -> None:
    pass


def _nsd_choice(parser: argparse.ArgumentParser, by_default: str) -> None:
    parser.add_argument("--subjects", nargs="+", metavar="subjNN", help=by_default)
    parser.add_argument("--image-set", choices=IMAGE_SETS, default="shared1000", help="%(default)s")
    parser.add_argument("--rois", nargs="+", metavar="ROI", help="EVC OTC, and the finer areas as columns, by default")
    parser.add_argument("--beta-version", default=layout.DEFAULT_BETAS, help="%(default)s")
    parser.add_argument("--space", default=layout.DEFAULT_SPACE, help="%(default)s")


def _nsd_fetch_options(parser: argparse.ArgumentParser) -> None:
    _nsd_choice(parser, f"{' '.join(layout.COMPLETE_SUBJECTS)} by default")
    parser.add_argument("--accept-terms", action="store_true", help="you accept NSD's terms of use; asked for once")


def _nsd_prepare_options(parser: argparse.ArgumentParser) -> None:
    _nsd_choice(parser, "all that are there by default")
    parser.add_argument("--ncsnr-threshold", type=float, default=0.2, help="keep voxels above it (%(default)s)")
    parser.add_argument("--repeats", choices=("keep", "mean"), default="keep", help="%(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="subjects prepared at the same time (%(default)s)")


def _chosen(args: argparse.Namespace) -> dict:
    names = ("subjects", "image_set", "rois", "beta_version", "space")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _fetch_nsd(args: argparse.Namespace) -> list[Record]:
    return fetch_nsd(args.url, args.out, accept_terms=args.accept_terms, jobs=args.jobs, **_chosen(args))


def _list_nsd(args: argparse.Namespace) -> Sizes:
    return list_nsd(args.url, **_chosen(args))


def _prepare_nsd(args: argparse.Namespace) -> Benchmark:
    method = {name: getattr(args, name) for name in ("ncsnr_threshold", "repeats", "jobs", "name")}
    return prepare_nsd(args.source, args.out, **method, **_chosen(args))


def _k92_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", default=(), metavar="NAME", help="the release's model RDMs, such as V1")


def _fetch_k92(args: argparse.Namespace) -> list[Record]:
    return kriegeskorte92.fetch(args.url, args.out, jobs=args.jobs)


def _list_k92(args: argparse.Namespace) -> Sizes:
    return [(file.key, file.size) for file in stat_files(open_source(args.url), kriegeskorte92.KEYS)]


def _prepare_k92(args: argparse.Namespace) -> Benchmark:
    return kriegeskorte92.prepare(args.source, args.out, models=args.models, name=args.name)


def _v4_sessions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sessions", nargs="+", default=[V4_SESSION], metavar="SESSION", help=f"such as 210325 201025; {V4_SESSION}"
    )


def _v4_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--session", help=f"such as 201025; {V4_SESSION} by default")


def _fetch_v4(args: argparse.Namespace) -> list[Record]:
    return cowley_v4.fetch(args.url, args.out, args.sessions, jobs=args.jobs)


def _list_v4(args: argparse.Namespace) -> Sizes:
    source = open_source(args.url)
    return [(file.key, file.size) for file in stat_files(source, cowley_v4.keys(source, args.sessions))]


def _prepare_v4(args: argparse.Namespace) -> Benchmark:
    if args.session is None:
        print(f"session {V4_SESSION}, as none is named")
    return cowley_v4.prepare(args.source, args.out, args.session or V4_SESSION, name=args.name)

"""The command `juicyfruits`: make, prepare, list and check benchmarks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from juicyfruits.benchmark import Benchmark, data_folder
from juicyfruits.errors import InputError
from juicyfruits.nsd import layout
from juicyfruits.nsd.prepare import prepare_nsd
from juicyfruits.synthetic.mini import make_mini


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status: 0, or 2 with one line on stderr for bad input or a full disk."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except (InputError, OSError) as error:
        print(f"juicyfruits: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("juicyfruits: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="juicyfruits", description="Stimuli and brain data for deepjuice.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    mini = commands.add_parser("make-mini", help="write a synthetic brain with known answers, in NSD's layout")
    mini.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    mini.add_argument("--seed", type=int, default=0)
    mini.add_argument("--shared", type=int, default=240, help="pictures that all subjects see (%(default)s)")
    mini.add_argument("--unique", type=int, default=20, help="pictures that one subject sees (%(default)s)")
    mini.add_argument("--subjects", type=int, default=2, help="number of subjects (%(default)s)")
    mini.set_defaults(run=_make_mini)

    prepare = commands.add_parser("prepare", help="prepare a benchmark from a folder in NSD's layout")
    prepare.add_argument("source", type=Path, metavar="SOURCE", help="root of the release, or of make-mini")
    prepare.add_argument("out", type=Path, metavar="OUT", help="benchmark folder to write, such as data/nsd")
    prepare.add_argument("--subjects", nargs="+", metavar="subjNN", help="all that are there by default")
    prepare.add_argument("--image-set", default="shared1000", help="%(default)s")
    prepare.add_argument("--rois", nargs="+", metavar="ROI", help="EVC OTC, and the finer areas as columns, by default")
    prepare.add_argument("--ncsnr-threshold", type=float, default=0.2, help="keep voxels above it (%(default)s)")
    prepare.add_argument("--beta-version", default=layout.DEFAULT_BETAS, help="%(default)s")
    prepare.add_argument("--space", default=layout.DEFAULT_SPACE, help="%(default)s")
    prepare.add_argument("--name", help="the benchmark's name; the folder's by default")
    prepare.set_defaults(run=_prepare)

    listing = commands.add_parser("list", help="list the benchmarks under JUICYFRUITS_DATA (default: data)")
    listing.set_defaults(run=_list)

    check = commands.add_parser(
        "check", help="load and check a benchmark folder with all its pictures, and describe it"
    )
    check.add_argument("folder", type=Path, metavar="FOLDER")
    check.set_defaults(run=_check)
    return parser


def _make_mini(args: argparse.Namespace) -> None:
    out = make_mini(args.out, seed=args.seed, n_shared=args.shared, n_unique=args.unique, n_subjects=args.subjects)
    print(f"Wrote a synthetic brain to {out}; next: juicyfruits prepare {out} {data_folder() / 'nsd_mini'}")


def _prepare(args: argparse.Namespace) -> None:
    benchmark = prepare_nsd(
        args.source,
        args.out,
        subjects=args.subjects,
        image_set=args.image_set,
        rois=args.rois,
        ncsnr_threshold=args.ncsnr_threshold,
        beta_version=args.beta_version,
        space=args.space,
        name=args.name,
    )
    print(benchmark)


def _list(args: argparse.Namespace) -> None:
    found = (path.parent for path in data_folder().glob("*/stimuli.csv"))
    folders = sorted(folder for folder in found if not folder.name.startswith("."))  # unfinished or left over
    for folder in folders:
        try:
            summary = repr(Benchmark(folder)).replace("\n", ";").replace(";  ", "; ")
        except (InputError, OSError) as error:
            summary = f"not usable: {error}"
        print(f"{folder}: {summary}")
    if not folders:
        print(f"no benchmarks in {data_folder()}; docs/bring-your-own.md tells how to make one")


def _check(args: argparse.Namespace) -> None:
    benchmark = Benchmark(args.folder)
    recorded = benchmark.info.get("digest", benchmark.digest)
    if recorded != benchmark.digest:
        raise InputError(
            f"{args.folder} has changed since it was prepared: benchmark.json records digest {recorded}, its files "
            f"have {benchmark.digest}; prepare it again, or delete benchmark.json if the change is meant"
        )
    for index in range(len(benchmark.image_paths)):
        benchmark.get_stimulus(index)
    if benchmark.kind == "responses":
        benchmark.check_varies()
    print(benchmark)


if __name__ == "__main__":
    sys.exit(main())

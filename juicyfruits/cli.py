"""The command `juicyfruits`: make, fetch, prepare, examine and list benchmarks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from juicyfruits.benchmark import Benchmark, data_folder
from juicyfruits.cli_public import add_fetch, add_prepare
from juicyfruits.datasets import DATASETS
from juicyfruits.doctor import examine
from juicyfruits.errors import InputError, exit_status
from juicyfruits.synthetic.mini import make_mini


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status.

    0, or 1 where `doctor` found errors, 2 with one line on stderr for bad input or a full disk, 130 after Ctrl-C.
    """
    args = _parser().parse_args(argv)
    return exit_status("juicyfruits", lambda: args.run(args))


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

    add_fetch(commands.add_parser("fetch", help="fetch a public data set, or what is needed of it"))
    add_prepare(commands.add_parser("prepare", help="prepare a benchmark from a public data set, as it was fetched"))

    doctor = commands.add_parser("doctor", help="examine a fetched data set or a benchmark; exit status 1: errors")
    doctor.add_argument("folder", type=Path, metavar="FOLDER")
    doctor.add_argument("--thorough", action="store_true", help="all voxels and pictures instead of a sample")
    doctor.add_argument("--no-hashes", action="store_true", help="compare sizes of fetched files, not their content")
    doctor.set_defaults(run=_doctor)

    listing = commands.add_parser("list", help="list public data sets, and benchmarks under JUICYFRUITS_DATA (data)")
    listing.set_defaults(run=_list)
    return parser


def _make_mini(args: argparse.Namespace) -> None:
    out = make_mini(args.out, seed=args.seed, n_shared=args.shared, n_unique=args.unique, n_subjects=args.subjects)
    print(f"Wrote a synthetic brain to {out}; next: juicyfruits prepare nsd {out} {data_folder() / 'nsd_mini'}")


def _doctor(args: argparse.Namespace) -> int:
    report = examine(args.folder, hashes=not args.no_hashes, thorough=args.thorough)
    print(report)
    return 0 if report.ok else 1


def _list(args: argparse.Namespace) -> None:
    print("public data sets (juicyfruits fetch NAME):")
    for dataset in DATASETS.values():
        print(f"  {dataset.name}: {dataset.title}; {dataset.size}; {dataset.licence}")
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


if __name__ == "__main__":
    sys.exit(main())

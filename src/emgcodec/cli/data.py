"""Build the corpus from clones of its public sources, or list them.

Example:
  emgcodec data list
  emgcodec data prepare myo_readings --source myo-readings-dataset --out corpus/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from emgcodec.cli.options import make_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="names, devices, licences, commits, citations")
    make = actions.add_parser("prepare", help="turn a clone into corpus files")
    make.add_argument("name", metavar="NAME", help="of a collection; see list")
    make.add_argument("--source", type=Path, required=True, metavar="CLONE", help="its clone")
    make.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the corpus")
    make.add_argument(
        "--any-commit", action="store_true", help="also take another commit than the pinned one"
    )


def run(args: argparse.Namespace) -> int:
    """Lists the collections, or writes one and prints what was left out."""
    from emgcodec.prepare import COLLECTIONS, prepare

    if args.action == "list":
        for each in COLLECTIONS.values():
            rate = f"{each.channels} channels, {each.sample_rate:g} Hz"
            print(f"{each.name}: {each.device}, {rate}")
            print(f"  source   https://github.com/{each.repository}\n  commit   {each.commit}")
            print(f"  licence  {each.licence}\n  cite     {each.citation}")
        return 0
    make_folder(args.out)
    done = prepare(args.name, args.source, args.out, any_commit=args.any_commit)
    print(*done.notes, sep="\n", end="\n" if done.notes else "")
    print(f"{len(done.files)} corpus files ({done.seconds / 3600:.2f} h of signal) in {args.out}")
    return 0

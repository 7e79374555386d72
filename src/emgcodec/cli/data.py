"""Build the corpus from clones of its public sources, list them, or simulate typists.

Example:
  emgcodec data list
  emgcodec data prepare myo_readings --source myo-readings-dataset --out corpus/
  emgcodec data simulate --users 8 --test-users 2 --sessions 6 --minutes 5 --out sessions/
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
    made = actions.add_parser("simulate", help="typing sessions in the files of emg2qwerty")
    made.add_argument("--users", type=int, default=4, help="how many type (4)")
    made.add_argument("--test-users", type=int, default=2, help="how many of them test (2)")
    made.add_argument("--sessions", type=int, default=6, help="of each (6)")
    made.add_argument("--minutes", type=float, default=5.0, help="of each session (5)")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of sessions")


def run(args: argparse.Namespace) -> int:
    """Lists the collections, writes one and prints what was left out, or simulates typing."""
    from emgcodec.prepare import COLLECTIONS, prepare

    if args.action == "list":
        for each in COLLECTIONS.values():
            rate = f"{each.channels} channels, {each.sample_rate:g} Hz"
            print(f"{each.name}: {each.device}, {rate}")
            print(f"  source   https://github.com/{each.repository}\n  commit   {each.commit}")
            print(f"  licence  {each.licence}\n  cite     {each.citation}")
        return 0
    make_folder(args.out)
    if args.action == "simulate":
        from emgcodec.train.typists import write_typists

        paths = write_typists(
            args.out, args.users, args.sessions, args.minutes, test_users=args.test_users
        )
        print(f"{len(paths)} sessions in {args.out}")
        return 0
    done = prepare(args.name, args.source, args.out, any_commit=args.any_commit)
    print(*done.notes, sep="\n", end="\n" if done.notes else "")
    print(f"{len(done.files)} corpus files ({done.seconds / 3600:.2f} h of signal) in {args.out}")
    return 0

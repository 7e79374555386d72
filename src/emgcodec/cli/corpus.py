"""Turn many recordings into a token data set that language models train on.

Example:
  emgcodec corpus build recordings/ -o tokens/ --workers 4
  emgcodec corpus build sessions/ armband.csv -o tokens/ --format megatron --sample-rate 1000
  emgcodec corpus build sessions/ -o tokens/ --engine ray --address auto --workers 64
"""

from __future__ import annotations

import argparse
from pathlib import Path

from emgcodec.cli import options
from emgcodec.corpus.builder import ENGINES, SHARD_MEGABYTES, build
from emgcodec.corpus.formats import FORMATS
from emgcodec.corpus.settings import SPLITS
from emgcodec.layouts import GAPS, KINDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = actions.add_parser("build", help="tokenize; goes on where it was interrupted")
    make.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="files or folders")
    make.add_argument("-o", "--out", type=Path, required=True, help="folder of the corpus")
    make.add_argument("--workers", type=int, default=1, metavar="N", help="processes (1)")
    make.add_argument("--engine", choices=ENGINES, default="local", help="ray: many machines")
    make.add_argument("--address", help="of a Ray cluster; default: one on this machine")
    make.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    make.add_argument("--format", choices=FORMATS, default="parquet", help="of the files (parquet)")
    make.add_argument("--layout", choices=KINDS, default="flat", help="of the ids (flat)")
    make.add_argument("--offset", type=int, default=0, metavar="ID", help="first id (0)")
    make.add_argument("--stack", type=int, default=1, metavar="S", help="frames of a column (1)")
    make.add_argument("--gaps", choices=GAPS, default="frames", help="what a gap id stands for")
    shares = ",".join(f"{name}={share}" for name, share in SPLITS.items())
    make.add_argument(
        "--splits", type=_shares, default=SPLITS, metavar="SHARES", help=f"of people ({shares})"
    )
    make.add_argument(
        "--calibrate", type=float, default=0.0, metavar="SECONDS", help="of each session's start"
    )
    make.add_argument(
        "--by-gesture", action="store_true", help="cut recordings of several gestures"
    )
    make.add_argument("--retry", action="store_true", help="read again what was skipped before")
    make.add_argument(
        "--shard-megabytes", type=float, default=SHARD_MEGABYTES, metavar="MB", help="of recordings"
    )
    options.add_model_option(make)
    options.add_recording_options(make)


def run(args: argparse.Namespace) -> int:
    """Builds; 2 if something was skipped, though the rest is done."""
    options.make_folder(args.out)
    chosen = {n: v for n, v in vars(args).items() if n not in ("command", "action")}
    report = build(chosen.pop("inputs"), chosen.pop("out"), **chosen)
    for name, reason in report.skipped:
        options.complain("corpus", f"skipped {name}: {reason}")
    for name, samples, frames in report.repaired:
        print(f"repaired {name}: {samples} samples missing, {frames} frames without signal")
    if report.agreement is not None:
        print(f"the CPU finds {report.agreement:.4%} of the codes too")
    if report.nameless:
        print(f"{report.nameless} recordings name no person: all are in {next(iter(args.splits))}")
    for split, found in report.splits.items():
        hours = f"{found['seconds'] / 3600:.2f} h"
        print(f"{split}: {found['recordings']} recordings, {hours}, {found['ids']} ids")
    return 2 if report.skipped else 0


def _shares(text: str) -> dict[str, float]:
    return {name: float(share) for name, share in (part.split("=") for part in text.split(","))}

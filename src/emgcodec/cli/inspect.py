"""Show what is in a file: recordings, events, quality of each electrode.

Example:
  emgcodec inspect session.hdf5 --png session.png
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from emgcodec.cli.options import add_recording_options, new_name, stated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("path", type=Path, help="file or folder")
    parser.add_argument(
        "--png", type=Path, help="plot here; several recordings get their name behind the stem"
    )
    parser.add_argument("--brief", action="store_true", help="no quality report")
    add_recording_options(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a paragraph a recording."""
    from emgcodec.io import read_all
    from emgcodec.quality import quality_report

    taken: set[str] = set()
    for rec in read_all(args.path, **stated(args)):
        name = rec.metadata["recording"]
        print(f"{rec.metadata['source']} {name}: {rec!r}")
        for label, count in Counter(f"{e.kind} {e.label}" for e in rec.events).most_common(20):
            print(f"  {count:4d} x {label}")
        if not args.brief:
            print(quality_report(rec).summary())
        if args.png:
            from emgcodec.plot import plot_recording

            png = args.png
            if taken:
                png = png.with_name(new_name(taken, png.suffix, png.stem, name))
            taken.add(png.name)
            print(f"  plot: {plot_recording(rec, png)}")
    return 0

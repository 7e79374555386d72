"""Turn recordings into token files, one for each contiguous recording.

Example:
  emgcodec tokenize session.hdf5 -o tokens/
  emgcodec tokenize armband.csv --sample-rate 1000 --unit mV -o tokens/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from emgcodec.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("inputs", nargs="+", type=Path, help="files or folders")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for token files")
    options.add_calibration_option(parser)
    options.add_model_option(parser)
    options.add_recording_options(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the files; a recording that fails is named, the others are still done."""
    from tqdm import tqdm

    from emgcodec.codec import Codec
    from emgcodec.io import read_all

    options.make_folder(args.out)
    codec = Codec.from_pretrained(args.model)
    calibration = options.calibration(codec, args.calibration)
    names: set[str] = set()
    done: list[float] = []
    failed = 0
    progress = tqdm(unit="s", desc="tokenize", unit_scale=True, disable=None)
    for path in args.inputs:
        try:
            for rec in read_all(path, **options.stated(args)):
                parts = rec.metadata["source"], rec.metadata["recording"]
                name = options.new_name(names, ".tokens", *parts)
                try:
                    codec.tokenize(rec, calibration=calibration).save(args.out / name)
                except ValueError as error:
                    failed += 1
                    options.complain("tokenize", f"{parts[1]}: {error}", path)
                    continue
                done.append(rec.duration)
                progress.update(rec.duration)
        except (ValueError, OSError) as error:
            failed += 1
            options.complain("tokenize", error, path)
    progress.close()
    print(f"{len(done)} token files ({sum(done):.1f} s of signal) in {args.out}")
    return 2 if failed else 0

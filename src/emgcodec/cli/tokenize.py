"""Turn recordings into token files, one for each contiguous recording.

Example:
  emgcodec tokenize session.hdf5 -o tokens/
  emgcodec tokenize armband.csv --sample-rate 1000 --unit mV -o tokens/
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emgcodec.cli.options import add_model_option, add_recording_options, file_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("inputs", nargs="+", type=Path, help="files or folders")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for token files")
    parser.add_argument("--calibration", type=Path, help="file from Calibration.save")
    add_model_option(parser)
    add_recording_options(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the files; a recording that fails is named, the others are still done."""
    from tqdm import tqdm

    from emgcodec.calibration import Calibration
    from emgcodec.codec import Codec
    from emgcodec.io import read_all

    for path in args.inputs:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    codec = Codec.from_pretrained(args.model)
    calibration = Calibration.load(args.calibration) if args.calibration else None
    args.out.mkdir(parents=True, exist_ok=True)
    done: dict[str, float] = {}
    failed = 0
    progress = tqdm(unit="s", desc="tokenize", unit_scale=True, file=sys.stderr)
    for path in args.inputs:
        options = {"sample_rate": args.sample_rate, "unit": args.unit, "montage": args.montage}
        try:
            for rec in read_all(path, **options):
                name = _unique(rec.metadata, path, done)
                try:
                    codec.tokenize(rec, calibration=calibration).save(args.out / name)
                except ValueError as error:
                    failed += 1
                    _complain(f"{name}: {error}")
                    continue
                done[name] = rec.duration
                progress.update(rec.duration)
        except (ValueError, OSError) as error:
            failed += 1
            _complain(str(error))
    progress.close()
    print(f"{len(done)} token files ({sum(done.values()):.1f} s of signal) in {args.out}")
    return 2 if failed else 0


def _unique(metadata: dict[str, object], path: Path, taken: dict[str, float]) -> str:
    source, recording = str(metadata.get("source", path.stem)), str(metadata.get("recording", ""))
    stem = file_name(Path(source).stem, "" if recording == Path(source).stem else recording)
    name, number = f"{stem}.tokens", 2
    while name in taken:  # two files of one name in different folders
        name, number = f"{stem}_{number}.tokens", number + 1
    return name


def _complain(message: str) -> None:
    print(f"emgcodec tokenize: {' '.join(message.split())}", file=sys.stderr)

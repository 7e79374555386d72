"""What several commands share: arguments, names of files, words about what failed."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emgcodec.files import printable

if TYPE_CHECKING:
    from emgcodec.calibration import Calibration
    from emgcodec.codec import Codec


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """What a file may leave open: rate, unit, montage, and which signal is meant."""
    parser.add_argument(
        "--sample-rate", type=float, metavar="HZ", help="rate, where the file does not state it"
    )
    parser.add_argument(
        "--unit", choices=("uV", "mV", "V", "adc"), help="unit, instead of the file's own"
    )
    parser.add_argument("--montage", metavar="NAME", help="electrode positions, for example myo")
    parser.add_argument(
        "--dataset", metavar="NAME", help="signal in a file of several: dataset, variable, stream"
    )


def stated(args: argparse.Namespace) -> dict[str, Any]:
    """What the caller states about files, for `read` and `read_all`."""
    return {name: getattr(args, name) for name in ("sample_rate", "unit", "montage", "dataset")}


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Which codec to use."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="model name, folder or Hub repository; default: the student",
    )


def add_calibration_option(parser: argparse.ArgumentParser) -> None:
    """What is known of the wearing."""
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="from Calibration.save; or the name of a device that the model knows (see info)",
    )


def calibration(codec: Codec, named: str | None) -> Calibration | None:
    """The calibration in a file, or of a device that the codec knows.

    Raises:
        CalibrationError: if there is neither.
    """
    from emgcodec.calibration import Calibration, CalibrationError

    if named is None:
        return None
    if named in codec.devices:
        return codec.devices[named]
    if not Path(named).is_file():
        raise CalibrationError(
            f"--calibration {named}: neither a file nor a device that {codec.config.name!r} knows "
            f"({sorted(codec.devices)})"
        )
    return Calibration.load(named)


def make_folder(path: Path) -> None:
    """Makes the folder for results, unless it is there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"--out {path}: a file is in its place; name a folder") from error


def data_folder(named: Path | None) -> Path | None:
    """What ``--data`` names, or else the variable EMGCODEC_DATA; None without either."""
    found = named or os.environ.get("EMGCODEC_DATA")
    return Path(found) if found else None


def needed_data(named: Path | None) -> Path:
    """The same where nothing goes without.

    Raises:
        ValueError: if there is none.
    """
    found = data_folder(named)
    if found is None:
        raise ValueError("--data is missing: name the folder of the data, or set EMGCODEC_DATA")
    return found


def new_name(taken: set[str], suffix: str, *parts: str) -> str:
    """A file name of harmless characters, none that is `taken`; then it is."""
    joined = "_".join(dict.fromkeys(filter(None, parts)))
    stem = "".join(c if c.isalnum() or c in "._-" else "-" for c in joined)
    numbered = (f"{stem}_{number}{suffix}" for number in itertools.count(2))
    name = next(n for n in itertools.chain([stem + suffix], numbered) if n not in taken)
    taken.add(name)
    return name


def complain(command: str, problem: object, path: Path | None = None) -> None:
    """One line on stderr, which names the file; above the progress bar if there is one."""
    from tqdm import tqdm

    words = printable(problem).split()
    if path is not None and str(path) not in str(problem):
        words.insert(0, printable(f"{path}:"))
    tqdm.write(f"emgcodec {command}: {' '.join(words)}", file=sys.stderr)

"""Arguments that several commands share."""

from __future__ import annotations

import argparse


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """What a file may leave open: rate, unit and montage."""
    parser.add_argument(
        "--sample-rate", type=float, metavar="HZ", help="rate, where the file does not state it"
    )
    parser.add_argument(
        "--unit", choices=("uV", "mV", "V", "adc"), help="unit, instead of the file's own"
    )
    parser.add_argument("--montage", metavar="NAME", help="electrode positions, for example myo")


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Which codec to use."""
    parser.add_argument(
        "--model", metavar="NAME_OR_DIR", help="bundled model or folder; default: the student"
    )


def file_name(*parts: str) -> str:
    """A file name of harmless characters."""
    joined = "_".join(part for part in parts if part)
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in joined)

"""Turn token files back into signals, as .npz that emgcodec reads.

Example:
  emgcodec decode tokens/*.tokens -o decoded/
  emgcodec decode rec.tokens --events
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from emgcodec.cli.options import add_model_option

if TYPE_CHECKING:
    from emgcodec.recording import Recording


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("inputs", nargs="+", type=Path, help="token files")
    parser.add_argument("-o", "--out", type=Path, help="folder for signals")
    parser.add_argument("--events", action="store_true", help="print what the heads read")
    add_model_option(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the signals, prints the events."""
    from tqdm import tqdm

    from emgcodec.codec import Codec
    from emgcodec.tokens import Tokens

    if args.out is None and not args.events:
        raise ValueError("nothing to do: give -o FOLDER for signals, --events for labels, or both")
    codec = Codec.from_pretrained(args.model)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    for path in tqdm(args.inputs, desc="decode", unit="files", disable=len(args.inputs) < 2):
        tokens = Tokens.load(path)
        if args.out is not None:
            target = args.out / f"{path.stem}.npz"
            _write(codec.detokenize(tokens), target)
            print(target)
        for head in codec.heads if args.events else ():
            if head != "signal":
                print(*codec.transcribe(tokens, head), sep="\n")
    return 0


def _write(rec: Recording, target: Path) -> None:
    import json

    import numpy as np

    beside = target.with_name(f".{target.name}.{os.getpid()}.npz")
    try:
        np.savez_compressed(
            beside,
            emg=rec.emg,
            sample_rate=rec.sample_rate,
            unit=rec.unit,
            start_time=rec.start_time,
            montage=json.dumps(rec.montage.to_dict()),
        )
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)

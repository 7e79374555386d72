"""Turn token files back into signals, as .npz that emgcodec reads.

Example:
  emgcodec decode tokens/*.tokens -o decoded/
  emgcodec decode rec.tokens --events
  emgcodec decode rec.tokens --head gesture-3dc
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from emgcodec.cli.options import add_model_option, complain, make_folder, new_name
from emgcodec.files import written_beside

if TYPE_CHECKING:
    from emgcodec.recording import Recording


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("inputs", nargs="+", type=Path, help="token files")
    parser.add_argument("-o", "--out", type=Path, help="folder for signals")
    parser.add_argument(
        "--events", action="store_true", help="print what the heads read that are for any device"
    )
    parser.add_argument(
        "--head", action="append", help="print what this one reads, for example gesture-3dc"
    )
    add_model_option(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the signals, prints the events; a file that fails is named, the others are done."""
    from tqdm import tqdm

    from emgcodec.codec import Codec
    from emgcodec.gestures import own_head
    from emgcodec.tokens import Tokens

    if args.out is None and not (args.events or args.head):
        raise ValueError("nothing to do: give -o FOLDER for signals, --events or --head for labels")
    if args.out is not None:
        make_folder(args.out)
    codec = Codec.from_pretrained(args.model)
    heads = list(args.head or ())
    for head in heads:
        codec.labels(head)  # raises for those that it has not
    if args.events:
        met = codec.config.provenance.get("data")
        own = {own_head(dataset) for dataset in met} if isinstance(met, Mapping) else set()
        heads += [head for head in codec.heads if head not in {"signal", *own}]
    heads = list(dict.fromkeys(heads))
    names: set[str] = set()
    failed = 0
    for path in tqdm(args.inputs, desc="decode", unit="files", disable=None):
        try:
            tokens = Tokens.load(path)
            if args.out is not None:
                target = args.out / new_name(names, ".npz", path.stem)
                _write(codec.detokenize(tokens), target)
                tqdm.write(str(target))
            for head in heads:
                events = codec.transcribe(tokens, head)
                tqdm.write("\n".join([f"{path}: {head}", *map(str, events)]))
        except (ValueError, OSError) as error:
            failed += 1
            complain("decode", error, path)
    return 2 if failed else 0


def _write(rec: Recording, target: Path) -> None:
    import json

    import numpy as np

    with written_beside(target) as beside:
        np.savez_compressed(
            beside,
            emg=rec.emg,
            sample_rate=rec.sample_rate,
            unit=rec.unit,
            start_time=rec.start_time,
            montage=json.dumps(rec.montage.to_dict()),
        )

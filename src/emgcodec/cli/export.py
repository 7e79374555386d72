"""Write a model as ONNX graphs that run without torch.

Example:
  emgcodec export student -o edge/
  emgcodec export org/name -o edge/ --int8
"""

from __future__ import annotations

import argparse
from pathlib import Path

from emgcodec.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "model", nargs="?", help="model name, folder or Hub repository; default: the student"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the graphs")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="weights of 8 bits: smaller, and other codes than the model's own",
    )


def run(args: argparse.Namespace) -> int:
    """Prints what the graphs were found to be."""
    from emgcodec.codec import Codec
    from emgcodec.export import export

    options.make_folder(args.out)
    codec = Codec.from_pretrained(args.model)
    agreement = export(codec, args.out, int8=args.int8)
    size = sum(path.stat().st_size for path in args.out.glob("*.onnx"))
    print(f"{codec.codec_id} in {args.out}, {size / 1e6:.1f} MB")
    print(f"{100 * agreement:.2f} % of a simulated recording's codes are those of torch")
    if args.int8:
        print("int8: a codec of its own, whose tokens do not mix with the model's")
    return 0

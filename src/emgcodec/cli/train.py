"""Train a codec as a recipe says; needs the extra `train`.

Example:
  emgcodec train smoke --out runs/smoke
  emgcodec train student --out runs/student --data corpora/ --resume --set optim.minutes=40
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from emgcodec.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("recipe", help="a TOML file, or emg-codec, smoke, student or student-open")
    parser.add_argument("--out", type=Path, required=True, help="folder for model, log and state")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of the corpora or sessions; default: the variable EMGCODEC_DATA",
    )
    parser.add_argument(
        "--cache", type=Path, help="folder for prepared recordings; default: ~/.cache/emgcodec"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where an interrupted training stopped"
    )
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a field of the recipe, for example optim.lr=5e-4",
    )


def run(args: argparse.Namespace) -> int:
    """Trains; 130 where it was interrupted and can be resumed."""
    from emgcodec.train.loop import train
    from emgcodec.train.recipe import Recipe

    recipe = Recipe.load(args.recipe, args.changes)
    options.make_folder(args.out)
    data = args.data or (os.environ.get("EMGCODEC_DATA") or None)
    model = train(recipe, args.out, data=data and Path(data), cache=args.cache, resume=args.resume)
    if model is None:
        options.complain("train", f"interrupted; --resume goes on from {args.out}")
        return 130
    print(model)
    return 0

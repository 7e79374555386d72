"""Train a codec as a recipe says; needs the extra `train`.

Example:
  emgcodec train smoke --out runs/smoke
  emgcodec train teacher --out runs/teacher --data corpora/ --resume --set optim.steps=1000
  emgcodec train emg-codec --data sessions/ --each-user 'user*' --resume
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from emgcodec.cli import options

if TYPE_CHECKING:
    from emgcodec.train.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("recipe", help="a TOML file, or a bundled one such as teacher or emg-codec")
    parser.add_argument(
        "--out", type=Path, help="folder for model, log and state; default: runs/RECIPE"
    )
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
        "--each-user",
        metavar="PATTERN",
        help="of typing sessions: one model for each person or split file whose name matches",
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
    args.out = args.out or Path("runs") / Path(args.recipe).stem
    options.make_folder(args.out)
    if args.each_user:
        return _each_user(args, recipe)
    data = options.data_folder(args.data)
    model = train(recipe, args.out, data=data, cache=args.cache, resume=args.resume)
    if model is None:
        return _interrupted(args.out)
    print(model)
    return 0


def _each_user(args: argparse.Namespace, recipe: Recipe) -> int:
    from emgcodec.evaluate.benchmark import table, train_each

    data = options.needed_data(args.data)
    people = train_each(
        recipe, args.each_user, args.out, data, cache=args.cache, resume=args.resume
    )
    if people is None:
        return _interrupted(args.out)
    print(*table(people), sep="\n")
    return 0


def _interrupted(out: Path) -> int:
    options.complain("train", f"interrupted; --resume goes on from {out}")
    return 130

"""What the benchmarks of language models share: a result of each run, a table of all of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emgcodec.evaluate.provenance import made_by
from emgcodec.files import write_json, write_section

Results = Sequence[dict[str, Any]]


def check_alike(results: Results, same: Sequence[str]) -> None:
    """Raises a ValueError if results differ in what must be the same."""
    if len({tuple(result[name] for name in same) for result in results}) != 1:
        raise ValueError(f"{len(results)} results differ in {same}: run all alike")


def mean_over_people(shares: Sequence[float]) -> str:
    """In percent, with the deviation where there are several."""
    spread = f" ± {100 * np.std(shares, ddof=1):.1f}" if len(shares) > 1 else ""
    return f"{100 * np.mean(shares):.1f}{spread}"


def load(folder: str) -> list[dict[str, Any]]:
    """The results in a folder of docs/results."""
    files = sorted((Path(__file__).parents[1] / "docs" / "results" / folder).glob("*.json"))
    return [json.loads(path.read_text("utf-8")) for path in files]


def run(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], str],
    measure: Callable[[argparse.Namespace], dict[str, Any]],
    page: Callable[[Results], str],
    folder: str,
    section: str,
) -> None:
    """Measures one run, or writes the tables of those that were.

    Args:
        parser: Of the training, with `data`, `minutes`, `precision` and `model`.
        command: Its beginning, which says what is run.
        measure: Gives the result.
        page: The tables of all results.
        folder: Of the results, in docs/results.
        section: Of the page that the tables go to.
    """
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--page", type=Path, help="write tables of what was run into this page")
    args = parser.parse_args()
    if args.page:
        write_section(args.page, section, page(load(folder)))
        return
    if args.data is None:
        parser.error("--data: name the folder of the recordings")
    rest = f"--minutes {args.minutes:g} --precision {args.precision} --model {args.model}"
    result = made_by(f"{command(args)} {rest}", "transformers")
    result |= {"minutes": args.minutes, "precision": args.precision} | measure(args)
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, result)

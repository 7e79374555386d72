r"""What a small language model makes of typing in EMG tokens; simulated people.

    emgcodec data simulate --out runs/typists-1 --users 40 --sessions 5 --minutes 1 --test-users 8
    python benchmarks/typing_llm.py --data runs/typists-1 --seed 0 --out runs/typing-llm-0 \
        --model runs/bottleneck-typing/rvq-2x1024-0/model --json docs/results/typing_llm/0.json
    python benchmarks/typing_llm.py --page docs/llm.md      # the table, of what was run

`examples/typing_llm.py` for each seed, and the codec's own head beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import typing_llm

from emgcodec.evaluate.provenance import made_by
from emgcodec.files import write_json, write_section
from emgcodec.simulate import SIMULATOR_VERSION

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "typing_llm"


def page(results: Sequence[dict[str, Any]]) -> str:
    """The table."""
    same = ("minutes", "precision", "threads", "simulator")
    if len({tuple(result[name] for name in same) for result in results}) != 1:
        raise ValueError(f"{len(results)} results differ in {same}: run all seeds alike")
    one = results[0]
    steps = ", ".join(str(result["steps"]) for result in results)
    lines = [
        f"Simulated. {len(results)} trainings of {one['minutes']:g} minutes ({steps} steps) of "
        f"{one['threads']} threads, {one['precision']}; whole sessions of "
        f"{len(one['errors']['language model'])} people whom neither codec nor language model has "
        "met, cold. Percent of characters wrong, mean over people of the mean over trainings ± "
        "deviation over people; and for each key pressed what was missed, spurious and another.",
        "",
        "| reader | characters wrong | missed | spurious | another |",
        "|---|---|---|---|---|",
    ]
    for reader in one["errors"]:
        every = [result["errors"][reader] for result in results]
        parts = {
            part: [np.mean([e[name][part] / e[name]["length"] for e in every]) for name in every[0]]
            for part in ("missed", "spurious", "substituted")
        }
        wrong = 100 * np.sum(list(parts.values()), axis=0)
        cells = [f"{wrong.mean():.1f} ± {wrong.std(ddof=1):.1f}"]
        cells += [f"{100 * np.mean(each):.1f}" for each in parts.values()]
        lines.append(f"| {reader} | {' | '.join(cells)} |")
    commits = ", ".join(sorted({f"`{result['commit']}`" for result in results}))
    return "\n".join([*lines, "", f"`{one['command']}` and so on, commit {commits}."])


def main() -> None:
    """Measures one training, or writes the table of those that were."""
    parser = typing_llm.arguments(__doc__)
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--page", type=Path, help="write the table of what was run into this page")
    args = parser.parse_args()
    if args.page:
        results = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))]
        write_section(args.page, "typing", page(results))
        return
    if args.data is None:
        parser.error("--data: name a folder of sessions")
    command = f"python benchmarks/typing_llm.py --data {args.data} --seed {args.seed}"
    command += f" --minutes {args.minutes:g} --precision {args.precision} --model {args.model}"
    made = made_by(command, "transformers")
    steps, errors = typing_llm.learn(args)
    result = made | {
        "seed": args.seed,
        "minutes": args.minutes,
        "precision": args.precision,
        "threads": torch.get_num_threads(),
        "simulator": SIMULATOR_VERSION,
        "steps": steps,
        "errors": {
            reader: {name: asdict(each) for name, each in people.items()}
            for reader, people in errors.items()
        },
    }
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, result)


if __name__ == "__main__":
    main()

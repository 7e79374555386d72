r"""What a small language model makes of typing in EMG tokens; simulated people.

    emgcodec data simulate --out runs/typists-1 --users 40 --sessions 5 --minutes 1 --test-users 8
    python benchmarks/typing_llm.py --data runs/typists-1 --seed 0 --out runs/typing-llm-0 \
        --model runs/bottleneck-typing/rvq-2x1024-0/model --json docs/results/typing_llm/0.json
    python benchmarks/typing_llm.py --page docs/llm.md      # the table, of what was run

`examples/typing_llm.py` for each seed, and the codec's own head beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import typing_llm
from llm_results import check_alike, mean_over_people, run

from emgcodec.metrics import ERROR_KINDS
from emgcodec.simulate import SIMULATOR_VERSION


def page(results: Sequence[dict[str, Any]]) -> str:
    """The table."""
    check_alike(results, ("minutes", "precision", "threads", "simulator"))
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
            for part in ERROR_KINDS
        }
        cells = [mean_over_people(np.sum(list(parts.values()), axis=0))]
        cells += [f"{100 * np.mean(each):.1f}" for each in parts.values()]
        lines.append(f"| {reader} | {' | '.join(cells)} |")
    commits = ", ".join(sorted({f"`{result['commit']}`" for result in results}))
    return "\n".join([*lines, "", f"`{one['command']}` and so on, commit {commits}."])


def measure(args: Any) -> dict[str, Any]:
    """Everything of one training."""
    steps, errors = typing_llm.learn(args)
    return {
        "seed": args.seed,
        "simulator": SIMULATOR_VERSION,
        "steps": steps,
        "errors": {
            reader: {name: asdict(each) for name, each in people.items()}
            for reader, people in errors.items()
        },
    }


def main() -> None:
    """Measures one training, or writes the table of those that were."""
    run(
        typing_llm.arguments(__doc__),
        lambda args: f"python benchmarks/typing_llm.py --data {args.data} --seed {args.seed}",
        measure,
        page,
        "typing_llm",
        "typing",
    )


if __name__ == "__main__":
    main()

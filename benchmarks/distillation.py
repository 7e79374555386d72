"""Twenty steps of the published distillation, 109 M to 2.2 M parameters: memory and time of a step.

    python benchmarks/distillation.py --json docs/results/distillation.json

The teacher is untrained and typing is simulated: neither changes the work. The recipe is
``distill-large-tiny`` but for the batch, which is 4 windows instead of 16 x 40.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from emgcodec import Codec
from emgcodec.evaluate.provenance import made_by
from emgcodec.files import write_json
from emgcodec.train.loop import train
from emgcodec.train.recipe import Recipe
from emgcodec.train.typists import write_typists

STEPS, BATCH = 20, 4


def measure(folder: Path) -> dict[str, Any]:
    """Trains in a folder, and what the training's log says of it."""
    write_typists(folder / "sessions", users=3, sessions=5, minutes=0.5)
    teacher = Codec.from_preset("large")
    teacher.save_pretrained(folder / "teacher")
    recipe = Recipe.load(
        "distill-large-tiny",
        [
            f"distill.teacher={folder / 'teacher'}",
            f"data.batch_size={BATCH}",
            "optim.accumulate=1",
            f"optim.steps={STEPS}",
            "optim.warm_up=10",
            "typing.longer=0.0",
            "run.log_steps=5",
        ],
    )
    model = train(recipe, folder / "student", data=folder / "sessions", cache=folder / "cache")
    assert model is not None
    lines = [json.loads(line) for line in (folder / "student" / "log.jsonl").open()]
    typing = recipe.typing
    return {
        "teacher_parameters": teacher.num_parameters(),
        "student_parameters": Codec.from_pretrained(model).num_parameters(),
        "steps": lines[-1]["step"],
        "windows_per_step": BATCH,
        "seconds_per_window": typing.left + typing.seconds + typing.right,
        "step_seconds": lines[-1]["step_seconds"],
        "peak_gib": lines[-1]["peak_gib"],
        "precision": recipe.run.precision,
    }


def main() -> None:
    """Prints the numbers and, if asked, writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()
    command = "python benchmarks/distillation.py --json docs/results/distillation.json"
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    device = {"machine": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    result = made_by(command) | device | found
    print(json.dumps(result, indent=1))
    if args.json:
        write_json(args.json, result)


if __name__ == "__main__":
    main()

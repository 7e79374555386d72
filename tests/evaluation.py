"""A made-up world of five people in two corpora, one to a fold, for tests of `evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from io_files import write_corpus
from training import small_codec

from emgcodec import evidence
from emgcodec.evaluate import rows, tokens

FOLDS = [[f"3dc/P{i}", f"myo_readings/R{i}"] for i in range(5)]
NAMES = ["No Motion", "Power Grip", "Open Hand"]


def write_people(folder: Path, *, told: float = 1.0) -> Path:
    """Noise, whose electrodes are louder in one gesture than in another, `told` times as much.

    3dc: four blocks of joined recordings of 0.8 s, one for each of three gestures. myo_readings:
    four recordings of a script, rest and a gesture in turns, 1 s each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pattern = np.random.default_rng(1).normal(0, told, (3, 10))
    for i in range(5):
        rng = np.random.default_rng(100 + i)
        gain = 100 * rng.lognormal(0, 0.3, 10)
        for dataset, subject, electrodes, rate in (
            ("3dc", f"P{i}", 10, 1000.0),
            ("myo_readings", f"R{i}", 8, 200.0),
        ):
            joined = dataset == "3dc"
            size = round((0.8 if joined else 1.0) * rate)
            script = [0, 1, 2] if joined else [0, 1, 0, 2]
            recordings = {}
            for block in range(4):
                labels = np.repeat(script, size)
                loud = gain[:electrodes] * np.exp(pattern[labels][:, :electrodes])
                counts = np.clip(loud * rng.normal(size=(len(labels), electrodes)), -3e4, 3e4)
                starts = list(range(0, len(labels), size)) if joined else [0]
                recordings[f"rep{block}"] = (counts, labels, starts)
            write_corpus(
                folder / f"{dataset}_{subject}.h5",
                recordings=recordings,
                dataset=dataset,
                subject=subject,
                sample_rate_hz=rate,
                label_names=json.dumps(NAMES),
            )
    return folder


def inhabit(patch: pytest.MonkeyPatch) -> None:
    """Makes these people the only ones, the reference codec a small one, and readers quick."""
    codec = small_codec()
    patch.setattr(evidence, "folds", lambda: FOLDS)
    patch.setattr(rows, "reference", lambda: codec)
    patch.setattr(tokens, "_LEAST_STEPS", 40)

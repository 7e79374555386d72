"""A small codec, a few simulated people, and a training of seconds, for tests."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from io_files import write_corpus
from safetensors.torch import load_file

from emgcodec import Codec, Montage, Recording
from emgcodec.simulate import Person, gesture_recording
from emgcodec.train.data import Segment, load_segments
from emgcodec.train.recipe import Recipe

SMALL = {
    "frontend.width": 16,
    "frontend.queries": 3,
    "encoder.dim": 32,
    "encoder.heads": 2,
    "encoder.blocks": 2,
    "quantizer.after_block": 1,
    "quantizer.dim": 16,
    "quantizer.size": 32,
}


def small_codec() -> Codec:
    torch.manual_seed(0)
    return Codec.from_preset("student", **SMALL)


def taken(rec: Recording, dataset: str, subject: str, recording: str, **facts: str) -> Recording:
    rec.metadata = {"dataset": dataset, "subject": subject, "recording": recording} | facts
    return rec


@cache
def people() -> tuple[tuple[Segment, ...], Codec]:
    """Two data sets of two people each, three takes a person."""
    recordings = []
    for seed in range(4):
        dataset, montage = (("3dc", "3dc"), ("myo_laval", "myo"))[seed % 2]
        gestures = ("hand_close", "hand_open") if seed % 2 else ("wrist_flexion", "pronation")
        for take in range(3):
            rec = gesture_recording(
                Person.draw(seed),
                Montage.preset(montage),
                (1000.0, 200.0)[seed % 2],
                gestures=gestures,
                hold=1.3,
                rest=0.8,
                seed=take,
            )
            recordings.append(taken(rec, dataset, f"S{seed}", f"take{take}.0"))
    codec = small_codec()
    return tuple(load_segments(recordings, codec)), codec


def write_people(folder: Path, **attributes: Any) -> Path:
    """A corpus of two armbands: 3dc with A and B, myo_ciil with C; B is for validation."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.repeat([0, 1, 2], 600)
    for dataset, subject, electrodes in (("3dc", "A", 10), ("3dc", "B", 10), ("myo_ciil", "C", 8)):
        takes = {
            f"take{k}": (rng.normal(0, 99, (1800, electrodes)) * (1 + labels[:, None]), labels, [0])
            for k in range(2)
        }
        path = folder / f"{dataset}_{subject}.h5"
        write_corpus(
            path, recordings=takes, **{"dataset": dataset, "subject": subject} | attributes
        )
    splits = {"train": ["3dc_A.h5", "myo_ciil_C.h5"], "validation": ["3dc_B.h5"]}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


RECIPE = """
[model]
preset = "student"
license = "none"
overrides = { %s }
[data]
weights = { 3dc = 2.0, myo_ciil = 1.0 }
seconds = 1.0
batch_size = 3
[augment]
shift = 0.3
noise = 0.5
mains = 0.5
time_masks = 1
band_masks = 1
[optim]
steps = 8
warm_up = 3
ema = 0.9
[loss]
quantizer_start = 0.35
[run]
accelerator = "cpu"
log_steps = 3
checkpoint_seconds = 1e9
""" % ", ".join(f'"{name}" = {value}' for name, value in SMALL.items())  # noqa: UP031


def write_recipe(folder: Path) -> Path:
    path = folder / "recipe.toml"
    path.write_text(RECIPE)
    return path


def recipe(folder: Path, *changes: str) -> Recipe:
    """The small recipe; `changes` as on the command line."""
    return Recipe.load(write_recipe(folder), changes)


def tensors(out: Path) -> dict[str, torch.Tensor]:
    """Of the model that a training ended in."""
    return load_file(out / "model" / "model.safetensors")


def assert_same_model(a: Path, b: Path) -> None:
    ours, theirs = tensors(a), tensors(b)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []

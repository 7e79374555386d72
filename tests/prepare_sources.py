"""Made-up clones in the form of the public repositories: what `emgcodec.prepare` reads, undone."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emgcodec.prepare import COLLECTIONS
from emgcodec.prepare.collection import Take

PEOPLE = {  # one to train, one to validate and one to test on
    "3dc": ("P02", "P15", "P17"),
    "contraction_intensity": ("S01", "S08", "S10"),
    "flexemg": ("S001", "S002", "S003"),
    "myo_laval": ("evalF00", "preF06", "evalM10"),
    "myo_ciil": ("min00", "shift14", "shift20"),
    "myo_readings": ("R10000", "R64917", "R70000"),
    "multiday": ("S00",),
}
CUE = "cue alternates with rest every 5 s"


@dataclass(frozen=True)
class Made:
    """A take with its segments: samples (N, C) and labels (N,)."""

    take: Take
    segments: tuple[tuple[np.ndarray, np.ndarray], ...]


def takes(name: str, subject: str) -> list[Take]:
    """Two takes of a person, in the words of the corpus."""
    if name == "3dc":
        first = Take(subject, "train_rep0", "train", 0)
        return [first, Take(subject, "test_rep3", "test", 3, rank=1)]
    if name == "contraction_intensity":
        first = Take(subject, "Ramp_rep1", "all", 1, "Ramp")
        return [first, Take(subject, "MVC_rep2", "all", 2, "MVC", rank=4)]
    if name == "flexemg":
        first = Take(subject, "Session1Train_trial01", "Session1Train", 1)
        return [first, Take(subject, "Session1Train_trial02", "Session1Train", 2)]
    if name == "myo_laval":
        half = "EvaluationDataset" if subject.startswith("eval") else "PreTrainingDataset"
        first = Take(subject, "training0_cycle0", "training0", 0, half)
        return [first, Take(subject, "training0_cycle2", "training0", 2, half)]
    if name == "myo_ciil":
        if subject.startswith("shift"):
            first = Take(subject, "training_rep0", "training", 0, "ElectrodeShift")
            return [first, Take(subject, "trial_4_rep1", "trial_4", 1, "ElectrodeShift")]
        first = Take(subject, "test_trial_0_rep0", "test_trial_0", 0, "MinimalTrainingData")
        return [first, Take(subject, "train_rep0", "train", 0, "MinimalTrainingData")]
    if name == "myo_readings":
        return [Take(subject, f"session1_{k}", "1", 0, CUE) for k in (2, 7)]
    return [Take(subject, f"day{day:03d}", f"day{day:03d}") for day in (5, 63)]


def make(name: str, take: Take, seed: int) -> Made:
    """A take with values that no other seed gives."""
    collection, rng = COLLECTIONS[name], np.random.default_rng(seed)
    if name == "flexemg":
        samples = np.full((28000, 64), 9000, np.int16)
        samples[:100] += rng.integers(0, 99, (100, 64), np.int16)
        order = {1: [0, 3, 4, 2, 1, 0], 2: [0, 1, 2, 4, 3, 0]}.get(take.repetition, [-1] * 6)
        return Made(take, ((samples, np.repeat(np.array(order, np.int8), 5000)[:28000]),))
    if name == "myo_readings":
        samples = rng.integers(-128, 128, (60, 8), np.int16)
        labels = np.repeat(np.array([0, int(take.name[-1])] * 2, np.int8), 15)
        return Made(take, ((samples, labels),))
    high = 128 if name.startswith("myo") else 2_000_000 if name == "multiday" else 32000
    dtype = np.int32 if name == "multiday" else np.int16
    segments = [
        (
            rng.integers(-high, high, (20 + label, collection.channels), dtype),
            np.full(20 + label, label, np.int8),
        )
        for label in range(len(collection.gestures))
    ]
    return Made(take, tuple(segments))


def made_up(name: str) -> list[Made]:
    """All takes of all made-up people, in the order of the corpus."""
    everyone = [take for subject in PEOPLE[name] for take in takes(name, subject)]
    return [make(name, take, seed) for seed, take in enumerate(sorted(everyone))]


def source_file(name: str, take: Take, label: int) -> str:
    """Where the public repository keeps that gesture of a take."""
    number = int("".join(c for c in take.subject if c.isdigit()))
    sex = {"F": "Female", "M": "Male"}.get(take.subject[-3])
    return {
        "3dc": f"Participant{number}/{take.session}/EMG_gesture_{take.repetition}_{label}.txt",
        "contraction_intensity": f"S{number}/S{number}_{take.condition}_C{label + 1}"
        f"_R{take.repetition}.csv",
        "flexemg": f"data/{number:03d}-{take.session}/{number:03d}-{take.repetition:03d}.mat",
        "myo_laval": f"{take.condition}/{sex}{number}/{take.session}"
        f"/classe_{7 * take.repetition + label}.dat",
        "myo_ciil": f"{take.condition}/subject{number}/{take.session.replace('st_t', 'st/t')}"
        f"/R_{take.repetition}_C_{label}.csv",
        "myo_readings": f"_readings_right_hand/{number}-{take.session}/{take.name[-1]}.txt",
        "multiday": f"S{number}_D{take.session[3:].lstrip('0')}_C{label}.csv",
    }[name]


def write_source(clone: Path, name: str, made: list[Made]) -> Path:
    """A clone with those takes in it."""
    for each in made:
        for samples, labels in each.segments:
            path = clone / source_file(name, each.take, int(labels[0]))
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, name, samples, labels)
    return clone


def _write(path: Path, name: str, samples: np.ndarray, labels: np.ndarray) -> None:
    if name == "myo_laval":
        samples.astype("<i2").tofile(path)
    elif name == "flexemg":
        from scipy.io import savemat

        raw = np.zeros((len(samples), 96), np.uint16)
        raw[:, :64] = samples
        savemat(path, {"raw": raw})
    elif name == "contraction_intensity":
        np.savetxt(path, (samples + 0.5) * 20 / 65535, "%.5g", ",")
    elif name == "multiday":
        np.savetxt(path, samples / 1000)
    elif name == "myo_readings":
        rows = np.column_stack([samples, labels])
        path.write_text("\n".join(",".join(map(str, row)) for row in rows.tolist()))
    else:
        np.savetxt(path, samples, "%d", ",")
    if name == "myo_ciil" and path.parent.name != "train":
        names = ("Hand_Close", "Hand_Open", "No_Motion", "Wrist_Extension", "Wrist_Flexion")
        facts = path.parent / "metadata.json"
        stated = json.loads(facts.read_text()) if facts.exists() else {"continuous": False}
        stated[f"data/sgt/{path.name}"] = {"class_idx": 0, "class_name": names[int(labels[0])]}
        facts.write_text(json.dumps(stated))


def of_another(made: Made, subject: str, **changes: object) -> Made:
    """The same samples under another person's name."""
    return replace(made, take=replace(made.take, subject=subject, **changes))

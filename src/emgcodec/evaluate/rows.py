"""The rows of the evidence table, and the job that makes one of them for one fold."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from emgcodec.codec import Codec
from emgcodec.evaluate.codecs import (
    Take,
    codebook_use,
    gesture_scores,
    load_takes,
    token_tracks,
    untrained_codec,
    vectors,
)
from emgcodec.evaluate.frames import Array, chance_of, cut, feature_tracks, scored
from emgcodec.evaluate.reconstruction import Rivals, reconstruction_scores
from emgcodec.evaluate.rivals import (
    Outcome,
    Task,
    classic,
    kmeans_tokens,
    order,
    read_tokens,
    shuffled,
)
from emgcodec.evidence import CORPORA, MODES, everyone, people
from emgcodec.metrics import bit_rate

PROTOCOL = {
    "score": "balanced accuracy of frames of each person, over the gestures of the corpus",
    "frames": "31.25 a second, labelled by their last sample; within 0.5 s of a cue excluded where "
    "labels are cues",
    "reset": "state starts anew at each contiguous recording, and at each labelled stretch of a "
    "recording of several gestures",
    "calibration": "cold: none; calibrated: on the first recording of each of the person's "
    "sessions, unlabelled. That recording is scored in neither",
    "folds": "fold f tests, fold f + 1 selects, the rest train; seed = f",
}

_SAMPLED = 4  # of so many recordings one tells k-means about an untrained codec's latents


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        title: What it is.
        recipe: Of the training that it needs, or None.
        changes: To the recipe.
        rival: What it makes of one corpus, if it needs classic features only.
        whole: Whether recordings of several gestures stay whole.
    """

    title: str
    recipe: str | None = None
    changes: tuple[str, ...] = ()
    rival: Callable[[Task], Outcome] | None = None
    whole: bool = False


ROWS = {
    "student": Row("student: gesture head on tokens", "student"),
    "twin": Row("its unquantized twin", "student", ("model.overrides.quantizer.kind=none",)),
    "student-open": Row("student-open: gesture head on tokens", "student-open"),
    "lda": Row(
        "LDA on classic features, 200 ms", rival=partial(classic, context=False, logarithm=False)
    ),
    "lda-context": Row(
        "the same, evidence summed over the codec's context",
        rival=partial(classic, context=True, logarithm=False),
    ),
    "lda-log-context": Row(
        "the same on logarithms of the features",
        rival=partial(classic, context=True, logarithm=True),
    ),
    "kmeans": Row("k-means tokens of those, 2 x 1024", rival=kmeans_tokens),
    "random": Row("random-weight codec, k-means codebooks"),
    "shuffled": Row("control: labels shuffled between recordings", rival=shuffled),
    "order": Row("control: time since the start and label before", rival=order),
    "order-whole": Row(
        "the same where recordings of several gestures stay whole", rival=order, whole=True
    ),
}


def run_job(
    name: str, fold: int, data: Path, runs: Path, changes: Sequence[str] = ()
) -> dict[str, Any]:
    """Makes one row for one fold; a row that needs a model trains it first.

    Args:
        name: Of the row.
        fold: 0 to 4.
        data: Folder of the corpora.
        runs: Where trainings are, or go.
        changes: To the recipe of a training, as ``emgcodec train --set`` takes them.

    Raises:
        ValueError: if the data is not there, or a training fails.
    """
    started, row = time.monotonic(), ROWS[name]
    if row.recipe is not None:
        model = _trained(name, fold, data, runs, changes)
        found = score_model(Codec.from_pretrained(model), fold, data)
    elif row.rival is not None:
        found = _rival(row, fold, data)
    else:
        found = _random(fold, data)
    command = f"emgcodec evaluate run --row {name} --fold {fold} --data $EMGCODEC_DATA"
    command += "".join(f" --set {change}" for change in changes)
    took = {"title": row.title, "seconds": round(time.monotonic() - started)}
    return facts(name, fold, data, command) | took | found


def facts(name: str, fold: int, data: Path, command: str) -> dict[str, Any]:
    """What a result says beside its numbers."""
    return {
        "row": name,
        "fold": fold,
        "command": command,
        "commit": _commit(),
        "data": f"manifest.csv of sha256 {_manifest(data)}",
        "versions": {p: version(p) for p in ("emgcodec", "torch", "numpy", "scipy")},
        "protocol": PROTOCOL,
        "people": {
            "train": sorted(people(fold, "train")),
            "validation": sorted(people(fold, "validation")),
            "test": sorted(people(fold, "test")),
        },
    }


def score_model(
    codec: Codec, fold: int, data: Path, corpora: Sequence[str] = CORPORA
) -> dict[str, Any]:
    """Gestures, codebooks and reconstruction of a codec on the people of a fold.

    Args:
        codec: That has not met the people who test.
        fold: 0 to 4.
        data: Folder of the corpora.
        corpora: Some of them.
    """
    scores: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    likeness, rates, validation = {}, {}, []
    quantized = codec.quantizer is not None
    for corpus, names in _tested(fold, corpora):
        takes = load_takes(data, corpus, names, codec)
        for mode in MODES:
            scores[mode][corpus] = gesture_scores(codec, takes, mode == "calibrated")
        if quantized:
            rivals = Rivals.fit(codec, _blocks(data, corpus, fold, codec))
            likeness[corpus] = reconstruction_scores(codec, rivals, takes)
            rates[corpus] = _bit_rate(codec, takes)
    model: dict[str, Any] = {
        "codec_id": codec.codec_id,
        "parameters": codec.num_parameters(),
        "trained": dict(codec.config.provenance),
    }
    found = {"scores": scores, "model": model}
    if quantized:
        for corpus in corpora:
            validation += load_takes(data, corpus, people(fold, "validation"), codec)
        found |= {
            "usage": codebook_use(codec, validation),
            "reconstruction": likeness,
            "bit_rate": rates,
        }
    return found


def _tested(fold: int, corpora: Sequence[str] = CORPORA) -> Iterator[tuple[str, list[str]]]:
    """Corpora of which somebody tests, and who."""
    for corpus in corpora:
        if names := [n for n in people(fold, "test") if n.startswith(f"{corpus}/")]:
            yield corpus, names


def _blocks(data: Path, corpus: str, fold: int, codec: Codec) -> Iterator[Take]:
    """Calibration blocks of the training people."""
    takes = load_takes(data, corpus, people(fold, "train"), codec)
    return (take for take in takes if take.calibrates)


def _bit_rate(codec: Codec, takes: Sequence[Take]) -> float:
    """Of codes and levels, for recordings of this corpus' typical length."""
    seconds = float(np.median([t.segment.x.shape[1] for t in takes])) / codec.sample_rate
    electrodes = len(takes[0].segment.montage)
    return bit_rate(codec.bits_per_frame, codec.frame_rate, electrodes, seconds)


def _trained(name: str, fold: int, data: Path, runs: Path, changes: Sequence[str]) -> Path:
    """The folder of the row's model for this fold; trains it if it is not there."""
    row, out = ROWS[name], runs / f"{name}-{fold}"
    fixed = [f"data.fold={fold}", f"run.seed={fold}", *row.changes, *changes]
    argv = [sys.executable, "-m", "emgcodec", "train", str(row.recipe), "--out", str(out)]
    argv += ["--data", str(data), "--resume", *(a for c in fixed for a in ("--set", c))]
    if (status := subprocess.run(argv, check=False).returncode) != 0:
        if status == 130:
            raise KeyboardInterrupt
        raise ValueError(f"the training of row {name!r}, fold {fold}, ended with status {status}")
    return out / "model"


def _rival(row: Row, fold: int, data: Path) -> dict[str, Any]:
    assert row.rival is not None
    codec = _reference()
    scores: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    chosen: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    chance = {}
    for corpus, _ in _tested(fold):
        whole = feature_tracks(data, corpus, codec)
        tracks = list(whole) if row.whole else cut(whole)
        chance[corpus] = chance_of(scored(tracks, people(fold, "test")))
        for mode in MODES:
            task = Task(tracks, fold, mode == "calibrated", codec)
            scores[mode][corpus], chosen[mode][corpus] = row.rival(task)
    return {"scores": scores, "chance": chance, "chosen": chosen}


def _random(fold: int, data: Path) -> dict[str, Any]:
    """Tokens of a codec that was never trained; each corpus has a reader of its own."""

    def rows(codec: Codec) -> Iterator[Array]:
        for corpus in CORPORA:
            takes = load_takes(data, corpus, people(fold, "train"), codec)
            for i, take in enumerate(takes[::_SAMPLED]):
                yield vectors(codec, take, calibrated=i % 2 == 1)

    codec = untrained_codec(_reference().config, rows, fold)
    scores: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    chosen: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    for corpus, _ in _tested(fold):
        takes = load_takes(data, corpus, everyone(corpus), codec)
        for mode in MODES:
            tracks = token_tracks(codec, takes, mode == "calibrated")
            task = Task(tracks, fold, mode == "calibrated", codec)
            scores[mode][corpus], chosen[mode][corpus] = read_tokens(task)
    return {"scores": scores, "chosen": chosen}


@cache
def _reference() -> Codec:
    """Untrained: whose frames, context, bits and decoder the rivals are measured by."""
    return Codec.from_preset("student")


def _manifest(data: Path) -> str:
    """Checksum of the table of files, which has theirs; empty where there is none."""
    path = data / "manifest.csv"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _commit() -> str:
    """The commit of the code, marked where it was changed since; empty outside a repository."""
    argv = ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(argv, cwd=here, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()

"""A study: one choice after the other in small trainings of their own, beside a baseline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from emgcodec.codec import Codec
from emgcodec.evaluate.agreement import agreement, coded
from emgcodec.evaluate.codecs import Take, codebook_use, gesture_scores, load_takes
from emgcodec.evaluate.jobs import facts, trained
from emgcodec.evaluate.provenance import made_by
from emgcodec.evaluate.sequence import fit_sequence_model, read_sequences
from emgcodec.evaluate.typing import greedy, score_split
from emgcodec.evidence import MODES, Part, people
from emgcodec.simulate import SIMULATOR_VERSION
from emgcodec.train.sessions import find_splits

WHOSE = ("student's", "teacher's")
"""Tokens that a sequence model reads."""
_SEQUENCE_STEPS = 2000


@dataclass(frozen=True)
class Study:
    """What is varied, and how a variant is scored.

    Attributes:
        title: What is asked.
        recipe: That every variant is a change of.
        fixed: Changes that all share.
        variants: Changes by name; ``$RUNS`` is the folder of trainings, ``$FOLD`` the fold. A
            teacher comes before those whom it teaches.
        baseline: The variant that others are compared with.
        folds: Which of the five.
        protocol: How it is scored.
        corpora: That gestures are scored on; none where typing is.
        simulated: Makes the folder of typing to train on among the runs.
        codes: Whether codes are compared with the baseline's, where codebooks are the same.
    """

    title: str
    recipe: str
    fixed: tuple[str, ...]
    variants: Mapping[str, tuple[str, ...]]
    baseline: str
    folds: Sequence[int]
    protocol: Mapping[str, str]
    corpora: Sequence[str] = ()
    simulated: Callable[[Path], Path] | None = None
    codes: bool = False

    @property
    def error(self) -> bool:
        """Whether less is better."""
        return not self.corpora


def _gestures(codec: Codec, corpora: Sequence[str], fold: int, data: Path) -> dict[str, Any]:
    scores: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    for corpus in corpora:
        takes = load_takes(data, corpus, people(fold, "test"), codec)
        for mode in MODES:
            scores[mode][corpus] = gesture_scores(codec, takes, mode == "calibrated")
    if codec.quantizer is None:
        return {"scores": scores}
    selecting = (load_takes(data, c, people(fold, "validation"), codec) for c in corpora)
    return {"scores": scores, "usage": codebook_use(codec, chain.from_iterable(selecting))}


def _against(
    teacher: Codec, student: Codec, corpora: Sequence[str], fold: int, data: Path
) -> dict[str, Any]:
    """Agreement of codes, and what a sequence model of the teacher's tokens makes of either's."""

    def takes(part: Part) -> list[Take]:
        return [t for c in corpora for t in load_takes(data, c, people(fold, part), teacher)]

    learned, tested = takes("train"), takes("test")
    ours, theirs = (coded(codec, tested) for codec in (student, teacher))
    tokens = coded(teacher, learned)
    model, known = fit_sequence_model(tokens, teacher.codebook_size, fold, _SEQUENCE_STEPS)
    return {
        "agreement": agreement(ours, theirs),
        "sequence model": {
            whose: read_sequences(model, known, tokens)
            for whose, tokens in zip(WHOSE, (ours, theirs), strict=True)
        },
    }


def _typing(codec: Codec, data: Path) -> dict[str, Any]:
    errors = {
        split.name: score_split(codec, split, {"greedy": greedy}, ("test",))["test"]["greedy"]
        for split in find_splits(data, "user*")
    }
    return {
        "scores": {"cold": {"simulated typing": {name: e.rate for name, e in errors.items()}}},
        "keys": {name: e.length for name, e in errors.items()},
    }


def run_study_job(
    name: str,
    study: Study,
    variant: str,
    fold: int,
    data: Path,
    runs: Path,
    changes: Sequence[str] = (),
) -> dict[str, Any]:
    """Trains and scores one variant of a study.

    Args:
        name: Of the study.
        study: What is varied.
        variant: One of its.
        fold: Whose people test.
        data: Folder of the corpora.
        runs: Where trainings are, or go.
        changes: To the recipe beside the study's own.
    """
    started = time.monotonic()
    command = f"emgcodec evaluate study {name} --variant '{variant}' --fold {fold}"
    command += "".join(f" --set {change}" for change in changes)
    place = [f"run.seed={fold}"]
    if study.simulated is None:
        said = facts(variant, fold, data, f"{command} --data $EMGCODEC_DATA")
        place += [f"data.fold={fold}"]
    else:
        said = {"row": variant, "fold": fold, **made_by(command), "simulator": SIMULATOR_VERSION}
        data = study.simulated(runs)

    def folder(variant: str) -> Path:
        return runs / name / f"{file_name(variant)}-{fold}"

    own = (
        change.replace("$RUNS", str(runs)).replace("$FOLD", str(fold))
        for change in study.variants[variant]
    )
    fixed = (*study.fixed, *own, *place, *changes)
    codec = Codec.from_pretrained(trained(study.recipe, folder(variant), fixed, data))
    scores = _gestures(codec, study.corpora, fold, data) if study.corpora else _typing(codec, data)
    if study.codes and variant != study.baseline:
        teacher = Codec.from_pretrained(folder(study.baseline) / "model")
        if codec.vocab_id == teacher.vocab_id:
            scores |= _against(teacher, codec, study.corpora, fold, data)
    return {
        **said,
        "study": name,
        "protocol": dict(study.protocol),
        **scores,
        "bits_per_frame": codec.bits_per_frame,
        "frame_rate": codec.frame_rate,
        "parameters": codec.num_parameters(),
        "encoder_parameters": codec.num_parameters("encoder"),
        "trained": dict(codec.config.provenance),
        "seconds": round(time.monotonic() - started),
    }


def file_name(variant: str) -> str:
    """What a variant's files are called."""
    return variant.replace(" ", "-").replace("/", "-")

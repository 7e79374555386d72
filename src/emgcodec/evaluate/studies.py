"""Studies: one choice after the other in small trainings of their own, beside a common baseline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from emgcodec.codec import Codec
from emgcodec.evaluate.codecs import codebook_use, gesture_scores, load_takes
from emgcodec.evaluate.jobs import facts, trained
from emgcodec.evaluate.provenance import made_by
from emgcodec.evaluate.typing import greedy, score_split
from emgcodec.evidence import MODES, people
from emgcodec.simulate import SIMULATOR_VERSION
from emgcodec.train.sessions import find_splits
from emgcodec.train.typists import write_typists

_BOTTLENECKS: Mapping[str, tuple[str, ...]] = {
    "none": ("quantizer.kind=none",),
    "vq 1024": ("quantizer.kind=vq",),
    "rvq 2x1024": ("quantizer.levels=2",),
    "rvq 3x1024": ("quantizer.levels=3",),
    "rvq 4x1024": ("quantizer.levels=4",),
    "rvq 4x32": ("quantizer.levels=4", "quantizer.size=32"),
    "rvq 4x512": ("quantizer.levels=4", "quantizer.size=512"),
}

_TINY = (  # 0.1 M parameters
    "model.name=tinier",
    "encoder.dim=48",
    "encoder.blocks=3",
    "encoder.heads=4",
    "encoder.conv_position=32",
    "quantizer.after_block=3",
    "frontend.dims=[32, 32, 32]",
)
_TAUGHT = (*_TINY, "distill.teacher=$RUNS/distillation-typing/teacher-0/model")
_PAIR: Mapping[str, tuple[str, ...]] = {
    "teacher": (),
    "student alone": _TINY,
    "student, scores": _TAUGHT,
    "student, scores and features": (*_TAUGHT, "loss.features=1.0"),
    "student, scores without text": (*_TAUGHT, "loss.text=0.0"),
}

_USERS, _UNSEEN, _SESSIONS, _MINUTES = 40, 8, 5, 1.0
_PEOPLE = ("data.split=generic", "data.batch_size=8", "optim.warm_up=100")


@dataclass(frozen=True)
class Study:
    """What is varied, and how a variant is scored.

    Attributes:
        title: What is asked.
        recipe: That every variant is a change of.
        fixed: Changes that all share.
        variants: Changes by name; ``$RUNS`` is the runs' folder. A teacher comes before those whom
            it teaches.
        baseline: The variant that others are compared with.
        folds: Which of the five.
        score: Of a codec, by mode, data set and person.
        protocol: How it is scored.
        simulated: Makes the folder to train on among the runs; None for the corpora.
        error: Whether less is better.
    """

    title: str
    recipe: str
    fixed: tuple[str, ...]
    variants: Mapping[str, tuple[str, ...]]
    baseline: str
    folds: Sequence[int]
    score: Callable[[Codec, int, Path], dict[str, Any]]
    protocol: Mapping[str, str]
    simulated: Callable[[Path], Path] | None = None
    error: bool = False

    @property
    def on_corpora(self) -> bool:
        """Whether it needs the corpora of real people."""
        return self.simulated is None


def _gestures(corpora: Sequence[str]) -> Callable[[Codec, int, Path], dict[str, Any]]:
    def score(codec: Codec, fold: int, data: Path) -> dict[str, Any]:
        scores: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
        for corpus in corpora:
            takes = load_takes(data, corpus, people(fold, "test"), codec)
            for mode in MODES:
                scores[mode][corpus] = gesture_scores(codec, takes, mode == "calibrated")
        if codec.quantizer is None:
            return {"scores": scores}
        selecting = (load_takes(data, c, people(fold, "validation"), codec) for c in corpora)
        return {"scores": scores, "usage": codebook_use(codec, chain.from_iterable(selecting))}

    return score


def _typing(codec: Codec, fold: int, data: Path) -> dict[str, Any]:
    errors = {
        split.name: score_split(codec, split, {"greedy": greedy}, ("test",))["test"]["greedy"]
        for split in find_splits(data, "user*")
    }
    return {
        "scores": {"cold": {"simulated typing": {name: e.rate for name, e in errors.items()}}},
        "keys": {name: e.length for name, e in errors.items()},
    }


def _typing_protocol(model: str) -> dict[str, str]:
    return {
        "score": "character error rate of each simulated person who was never met, greedy, whole "
        "sessions, cold",
        "training": f"{model}; {_USERS - _UNSEEN} simulated people of {_SESSIONS} sessions of "
        f"{_MINUTES:g} min, 1500 steps of 8 windows, one seed",
    }


def _typists(runs: Path) -> Path:
    folder = runs / f"typists-{SIMULATOR_VERSION}"
    write_typists(folder, _USERS, _SESSIONS, _MINUTES, test_users=_UNSEEN)
    return folder


STUDIES = {
    "bottleneck-gestures": Study(
        "What the bottleneck costs: gestures of 3dc",
        "student",
        ("data.weights={ 3dc = 1.0 }", "optim.steps=600"),
        _BOTTLENECKS,
        "none",
        range(5),
        _gestures(("3dc",)),
        {
            "score": "balanced accuracy of frames of each person, as in the evidence table",
            "training": "the student's recipe on 3dc alone, 600 steps; seed = fold",
        },
    ),
    "bottleneck-typing": Study(
        "What the bottleneck costs: simulated typing",
        "emg-codec",
        (*_PEOPLE, "optim.steps=1500"),
        _BOTTLENECKS,
        "none",
        range(1),
        _typing,
        _typing_protocol("TDS, 125 frames a second"),
        simulated=_typists,
        error=True,
    ),
    "distillation-typing": Study(
        "What a teacher of 5 M gives a student of 0.1 M: simulated typing",
        "small",
        (
            *_PEOPLE,
            "optim.steps=1500",
            "optim.accumulate=1",
            "optim.lr=1e-3",
            "hop_length=64",
            "frontend.strides=[4, 4, 4]",
        ),
        _PAIR,
        "teacher",
        range(1),
        _typing,
        _typing_protocol("raw signal, 31.25 frames a second"),
        simulated=_typists,
        error=True,
    ),
}


def run_study_job(
    name: str, variant: str, fold: int, data: Path, runs: Path, changes: Sequence[str] = ()
) -> dict[str, Any]:
    """Trains and scores one variant of a study.

    Args:
        name: Of the study.
        variant: One of its.
        fold: Whose people test.
        data: Folder of the corpora.
        runs: Where trainings are, or go.
        changes: To the recipe beside the study's own.
    """
    started, study = time.monotonic(), STUDIES[name]
    command = f"emgcodec evaluate study {name} --variant '{variant}' --fold {fold}"
    command += "".join(f" --set {change}" for change in changes)
    place = [f"run.seed={fold}"]
    if study.simulated is None:
        said = facts(variant, fold, data, f"{command} --data $EMGCODEC_DATA")
        place += [f"data.fold={fold}"]
    else:
        said = {"row": variant, "fold": fold, **made_by(command), "simulator": SIMULATOR_VERSION}
        data = study.simulated(runs)
    out = runs / name / f"{variant.replace(' ', '-')}-{fold}"
    own = (change.replace("$RUNS", str(runs)) for change in study.variants[variant])
    fixed = (*study.fixed, *own, *place, *changes)
    codec = Codec.from_pretrained(trained(study.recipe, out, fixed, data))
    return {
        **said,
        "study": name,
        "protocol": dict(study.protocol),
        **study.score(codec, fold, data),
        "bits_per_frame": codec.bits_per_frame,
        "frame_rate": codec.frame_rate,
        "parameters": codec.num_parameters(),
        "trained": dict(codec.config.provenance),
        "seconds": round(time.monotonic() - started),
    }

"""A study: one choice after the other in small trainings of their own, beside a baseline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any

from emgcodec.codec import Codec
from emgcodec.evaluate.jobs import facts, log_of, trained, training_of
from emgcodec.evaluate.provenance import made_by
from emgcodec.evaluate.rows import require_strangers
from emgcodec.evidence import people
from emgcodec.simulate import SIMULATOR_VERSION
from emgcodec.train.recipe import Recipe

_MOMENTS = {"half": 0.5, "three quarters": 0.75, "end": 1.0}
_WITH_CODES = {"85 %": 0.85, "end": 1.0}  # every recipe has its codebooks by then
_TASKS = ("gesture", "text")


@dataclass(frozen=True)
class Study:
    """What is varied, and how a variant is scored.

    Attributes:
        title: What is asked.
        recipe: That every variant is a change of.
        fixed: Changes that all share.
        variants: Changes by name; ``$RUNS`` is the folder of trainings, ``$FOLD`` the fold. A
            teacher comes before those whom it teaches.
        baselines: Variants that others are compared with; the first is a teacher, if any is.
        folds: Which of the five.
        protocol: How it is scored.
        score: Of a codec that has not met the people of a fold: ``scores`` by mode, data set and
            person, and whatever else there is to say.
        minutes: Planned for a job, on one core.
        contrasts: Ways of scoring that are set against each other; the table then has a row for
            each data set.
        compare: Of the first baseline's codec and another of its codebooks, more to say.
        simulated: Makes the folder of typing to train on among the runs; None for the corpora.
        error: Whether less is better.
        row: Of the evidence, whose trainings serve; by default there are some of its own.
        tolerated: What a variant may lose against the first baseline, as a share.
    """

    title: str
    recipe: str
    fixed: tuple[str, ...]
    variants: Mapping[str, tuple[str, ...]]
    baselines: tuple[str, ...]
    folds: Sequence[int]
    protocol: Mapping[str, str]
    score: Callable[[Codec, int, Path], dict[str, Any]]
    minutes: float
    contrasts: Sequence[tuple[str, str]] = ()
    compare: Callable[[Codec, Codec, int, Path], dict[str, Any]] | None = None
    simulated: Callable[[Path], Path] | None = None
    error: bool = False
    row: str = ""
    tolerated: float | None = None


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
        return runs / f"{study.row or f'{name}/{file_name(variant)}'}-{fold}"

    own = (
        change.replace("$RUNS", str(runs)).replace("$FOLD", str(fold))
        for change in study.variants[variant]
    )
    fixed = (*study.fixed, *own, *changes, *place)
    teacher = None
    if study.compare is not None and variant != (guide := study.baselines[0]):
        teacher = folder(guide) / "model"
        if not teacher.is_dir():
            raise ValueError(f"{teacher} is missing: run --variant {guide!r} first")
    recipe = Recipe.load(study.recipe, fixed)
    model = folder(variant) / "model"
    if not (study.row and model.is_dir()):  # whose recipe may say another licence by now
        trained(study.recipe, folder(variant), fixed, data)
    codec = Codec.from_pretrained(model)
    if study.simulated is None:
        require_strangers(codec, people(fold, "test") | people(fold, "validation"))
    scores = study.score(codec, fold, data)
    if study.compare is not None and teacher is not None:
        taught_by = _teacher(teacher)
        if codec.vocab_id == taught_by.vocab_id:
            scores |= study.compare(taught_by, codec, fold, data)
    return {
        **said,
        "study": name,
        "protocol": dict(study.protocol),
        **scores,
        **_told(codec, folder(variant), runs, recipe.optim.steps),
        "seconds": round(time.monotonic() - started),
    }


def _told(codec: Codec, training: Path, runs: Path, steps: int) -> dict[str, Any]:
    """What is said of a model and its training, beside scores."""
    return {
        "codec_id": codec.codec_id,
        "bits_per_frame": codec.bits_per_frame,
        "frame_rate": codec.frame_rate,
        "parameters": codec.num_parameters(),
        "encoder_parameters": codec.num_parameters("encoder"),
        "codebook_parameters": codec.num_parameters("codebooks"),
        "head_parameters": codec.num_parameters("heads"),
        "trained": training_of(codec, training, runs),
        "losses": losses(training, steps),
        "task_losses": losses(training, steps, _WITH_CODES, _TASKS),
    }


def losses(
    folder: Path,
    steps: int,
    moments: Mapping[str, float] = _MOMENTS,
    terms: Sequence[str] = ("loss",),
) -> dict[str, float]:
    """Mean loss of an encoder's training before some moments of it: whether it still falls.

    Args:
        folder: Of the training; empty where there is no log.
        steps: Of the encoder's part.
        moments: Shares of the steps, by name.
        terms: Of the loss, of which the first one that there is counts.
    """
    lines = [line for line in log_of(folder) if line["step"] <= steps]
    term = next((term for term in terms if lines and term in lines[0]), "")
    found = {
        moment: [x[term] for x in lines if term and end - 0.1 < x["step"] / steps <= end]
        for moment, end in moments.items()
    }
    return {moment: mean(each) for moment, each in found.items() if each}


@lru_cache(maxsize=1)  # the same for all of a fold, who may remember what they made of it
def _teacher(folder: Path) -> Codec:
    return Codec.from_pretrained(folder)


def file_name(variant: str) -> str:
    """What a variant's files are called."""
    return variant.replace(" ", "-").replace("/", "-")

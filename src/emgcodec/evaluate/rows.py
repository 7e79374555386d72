"""The rows of the evidence table, and the job that makes one of them for one fold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import chain, cycle
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emgcodec.codec import Codec
from emgcodec.evaluate.agreement import agreement, coded
from emgcodec.evaluate.codecs import (
    Take,
    codebook_use,
    gesture_scores,
    load_takes,
    starts,
    token_tracks,
    untrained_codec,
    vectors,
)
from emgcodec.evaluate.frames import Array, Track, chance_of, cut, feature_tracks, scored
from emgcodec.evaluate.jobs import facts, trained, training_of
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
from emgcodec.evidence import CORPORA, MODES, Part, Start, everyone, people
from emgcodec.metrics import bit_rate

PROTOCOL = {
    "score": "balanced accuracy of frames of each person, over the gestures of the corpus",
    "frames": "31.25 a second, labelled by their last sample; within 0.5 s of a cue excluded where "
    "labels are cues",
    "reset": "state starts anew at each contiguous recording, and at each labelled stretch of a "
    "recording of several gestures",
    "calibration": "cold: none; device: on the first blocks of the people who train, of all "
    "corpora of the device, which the model carries; calibrated: on the first block of each of the "
    "person's sessions (a recording, or several of one cycle), unlabelled. That block is scored in "
    "none. Classic features are normalised by the training people of the corpus when cold, so that "
    "device is held against their cold",
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
        rival: What it makes of one corpus, if it needs no training of a codec.
        on: What the rival gets: classic features, cut into stretches of one gesture or not, or
            tokens.
        of: The row whose model makes the tokens; an untrained codec if empty.
        shared: Whether of a codec's heads the one that all corpora share answers.
        teacher: The row whose model of the fold it learns from.
    """

    title: str
    recipe: str | None = None
    changes: tuple[str, ...] = ()
    rival: Callable[[Task], Outcome] | None = None
    on: Literal["features", "whole", "tokens"] = "features"
    of: str = ""
    shared: bool = False
    teacher: str = ""


ROWS = {
    "student": Row("student: gesture head on tokens", "student", teacher="teacher"),
    "student-shared": Row("student, by the head of all corpora", of="student", shared=True),
    "teacher": Row("teacher: gesture head on tokens", "teacher"),
    "teacher-shared": Row("teacher, by the head of all corpora", of="teacher", shared=True),
    "twin": Row(
        "the teacher's unquantized twin", "teacher", ("model.overrides.quantizer.kind=none",)
    ),
    "student-open": Row(
        "student-open: gesture head on tokens", "student-open", teacher="teacher-open"
    ),
    "teacher-open": Row("teacher-open: gesture head on tokens", "teacher-open"),
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
    "student-read": Row(
        "student's tokens, a reader for each corpus", rival=read_tokens, on="tokens", of="student"
    ),
    "teacher-read": Row(
        "teacher's tokens, a reader for each corpus", rival=read_tokens, on="tokens", of="teacher"
    ),
    "random": Row("random-weight codec, k-means codebooks", rival=read_tokens, on="tokens"),
    "shuffled": Row("control: labels shuffled between recordings", rival=shuffled),
    "order": Row("control: time since the start and label before", rival=order),
    "order-whole": Row(
        "the same where recordings of several gestures stay whole", rival=order, on="whole"
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
        changes: To the recipe of its training, not of its teacher's, as ``emgcodec train --set``
            takes them.

    Raises:
        ValueError: if the data is not there, or a training fails.
    """
    started, row = time.monotonic(), ROWS[name]
    command = f"emgcodec evaluate run --row {name} --fold {fold} --data $EMGCODEC_DATA"
    command += "".join(f" --set {change}" for change in changes)
    result = {"title": row.title} | facts(name, fold, data, command) | {"protocol": PROTOCOL}
    if changes and not (row.recipe or row.of):
        raise ValueError(f"--set {list(changes)}: row {name!r} has no training to change")
    if guided := [change for change in changes if change.startswith("distill.teacher")]:
        raise ValueError(
            f"--set {guided}: row {name!r} says who teaches ({row.teacher or None}); leave it out"
        )
    codec = None
    if row.recipe or row.of:
        codec = _codec(row.of or name, fold, data, runs, changes)
        require_strangers(codec, people(fold, "test") | people(fold, "validation"))
        result |= {"model": _model(codec, _folder(row.of or name, fold, runs), runs)}
    if row.rival is not None:
        result |= _score_rival(row.rival, row.on, fold, data, codec)
    elif codec is not None and row.shared:
        result |= {"scores": scores_by_start(codec, fold, data, CORPORA, shared=True)}
    elif codec is not None:
        result |= score_model(codec, fold, data)
    if codec is not None and row.teacher:
        teacher = Codec.from_pretrained(_folder(row.teacher, fold, runs) / "model")
        result |= {"agreement": _agreement(codec, teacher, fold, data)}
    return result | {"seconds": round(time.monotonic() - started)}


def _codec(name: str, fold: int, data: Path, runs: Path, changes: Sequence[str]) -> Codec:
    return Codec.from_pretrained(_trained(name, fold, data, runs, changes))


def _trained(name: str, fold: int, data: Path, runs: Path, changes: Sequence[str] = ()) -> Path:
    """The model of a row; trains it if it is not there, and who teaches it before."""
    row = ROWS[name]
    fixed = [f"data.fold={fold}", f"run.seed={fold}", *row.changes, *changes]
    if row.teacher:
        fixed.append(f"distill.teacher={_trained(row.teacher, fold, data, runs)}")
    return trained(str(row.recipe), _folder(name, fold, runs), fixed, data)


def _folder(name: str, fold: int, runs: Path) -> Path:
    return runs / f"{name}-{fold}"


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
    require_strangers(codec, people(fold, "test"))
    if codec.quantizer is None:
        return {"scores": scores_by_start(codec, fold, data, corpora)}
    scores: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    likeness, rates = {}, {}
    for corpus, names in _tested(fold, corpora):
        takes = load_takes(data, corpus, names, codec)
        for mode in starts(codec, takes):
            scores[mode][corpus] = gesture_scores(codec, takes, mode)
        known = load_takes(data, corpus, people(fold, "train"), codec)
        rivals = Rivals.fit(codec, (take for take in known if take.calibrates))
        likeness[corpus] = reconstruction_scores(codec, rivals, takes)
        rates[corpus] = bits_a_second(codec, takes)
    selecting = (load_takes(data, c, people(fold, "validation"), codec) for c in corpora)
    return {
        "scores": scores,
        "usage": codebook_use(codec, chain.from_iterable(selecting)),
        "reconstruction": likeness,
        "bit_rate": rates,
    }


def scores_by_start(
    codec: Codec,
    fold: int,
    data: Path,
    corpora: Sequence[str],
    *,
    shared: bool = False,
    part: Part = "test",
) -> dict[str, dict[str, Any]]:
    """Gestures of those who test, or of another part of the fold, by start and corpus."""
    scores: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    for corpus, names in _tested(fold, corpora, part):
        takes = load_takes(data, corpus, names, codec)
        for mode in starts(codec, takes):
            scores[mode][corpus] = gesture_scores(codec, takes, mode, shared=shared)
    return scores


def _model(codec: Codec, folder: Path, runs: Path) -> dict[str, Any]:
    """What a result says of the codec that was scored."""
    return {
        "codec_id": codec.codec_id,
        "parameters": codec.num_parameters(),
        "trained": training_of(codec, folder, runs),
    }


def require_strangers(codec: Codec, names: frozenset[str]) -> None:
    """Refuses to score a codec on people whom it, or who taught it, says to be trained on.

    Raises:
        ValueError: naming those.
    """
    if known := sorted(_met(codec.config.provenance) & names):
        raise ValueError(
            f"codec {codec.config.name!r} or its teacher was trained on {known}, who judge in this "
            "fold: choose the fold that it was trained for"
        )


def _met(provenance: Mapping[str, Any]) -> set[str]:
    """People of a training, and of those that it started from or learned from."""
    data = provenance.get("data")
    met = {
        f"{dataset}/{subject}"
        for dataset, facts in (data.items() if isinstance(data, Mapping) else ())
        for subject in facts["people"]
    }
    for name in ("teacher", "started_from"):
        if isinstance(before := provenance.get(name), Mapping):
            met |= _met(before)
    return met


def _agreement(codec: Codec, teacher: Codec, fold: int, data: Path) -> dict[str, Any]:
    """Of the codes of both, by person; see `agreement`."""
    tested = _tested(fold)
    takes = [take for corpus, names in tested for take in load_takes(data, corpus, names, codec)]
    return agreement(coded(codec, takes), coded(teacher, takes))


def _tested(
    fold: int, corpora: Sequence[str] = CORPORA, part: Part = "test"
) -> Iterator[tuple[str, list[str]]]:
    """Corpora of which somebody tests, and who."""
    for corpus in corpora:
        if names := [n for n in people(fold, part) if n.startswith(f"{corpus}/")]:
            yield corpus, names


def bits_a_second(codec: Codec, takes: Sequence[Take], num_codebooks: int | None = None) -> float:
    """Of codes and levels, for recordings of this corpus' typical length."""
    levels = codec.num_codebooks if num_codebooks is None else num_codebooks
    bits = codec.bits_per_frame * levels / codec.num_codebooks
    seconds = float(np.median([t.segment.x.shape[1] for t in takes])) / codec.sample_rate
    electrodes = len(takes[0].segment.montage)
    return bit_rate(bits, codec.frame_rate, electrodes, seconds)


def _score_rival(
    rival: Callable[[Task], Outcome], on: str, fold: int, data: Path, codec: Codec | None
) -> dict[str, Any]:
    codec = codec or (untrained(fold, data) if on == "tokens" else reference())
    scores: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    chosen: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    chance = {}
    for corpus, _ in _tested(fold):
        for mode, make in tracks_by_start(on, data, corpus, codec).items():
            tracks = make()
            chance[corpus] = chance_of(scored(tracks, people(fold, "test")))
            task = Task(tracks, fold, mode == "calibrated", codec)
            scores[mode][corpus], chosen[mode][corpus] = rival(task)
    return {"scores": scores, "chance": chance, "chosen": chosen}


def tracks_by_start(
    on: str, data: Path, corpus: str, codec: Codec
) -> dict[Start, Callable[[], Sequence[Track]]]:
    """What makes that which a rival gets of everybody, for each start.

    Args:
        on: See `Row`.
        data: Folder of the corpora.
        corpus: One of them.
        codec: Whose frames and, if wanted, whose tokens.
    """
    if on == "tokens":
        takes = load_takes(data, corpus, everyone(corpus), codec)
        return {mode: partial(token_tracks, codec, takes, mode) for mode in starts(codec, takes)}
    whole = feature_tracks(data, corpus, codec)
    tracks = whole if on == "whole" else cut(whole)
    # Features have no start; when they are cold, their z-scores are the device's.
    return {mode: lambda: tracks for mode in MODES if mode != "device"}


@lru_cache(maxsize=1)
def untrained(
    fold: int,
    data: Path,
    corpora: Sequence[str] = CORPORA,
    modes: Sequence[Start] = ("cold", "calibrated"),
) -> Codec:
    """A codec of random weights, whose codebooks fit the latents of the training people.

    Args:
        fold: Whose people train.
        data: Folder of the corpora.
        corpora: That the codebooks fit.
        modes: That recordings start from, in turn.
    """

    def rows(codec: Codec) -> Iterator[Array]:
        for corpus in corpora:
            takes = load_takes(data, corpus, people(fold, "train"), codec)
            for take, mode in zip(takes[::_SAMPLED], cycle(modes), strict=False):
                yield vectors(codec, take, mode)

    return untrained_codec(reference().config, rows, fold)


@cache
def reference() -> Codec:
    """Untrained: whose frames, context, bits and decoder the rivals are measured by."""
    return Codec.from_preset("teacher")

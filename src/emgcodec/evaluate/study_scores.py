"""What studies score a codec by, each on the people who test in a fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import chain, pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from emgcodec.codec import Codec
from emgcodec.evaluate.agreement import agreement, coded
from emgcodec.evaluate.codecs import (
    Take,
    codebook_use,
    gesture_scores,
    load_takes,
    pooled_use,
)
from emgcodec.evaluate.frames import Labels
from emgcodec.evaluate.reconstruction import reconstruction_scores
from emgcodec.evaluate.rivals import Task, dequantized, probe
from emgcodec.evaluate.rows import (
    bits_a_second,
    scores_by_start,
    tracks_by_start,
    untrained,
)
from emgcodec.evaluate.sequence import SequenceModel, fit_sequence_model, read_sequences
from emgcodec.evaluate.typing import greedy, score_split, session_signals
from emgcodec.evidence import CORPORA, Part, people
from emgcodec.recording import Recording
from emgcodec.train.sessions import find_splits

Score = Callable[[Codec, int, Path], dict[str, Any]]
Heard = Callable[[Codec, Sequence[Take], float], Iterator[Recording]]
"""Recordings of so many seconds of takes, for a calibration."""

WHOSE = ("student's", "teacher's")
"""Tokens that a sequence model reads."""

_SEQUENCE_STEPS = 2000
_APART = 5.0  # seconds between pieces of a block
_LONGEST = 1e5  # seconds of a wearing
_COUNTED = 4.8  # seconds, whole frames at any rate that is compared


def gestures(*corpora: str, likeness: bool = False, part: Part = "test") -> Score:
    """Gesture head from each start; use of the codebooks by those who select.

    Args:
        corpora: Whose people.
        likeness: Also how like the signal what is decoded is; calibrated.
        part: Of the fold's people, who are scored.
    """

    def score(codec: Codec, fold: int, data: Path) -> dict[str, Any]:
        found: dict[str, Any] = {"scores": scores_by_start(codec, fold, data, corpora, part=part)}
        if codec.quantizer is not None:
            selecting = _takes(codec, corpora, fold, "validation", data)
            found["usage"] = codebook_use(codec, selecting)
        if likeness:
            takes = {c: load_takes(data, c, people(fold, part), codec) for c in corpora}
            found["reconstruction"] = {
                "calibrated": {c: reconstruction_scores(codec, None, t) for c, t in takes.items()}
            }
        return found

    return score


def by_levels(*corpora: str) -> Score:
    """The gesture head and the signal's likeness from the first levels alone; calibrated."""

    def score(codec: Codec, fold: int, data: Path) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = {"scores": {}, "reconstruction": {}, "bit_rate": {}}
        numbers = range(1, codec.num_codebooks + 1)
        for corpus in corpora:
            takes = load_takes(data, corpus, people(fold, "test"), codec)
            every = [codec.encode(**take.signal(codec, "calibrated")) for take in takes]
            for levels in numbers:
                codes = [each[:, :levels] for each in every]
                values = {
                    "scores": gesture_scores(codec, takes, "calibrated", codes=codes),
                    "reconstruction": reconstruction_scores(codec, None, takes, codes),
                    "bit_rate": bits_a_second(codec, takes, levels),
                }
                for name, value in values.items():
                    found[name].setdefault(_levels(levels), {})[corpus] = value
        selecting = _takes(codec, corpora, fold, "validation", data)
        cost = {_levels(levels): flops(codec, levels) for levels in numbers}
        return found | {"usage": codebook_use(codec, selecting), "flops": cost}

    return score


def by_calibration(*corpora: str) -> Score:
    """The gesture head after other people were heard, or more and more of the wearing; unlabelled.

    Other people are those who train, in the calibration blocks of the same device.
    """

    def score(codec: Codec, fold: int, data: Path) -> dict[str, Any]:
        scores: dict[str, dict[str, Any]] = {}
        for corpus in corpora:
            if not (takes := load_takes(data, corpus, people(fold, "test"), codec)):
                continue
            others = load_takes(data, corpus, people(fold, "train"), codec)
            usual = codec.calibrate(_recording(codec, t) for t in others if t.calibrates)
            heard = {"other people": [replace(take, calibration=usual) for take in takes]}
            heard |= {mode: _calibrated(codec, takes, *much) for mode, much in _HEARD.items()}
            scores.setdefault("cold", {})[corpus] = gesture_scores(codec, takes, "cold")
            for mode, known in heard.items():
                scores.setdefault(mode, {})[corpus] = gesture_scores(codec, known, "calibrated")
        return {"scores": scores}

    return score


def _calibrated(
    codec: Codec, takes: Sequence[Take], heard: Heard, seconds: float, everything: bool
) -> list[Take]:
    """The takes with a calibration on that much of each wearing's block, or of all of it."""
    wearings: dict[str, list[Take]] = {}
    for take in (take for take in takes if everything or take.calibrates):
        wearings.setdefault(take.segment.wearing, []).append(take)
    known = {name: codec.calibrate(heard(codec, t, seconds)) for name, t in wearings.items()}
    return [replace(take, calibration=known[take.segment.wearing]) for take in takes]


def _first(codec: Codec, takes: Sequence[Take], seconds: float) -> Iterator[Recording]:
    """The first seconds."""
    left = round(seconds * codec.sample_rate)
    for take in takes:
        if left > 0:
            yield _recording(codec, take, slice(left))
        left -= take.segment.x.shape[1]


def _spread(codec: Codec, takes: Sequence[Take], seconds: float) -> Iterator[Recording]:
    """That much drawn from everywhere: the beginning of every five seconds or so."""
    lengths = [take.segment.x.shape[1] for take in takes]
    share = min(1.0, seconds * codec.sample_rate / sum(lengths))
    for take, length in zip(takes, lengths, strict=True):
        edges = np.linspace(0, length, 1 + ceil(length / (_APART * codec.sample_rate)))
        for start, stop in pairwise(edges):
            part = slice(round(start), round(start + share * (stop - start)))
            yield _recording(codec, take, part)


_HEARD: dict[str, tuple[Heard, float, bool]] = {  # seconds of the block, or of all of the wearing
    "first 5 s": (_first, 5.0, False),
    "5 s of the whole block": (_spread, 5.0, False),
    "first 20 s": (_first, 20.0, False),
    "one block": (_first, _LONGEST, False),
    "all, what is scored too": (_first, _LONGEST, True),
}


def _recording(codec: Codec, take: Take, part: slice = slice(None)) -> Recording:
    """Some samples of the take."""
    s = take.segment
    return Recording(s.x[:, part], codec.sample_rate, montage=s.montage, unit="adc")


def probes(*corpora: str) -> Score:
    """A linear probe on the codes of a codec that has not met a corpus, and on others' codes.

    It is fitted on other people of the corpus, all calibrated. Others' codes are those of a codec
    of random weights at the same rate, whose codebooks fit the corpora that the codec has met, and
    residual k-means of classic features of the corpus itself.
    """

    def score(codec: Codec, fold: int, data: Path) -> dict[str, Any]:
        scores: dict[str, dict[str, Any]] = {}
        met = codec.config.provenance.get("data") or {}
        known = tuple(corpus for corpus in CORPORA if corpus in met)
        random = untrained(fold, data, known, ("calibrated",))
        codecs = {"its codes": codec, "random weights' codes": random}
        for corpus in (corpus for corpus in corpora if corpus not in met):
            tasks = {
                name: _task("tokens", data, corpus, each, fold) for name, each in codecs.items()
            }
            tasks["k-means codes"], _ = dequantized(_task("features", data, corpus, codec, fold))
            for name, task in tasks.items():
                scores.setdefault(name, {})[corpus], _ = probe(task)
        return {"scores": scores}

    return score


def _task(on: str, data: Path, corpus: str, codec: Codec, fold: int) -> Task:
    """Calibrated."""
    return Task(tracks_by_start(on, data, corpus, codec)["calibrated"](), fold, True, codec)


def flops(codec: Codec, num_codebooks: int) -> float:
    """Operations of matrix products to encode a second of eight electrodes to so many levels.

    Of the whole at once, in which attention multiplies also what its mask hides; not of Fourier
    transforms.
    """
    signal = torch.zeros(1, 8, round(codec.sample_rate * _COUNTED))
    # Of the fused attention the counter knows nothing.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        codec.encode(signal, num_codebooks=num_codebooks)
    return float(counter.get_total_flops()) / _COUNTED


def _levels(number: int) -> str:
    return f"{number} level" + "s" * (number > 1)


def agreement_with_teacher(*corpora: str) -> Callable[[Codec, Codec, int, Path], dict[str, Any]]:
    """Agreement of codes, and what readers of the teacher's tokens make of the student's.

    Readers are the teacher's own gesture head, and a sequence model.
    """

    @lru_cache(maxsize=1)  # the students of a fold follow one another
    def reader(teacher: Codec, fold: int, data: Path) -> tuple[SequenceModel, dict[str, Labels]]:
        learned = coded(teacher, _takes(teacher, corpora, fold, "train", data))
        return fit_sequence_model(learned, teacher.codebook_size, fold, _SEQUENCE_STEPS)

    def compare(teacher: Codec, student: Codec, fold: int, data: Path) -> dict[str, Any]:
        tested = {c: load_takes(data, c, people(fold, "test"), teacher) for c in corpora}
        takes = list(chain.from_iterable(tested.values()))
        ours, theirs = (coded(codec, takes) for codec in (student, teacher))
        model, known = reader(teacher, fold, data)
        codes = (torch.from_numpy(each.codes)[None] for each in ours)
        by_teacher = {
            corpus: gesture_scores(teacher, each, "calibrated", codes=[next(codes) for _ in each])
            for corpus, each in tested.items()
        }
        return {
            "agreement": agreement(ours, theirs),
            "read by teacher": by_teacher,
            "sequence model": {
                whose: read_sequences(model, known, tokens)
                for whose, tokens in zip(WHOSE, (ours, theirs), strict=True)
            },
        }

    return compare


def typing(codec: Codec, fold: int, data: Path) -> dict[str, Any]:
    """Character errors of each person who has a split file, greedily, in whole sessions."""
    splits = find_splits(data, "user*")
    errors = {
        split.name: score_split(codec, split, {"greedy": greedy}, ("test",))["test"]["greedy"]
        for split in splits
    }
    found = {
        "scores": {"cold": {"simulated typing": {name: e.rate for name, e in errors.items()}}},
        "errors": {name: asdict(e) for name, e in errors.items()},
    }
    if codec.quantizer is None:
        return found
    codes = (
        codec.encode(**signal)[0].numpy()
        for split in splits
        for path in split.val
        for _, signal in session_signals(codec, path)
    )
    return found | {"usage": pooled_use(codes, codec.codebook_size)}


def _takes(
    codec: Codec, corpora: Sequence[str], fold: int, part: Part, data: Path
) -> Iterable[Take]:
    return chain.from_iterable(load_takes(data, c, people(fold, part), codec) for c in corpora)

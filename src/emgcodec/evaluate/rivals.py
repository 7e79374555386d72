"""What a codec must beat, and the controls that must stay at chance; one corpus at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emgcodec.codec import Codec
from emgcodec.evaluate.frames import (
    Labels,
    Scores,
    Track,
    compressed,
    runs,
    score,
    scored,
    standardized,
)
from emgcodec.evaluate.lda import Moments, summed
from emgcodec.evaluate.tokens import ResidualKMeans, fit_reader
from emgcodec.evidence import people
from emgcodec.metrics import perplexity

Answer = Callable[[Track], Labels]
Outcome = tuple[Scores, dict[str, Any]]
"""Scores of the people who test, and what was chosen on those who select."""

_SHRINKAGES = (0.01, 0.1, 0.4, 0.8)
_TIME_BIN = 16  # frames, half a second
_SHUFFLES = 20


@dataclass(frozen=True)
class Task:
    """One fold of one corpus, cold or calibrated.

    Attributes:
        tracks: Of all people, with features as they are.
        fold: Who tests, selects and trains.
        calibrated: Whether the calibration blocks may be used.
        codec: Whose frames, context, bits and decoder the rivals get.
    """

    tracks: Sequence[Track]
    fold: int
    calibrated: bool
    codec: Codec

    @property
    def context(self) -> int:
        """Frames that the codec's answer depends on, before the quantizer and behind it."""
        codec = self.codec
        return codec.receptive_field // codec.hop_length + codec.decoder.receptive_field

    @property
    def training(self) -> list[Track]:
        """Of the training people; calibration blocks too, as the codec learns from them."""
        chosen = people(self.fold, "train")
        return [t for t in self.tracks if t.subject in chosen]

    @property
    def selecting(self) -> list[Track]:
        """Of those who select, if there are any."""
        return scored(self.tracks, people(self.fold, "validation"))

    def normalized(self, *, logarithm: bool) -> Task:
        """The same on z-scores, if wanted of the features' logarithms."""
        task = replace(self, tracks=compressed(self.tracks)) if logarithm else self
        return replace(task, tracks=standardized(task.tracks, task.training, task.calibrated))

    def test(self, answer: Answer) -> Scores:
        """Scores of the people who test."""
        tested = scored(self.tracks, people(self.fold, "test"))
        return score((t, answer(t)) for t in tested)


def classic(task: Task, *, context: bool, logarithm: bool) -> Outcome:
    """Discriminant analysis of classic features; `context` sums the evidence over time."""
    return probe(task.normalized(logarithm=logarithm), context=context)


def kmeans_tokens(task: Task) -> Outcome:
    """Residual k-means of classic features at the codec's rate and bits."""
    tokens, used = dequantized(task)
    scores, chosen = read_tokens(tokens)
    return scores, chosen | {"perplexity": used}


def dequantized(task: Task) -> tuple[Task, list[float]]:
    """Tracks of what k-means tokens stand for, and the perplexity of each level."""
    task = task.normalized(logarithm=True)
    levels, size = task.codec.num_codebooks, task.codec.codebook_size
    rows = np.concatenate([t.x for t in task.training])
    quantizer = ResidualKMeans.fit(rows, levels, size, seed=task.fold)
    codes = {id(t): quantizer.encode(t.x) for t in task.tracks}
    seen = np.concatenate([codes[id(t)] for t in task.selecting or task.training], axis=1)
    tracks = [replace(t, x=quantizer.decode(codes[id(t)])) for t in task.tracks]
    return replace(task, tracks=tracks), perplexity(seen, size).tolist()


def probe(task: Task, *, context: bool = True) -> Outcome:
    """A linear probe: a discriminant of the vectors as they are; `context` sums its evidence."""
    answer, chosen = _discriminant(task, context)
    return task.test(answer), chosen


def read_tokens(task: Task) -> Outcome:
    """The better of two readers of dequantized vectors, as those who select have it.

    One is a discriminant with summed evidence, the other the codec's own decoder blocks and
    gesture head, trained on these vectors. Where nobody selects it is the former.
    """
    answer, chosen = _discriminant(task, context=True)
    chosen = {"reader": "discriminant"} | chosen
    if task.selecting:
        reader = fit_reader(task.training, task.codec.config, seed=task.fold)
        got = _mean(score((t, reader(t)) for t in task.selecting))
        chosen["decoder_selecting"] = got
        if got > chosen["selecting"]:
            answer, chosen["reader"] = reader, "decoder"
    return task.test(answer), chosen


def shuffled(task: Task) -> Outcome:
    """Control: the discriminant with context, its training labels shuffled between recordings.

    The mean of some shuffles, and settings that nobody chose: one labelling may be right by luck.
    """
    task = task.normalized(logarithm=False)
    found = []
    for seed in range(_SHUFFLES):
        training = _shuffled(task.training, _SHUFFLES * task.fold + seed)
        found.append(task.test(_with_evidence(Moments.of(training), 0.4, task.context)))
    return {name: float(np.mean([f[name] for f in found])) for name in found[0]}, {}


def order(task: Task) -> Outcome:
    """Control: time since the recording's start and the label before, without any signal."""
    cells: dict[tuple[int, int], Counter[int]] = {}
    totals: Counter[int] = Counter()
    for t in task.training:
        for cell, label in zip(_cells(t.labels), t.labels.tolist(), strict=True):
            if label >= 0:
                cells.setdefault(cell, Counter())[label] += 1
                totals[label] += 1
    # Classes weigh alike, as in the score; where nothing was seen it is anybody's guess.
    best = {
        cell: max(found, key=lambda label: found[label] / totals[label])
        for cell, found in cells.items()
    }
    rng = np.random.default_rng(task.fold)
    known = sorted(totals)

    def answer(t: Track) -> Labels:
        return np.array([best.get(cell, int(rng.choice(known))) for cell in _cells(t.labels)])

    return task.test(answer), {}


def _mean(scores: Scores) -> float:
    return float(np.mean(list(scores.values())))


def _discriminant(task: Task, context: bool) -> tuple[Answer, dict[str, Any]]:
    """Shrinkage and length of the sum are chosen on those who select, or else on the training."""
    moments = Moments.of(task.training)
    windows = [4**k for k in range(12) if 4**k < task.context] + [task.context]
    found = []
    for shrinkage in _SHRINKAGES:
        model = moments.discriminant(shrinkage)
        judges = task.selecting or [t for t in task.training if not t.calibrates]
        evidence = [(t, model.log_posteriors(t.x)) for t in judges]
        for frames in windows if context else [1]:
            guesses = ((t, moments.classes[summed(e, frames).argmax(axis=1)]) for t, e in evidence)
            found.append((_mean(score(guesses)), shrinkage, frames))
    got, shrinkage, frames = max(found, key=lambda each: each[0])
    chosen = {"shrinkage": shrinkage, "frames": frames, "selecting": got}
    return _with_evidence(moments, shrinkage, frames), chosen


def _with_evidence(moments: Moments, shrinkage: float, frames: int) -> Answer:
    model = moments.discriminant(shrinkage)

    def answer(t: Track) -> Labels:
        best: Labels = moments.classes[summed(model.log_posteriors(t.x), frames).argmax(axis=1)]
        return best

    return answer


def _shuffled(tracks: Sequence[Track], seed: int) -> list[Track]:
    """The tracks with the labels of all labelled stretches permuted among them."""
    where = [(i, run) for i, t in enumerate(tracks) for run in runs(t.labels)]
    where = [(i, run) for i, run in where if tracks[i].labels[run.start] >= 0]
    new = np.random.default_rng(seed).permutation([tracks[i].labels[r.start] for i, r in where])
    labels = [t.labels.copy() for t in tracks]
    for (i, run), label in zip(where, new, strict=True):
        labels[i][run] = label
    return [replace(t, labels=changed) for t, changed in zip(tracks, labels, strict=True)]


def _cells(labels: Labels) -> list[tuple[int, int]]:
    """Time and label before, for each frame: -1 before there was another."""
    before, last, cells = -1, -1, []
    for run in runs(labels):
        label = int(labels[run.start])
        if label >= 0 and label != last:
            before, last = last, label
        cells += [(frame // _TIME_BIN, before) for frame in range(run.start, run.stop)]
    return cells

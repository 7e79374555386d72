"""The frames that everything is scored on: labels, people and a vector for each frame."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import signal as dsp

from emgcodec.codec import Codec
from emgcodec.evidence import everyone
from emgcodec.io import read_all
from emgcodec.metrics import balanced_accuracy
from emgcodec.recording import Recording
from emgcodec.signal import Repair
from emgcodec.train.data import is_calibration, load_segments

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Scores = dict[str, float]
"""Balanced accuracy by person."""

_WINDOW_SECONDS = 0.2
_HIGH_PASS = 20.0  # Hz, below the muscles' power
_LOWEST_RATE = 500.0  # devices slower than this have filtered by themselves, nearer to the muscles


class Labelled(Protocol):
    """A recording of somebody, with a label for each frame."""

    @property
    def subject(self) -> str: ...  # noqa: D102
    @property
    def labels(self) -> Labels: ...  # noqa: D102


@dataclass(frozen=True)
class Track:
    """One contiguous recording as a vector a frame.

    Attributes:
        subject: Who it was.
        wearing: Subject and session.
        calibrates: Whether it is part of its wearing's first block, which is never scored.
        labels: (T,) index into `GESTURES`, or `UNLABELLED`.
        x: (T, F).
    """

    subject: str
    wearing: str
    calibrates: bool
    labels: Labels
    x: Array


def corpus_files(data: Path, corpus: str, people: Iterable[str]) -> list[Path]:
    """Files of those of the people who belong to a corpus, sorted.

    Raises:
        ValueError: if one is missing.
    """
    chosen = sorted(name for name in people if name.startswith(f"{corpus}/"))
    files = [data / f"{name.replace('/', '_')}.h5" for name in chosen]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ValueError(f"--data {data}: {missing} are missing: name the folder of the corpora")
    return files


def runs(labels: Labels) -> list[slice]:
    """Stretches of one label each, unlabelled ones too, from labels (T,)."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return [slice(a, b) for a, b in pairwise(edges)]


def stretches(labels: Labels) -> list[slice]:
    """What of a recording is scored as a recording of its own, from labels (T,).

    A recording of one gesture is taken whole. One of several follows a script: what comes next
    could be told from the time and from what came before. It is cut into its labelled stretches,
    in each of which everything starts anew.
    """
    if len(np.unique(labels[labels >= 0])) < 2:
        return [slice(0, len(labels))]
    return [run for run in runs(labels) if labels[run.start] >= 0]


def cut(tracks: Iterable[Track]) -> list[Track]:
    """The tracks in `stretches`, those of calibration blocks whole."""
    return [
        replace(t, labels=t.labels[part], x=t.x[part])
        for t in tracks
        for part in ([slice(None)] if t.calibrates else stretches(t.labels))
    ]


@functools.cache
def feature_tracks(data: Path, corpus: str, codec: Codec) -> tuple[Track, ...]:
    """Classic features of all people of a corpus, on the frames of a codec; not `cut` yet."""
    recordings: list[Recording] = [
        rec for file in corpus_files(data, corpus, everyone(corpus)) for rec in read_all(file)
    ]
    segments = load_segments(recordings, codec)
    return tuple(
        Track(
            s.subject,
            s.wearing,
            is_calibration(s, segments),
            s.labels,
            time_domain_features(rec, len(s.labels), codec.frame_rate),
        )
        for rec, s in zip(recordings, segments, strict=True)
    )


def time_domain_features(rec: Recording, frames: int, frame_rate: float) -> Array:
    """Mean absolute value, waveform length, zero crossings and slope sign changes.

    The set of Hudgins et al. (1993) over the 200 ms before each frame's end, at the recording's
    own rate and without thresholds. Where less has passed they are of what there is, so all are
    given for a sample. Signals of 1 kHz and more are high-passed at 20 Hz first.

    Returns:
        (T, 4 C): the four of the first electrode, of the second, ...
    """
    x = Repair(rec.num_electrodes).push(rec.emg)[0].astype(np.float64)
    x -= np.median(x, axis=1, keepdims=True)
    if rec.sample_rate >= _LOWEST_RATE:
        sections = dsp.butter(2, _HIGH_PASS, "highpass", fs=rec.sample_rate, output="sos")
        settled = dsp.sosfilt_zi(sections)[:, None] * x[None, :, :1]
        x, _ = dsp.sosfilt(sections, x, axis=1, zi=settled)
    step = np.diff(x, axis=1, prepend=x[:, :1])
    crosses = np.diff(np.signbit(x), axis=1, prepend=np.signbit(x[:, :1]))
    turns = np.diff(np.signbit(step), axis=1, prepend=np.signbit(step[:, :1]))
    ends = np.floor((np.arange(frames) + 1) * rec.sample_rate / frame_rate + 1e-6).astype(int)
    ends = np.clip(ends, 1, x.shape[1])
    starts = np.maximum(ends - round(_WINDOW_SECONDS * rec.sample_rate), 0)
    values = np.stack([np.abs(x), np.abs(step), crosses, turns], axis=1)  # (C, 4, N)
    total = np.zeros((*values.shape[:2], x.shape[1] + 1))
    np.cumsum(values, axis=2, out=total[..., 1:])
    means = (total[..., ends] - total[..., starts]) / (ends - starts)
    features: Array = means.reshape(-1, frames).T.astype(np.float32)
    return features


def compressed(tracks: Sequence[Track]) -> list[Track]:
    """The same with the logarithm of all values, which must not be negative."""
    smallest = np.float32(1e-3)
    return [replace(t, x=np.log(t.x + smallest)) for t in tracks]


def standardized(
    tracks: Sequence[Track], training: Sequence[Track], calibrated: bool
) -> list[Track]:
    """Z-scores: of each wearing on its calibration block, or of all alike.

    Args:
        tracks: Of one corpus.
        training: Of the training people.
        calibrated: By mean and deviation of the wearing's calibration block, labels unseen.
            Without it by those of the training people: no two people are treated differently.
    """
    groups: dict[str, list[Array]] = defaultdict(list)
    for t in [t for t in tracks if t.calibrates] if calibrated else training:
        groups[t.wearing if calibrated else ""].append(t.x)
    known = {}
    for name, parts in groups.items():
        values = np.concatenate(parts).astype(np.float64)
        deviation = values.std(axis=0)
        known[name] = values.mean(axis=0), np.where(deviation > 0, deviation, 1.0)
    result = []
    for t in tracks:
        mean, deviation = known[t.wearing if calibrated else ""]
        result.append(replace(t, x=((t.x - mean) / deviation).astype(np.float32)))
    return result


def scored(tracks: Sequence[Track], people: Iterable[str]) -> list[Track]:
    """The tracks of these people that count: without the calibration blocks."""
    chosen = frozenset(people)
    return [t for t in tracks if t.subject in chosen and not t.calibrates]


def score(answers: Iterable[tuple[Labelled, Labels]]) -> Scores:
    """Balanced accuracy of each person over the labelled frames.

    Args:
        answers: Recordings, and an answer for each of their frames.
    """
    pairs: dict[str, list[tuple[Labels, Labels]]] = defaultdict(list)
    for heard, guess in answers:
        labelled = heard.labels >= 0
        pairs[heard.subject].append((heard.labels[labelled], guess[labelled]))
    result = {}
    for subject, found in pairs.items():
        truth, guess = (np.concatenate(column) for column in zip(*found, strict=True))
        if len(truth):
            result[subject] = balanced_accuracy(truth, guess)
    return result


def chance_of(tracks: Iterable[Track]) -> Scores:
    """What a blind guess scores: one over the gestures that each person shows."""
    shown: dict[str, set[int]] = defaultdict(set)
    for t in tracks:
        shown[t.subject].update(np.unique(t.labels[t.labels >= 0]).tolist())
    return {subject: 1.0 / len(gestures) for subject, gestures in shown.items() if gestures}

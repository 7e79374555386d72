"""A head for a user's own classes on the frozen encoder: a linear classifier, fitted in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from emgcodec.calibration import Calibration
from emgcodec.config import LabelHeadConfig, SignalHeadConfig
from emgcodec.recording import Recording
from emgcodec.stream import CodecError
from emgcodec.tensors import TensorCodec
from emgcodec.tokenizer import code_tensor, tokenize

_MOST_FRAMES = 40_000  # more of the same people's frames hardly change a linear classifier
_RIDGE = 1e-2  # of the mean loss, on weights of standardised features
_FOLDS = 5

Features = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HeadFit:
    """What `Codec.fit_head` found.

    Attributes:
        labels: The classes, in the order of the head's scores.
        frames: Labelled frames of each.
        balanced_accuracy: Mean recall over the classes on recordings that the classifier had not
            seen (cross-validated over recordings); nan where a class is in one recording only.
    """

    labels: tuple[str, ...]
    frames: tuple[int, ...]
    balanced_accuracy: float

    def __str__(self) -> str:
        counts = ", ".join(f"{k} {n}" for k, n in zip(self.labels, self.frames, strict=True))
        return (
            f"{len(self.labels)} classes, balanced accuracy {self.balanced_accuracy:.2f} ({counts})"
        )


def fit_head(
    codec: TensorCodec,
    recordings: Iterable[Recording],
    head: str,
    *,
    calibration: Calibration | Sequence[Calibration | None] | None,
    reaction: float,
) -> HeadFit:
    """See `Codec.fit_head`."""
    recs = list(recordings)
    if isinstance(codec.config.heads.get(head), SignalHeadConfig):
        raise CodecError(f"head={head!r} is the signal head: give another name")
    if not (math.isfinite(reaction) and reaction >= 0):
        raise CodecError(f"reaction={reaction}: give seconds, 0 or more")
    each = [calibration] * len(recs) if not isinstance(calibration, Sequence) else list(calibration)
    if len(each) != len(recs):
        raise CodecError(f"calibration: {len(each)} given for {len(recs)} recordings")
    names = sorted({e.label for rec in recs for e in rec.events if e.kind == "gesture"})
    if len(names) < 2:
        others = sorted({e.kind for rec in recs for e in rec.events if e.kind != "gesture"})
        hint = f'; events of kind {others} count as dataclasses.replace(event, kind="gesture")'
        raise CodecError(
            f"recordings: their gesture events have the labels {names}; at least two are needed"
            + (hint if others else "")
        )
    pairs = [
        _frames(codec, rec, known, names, reaction) for rec, known in zip(recs, each, strict=True)
    ]
    counts = np.bincount(np.concatenate([y for _, y in pairs]), minlength=len(names))
    if not counts.all():
        absent = [name for name, n in zip(names, counts, strict=True) if n == 0]
        raise CodecError(
            f"recordings: no frame of {absent} is left, {reaction} s after the event's start"
        )
    accuracy = _cross_validated(pairs, len(names))
    weight, bias = _logistic(*_joined(pairs), len(names))
    module = codec.add_label_head(head, LabelHeadConfig("frame", tuple(names))).eval()
    with torch.no_grad():
        module.out.weight.copy_(torch.from_numpy(weight))
        module.out.bias.copy_(torch.from_numpy(bias))
    return HeadFit(tuple(names), tuple(counts.tolist()), accuracy)


def _frames(
    codec: TensorCodec,
    rec: Recording,
    calibration: Calibration | None,
    names: list[str],
    reaction: float,
) -> tuple[Features, Classes]:
    """What the heads read in each labelled frame of a recording, and its class."""
    tokens = tokenize(
        codec, rec, sample_rate=None, unit=None, montage=None, calibration=calibration
    )
    labels = np.full(tokens.num_frames, -1)
    time = tokens.token_times() - rec.start_time
    for event in rec.events:
        if event.kind == "gesture":
            labels[event.during(time, reaction)] = names.index(event.label)
    known = (labels >= 0) & tokens.valid
    vectors = [h[0].double().cpu() for h, _ in codec.decoded_blocks(code_tensor(codec, tokens))]
    features: Features = torch.cat(vectors).numpy()[known]
    return features, labels[known]


def _joined(pairs: Sequence[tuple[Features, Classes]]) -> tuple[Features, Classes]:
    """All frames, or evenly drawn ones where there are very many."""
    features = np.concatenate([x for x, _ in pairs])
    labels = np.concatenate([y for _, y in pairs])
    step = -(-len(labels) // _MOST_FRAMES)
    return features[::step], labels[::step]


def _cross_validated(pairs: Sequence[tuple[Features, Classes]], classes: int) -> float:
    folds = min(_FOLDS, len(pairs))
    hits, seen = np.zeros(classes), np.zeros(classes)
    for fold in range(folds):
        train = [p for i, p in enumerate(pairs) if i % folds != fold]
        if not train or len(np.unique(np.concatenate([y for _, y in train]))) < classes:
            return math.nan
        weight, bias = _logistic(*_joined(train), classes)
        features, labels = _joined([p for i, p in enumerate(pairs) if i % folds == fold])
        guess = (features @ weight.T + bias).argmax(axis=1)
        hits += np.bincount(labels[guess == labels], minlength=classes)
        seen += np.bincount(labels, minlength=classes)
    return float((hits / seen).mean())


def _logistic(features: Features, labels: Classes, classes: int) -> tuple[Features, Features]:
    """Weights (V, D) and bias (V,) of a ridge-penalised logistic regression, classes alike."""
    centre, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    x = (features - centre) / spread
    share = 1.0 / np.maximum(np.bincount(labels, minlength=classes), 1) / classes
    wanted = np.zeros((len(labels), classes))
    wanted[np.arange(len(labels)), labels] = 1.0
    importance = share[labels][:, None]
    size = classes * x.shape[1]

    def loss(flat: Features) -> tuple[float, Features]:
        weight, bias = flat[:size].reshape(classes, -1), flat[size:]
        scores = x @ weight.T + bias
        scores -= scores.max(axis=1, keepdims=True)
        log_probs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        slope = (np.exp(log_probs) - wanted) * importance
        value = -(log_probs * wanted * importance).sum() + _RIDGE * np.square(weight).sum() / 2
        gradient = np.concatenate([(slope.T @ x + _RIDGE * weight).ravel(), slope.sum(axis=0)])
        return float(value), gradient

    found = minimize(loss, np.zeros(size + classes), jac=True, method="L-BFGS-B")
    weight = found.x[:size].reshape(classes, -1) / spread
    return weight, found.x[size:] - weight @ centre

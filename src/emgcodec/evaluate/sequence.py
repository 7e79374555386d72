"""A small sequence model of tokens: it names the gesture, and guesses what token comes next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import exp

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emgcodec.evaluate.agreement import Coded
from emgcodec.evaluate.frames import Labels, score
from emgcodec.evaluate.learning import by_person, minimize, windows
from emgcodec.gestures import GESTURES
from emgcodec.train.data import UNLABELLED

_DIM, _WINDOW, _BATCH, _RATE, _DROPOUT = 128, 64, 48, 2e-3, 0.2


class SequenceModel(nn.Module):
    """A recurrent network over frames of codes.

    Args:
        levels: Codes of a frame.
        size: Of each codebook.
    """

    def __init__(self, levels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.embed = nn.ModuleList(nn.Embedding(size + 1, _DIM) for _ in range(levels))
        self.over_time = nn.GRU(_DIM, _DIM, batch_first=True)
        self.gesture = nn.Linear(_DIM, len(GESTURES))
        self.next = nn.ModuleList(nn.Linear(_DIM, size) for _ in range(levels))

    def forward(self, codes: Tensor) -> Tensor:
        """(B, K, T), -1 where there is none, to (B, T, D): what is known after each frame."""
        x = sum((e(codes[:, k] % (self.size + 1)) for k, e in enumerate(self.embed)), start=0.0)
        h: Tensor = self.over_time(F.dropout(x, _DROPOUT, self.training))[0]  # type: ignore[arg-type]
        return F.dropout(h, _DROPOUT, self.training)

    def surprise(self, h: Tensor, codes: Tensor) -> Tensor:
        """Nats (B, K, T - 1) of each code of the following frame, given its levels before it."""
        h, following, found = h[:, :-1], codes[..., 1:], []
        for k, guess in enumerate(self.next):
            scores = guess(h).mT
            found.append(
                F.cross_entropy(scores, following[:, k], reduction="none", ignore_index=-1)
            )
            h = h + self.embed[k](following[:, k] % (self.size + 1))
        return torch.stack(found, dim=1)

    def scores(self, h: Tensor, subjects: Sequence[str], known: Mapping[str, Labels]) -> Tensor:
        """(B, T, V); gestures that the item's corpus lacks are out of the question."""
        allowed = torch.full((len(subjects), 1, len(GESTURES)), -1e4)
        for i, subject in enumerate(subjects):
            allowed[i, 0, torch.from_numpy(known[_corpus(subject)])] = 0.0
        scores: Tensor = self.gesture(h) + allowed
        return scores


def fit_sequence_model(
    takes: Sequence[Coded], size: int, seed: int, steps: int
) -> tuple[SequenceModel, dict[str, Labels]]:
    """Trains a model on windows of people, each alike; gives it and each corpus's gestures."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    gestures: dict[str, set[int]] = defaultdict(set)
    for take in takes:
        gestures[_corpus(take.subject)] |= set(take.labels[take.labels >= 0].tolist())
    known = {corpus: np.array(sorted(found)) for corpus, found in gestures.items()}
    people = by_person(takes)
    model = SequenceModel(len(takes[0].codes), size)

    def loss() -> Tensor:
        subjects, codes, labels = _batch(windows(people, _BATCH, _WINDOW, rng))
        h = model(codes)
        surprise, told = model.surprise(h, codes), codes[..., 1:] >= 0
        named = model.scores(h, subjects, known).flatten(0, 1)
        missed = F.cross_entropy(named, labels.flatten(), ignore_index=UNLABELLED)
        return surprise.sum() / told.sum().clamp(min=1) + missed

    minimize(model, loss, steps, _RATE, "learning sequences")
    return model, known


@torch.no_grad()
def read_sequences(
    model: SequenceModel, known: Mapping[str, Labels], takes: Sequence[Coded]
) -> dict[str, dict[str, float]]:
    """By person: balanced ``accuracy`` of gestures, and ``perplexity`` of a token.

    Calibration blocks are not scored.
    """
    answers: list[tuple[Coded, Labels]] = []
    nats: dict[str, list[float]] = defaultdict(list)
    for take in takes:
        if take.calibrates:
            continue
        codes = torch.from_numpy(take.codes)[None]
        h = model(codes)
        best = model.scores(h, [take.subject], known)[0].argmax(dim=-1).numpy()
        answers.append((take, best))
        nats[take.subject] += model.surprise(h, codes)[codes[..., 1:] >= 0].tolist()
    return {
        "accuracy": score(answers),
        "perplexity": {who: exp(float(np.mean(each))) for who, each in nats.items() if each},
    }


def _corpus(subject: str) -> str:
    return subject.partition("/")[0]


def _batch(drawn: Sequence[tuple[Coded, slice]]) -> tuple[list[str], Tensor, Tensor]:
    """Who, codes (B, K, T) and labels (B, T)."""
    codes = np.full((len(drawn), len(drawn[0][0].codes), _WINDOW), -1)
    labels = np.full((len(drawn), _WINDOW), UNLABELLED)
    for i, (take, part) in enumerate(drawn):
        codes[i, :, : part.stop - part.start] = take.codes[:, part]
        labels[i, : part.stop - part.start] = take.labels[part]
    return [take.subject for take, _ in drawn], torch.from_numpy(codes), torch.from_numpy(labels)

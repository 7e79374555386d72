"""A small sequence model of tokens: it names the gesture, and guesses what token comes next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import cos, exp, pi

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from emgcodec.evaluate.agreement import Coded
from emgcodec.evaluate.frames import Labels
from emgcodec.gestures import GESTURES
from emgcodec.metrics import balanced_accuracy
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
    by_person: dict[str, list[Coded]] = defaultdict(list)
    gestures: dict[str, set[int]] = defaultdict(set)
    for take in takes:
        by_person[take.subject].append(take)
        gestures[_corpus(take.subject)] |= set(take.labels[take.labels >= 0].tolist())
    known = {corpus: np.array(sorted(found)) for corpus, found in gestures.items()}
    people = list(by_person.values())
    model = SequenceModel(len(takes[0].codes), size)
    optimizer = torch.optim.AdamW(model.parameters(), _RATE, weight_decay=0.05)
    for step in tqdm(range(steps), desc="learning sequences", unit="steps", leave=False):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / 50) * 0.5 * (1 + cos(pi * step / steps))
        subjects, codes, labels = _windows(people, rng)
        h = model(codes)
        surprise, told = model.surprise(h, codes), codes[..., 1:] >= 0
        named = model.scores(h, subjects, known).flatten(0, 1)
        loss = surprise.sum() / told.sum().clamp(min=1) + F.cross_entropy(
            named, labels.flatten(), ignore_index=UNLABELLED
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval(), known


@torch.no_grad()
def read_sequences(
    model: SequenceModel, known: Mapping[str, Labels], takes: Sequence[Coded]
) -> dict[str, dict[str, float]]:
    """By person: balanced ``accuracy`` of gestures, and ``perplexity`` of a token.

    Calibration blocks are not scored.
    """
    answers: dict[str, list[tuple[Labels, Labels]]] = defaultdict(list)
    nats: dict[str, list[float]] = defaultdict(list)
    for take in takes:
        if take.calibrates:
            continue
        codes = torch.from_numpy(take.codes)[None]
        h = model(codes)
        best = model.scores(h, [take.subject], known)[0].argmax(dim=-1).numpy()
        labelled = take.labels >= 0
        answers[take.subject].append((take.labels[labelled], best[labelled]))
        nats[take.subject] += model.surprise(h, codes)[codes[..., 1:] >= 0].tolist()
    accuracy = {}
    for subject, found in answers.items():
        truth, guess = (np.concatenate(column) for column in zip(*found, strict=True))
        if len(truth):
            accuracy[subject] = balanced_accuracy(truth, guess)
    return {
        "accuracy": accuracy,
        "perplexity": {who: exp(float(np.mean(each))) for who, each in nats.items() if each},
    }


def _corpus(subject: str) -> str:
    return subject.partition("/")[0]


def _windows(
    people: Sequence[Sequence[Coded]], rng: np.random.Generator
) -> tuple[list[str], Tensor, Tensor]:
    """Who, codes (B, K, T) and labels (B, T): people, then takes, each alike."""
    chosen: list[Coded] = []
    for _ in range(_BATCH):
        group = people[int(rng.integers(len(people)))]
        chosen.append(group[int(rng.integers(len(group)))])
    codes = np.full((_BATCH, len(chosen[0].codes), _WINDOW), -1)
    labels = np.full((_BATCH, _WINDOW), UNLABELLED)
    for i, take in enumerate(chosen):
        start = int(rng.integers(max(0, len(take.labels) - _WINDOW) + 1))
        part = slice(start, start + _WINDOW)
        codes[i, :, : len(take.labels[part])] = take.codes[:, part]
        labels[i, : len(take.labels[part])] = take.labels[part]
    return [take.subject for take in chosen], torch.from_numpy(codes), torch.from_numpy(labels)

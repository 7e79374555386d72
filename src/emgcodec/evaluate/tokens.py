"""Tokens without a trained encoder, and a trained reader of any tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor, nn
from torch.nn import functional as F

from emgcodec.config import CodecConfig
from emgcodec.evaluate.frames import Array, Labels, Track
from emgcodec.evaluate.learning import by_person, minimize, windows
from emgcodec.gestures import GESTURES
from emgcodec.nn.encoder import build_encoder
from emgcodec.train.data import UNLABELLED

Codes = npt.NDArray[np.int64]

_ROWS = 60_000
_ITERATIONS = 10
_CLIP = 8.0  # deviations: k-means spends no code on outliers
_EPOCHS, _LEAST_STEPS, _WINDOW_SECONDS, _BATCH = 4, 200, 1.7, 48
_RATE, _DROPOUT = 1e-3, 0.3


@dataclass(frozen=True)
class ResidualKMeans:
    """K codebooks, each k-means on what those before left over.

    Attributes:
        codebooks: Of `size` rows of F features each.
    """

    codebooks: tuple[Array, ...]

    @classmethod
    def fit(cls, rows: Array, levels: int, size: int, seed: int) -> ResidualKMeans:
        """On (N, F) rows, or a random 60 000 of them."""
        rng = np.random.default_rng(seed)
        rest = np.clip(rows[rng.permutation(len(rows))[:_ROWS]], -_CLIP, _CLIP)
        books: list[Array] = []
        for _ in range(levels):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an empty cluster stays where it was
                book, _ = kmeans2(rest, min(size, len(rest)), _ITERATIONS, minit="points", rng=rng)
            books.append(book.astype(np.float32))
            rest = rest - books[-1][vq(rest, books[-1])[0]]
        return cls(tuple(books))

    def encode(self, x: Array) -> Codes:
        """(T, F) to (K, T)."""
        rest, codes = np.clip(x, -_CLIP, _CLIP), []
        for book in self.codebooks:
            codes.append(vq(rest, book)[0].astype(np.int64))
            rest = rest - book[codes[-1]]
        return np.stack(codes)

    def decode(self, codes: Codes) -> Array:
        """(K, T) to (T, F)."""
        total: Array = np.sum([b[c] for b, c in zip(self.codebooks, codes, strict=True)], axis=0)
        return total


class Reader(nn.Module):
    """The codec's decoder blocks and gesture head behind a linear map of given vectors."""

    def __init__(self, config: CodecConfig, features: int, classes: Labels) -> None:
        super().__init__()
        assert config.encoder.kind == "transformer"
        dim = config.encoder.dim
        self.norm = nn.BatchNorm1d(features, affine=False)
        self.embed = nn.Linear(features, dim)
        self.blocks = build_encoder(
            config, dim, config.quantizer.after_block, config.encoder.blocks
        )
        self.out = nn.Linear(dim, len(GESTURES))
        known = torch.full((len(GESTURES),), -1e4)
        known[torch.from_numpy(classes)] = 0.0
        self.register_buffer("known", known)

    known: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, F) to scores (B, T, V); gestures that the corpus lacks are out of the question."""
        h = self.embed(F.dropout(self.norm(x.mT).mT, _DROPOUT, self.training))
        start = torch.zeros(len(x), dtype=torch.long)
        h, _ = self.blocks(h, start, self.blocks.init_state(len(x), x.device))
        scores: Tensor = self.out(h) + self.known
        return scores


def fit_reader(
    tracks: Sequence[Track], config: CodecConfig, seed: int
) -> Callable[[Track], Labels]:
    """Trains a `Reader` on labelled tracks, people alike; gives what it answers to a track."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    people = by_person(t for t in tracks if (t.labels >= 0).any())
    classes = np.unique(np.concatenate([t.labels[t.labels >= 0] for t in tracks]))
    reader = Reader(config, tracks[0].x.shape[1], classes)
    length = round(_WINDOW_SECONDS * config.frame_rate)
    frames = sum(len(t.labels) for group in people for t in group)
    per_step = _BATCH * min(length, frames // sum(map(len, people)))

    def loss() -> Tensor:
        x, labels = _batch(windows(people, _BATCH, length, rng))
        with torch.autocast("cpu", torch.bfloat16):
            scores = reader(x)
        return F.cross_entropy(scores.float().flatten(0, 1), labels.flatten(), label_smoothing=0.05)

    steps = max(_LEAST_STEPS, round(_EPOCHS * frames / per_step))
    minimize(reader, loss, steps, _RATE, "reading tokens")

    @torch.no_grad()
    def answer(t: Track) -> Labels:
        best: Labels = reader(torch.from_numpy(t.x)[None])[0].argmax(dim=-1).numpy()
        return best

    return answer


def _batch(drawn: Sequence[tuple[Track, slice]]) -> tuple[Tensor, Tensor]:
    """(B, T, F) and (B, T) labels."""
    longest = max(part.stop - part.start for _, part in drawn)
    x = np.zeros((len(drawn), longest, drawn[0][0].x.shape[1]), np.float32)
    labels = np.full((len(drawn), longest), UNLABELLED)
    for i, (t, part) in enumerate(drawn):
        x[i, : part.stop - part.start] = t.x[part]
        labels[i, : part.stop - part.start] = t.labels[part]
    return torch.from_numpy(x), torch.from_numpy(labels)

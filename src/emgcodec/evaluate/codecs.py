"""Scores of codecs: gestures read in their tokens, and how they use their codebooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgcodec.calibration import Calibration
from emgcodec.codec import Codec
from emgcodec.config import CodecConfig
from emgcodec.evaluate.frames import Array, Labels, Scores, Track, corpus_files, score, stretches
from emgcodec.evaluate.tokens import ResidualKMeans
from emgcodec.evidence import MODES, Start
from emgcodec.gestures import GESTURES, own_head
from emgcodec.io import read_all
from emgcodec.metrics import perplexity, usage
from emgcodec.train.data import (
    Segment,
    as_calibrated,
    calibrations,
    is_calibration,
    load_segments,
)


@dataclass(frozen=True)
class Take:
    """A recording, or a stretch of one, that a codec meets with a fresh state.

    Attributes:
        segment: Signal and labels.
        calibrates: Whether it is part of its wearing's calibration block.
        calibration: Of its wearing.
    """

    segment: Segment
    calibrates: bool
    calibration: Calibration

    def signal(self, codec: Codec, start: Start) -> dict[str, Any]:
        """Arguments of `Codec.encode`, from one of the starts."""
        calibration = None if start == "cold" else self.calibration
        if start == "device":
            calibration = codec.devices[self.segment.montage.name]
        x = torch.from_numpy(as_calibrated(self.segment.x, calibration, codec))[None]
        return {"x": x, "montage": self.segment.montage, "calibration": calibration}


def load_takes(data: Path, corpus: str, people: Iterable[str], codec: Codec) -> list[Take]:
    """What is scored of those of the people who belong to a corpus, and calibration blocks."""
    files = corpus_files(data, corpus, people)
    segments = load_segments([rec for file in files for rec in read_all(file)], codec)
    known = calibrations(segments, codec)
    takes, hop = [], codec.hop_length
    for s in segments:
        calibrates = is_calibration(s, segments)
        for part in [slice(0, len(s.labels))] if calibrates else stretches(s.labels):
            x, labels = s.x[:, part.start * hop : part.stop * hop], s.labels[part]
            piece = replace(s, x=x, labels=labels)
            takes.append(Take(piece, calibrates, known[s.wearing]))
    return takes


def starts(codec: Codec, takes: Sequence[Take]) -> list[Start]:
    """What recordings of a corpus can start from: a device must be one that the codec knows."""
    known = all(take.segment.montage.name in codec.devices for take in takes)
    return [mode for mode in MODES if known or mode != "device"]


@torch.no_grad()
def head_scores(codec: Codec, head: str, signal: dict[str, Any]) -> Array:
    """Scores (T, V) of a label head, from codes or, without a quantizer, from latents.

    Args:
        codec: Whose head it is.
        head: Its name.
        signal: Arguments of `Codec.encode`, of one item.
    """
    if codec.quantizer is not None:
        scores = codec.predict(codec.encode(**signal), head)
    else:
        latents = codec.encode_latent(**signal).mT
        h, _ = codec.decode_step(latents, codec.init_decode_state(1))
        scores = codec.head[head](h)
    found: Array = scores[0].numpy()
    return found


def gesture_scores(
    codec: Codec,
    takes: Iterable[Take],
    start: Start,
    *,
    codes: Sequence[Tensor] | None = None,
    shared: bool = False,
) -> Scores:
    """Balanced accuracy of each person; only gestures of the corpus can be answered.

    Args:
        codec: Whose heads answer.
        takes: Of one corpus.
        start: What each starts from.
        codes: Of each take, (1, K, T), if they are known; the first few levels do.
        shared: Whether the head of all corpora answers though this one has its own.

    Raises:
        ValueError: if the codec's gestures are not the canonical ones.
    """
    if "gesture" not in codec.heads or codec.labels("gesture") != GESTURES:
        raise ValueError(f"codec {codec.config.name!r} has no head for the canonical gestures")
    takes = list(takes)
    own = own_head(takes[0].segment.dataset) if takes else ""
    head = own if own in codec.heads and not shared else "gesture"
    known = np.array([GESTURES.index(label) for label in codec.labels(head)])
    classes = np.unique(np.concatenate([t.segment.labels for t in takes]))
    possible = np.flatnonzero(np.isin(known, classes))

    def answers() -> Iterator[tuple[Segment, Labels]]:
        for i, take in enumerate(takes):
            if not take.calibrates and (take.segment.labels >= 0).any():
                scores = (
                    head_scores(codec, head, take.signal(codec, start))
                    if codes is None
                    else codec.predict(codes[i], head)[0].numpy()
                )
                best = scores[:, possible].argmax(axis=1)
                yield take.segment, known[possible[best]]

    return score(answers())


def _track(take: Take, x: Array) -> Track:
    s = take.segment
    return Track(s.subject, s.wearing, take.calibrates, s.labels, x)


def codebook_use(codec: Codec, takes: Iterable[Take]) -> dict[str, Any]:
    """Distinct codes and perplexity of each level, pooled over all frames; calibrated."""
    codes = (codec.encode(**take.signal(codec, "calibrated"))[0].numpy() for take in takes)
    return pooled_use(codes, codec.codebook_size)


def pooled_use(codes: Iterable[npt.NDArray[np.int64]], size: int) -> dict[str, Any]:
    """The same of codes (K, T)."""
    together = np.concatenate(list(codes), axis=1)
    return {
        "frames": together.shape[1],
        "size": size,
        "used": usage(together, size).tolist(),
        "perplexity": perplexity(together, size).tolist(),
    }


def untrained_codec(
    config: CodecConfig, rows: Callable[[Codec], Iterable[Array]], seed: int
) -> Codec:
    """A codec of random weights, whose codebooks are k-means of its latents.

    Args:
        config: Of the codec.
        rows: What to fit codebooks on: vectors (N, dim) before the quantizer, see `vectors`.
        seed: Of weights and k-means.
    """
    torch.manual_seed(seed)
    codec = Codec(config).eval()
    assert codec.quantizer is not None
    found = np.concatenate(list(rows(codec)))
    books = ResidualKMeans.fit(found, codec.num_codebooks, codec.codebook_size, seed).codebooks
    codec.quantizer.set_codebooks(torch.from_numpy(np.stack(books)))
    return codec


@torch.no_grad()
def vectors(codec: Codec, take: Take, start: Start) -> Array:
    """What the codec's quantizer would round, (T, dim)."""
    assert codec.quantizer is not None
    latents = codec.encode_latent(**take.signal(codec, start)).mT
    found: Array = codec.quantizer.project_in(latents)[0].numpy()
    return found


def token_tracks(codec: Codec, takes: Iterable[Take], start: Start) -> list[Track]:
    """Tracks of what the codes stand for in the codebooks, (T, dim)."""
    assert codec.quantizer is not None
    books = ResidualKMeans(tuple(codec.quantizer.codebooks.numpy()))
    tracks = []
    for take in takes:
        codes = codec.encode(**take.signal(codec, start))[0].numpy()
        tracks.append(_track(take, books.decode(np.maximum(codes, 0))))
    return tracks

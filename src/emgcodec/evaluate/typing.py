"""How well codecs read typing: characters wrong in whole sessions, by person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from emgcodec.codec import Codec
from emgcodec.evaluate.codecs import head_scores
from emgcodec.io import read_all
from emgcodec.metrics import CharacterErrors, character_errors
from emgcodec.text import greedy_ctc, to_text
from emgcodec.train.data import Segment, prepare
from emgcodec.train.sessions import Split

KeyReader = Callable[[npt.NDArray[np.float64]], list[int]]
"""Log-probabilities (T, 99) to label ids."""

SCORED = ("val", "test")

PROTOCOL = {
    "score": "character errors over all of a person's sessions of a part, each scored whole: what "
    "was missed, what is spurious and what came out as another key, for each key pressed",
    "keys": "98; backspace, enter and shift count like others, nothing is deleted",
    "reset": "state starts anew at each contiguous recording, cold",
}


def greedy(log_probs: npt.NDArray[np.float64]) -> list[int]:
    """The best label of each frame, repeats merged."""
    return [emission.label for emission in greedy_ctc(log_probs)]


def session_signals(codec: Codec, path: Path) -> Iterator[tuple[Segment, dict[str, Any]]]:
    """Each recording of a session, and the arguments of `Codec.encode` for it, cold."""
    for rec in read_all(path):
        segment = prepare(rec, codec)
        yield segment, {"x": torch.from_numpy(segment.x)[None], "montage": rec.montage}


def session_errors(
    codec: Codec, path: Path, readers: Mapping[str, KeyReader]
) -> dict[str, CharacterErrors]:
    """Errors in a session by reader.

    Args:
        codec: With a head ``text``.
        path: Of the session.
        readers: By name; each reads the same emissions.
    """
    totals = dict.fromkeys(readers, CharacterErrors())
    for segment, signal in session_signals(codec, path):
        scores = torch.from_numpy(head_scores(codec, "text", signal)).double()
        log_probs = torch.log_softmax(scores, dim=-1).numpy()
        typed = to_text(segment.keys)
        for name, reader in readers.items():
            totals[name] += character_errors(typed, to_text(reader(log_probs)))
    return totals


def score_split(
    codec: Codec, split: Split, readers: Mapping[str, KeyReader], parts: Sequence[str] = SCORED
) -> dict[str, dict[str, CharacterErrors]]:
    """Errors by part of the split, then by reader."""
    found = {}
    for part in parts:
        totals = dict.fromkeys(readers, CharacterErrors())
        for path in getattr(split, part):
            for name, errors in session_errors(codec, path, readers).items():
                totals[name] += errors
        found[part] = totals
    return found


def plain(scores: Mapping[str, Mapping[str, CharacterErrors]]) -> dict[str, Any]:
    """Scores of `score_split` for a JSON file, with the rates."""
    return {
        part: {name: asdict(errors) | {"cer": errors.rate} for name, errors in readers.items()}
        for part, readers in scores.items()
    }


def summary(people: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, str, float, float]]:
    """Part, reader, mean and standard deviation over people of the CER, from `plain` scores."""
    first = next(iter(people.values()))
    for part, readers in first.items():
        for name in readers:
            rates = [scores[part][name]["cer"] for scores in people.values()]
            spread = float(np.std(rates, ddof=1)) if len(rates) > 1 else float("nan")
            yield part, name, float(np.mean(rates)), spread

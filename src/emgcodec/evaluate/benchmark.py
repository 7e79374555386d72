"""The emg2qwerty protocol: one codec for each person or one for all, scored on whole sessions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from emgcodec.codec import Codec
from emgcodec.config import ConfigError
from emgcodec.evaluate.provenance import made_by
from emgcodec.evaluate.typing import PROTOCOL, KeyReader, greedy, plain, score_split, summary
from emgcodec.files import write_json
from emgcodec.folder import CONFIG_FILE
from emgcodec.metrics import ERROR_KINDS
from emgcodec.train.loop import train
from emgcodec.train.recipe import Recipe
from emgcodec.train.sessions import find_splits

BENCHMARKS = ("emg2qwerty",)

_SCORES = "scores.json"


def train_each(
    recipe: Recipe,
    pattern: str,
    out: Path,
    data: Path,
    *,
    cache: Path | None = None,
    resume: bool = False,
) -> dict[str, dict[str, Any]] | None:
    """Trains one codec for each split, and scores each on its own sessions, greedily.

    What is finished is not done again.

    Args:
        recipe: How; each split takes the place of its own.
        pattern: Names of splits, such as ``user*``.
        out: Each has a folder of its name in it.
        data: Folder of the sessions.
        cache: Folder for prepared recordings.
        resume: Go on with a training that was interrupted.

    Returns:
        Scores by name, see `plain`; None where a training was interrupted.

    Raises:
        ConfigError: if no split has such a name, or see `train`.
    """
    people = {}
    for split in tqdm(find_splits(data, pattern), desc="people", unit="people"):
        own = replace(recipe, data=replace(recipe.data, split=split.name))
        model = train(own, out / split.name, data=data, cache=cache, resume=resume)
        if model is None:
            return None
        codec, path = Codec.from_pretrained(model), out / split.name / _SCORES
        known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        if known.get("codec_id") != codec.codec_id:  # a model that was trained anew since
            scores = plain(score_split(codec, split, {"greedy": greedy}))
            known = {"codec_id": codec.codec_id, "scores": scores}
            write_json(path, known)
        people[split.name] = known["scores"]
    return people


def score_benchmark(
    data: Path,
    models: Path,
    readers: Mapping[str, KeyReader],
    *,
    pattern: str = "*",
    command: str = "",
) -> dict[str, Any]:
    """Scores codecs on the validation and test sessions of each split.

    Args:
        data: Folder of the sessions.
        models: Of one model for all, or with a folder for each split, as `train_each` leaves it.
        readers: By name.
        pattern: Names of splits.
        command: To tell in the result.

    Returns:
        Plain JSON types: what made it, the protocol, ``people`` with their scores, and
        ``not_run``: those who have no model.

    Raises:
        ConfigError: if there is no split or no model at all.
    """
    splits = find_splits(data, pattern)
    found = {s.name: folder for s in splits if (folder := _model(models, s.name)) is not None}
    if not found:
        raise ConfigError(
            f"{models} holds no model: name a model's folder, or one with a folder for each of "
            f"{[s.name for s in splits[:5]]}"
        )
    people = {}
    for split in tqdm([s for s in splits if s.name in found], desc="reading", unit="people"):
        codec = Codec.from_pretrained(found[split.name])
        people[split.name] = plain(score_split(codec, split, readers))
    return {
        **made_by(command),
        "protocol": PROTOCOL,
        "people": people,
        "not_run": [s.name for s in splits if s.name not in found],
    }


def _model(folder: Path, name: str) -> Path | None:
    places = (folder, folder / name / "model", folder / name)
    return next((place for place in places if (place / CONFIG_FILE).is_file()), None)


def table(people: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Lines to print: each person's CER in percent, then mean and standard deviation over them."""
    for name, parts in people.items():
        cells = (
            f"{part} {reader} {100 * scores['cer']:.2f}"
            for part, readers in parts.items()
            for reader, scores in readers.items()
        )
        yield f"{name:<12} {', '.join(cells)}"
    for part, reader, mean, spread in summary(people):
        found = [parts[part][reader] for parts in people.values()]
        kinds = (
            f"{kind} {100 * np.mean([each[kind] / each['length'] for each in found]):.2f}"
            for kind in ERROR_KINDS
        )
        over = (
            f"+- {100 * spread:.2f} % CER, mean and SD" if len(found) > 1 else "% CER, one person"
        )
        yield f"{part}, {reader}: {100 * mean:.2f} {over}; {', '.join(kinds)}"

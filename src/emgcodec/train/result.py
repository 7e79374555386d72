"""The codec that a recipe starts from, and the model folder that a training ends in."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from emgcodec.codec import Codec
from emgcodec.config import ConfigError, LabelHeadConfig
from emgcodec.gestures import GESTURES, own_head
from emgcodec.presets import preset
from emgcodec.text import labels as key_labels
from emgcodec.train.data import SIMULATED, Segment
from emgcodec.train.recipe import ModelRecipe, Recipe


def build_codec(recipe: ModelRecipe) -> Codec:
    """The codec to train: of a preset, or with the weights of a model.

    Raises:
        ConfigError: if there is no such preset, or the trainer does not fit such codecs.
        ModelError: if there is no such model.
    """
    start = Codec.from_pretrained(recipe.init) if recipe.init else None
    name = {"name": recipe.name} if recipe.name else {}
    config = (start.config if start else preset(recipe.preset)).replace(**recipe.overrides, **name)
    heads = set(config.heads)
    if not heads or ("text" in heads and heads != {"text"}):
        raise ConfigError(
            f"heads {sorted(heads)} of {recipe.preset!r}: the trainer fits 'text' alone, or "
            "'gesture' and 'signal'"
        )
    text = config.heads.get("text")
    if isinstance(text, LabelHeadConfig) and (text.kind, text.labels) != ("ctc", key_labels()):
        raise ConfigError("head 'text' has other labels than the 98 keys: see emgcodec.text.labels")
    gesture = config.heads.get("gesture")
    if isinstance(gesture, LabelHeadConfig) and gesture.labels != GESTURES:
        raise ConfigError(f"head 'gesture' has the labels {gesture.labels}: give {GESTURES}")
    codec = Codec(config)
    if start is not None:
        try:
            codec.load_state_dict(start.state_dict())
        except RuntimeError as error:
            raise ConfigError(f"model.overrides do not fit {recipe.init!r}: {error}") from error
    return codec


def add_own_heads(codec: Codec, segments: Iterable[Segment]) -> None:
    """Gives each data set of real people a head for the gestures that it shows.

    Those that are there already and have these labels stay.
    """
    shown: dict[str, set[int]] = {}
    for s in segments:
        if s.dataset != SIMULATED:
            shown.setdefault(s.dataset, set()).update(s.labels[s.labels >= 0].tolist())
    for dataset, gestures in sorted(shown.items()):
        part = LabelHeadConfig("frame", tuple(GESTURES[i] for i in sorted(gestures)))
        if codec.config.heads.get(own_head(dataset)) != part:
            codec.add_label_head(own_head(dataset), part)


def save_model(
    codec: Codec, recipe: Recipe, segments: Iterable[Segment], folder: Path, facts: dict[str, Any]
) -> None:
    """Writes the model with its licence line and what it was made of.

    Args:
        codec: In its final state.
        recipe: How it was trained.
        segments: What it was trained on.
        folder: Where to.
        facts: More to tell.
    """
    provenance = {
        "recipe": recipe.to_dict(),
        **facts,
        "data": _summary(segments),
        "started_from": dict(codec.config.provenance) or None,
        "versions": {name: version(name) for name in ("emgcodec", "torch")},
    }
    codec.config = codec.config.replace(weights_license=recipe.model.license, provenance=provenance)
    codec.save_pretrained(folder)


def _summary(segments: Iterable[Segment]) -> dict[str, dict[str, Any]]:
    """People, recordings and signal of each data set."""
    found: dict[str, dict[str, Any]] = {}
    for s in segments:
        entry = found.setdefault(s.dataset, {"people": set(), "recordings": 0, "samples": 0})
        entry["people"].add(s.subject.partition("/")[2])
        entry["recordings"] += 1
        entry["samples"] += s.x.shape[1]
    return {name: entry | {"people": sorted(entry["people"])} for name, entry in found.items()}

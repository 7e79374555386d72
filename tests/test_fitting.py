"""A user's own classes on the frozen encoder."""

from __future__ import annotations

import copy
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import codec_for

from emgcodec import Codec, Montage, Recording
from emgcodec.recording import Event
from emgcodec.stream import CodecError

SECONDS = 4.0


def take(seed: int, *, labels: tuple[str, str] = ("open", "point")) -> Recording:
    """Two classes that load different halves of an armband, one after the other."""
    rng = np.random.default_rng(seed)
    emg = rng.normal(0, 5, (8, int(SECONDS * 1000)))
    half = emg.shape[1] // 2
    emg[:4, :half] *= 12
    emg[4:, half:] *= 12
    events = [
        Event(0.0, SECONDS / 2, labels[0]),
        Event(SECONDS / 2, SECONDS, labels[1]),
        Event(1.0, 1.0, "a", kind="key"),
    ]
    return Recording(emg, 1000.0, montage=Montage.ring(8), events=events)


@pytest.fixture
def codec() -> Codec:
    return copy.deepcopy(codec_for("student"))


def test_own_classes_are_read_from_tokens_and_saved(codec: Codec, tmp_path: Path) -> None:
    takes = [take(seed) for seed in range(4)]
    before = codec.tokenize(takes[0])
    calibration = codec.calibrate(takes[:1])
    found = codec.fit_head(takes, "mine", calibration=calibration, reaction=0.3)
    assert found.labels == ("open", "point") == codec.labels("mine")
    assert found.balanced_accuracy > 0.9
    assert sum(found.frames) == pytest.approx(4 * (SECONDS - 2 * 0.3) * codec.frame_rate, abs=16)
    # Codes and their vocabulary stay; what decodes them is another codec now.
    after = codec.tokenize(takes[0])
    assert np.array_equal(before.codes, after.codes)
    assert before.vocab_id == after.vocab_id
    assert before.codec_id != after.codec_id
    unseen = codec.tokenize(take(9), calibration=calibration)
    events = [e for e in codec.transcribe(unseen, "mine") if e.end - e.start > 0.5]
    assert [e.label for e in events] == ["open", "point"]
    codec.save_pretrained(tmp_path / "mine")
    loaded = Codec.from_pretrained(tmp_path / "mine")
    codes = torch.from_numpy(unseen.codes.astype(np.int64))[None]
    assert loaded.labels("mine") == ("open", "point")
    assert torch.equal(loaded.predict(codes, "mine"), codec.predict(codes, "mine"))


def test_labels_without_meaning_stay_at_chance(codec: Codec) -> None:
    takes = [
        take(seed, labels=("open", "point") if seed % 2 else ("point", "open")) for seed in range(4)
    ]
    found = codec.fit_head(takes, "mine")
    assert found.balanced_accuracy < 0.7


def test_a_single_take_has_no_held_out_accuracy(codec: Codec) -> None:
    assert math.isnan(codec.fit_head([take(0)], "mine").balanced_accuracy)
    assert codec.fit_head([take(0), take(1)], "mine", calibration=[None, None]).labels


def test_a_fitted_head_replaces_the_one_of_that_name(codec: Codec) -> None:
    codec.fit_head([take(0)], "gesture")
    assert codec.labels("gesture") == ("open", "point")
    assert set(codec.heads) == {"signal", "gesture"}


def test_what_cannot_be_fitted_is_named(codec: Codec) -> None:
    with pytest.raises(CodecError, match="labels \\['same'\\]"):
        codec.fit_head([take(0, labels=("same", "same"))], "mine")
    with pytest.raises(CodecError, match="labels \\[\\]"):
        codec.fit_head([], "mine")
    with pytest.raises(CodecError, match="signal head"):
        codec.fit_head([take(0)], "signal")
    with pytest.raises(CodecError, match="reaction"):
        codec.fit_head([take(0)], "mine", reaction=-1.0)
    with pytest.raises(CodecError, match="no frame of \\['open', 'point'\\]"):
        codec.fit_head([take(0)], "mine", reaction=5.0)
    with pytest.raises(CodecError, match="calibration: 2 given for 1"):
        codec.fit_head([take(0)], "mine", calibration=[None, None])
    bare = replace(take(0).events[0], label="x")
    with pytest.raises(CodecError, match="\\['x'\\]"):
        codec.fit_head([Recording(take(0).emg, 1000.0, events=[bare])], "mine")
    noted = [replace(event, kind="annotation") for event in take(0).events]
    with pytest.raises(CodecError, match="kind \\['annotation'\\] count as dataclasses\\.replace"):
        codec.fit_head([Recording(take(0).emg, 1000.0, events=noted)], "mine")
    assert "mine" not in codec.heads


def test_readme_states_the_recorded_accuracy() -> None:
    root = Path(__file__).parents[1]
    result = json.loads((root / "docs/results/own_gestures.json").read_text())
    scores = [facts["balanced_accuracy"] for facts in result["people"].values()]
    readme = " ".join((root / "README.md").read_text().split())
    mean, low, high = (round(100 * f(scores)) for f in (statistics.mean, min, max))
    assert f"it reads {mean} % of the frames" in readme
    assert f"mean over {len(scores)} people of four corpora, {low} to {high} %" in readme

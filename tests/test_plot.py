from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emgcodec.plot import PlotError, plot_recording, plot_tokens
from emgcodec.recording import Event, Recording

pytest.importorskip("matplotlib")


def recording(electrodes: int = 8, seconds: float = 4.0, rate: float = 500.0) -> Recording:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 20, (electrodes, round(seconds * rate)))
    events = [
        Event(0.0, 1.0, "rest"),
        Event(1.0, 3.0, "Power Grip"),
        Event(3.5, 3.5, "a", kind="key"),
        Event(0.5, 3.0, "hello", kind="prompt"),
    ]
    return Recording(x, rate, events=events, metadata={"source": "file", "recording": "take"})


@dataclass
class Codes:
    codes: Any
    valid: Any
    frame_rate: float
    start_time: float = 1.7e9

    def token_times(self) -> Any:
        return self.start_time + np.arange(1, len(self.valid) + 1) / self.frame_rate


def tokens(seconds: float = 4.0, levels: int = 2) -> Codes:
    rng = np.random.default_rng(0)
    frames = round(seconds * 31.25)
    codes = rng.integers(0, 1024, (levels, frames)).astype(np.uint16)
    return Codes(codes, rng.random(frames) > 0.1, 31.25)


def svg(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


@pytest.fixture(autouse=True)
def _text_stays_text() -> Any:
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        yield


def test_recordings_are_drawn_with_names_events_and_verdicts(tmp_path: Path) -> None:
    source = recording()
    x = source.emg.copy()
    x[2] = 0
    x[5] *= 50
    bad = Recording(x, 500, events=source.events, metadata=source.metadata)
    path = plot_recording(bad, tmp_path / "x.svg")
    assert path == tmp_path / "x.svg"
    text = svg(path)
    words = ("file  take", "8 electrodes", "Power Grip", "hello", "flat", "noisy contact", "µV")
    assert [word for word in words if word not in text] == []
    assert "clipped" not in text
    assert "counts" in svg(plot_recording(Recording(x, 500, unit="adc"), tmp_path / "y.svg"))


def test_tokens_are_drawn_with_signal_codes_and_both_kinds_of_events(tmp_path: Path) -> None:
    source = recording()
    predicted = [Event(1.1, 3.2, "hand_close", score=0.9)]
    back = Recording(source.emg * 0.9, 500)
    path = plot_tokens(source, tokens(levels=3), back, predicted, tmp_path / "x.svg")
    text = svg(path)
    for word in ("source", "reconstruction", "level 2", "true gesture", "predicted gesture"):
        assert word in text
    assert "hand_close" in text


def test_heatmaps_share_the_scale_of_the_source(tmp_path: Path) -> None:
    source = recording()

    def draw(gain: float) -> bytes:
        back = Recording(source.emg * gain, 500)
        return plot_tokens(source, tokens(), back, [], tmp_path / "x.png").read_bytes()

    assert draw(1.0) != draw(100.0)  # a scale of its own would hide the wrong level


@pytest.mark.parametrize("electrodes", [1, 64, 128])
@pytest.mark.parametrize("samples", [1, 7, 5000])
def test_any_number_of_electrodes_and_samples_is_drawn(
    tmp_path: Path, electrodes: int, samples: int
) -> None:
    x = np.random.default_rng(0).normal(size=(electrodes, samples))
    small = Recording(x, 1000)
    frames = Codes(np.zeros((1, 1), np.uint16), np.ones(1, bool), 31.25)
    assert min(png_size(plot_recording(small, tmp_path / "a.png"))) > 100
    assert min(png_size(plot_tokens(small, frames, small, [], tmp_path / "b.png"))) > 100


@pytest.mark.parametrize("value", [np.nan, 0.0, np.inf])
def test_missing_and_flat_signals_are_drawn(tmp_path: Path, value: float) -> None:
    x = recording().emg.copy()
    x[1, 300:600] = value
    partly, wholly = Recording(x, 500), Recording(np.full((2, 900), value), 500)
    for k, each in enumerate((partly, wholly)):
        plot_recording(each, tmp_path / f"{k}.png")
        plot_tokens(each, tokens(), each, [], tmp_path / f"{k}t.png")
    assert len(list(tmp_path.iterdir())) == 4


class Endless:
    """A long signal made while it is read, which counts how much is asked for at once."""

    shape = (4, 200 * 3600)
    most = 0

    def read(self, start: int, stop: int) -> Any:
        Endless.most = max(Endless.most, stop - start)
        return np.random.default_rng(start).normal(0, 20, (4, stop - start))


def test_long_recordings_are_read_in_blocks(tmp_path: Path) -> None:
    keys = [Event(t, t + 0.1, "Key.space", kind="key") for t in np.arange(0, 3600, 0.5)]
    long = Recording(Endless(), 200, events=keys)
    plot_recording(long, tmp_path / "a.png")
    plot_tokens(long, tokens(3600), long, [], tmp_path / "b.png")
    assert 0 < Endless.most <= 61 * 200


def test_pictures_are_written_beside_and_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"before")
    from matplotlib.figure import Figure

    def fail(self: Any, target: Path, **options: Any) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plot_recording(recording(), path)
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["x.png"]


def test_what_cannot_be_drawn_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlotError, match=r"x\.doc.*png"):
        plot_recording(recording(), tmp_path / "x.doc")
    empty = Recording(np.zeros((2, 0)), 500)
    with pytest.raises(PlotError, match="no samples"):
        plot_recording(empty, tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match=r"pip install 'emgcodec\[plot\]'"):
        plot_recording(recording(), tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_no_global_state_of_pyplot_is_touched(tmp_path: Path) -> None:
    before = set(sys.modules)
    plot_recording(recording(), tmp_path / "x.pdf")
    assert "matplotlib.pyplot" not in set(sys.modules) - before


def test_a_gesture_has_one_colour_under_all_its_names(tmp_path: Path) -> None:
    def colours(label: str) -> int:
        source = recording()
        source.events = (Event(0.0, 2.0, "Power Grip"),)
        predicted = [replace(source.events[0], label=label)]
        path = plot_tokens(source, tokens(), source, predicted, tmp_path / "x.svg")
        return svg(path).count("#f28e2b")

    # The second colour of the palette also marks the second level of codes.
    assert colours("supination") > colours("hand_close")

"""Pictures of recordings and tokens, written straight to a file; needs ``emgcodec[plot]``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from emgcodec.files import written_beside
from emgcodec.gestures import canonical_gesture
from emgcodec.quality import quality_report
from emgcodec.recording import BLOCK_SECONDS, Event, FloatArray, Recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 2400  # a picture shows no more of them over time
_HOP = 0.05  # seconds that one column of a heatmap stands for, at least
_WIDTH = 12.0  # inches, for figures as a whole
_INCHES_PER_LETTER = 0.068  # of the labels in bars
_SHADED = 60  # events; more would only tint everything
_INK, _FAINT, _REST = "#22304a", "#dfe3ea", "#b9c1cd"
_VERDICTS = {
    "ok": "#2f5d8c",
    "flat": "#7d848f",
    "missing": "#7d848f",
    "clipped": "#d9760b",
    "mains": "#7b4fa3",
    "noisy contact": "#c8323c",
}
_PALETTE = (
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2",
    "#d4a72c", "#ff9da7", "#9c755f", "#6a8f3c", "#5b6dc8", "#c7638f",
)  # fmt: skip

DoubleArray = npt.NDArray[np.float64]
Rows = list[tuple[str, list[Event]]]


class PlotError(ValueError):
    """A picture that cannot be drawn or written."""


class TokenSequence(Protocol):
    """What a picture needs to know of tokens; `Tokens` has it."""

    @property
    def codes(self) -> npt.NDArray[np.uint16]:
        """(K, T)."""

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(T,)."""

    @property
    def frame_rate(self) -> float:
        """Frames per second."""

    def token_times(self) -> DoubleArray:
        """When each frame ended, (T,) in seconds."""


def plot_recording(recording: Recording, path: str | os.PathLike[str]) -> Path:
    """Draws the traces of all electrodes, coloured by their quality verdict, and the events.

    Long recordings are drawn as their envelope, which is read block by block.

    Args:
        recording: Of any length but zero.
        path: The picture; its suffix chooses the format (``.png``, ``.svg``, ``.pdf``).

    Returns:
        The path.

    Raises:
        PlotError: if matplotlib is missing, the format unknown or the recording empty.
    """
    report = quality_report(recording)
    rows = _rows("", recording.events)
    lane = float(np.clip(9.0 / recording.num_electrodes, 0.14, 0.55))
    strip = [0.28 * len(rows)] if rows else []
    figure, axes = _panels([*strip, lane * recording.num_electrodes], recording)
    colours = _colours(recording.events)
    if rows:
        _draw_events(axes[0], rows, colours, recording.duration)
    traces = axes[-1]
    low, high = _envelope(recording, [electrode.dc for electrode in report.electrodes])
    times = (np.arange(low.shape[1]) + 0.5) / low.shape[1] * recording.duration
    height = _lane_height(low, high)
    for k, electrode in enumerate(report.electrodes):
        trace = np.clip(np.stack([low[k], high[k]], axis=1) / height, -0.7, 0.7).ravel() - k
        colour = _VERDICTS[electrode.verdict]
        traces.plot(np.repeat(times, 2), trace, color=colour, linewidth=0.5)
        if electrode.verdict != "ok":
            place: dict[str, Any] = {"transform": traces.get_yaxis_transform(), "va": "center"}
            traces.text(1.006, -k, electrode.verdict, color=colour, fontsize=8, **place)
    for _, events in rows:
        if len(events) <= _SHADED:
            spans, faces = _spans(events, colours, recording.duration)
            traces.broken_barh(spans, (-200, 201), facecolors=faces, alpha=0.1, zorder=0)
    traces.set_ylim(0.5 - recording.num_electrodes, 0.5)
    ticks = range(0, recording.num_electrodes, 1 if lane > 0.16 else 4)
    traces.set_yticks([-k for k in ticks], [str(k) for k in ticks])
    unit = "µV" if recording.unit == "uV" else "counts"
    traces.set_ylabel(f"electrode (lane: {height:g} {unit})")
    return _save(figure, path)


def plot_tokens(
    recording: Recording,
    tokens: TokenSequence,
    reconstruction: Recording,
    events: Sequence[Event],
    path: str | os.PathLike[str],
) -> Path:
    """Draws signal, reconstruction, codes and events below one another.

    Args:
        recording: The source; its events are the true ones.
        tokens: Its codes.
        reconstruction: What the codes give back.
        events: What a head predicts from the codes.
        path: The picture; its suffix chooses the format (``.png``, ``.svg``, ``.pdf``).

    Returns:
        The path.

    Raises:
        PlotError: if matplotlib is missing, the format unknown or the recording empty.
    """
    rows = _rows("true", recording.events) + _rows("predicted", events)
    heat = float(np.clip(0.12 * recording.num_electrodes, 1.4, 3.2))
    heights = [heat, heat, 0.9 * len(tokens.codes), max(0.35 * len(rows), 0.4)]
    figure, axes = _panels(heights, recording)
    levels = [_levels(recording), _levels(reconstruction)]
    shown = levels[0][np.isfinite(levels[0])]
    bounds = np.percentile(shown, [1, 99.5]) if len(shown) else [0.0, 1.0]
    for axis, level, name in zip(axes, levels, ("source", "reconstruction"), strict=False):
        image = _draw_heatmap(axis, level, recording.duration, bounds)
        axis.set_ylabel(f"{name}\nelectrode")
    unit = "µV" if recording.unit == "uV" else "counts"
    share = 2 * heat / sum(heights)
    bar = figure.colorbar(image, ax=axes, pad=0.01, anchor=(0, 1), shrink=share, aspect=30)
    bar.set_label(f"log$_{{10}}$ rms ({unit})", color=_INK, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    _draw_codes(axes[2], tokens)
    _draw_events(axes[3], rows, _colours([*recording.events, *events]), recording.duration)
    return _save(figure, path)


def _panels(heights: Sequence[float], recording: Recording) -> tuple[Figure, list[Axes]]:
    """A figure with panels of so many inches above one another, over one time axis."""
    if recording.num_samples == 0:
        raise PlotError("the recording holds no samples: there is nothing to draw")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError("plots need matplotlib: pip install 'emgcodec[plot]'") from error
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.25 * len(heights) + 0.7), dpi=130)
    figure.set_layout_engine("constrained", h_pad=0.05, w_pad=0.08)
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    axes: list[Axes] = list(grid[:, 0])
    for axis in axes:
        axis.tick_params(colors=_INK, labelsize=8, length=2)
        axis.yaxis.label.set(color=_INK, fontsize=9)
        for spine in axis.spines.values():
            spine.set_color(_FAINT)
    facts = [recording.metadata.get(name, "") for name in ("source", "recording")]
    name = "  ".join(dict.fromkeys(map(str, facts))).strip() or "recording"
    title = f"{name}:  {str(recording)[len('Recording(') : -1]}"
    axes[0].set_title(title, loc="left", fontsize=9, color=_INK)
    axes[-1].set_xlim(0, recording.duration)
    axes[-1].set_xlabel("seconds", fontsize=9, color=_INK)
    return figure, axes


def _save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    known = figure.canvas.get_supported_filetypes()
    if target.suffix[1:].lower() not in known:
        raise PlotError(f"path={str(path)!r}: end it in one of {', '.join(sorted(known))}")
    with written_beside(target) as beside:
        figure.savefig(beside, format=target.suffix[1:].lower())
    return target


def _columns(recording: Recording, count: int) -> Iterator[tuple[FloatArray, npt.NDArray[np.intp]]]:
    """Cuts the time axis into about `count` columns and reads them in groups.

    Yields:
        Samples (C, n), NaN where missing, and where in them each column begins.
    """
    count = max(1, min(count, _COLUMNS, recording.num_samples))
    edges = np.linspace(0, recording.num_samples, count + 1).astype(np.intp)
    group = max(1, int(BLOCK_SECONDS * count / recording.duration))
    for first in range(0, count, group):
        part = edges[first : first + group + 1]
        x = recording.read(int(part[0]), int(part[-1]))
        yield np.where(np.isfinite(x), x, np.float32(np.nan)), part[:-1] - part[0]


def _envelope(recording: Recording, dc: Sequence[float]) -> tuple[DoubleArray, DoubleArray]:
    """Least and largest value of each column, (C, n), less what drifts slower than a second."""
    lows, highs = [], []
    for x, starts in _columns(recording, _COLUMNS):
        lows.append(np.fmin.reduceat(x, starts, axis=1))
        highs.append(np.fmax.reduceat(x, starts, axis=1))
    low, high = np.concatenate(lows, axis=1), np.concatenate(highs, axis=1)
    middle = np.where(np.isnan(low), np.array(dc)[:, None], (low + high) / 2)
    second = max(1, round(low.shape[1] / recording.duration))
    drift = uniform_filter1d(middle, second, axis=1, mode="nearest")
    return low - drift, high - drift


def _levels(recording: Recording) -> DoubleArray:
    """Log10 of the root mean square about the mean, (C, n); NaN where nothing is known."""
    parts = []
    for x, starts in _columns(recording, round(recording.duration / _HOP)):
        good = np.isfinite(x)
        count = np.maximum(np.add.reduceat(good.astype(float), starts, axis=1), 1)
        middle = np.where(good, x, 0).sum(axis=1, keepdims=True) / count.sum(axis=1, keepdims=True)
        centred = np.where(good, x - middle, 0.0)  # else the squares of a large dc would swamp it
        mean = np.add.reduceat(centred, starts, axis=1) / count
        power = np.add.reduceat(centred**2, starts, axis=1) / count - mean**2
        parts.append(np.where(power > 0, 0.5 * np.log10(np.maximum(power, 1e-12)), np.nan))
    return np.concatenate(parts, axis=1)


def _lane_height(low: DoubleArray, high: DoubleArray) -> float:
    """What most electrodes stay within nearly all of the time, to two digits."""
    reach = np.nan_to_num(np.maximum(-low, high))
    common = np.quantile(np.quantile(reach, 0.99, axis=1), 0.7)
    return float(f"{2 * common:.2g}") or 1.0


def _rows(name: str, events: Iterable[Event]) -> Rows:
    """Events by their kind, a row for each."""
    kinds: dict[str, list[Event]] = {}
    for event in events:
        kinds.setdefault(event.kind, []).append(event)
    return [(f"{name} {kind}".strip(), kinds[kind]) for kind in kinds]


def _key(event: Event) -> str:
    return canonical_gesture(event.label) or event.label


def _colours(events: Iterable[Event]) -> dict[str, str]:
    """A colour for each label; a gesture has the same under all its names."""
    keys = [key for key in dict.fromkeys(map(_key, events)) if key != "rest"]
    return {key: _PALETTE[k % len(_PALETTE)] for k, key in enumerate(keys)} | {"rest": _REST}


def _spans(
    events: list[Event], colours: dict[str, str], duration: float
) -> tuple[list[tuple[float, float]], list[str]]:
    least = duration / 1000  # instants are to be seen as well
    spans = [(event.start, max(event.end - event.start, least)) for event in events]
    return spans, [colours[_key(event)] for event in events]


def _draw_events(axis: Axes, rows: Rows, colours: dict[str, str], duration: float) -> None:
    for k, (_, events) in enumerate(rows):
        spans, faces = _spans(events, colours, duration)
        edge = 0.4 if len(events) <= _SHADED else 0.0
        axis.broken_barh(spans, (-k - 0.42, 0.84), facecolors=faces, edgecolor="white", lw=edge)
        for event, (start, length), face in zip(events, spans, faces, strict=True):
            fit = round(0.9 * _WIDTH * length / duration / _INCHES_PER_LETTER)
            label = event.label if len(event.label) <= fit else event.label[: fit - 1] + "…"
            if len(label) >= min(len(event.label), 5) and fit:
                ink = _INK if face == _REST else "white"
                place: dict[str, Any] = {"ha": "center", "va": "center", "clip_on": True}
                axis.text(start + length / 2, -k, label, color=ink, fontsize=7, **place)
    axis.set_ylim(0.5 - max(len(rows), 1), 0.5)
    axis.set_yticks([-k for k in range(len(rows))], [name for name, _ in rows])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _draw_heatmap(axis: Axes, levels: DoubleArray, duration: float, bounds: Any) -> Any:
    from matplotlib import colormaps

    return axis.imshow(
        levels,
        aspect="auto",
        interpolation="nearest",
        extent=(0, duration, len(levels) - 0.5, -0.5),
        cmap=colormaps["magma"].with_extremes(bad=_FAINT),
        vmin=bounds[0],
        vmax=bounds[1],
    )


def _draw_codes(axis: Axes, tokens: TokenSequence) -> None:
    """A lane for each level, a dot for each frame, as high as its code."""
    codes, valid = np.asarray(tokens.codes), np.asarray(tokens.valid)
    ends = tokens.token_times()
    centres = ends - ends[:1] + 0.5 / tokens.frame_rate  # since the first sample
    dot = float(np.clip(90 / np.sqrt(len(centres) + 1), 0.8, 3.5))  # points
    size = 1 << int(codes.max(initial=1)).bit_length()
    for level, row in enumerate(codes):
        colour = _PALETTE[level % len(_PALETTE)]
        axis.plot(centres[valid], row[valid] / size - level, ".", ms=dot, mew=0, color=colour)
        axis.axhline(-level, color=_FAINT, linewidth=0.6)
    frame = 1 / tokens.frame_rate
    gaps = [(centre - frame / 2, frame) for centre in centres[~valid]]
    axis.broken_barh(gaps, (1 - len(codes), len(codes)), facecolors=_FAINT)
    axis.set_ylim(1 - len(codes), 1)
    used = [len(np.unique(row[valid])) for row in codes]
    axis.set_yticks(
        [0.5 - k for k in range(len(codes))],
        [f"level {k}\n{count} used" for k, count in enumerate(used)],
    )
    axis.set_ylabel("codes")

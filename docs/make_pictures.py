"""The pictures of docs/concepts.md, simulated and drawn: python docs/make_pictures.py."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emgcodec import Calibration, Codec, Recording, Tokens, sample
from emgcodec.plot import plot_tokens
from emgcodec.simulate import Person, gesture_recording

FRAMES, ZOOM = slice(100, 110), slice(100, 260)  # of the first and third picture
RATES = 200, 500, 1000, 2000, 4000  # Hz of the sources of the last picture
SPAN = 4.0  # seconds that a point of the fourth picture stands for
INK, COLOURS = "#22304a", ("#4e79a7", "#f28e2b")


def draw(folder: Path) -> None:
    """Writes all pictures into a folder."""
    codec, rec = Codec.from_pretrained(), sample("armband")
    # The sample's person, in other performances of the same wearing.
    person, where = Person.draw(0), (rec.montage, rec.sample_rate)
    calibration = codec.calibrate([gesture_recording(person, *where, seed=1)])
    tokens = codec.tokenize(rec, calibration=calibration)
    draw_frames(rec, tokens, folder / "frames.png")
    plot_tokens(rec, tokens, codec.detokenize(tokens), [], folder / "tokens.png")
    draw_levels(codec, tokens, folder / "levels.png")
    longer = gesture_recording(person, *where, hold=1.5, rest=0.5, repetitions=3, seed=2)
    draw_calibration(codec, longer, calibration, folder / "calibration.png")
    sources = [gesture_recording(person, rec.montage, rate, seed=2) for rate in RATES]
    draw_rates([codec.tokenize(source) for source in sources], folder / "rates.png")


def panels(rows: int, height: float) -> tuple[Figure, list[Axes]]:
    """Panels above one another over one time axis."""
    figure = Figure(figsize=(9, height), dpi=100, layout="constrained")
    axes = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    for axis in axes:
        axis.tick_params(colors=INK, labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("seconds", fontsize=9)
    return figure, axes


def draw_frames(rec: Recording, tokens: Tokens, path: Path) -> None:
    """Some frames of one electrode, with their codes."""
    figure, (signal, codes) = panels(2, 3.2)
    ends = tokens.token_times()[FRAMES] - rec.start_time
    starts = ends - 1 / tokens.frame_rate
    begin, end = (round(time * rec.sample_rate) for time in (starts[0], ends[-1]))
    signal.plot(np.arange(begin, end) / rec.sample_rate, rec.read(begin, end)[0], lw=0.7, color=INK)
    signal.set_ylabel("electrode 0, µV", fontsize=9)
    for edge in (*starts, ends[-1]):
        for axis in (signal, codes):
            axis.axvline(edge, color="#b9c1cd", lw=0.7)
    for level, row in enumerate(tokens.codes[:, FRAMES]):
        for start, code in zip(starts, row, strict=True):
            place = {"ha": "center", "va": "center", "color": COLOURS[level], "fontsize": 9}
            codes.text(start + 0.5 / tokens.frame_rate, -level, str(code), **place)
    codes.set_ylim(-len(tokens.codes) + 0.4, 0.6)
    levels = range(len(tokens.codes))
    codes.set_yticks([-level for level in levels], [f"level {level}" for level in levels])
    codes.set_xlim(starts[0], ends[-1])
    figure.savefig(path)


def draw_levels(codec: Codec, tokens: Tokens, path: Path) -> None:
    """What the decoder makes of the first level alone, and of all."""
    codes = torch.from_numpy(tokens.codes.astype(np.int64))[None]
    kept = range(1, codec.num_codebooks + 1)
    spectra = [codec.decode_spectrum(codes[:, :n], tokens.montage)[0, 0].numpy() for n in kept]
    figure, axes = panels(len(spectra), 1.6 * len(spectra) + 0.4)
    low, high = np.percentile(spectra[-1][:, ZOOM], [1, 99])
    begin, end = ZOOM.start / tokens.frame_rate, ZOOM.stop / tokens.frame_rate
    for axis, spectrum, levels in zip(axes, spectra, kept, strict=True):
        extent = (begin, end, 0, len(spectrum))
        image = axis.imshow(spectrum[:, ZOOM], aspect="auto", origin="lower", extent=extent)
        image.set(cmap="magma", clim=(low, high), interpolation="nearest")
        axis.set_ylabel(f"{levels} level{'s' * (levels > 1)}\nband of electrode 0", fontsize=9)
    figure.colorbar(image, ax=axes, label="log level, relative")
    figure.savefig(path)


def draw_calibration(codec: Codec, rec: Recording, calibration: Calibration, path: Path) -> None:
    """Share of codes that a cold start has in common with a calibrated one."""
    cold, warm = codec.tokenize(rec), codec.tokenize(rec, calibration=calibration)
    span = round(SPAN * codec.frame_rate)
    count = cold.num_frames // span
    same = (cold.codes == warm.codes)[:, : count * span].reshape(-1, count, span).mean(axis=2)
    figure, (axis,) = panels(1, 2.6)
    for level, shares in enumerate(same):
        times = (np.arange(count) + 0.5) * span / codec.frame_rate
        axis.plot(times, 100 * shares, "o-", color=COLOURS[level], label=f"level {level}")
    axis.set(xlim=(0, rec.duration), ylim=(0, 100))
    axis.set_ylabel("same codes, %", fontsize=9)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def draw_rates(tokens: list[Tokens], path: Path) -> None:
    """Bits a second of one signal at several rates, and of its tokens."""
    rates = [each.compression() for each in tokens]
    figure, (axis,) = panels(1, 2.6)
    told = {
        "float32": [rate.float32 for rate in rates],
        "int16": [rate.int16 for rate in rates],
        "tokens with levels of electrodes": [rate.codes + rate.side for rate in rates],
    }
    for (name, bits), colour in zip(told.items(), ("#b9c1cd", *COLOURS), strict=True):
        axis.plot(RATES, bits, "o-", color=colour, label=name)
    axis.set(xscale="log", yscale="log", ylim=(100, None))
    axis.set_xticks(RATES, [str(rate) for rate in RATES])
    axis.minorticks_off()
    axis.set_xlabel("source, Hz", fontsize=9)
    axis.set_ylabel(f"bit/s, {len(tokens[0].montage)} electrodes", fontsize=9)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures")

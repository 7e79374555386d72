"""Simulated recordings set beside real ones: levels, spectra, envelopes, electrodes, people.

    python benchmarks/simulator.py --json docs/results/simulator.json --page docs/simulator.md

Needs EMGCODEC_DATA; only people of its training split are looked at. Each data set is set beside
simulated people with its electrodes, rate, gestures and durations, and both sides go through the
same functions. An hour of typing is made as well, for its speed and its own statistics.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import welch
from scipy.stats import kurtosis
from tqdm import tqdm

from emgcodec import GESTURES, Montage, Recording, read_all
from emgcodec.evaluate.provenance import made_by, versions_of
from emgcodec.files import write_json
from emgcodec.gestures import canonical_gesture
from emgcodec.simulate import SIMULATOR_VERSION, Person, gesture_recording

EDGES = (1.2, 0.4)
"""Seconds left out at the start and end of a gesture: reaction, onset and offset."""

BANDS = ((0, 20), (20, 150), (150, 450), (450, 1000))
ENVELOPE = 0.05  # s
PEOPLE, FIRST = 8, 2000
"""How many simulated people each data set is set beside, and the seed of the first one."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Corpus:
    """A data set, and how its twin is made.

    Attributes:
        name: Beginning of its files' names.
        montage: Device name.
        rate: Hz.
        unit: Of the twin.
        gestures: Of the twin.
        hold: Seconds.
        condition: Only recordings whose condition holds this.
        comparable: Whether levels of the source mean what those of the twin mean.
    """

    name: str
    montage: str
    rate: float
    unit: str
    gestures: tuple[str, ...]
    hold: float
    condition: str = ""
    comparable: bool = True


WRIST, HAND = ("wrist_flexion", "wrist_extension"), ("hand_open", "hand_close")
TURNS = ("pronation", "supination")
CORPORA = (
    Corpus("3dc", "3dc", 1000.0, "uV", GESTURES[1:], 5.0, comparable=False),
    Corpus(
        "contraction_intensity",
        "cuff8",
        1000.0,
        "uV",
        (*WRIST, *TURNS, "chuck_grip", "hand_open"),
        3.0,
        condition="50P",
        comparable=False,
    ),
    Corpus("flexemg", "flexemg", 1000.0, "uV", (*WRIST, *HAND), 5.0),
    Corpus("myo_laval", "myo", 200.0, "adc", GESTURES[1:7], 5.0),
    Corpus("myo_ciil", "myo", 200.0, "adc", (*WRIST, *HAND), 3.0),
    Corpus("myo_readings", "myo", 200.0, "adc", ("hand_close", *GESTURES[3:9]), 5.0),
)


@dataclass(frozen=True)
class Held:
    """The steady part of one gesture: which session, which gesture, (C, N) without its mean."""

    session: str
    gesture: str
    emg: Array


def held(recordings: Iterable[Recording], condition: str = "") -> Iterator[Held]:
    """The steady parts of all gestures."""
    for rec in recordings:
        if condition not in str(rec.metadata.get("condition", "")):
            continue
        for event in rec.events:
            gesture = canonical_gesture(event.label)
            start, stop = event.start + EDGES[0], event.end - EDGES[1]
            if gesture is None or stop - start < 1.0:
                continue
            emg = rec.read(*(round(t * rec.sample_rate) for t in (start, stop))).astype(float)
            emg -= np.nanmean(emg, axis=1, keepdims=True)
            yield Held(str(rec.metadata.get("session", "")), gesture, np.nan_to_num(emg))


def simulated(corpus: Corpus, seed: int) -> Iterator[Held]:
    """Two sessions of one simulated person, each gesture twice in each."""
    for session in range(2):
        yield from held(
            [
                gesture_recording(
                    Person.draw(seed),
                    corpus.montage,
                    corpus.rate,
                    gestures=corpus.gestures,
                    hold=corpus.hold,
                    rest=3.0,
                    repetitions=2,
                    session=session,
                    unit=corpus.unit,
                )
            ]
        )


def envelope(emg: Array, rate: float) -> Array:
    """Rms in steps of 50 ms, (C, steps)."""
    size = round(ENVELOPE * rate)
    steps = emg[:, : emg.shape[1] // size * size].reshape(len(emg), -1, size)
    return np.sqrt((steps**2).mean(axis=2)) + 1e-3


def level(emg: Array, rate: float) -> Array:
    """Typical rms of each electrode, (C,); glitches do not move it."""
    return np.median(envelope(emg, rate), axis=1)


def autocorrelation(x: Array, lag: int) -> Array:
    """Of each row, (C,)."""
    x = x - x.mean(axis=1, keepdims=True)
    return (x[:, lag:] * x[:, :-lag]).mean(axis=1) / x.var(axis=1)


def spectrum(emg: Array, rate: float) -> tuple[Array, Array]:
    """Frequencies, and each electrode's share of power at them, (C, F)."""
    frequency, power = welch(emg, rate, nperseg=round(rate / 2))
    return frequency, power / power.sum(axis=1, keepdims=True)


def spectral(emg: Array, rate: float) -> dict[str, float]:
    """Shares of power, and the median frequency above 10 Hz."""
    frequency, power = spectrum(emg, rate)
    found = {
        f"power {low}-{high} Hz": np.median(power[:, here].sum(axis=1))
        for low, high in BANDS
        if (here := (frequency >= low) & (frequency < high)).any() and low < rate / 2
    }
    total = np.cumsum(power * (frequency > 10), axis=1)
    half = (total < total[:, -1:] / 2).sum(axis=1)
    return found | {"median frequency, Hz": np.median(frequency[half])}


def neighbours(emg: Array, montage: Montage) -> dict[str, float]:
    """Correlation of the signals of two electrodes, by how far they are apart."""
    angle, row = (np.array([getattr(e, n) for e in montage.electrodes]) for n in ("angle", "row"))
    apart = np.abs((angle[:, None] - angle + 180) % 360 - 180)
    rows = np.abs(row[:, None] - row)
    pairs = {
        "next electrode": (rows == 0) & (np.abs(apart - apart[apart > 1].min()) < 1),
        "quarter turn": (rows == 0) & (np.abs(apart - 90) < 20),
        "half turn": (rows == 0) & (apart > 160),
        "next row": (rows == 1) & (apart < 1),
    }
    r = np.corrcoef(emg)
    return {f"correlation, {k}": np.nanmedian(r[here]) for k, here in pairs.items() if here.any()}


def shape(emg: Array, rate: float) -> dict[str, float]:
    """Of the amplitude and of the envelope."""
    half = round(rate / 2)
    windows = emg[:, : emg.shape[1] // half * half].reshape(-1, half)
    steps = envelope(emg, rate)
    return {
        "kurtosis within 0.5 s": np.median(kurtosis(windows, axis=1, fisher=False)),
        "envelope variation": np.median(steps.std(axis=1) / steps.mean(axis=1)),
        "envelope autocorrelation, 100 ms": np.median(autocorrelation(steps, 2)),
        "envelope autocorrelation, 500 ms": np.median(autocorrelation(steps, 10)),
    }


def person(parts: list[Held], montage: Montage, rate: float) -> dict[str, float]:
    """Statistics of one person: medians over electrodes and gestures."""
    rest = [part.emg for part in parts if part.gesture == "rest"]
    active = [part.emg for part in parts if part.gesture != "rest"]
    quiet = np.median([level(emg, rate) for emg in rest], axis=0)
    loud = np.array([level(emg, rate) for emg in active])
    found: dict[str, list[float]] = defaultdict(list)
    for prefix, signals in (("", active), ("rest: ", rest)):
        for emg in signals:
            values = spectral(emg, rate) | neighbours(emg, montage) | shape(emg, rate)
            for name, value in values.items():
                found[prefix + name].append(value)
    return {
        "rms at rest": np.median(quiet),
        "rms in gesture": np.median(loud),
        "gesture over rest": np.median(loud / quiet),
        "gesture over rest, best electrode": np.median((loud / quiet).max(axis=1)),
        "loudest over median electrode": np.median(loud.max(axis=1) / np.median(loud, axis=1)),
    } | {name: np.median(values) for name, values in found.items()}


def pattern(parts: Iterable[Held], rate: float) -> dict[str, Array]:
    """Mean log level of each electrode in each gesture."""
    levels: dict[str, list[Array]] = defaultdict(list)
    for part in parts:
        levels[part.gesture].append(np.log(level(part.emg, rate)))
    return {gesture: np.mean(found, axis=0) for gesture, found in levels.items()}


def alike(one: dict[str, Array], other: dict[str, Array]) -> float:
    """Correlation of two patterns about the means of their electrodes; nan if that is no use."""
    common = sorted(one.keys() & other.keys())
    if len(common) < 3:
        return float("nan")
    x, y = (np.array([p[gesture] for gesture in common]) for p in (one, other))
    return float(np.corrcoef((x - x.mean(axis=0)).ravel(), (y - y.mean(axis=0)).ravel())[0, 1])


def likeness(people: list[list[Held]], rate: float) -> dict[str, list[float]]:
    """How alike the patterns of levels are, of two people and of two sessions of one."""
    whole = [pattern(parts, rate) for parts in people]
    others = [alike(a, b) for i, a in enumerate(whole) for b in whole[:i]]
    sessions = []
    for parts in people:
        names = sorted({part.session for part in parts})[:2]
        if len(names) == 2:
            one, other = (pattern((p for p in parts if p.session == n), rate) for n in names)
            sessions.append(alike(one, other))
    return {"pattern, two people": others, "pattern, two sessions": sessions}


def statistics(people: list[list[Held]], corpus: Corpus) -> dict[str, Any]:
    """Median, 10 % and 90 % quantile over people of everything, and the mean spectra."""
    montage = Montage.preset(corpus.montage)
    found: dict[str, list[float]] = defaultdict(list)
    for parts in people:
        for name, value in person(parts, montage, corpus.rate).items():
            found[name].append(float(value))
    rows = {**found, **likeness(people, corpus.rate)}
    spectra = {}
    for name in ("rest", "gesture"):
        signals = [p.emg for q in people for p in q if (p.gesture == "rest") == (name == "rest")]
        frequency, _ = spectrum(signals[0], corpus.rate)
        mean = np.mean([spectrum(emg, corpus.rate)[1].mean(axis=0) for emg in signals], axis=0)
        edges = np.arange(2.5, corpus.rate / 2, 5.0)
        bins = np.digitize(frequency, edges)
        shares = np.bincount(bins, mean) / np.maximum(np.bincount(bins), 1)
        spectra[name] = np.round(10 * np.log10(shares[1:-1] / mean.mean()), 2).tolist()
    quantiles = {
        name: np.round(np.nanquantile(values, [0.5, 0.1, 0.9]), 5).tolist()
        for name, values in rows.items()
        if np.isfinite(values).any()
    }
    return {"people": len(people), "statistics": quantiles, "decibel_at_5_hz_steps": spectra}


_HOUR = """
import json, resource, time
from collections import Counter
import numpy as np
from emgcodec.simulate import Person, typing_recording
from emgcodec.text import BACKSPACE, to_ids, to_text
start, cpu = time.perf_counter(), time.process_time()
rec = typing_recording(Person.draw(0), seconds=3600)
power = sum((block.astype(float) ** 2).sum() for block in rec.blocks())
found = {
    "seconds": rec.duration,
    "wall_seconds": time.perf_counter() - start,
    "cpu_seconds": time.process_time() - cpu,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "signal_mib": rec.num_samples * rec.num_electrodes * 4 / 2**20,
}
people = [typing_recording(Person.draw(2000 + k), seconds=120) for k in range(8)]
rows = []
for rec in people:
    keys = [e for e in rec.events if e.kind == "key"]
    text = to_text(to_ids([e.label for e in keys]).ids)
    rows.append({
        "keys per second": len(keys) / rec.duration,
        "share of backspaces": text.count(BACKSPACE) / len(text),
        "share pressed before the last key is up":
            float(np.mean([b.start < a.end for a, b in zip(keys, keys[1:])])),
        "rms over all electrodes, uV": float(rec.emg.std()),
        "largest value, uV": float(np.abs(rec.emg).max()),
    })
found["typing"] = {
    name: np.quantile([row[name] for row in rows], [0.5, 0, 1]).tolist() for name in rows[0]
}
print(json.dumps(found))
"""


def measured_hour() -> dict[str, Any]:
    """An hour of typing in a process of its own: speed and memory; and how eight people type."""
    done = subprocess.run([sys.executable, "-c", _HOUR], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(corpus: Corpus, data: Path) -> dict[str, Any]:
    """Both sides of one data set."""
    files = json.loads((data / "splits.json").read_text())["train"]
    files = [name for name in files if name.startswith(corpus.name)]
    real = [
        list(held(read_all(data / name), corpus.condition)) for name in tqdm(files, leave=False)
    ]
    real = [parts for parts in real if {"rest"} < {part.gesture for part in parts}]
    seeds = tqdm(range(FIRST, FIRST + PEOPLE), leave=False)
    return {
        "montage": corpus.montage,
        "sample_rate": corpus.rate,
        "comparable_levels": corpus.comparable,
        "real": statistics(real, corpus),
        "simulated": statistics([list(simulated(corpus, seed)) for seed in seeds], corpus),
    }


def table(result: dict[str, Any], title: str, names: list[str]) -> list[str]:
    """Rows of real / simulated medians."""
    corpora = result["corpora"]
    lines = ["", f"| {title} | " + " | ".join(corpora) + " |", "|---" * (len(corpora) + 1) + "|"]
    for name in names:
        cells = []
        for both in corpora.values():
            values = [both[side]["statistics"].get(name) for side in ("real", "simulated")]
            hidden = name.startswith("rms") and not both["comparable_levels"]
            shown = [("–" if v is None else f"{v[0]:.3g}") for v in values]
            cells.append("–" if hidden or values[0] is None else " / ".join(shown))
        if set(cells) != {"–"}:
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def page(result: dict[str, Any]) -> str:
    """The numbers as a page."""
    hour, names = result["hour"], list(result["corpora"]["flexemg"]["simulated"]["statistics"])
    groups = {
        "level": [n for n in names if "rms" in n or "over" in n],
        "in gesture": [n for n in names if n.startswith(("power", "median"))],
        "at rest": [n for n in names if n.startswith(("rest: power", "rest: median"))],
        "shape": [n for n in names if "kurtosis" in n or n.startswith("envelope")],
        "electrodes": [n for n in names if "correlation, " in n and "envelope" not in n],
        "people": ["pattern, two people", "pattern, two sessions"],
    }
    lines = [
        "# The simulator beside real recordings",
        "",
        f"Simulator version **{result['simulator']}**: every result on simulated recordings names "
        "the version, is headed simulated, and does not say how well a codec does on people. The "
        "parameters were set by hand until these tables came out near each other, and are frozen: "
        "other numbers are another version (`tests/test_simulate.py` watches).",
        "",
        f"Made by `{result['command']}` at commit `{result['commit']}` "
        f"({versions_of(result)}). Real people are those "
        "of the training split ("
        + ", ".join(f"{n} {b['real']['people']}" for n, b in result["corpora"].items())
        + f"); each data set is set beside {PEOPLE} simulated people with its electrodes, rate, "
        "gestures and durations. Cells are **real / simulated**, medians over people of medians "
        "over electrodes and gestures; 10 % and 90 % quantiles are in "
        "[results/simulator.json](results/simulator.json). Levels are µV (flexemg) and counts "
        "(Myo); the other sources state no unit.",
    ]
    for title, rows in groups.items():
        lines += table(result, title, rows)
    lines += [
        "",
        "Correlations are of the raw signals. A pattern is the mean log level of each electrode in "
        "each gesture, about the electrode's mean.",
        "",
        "![Spectra](simulator.png)",
        "",
        *DIFFERENCES,
        "",
        "## Typing",
        "",
        "No recording of typing is at hand to set beside it. Eight simulated people, two minutes "
        "each: median (least to most).",
        "",
        "| | simulated |",
        "|---|---|",
        *(
            f"| {name} | {middle:.3g} ({low:.3g} to {high:.3g}) |"
            for name, (middle, low, high) in hour["typing"].items()
        ),
        "",
        f"An hour of it ({hour['seconds']:.0f} s, 2 x 16 electrodes at 2 kHz, "
        f"{hour['signal_mib']:.0f} MiB of signal) is made and read block by block in "
        f"{hour['cpu_seconds']:.0f} s on one core of {result['machine']}, the process never above "
        f"{hour['peak_mib']:.0f} MiB.",
        "",
    ]
    return "\n".join(lines)


DIFFERENCES = (
    "## Where it differs",
    "",
    "- **One ideal amplifier.** The simulator has pairs of electrodes along the limb, a flat pass "
    "band and no aliases. contraction_intensity has steep amplifiers and higher frequencies. The "
    "Myo samples what lies above 100 Hz without a filter, which fills its lowest band. flexemg "
    "drifts and shares one reference among all electrodes: they correlate at any distance.",
    "- **Below 40 Hz** real muscles, cables and skin put more power than the simulated action "
    "potentials, wherever no filter takes it away.",
    "- **Rest** is muscle tone, noise, hum and slow drift here. Real rest holds lower frequencies, "
    "more hum and the lines of devices.",
    "- **People** differ by what `Person.draw` draws and in nothing else: there is no fatigue, no "
    "bad contact, no movement of the limb and no cue that is followed late.",
)


def picture(result: dict[str, Any], path: Path) -> None:
    """Spectra of both sides."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(9, 4.5), sharey=True, layout="constrained")
    for axis, (name, both) in zip(axes.flat, result["corpora"].items(), strict=True):
        for state, colour in (("gesture", "C0"), ("rest", "C1")):
            for side, style in (("real", "-"), ("simulated", "--")):
                y = both[side]["decibel_at_5_hz_steps"][state]
                x = 5.0 * np.arange(1, len(y) + 1)
                axis.plot(x, y, style, color=colour, lw=1, label=f"{side}, {state}")
        axis.set(title=name, ylim=(-35, 15))
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel("Hz")
    figure.supylabel("dB about mean density")
    figure.savefig(path, dpi=80)


def main() -> None:
    """Measures, prints and, if asked, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--page", type=Path, help="and a page of them here, with a picture beside")
    args = parser.parse_args()
    data = Path(os.environ["EMGCODEC_DATA"])
    result = made_by("python benchmarks/simulator.py " + " ".join(sys.argv[1:]))
    result |= {
        "simulator": SIMULATOR_VERSION,
        "hour": measured_hour(),
        "corpora": {c.name: measured(c, data) for c in tqdm(CORPORA)},
    }
    text = page(result)
    print(text)
    if args.json:
        write_json(args.json, result)
    if args.page:
        args.page.write_text(text)
        picture(result, args.page.with_suffix(".png"))


if __name__ == "__main__":
    main()

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgcodec.io import read_all
from emgcodec.quality import VERDICTS, ElectrodeQuality, quality_report
from emgcodec.recording import Recording

RATE = 1000.0


def noise(electrodes: int = 8, seconds: float = 5.0, rate: float = RATE) -> Any:
    """Muscle-like: white noise of 20 µV."""
    rng = np.random.default_rng(0)
    return rng.normal(0, 20, (electrodes, round(seconds * rate))).astype(np.float32)


def verdicts(x: Any, rate: float = RATE, **options: Any) -> list[str]:
    return [
        electrode.verdict for electrode in quality_report(Recording(x, rate, **options)).electrodes
    ]


def test_a_good_recording_is_measured_and_found_ok() -> None:
    x = noise() + np.arange(8, dtype=np.float32)[:, None] * 100
    report = quality_report(Recording(x, RATE, montage="myo"))
    assert report.ok
    assert (report.montage, report.duration, report.unit) == ("myo", 5.0, "uV")
    assert repr(report) == "QualityReport(8 electrodes (myo), 5.0 s at 1000 Hz: 8 ok)"
    for k, electrode in enumerate(report.electrodes):
        assert electrode.robust_sd == pytest.approx(20, rel=0.1)
        assert electrode.dc == pytest.approx(100 * k, abs=1)
        assert electrode.median_frequency == pytest.approx(255, rel=0.1)
        assert (electrode.missing, electrode.clipped, electrode.flat) == (0, 0, 0)
        assert 0 < electrode.mains_ratio < 5


def hum(x: Any, hertz: float) -> Any:
    return x + 30 * np.sin(2 * np.pi * hertz * np.arange(x.shape[-1]) / RATE)


@pytest.mark.parametrize(
    ("verdict", "spoil"),
    [
        ("missing", lambda x: np.where(np.arange(len(x)) % 9 == 0, np.nan, x)),
        ("missing", lambda x: np.where(np.arange(len(x)) < 500, np.inf, x)),
        ("missing", lambda x: x * np.nan),
        ("flat", lambda x: x * 0),
        ("flat", lambda x: np.where(np.arange(len(x)) > 2000, x[2000], x)),
        ("clipped", lambda x: np.clip(np.convolve(x, np.ones(9), "same"), -60, 90)),
        ("clipped", lambda x: np.minimum(np.convolve(x, np.ones(9), "same"), 60)),
        ("noisy contact", lambda x: 20 * x),
        ("noisy contact", lambda x: hum(20 * x, 50)),
        ("mains", lambda x: hum(x, 50)),
        ("mains", lambda x: hum(x, 60.2)),
        ("ok", lambda x: 5 * x),
        ("ok", lambda x: x / 50),
        ("ok", lambda x: x + 1e5),
        ("ok", lambda x: np.where(np.arange(len(x)) % 997 == 0, np.nan, x)),
        ("ok", lambda x: np.rint(x / 10)),
    ],
)
def test_each_fault_has_its_verdict_and_touches_no_other_electrode(
    verdict: str, spoil: Any
) -> None:
    x = noise()
    x[3] = spoil(x[3])
    assert verdicts(x) == ["ok"] * 3 + [verdict] + ["ok"] * 4


@given(order=st.permutations(range(6)), gain=st.sampled_from([1e-3, 1.0, 1e4]))
def test_verdicts_follow_their_electrodes_and_ignore_the_unit(order: Any, gain: float) -> None:
    x = noise(6, 2.0)
    x[0] *= 0
    x[1] *= 30
    x[2] = hum(x[2], 60)
    x[3, :500] = np.nan
    expected = ["flat", "noisy contact", "mains", "missing", "ok", "ok"]
    assert verdicts(x[list(order)] * gain, unit="adc") == [expected[k] for k in order]


@pytest.mark.parametrize("rate", [200.0, 1000.0, 1259.26, 2048.0])
@pytest.mark.parametrize("line", [50.0, 60.0])
def test_the_mains_frequency_is_told_at_any_rate(rate: float, line: float) -> None:
    x = noise(2, 10, rate)
    x[0] += 20 * np.sin(2 * np.pi * line * np.arange(x.shape[1]) / rate)
    first, second = quality_report(Recording(x, rate)).electrodes
    assert (first.verdict, first.mains_hz) == ("mains", line)
    assert first.mains_ratio > 10 * second.mains_ratio


def test_too_short_or_too_slow_recordings_tell_no_mains() -> None:
    x = 100 * np.sin(2 * np.pi * 50 * np.arange(900) / RATE)[None]
    assert quality_report(Recording(x, RATE)).electrodes[0].mains_hz == 0
    assert quality_report(Recording(noise(1, 60, 110.0), 110.0)).electrodes[0].mains_hz == 0


def fraction(x: Any, least: int, counts: Any) -> float:
    """Fraction of samples in runs of `least` equal ones whose value `counts`."""
    runs = [(value, len(list(run))) for value, run in groupby(x.tolist())]
    return sum(n for value, n in runs if n >= least and counts(value)) / len(x)


@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    place=st.integers(5900, 6000),
    levels=st.integers(2, 5),
)
def test_runs_are_counted_exactly_across_blocks(
    seed: int, lengths: list[int], place: int, levels: int
) -> None:
    rate = 100.0  # blocks of 60 s end at sample 6000; 100 ms are 10 samples
    rng = np.random.default_rng(seed)
    x = rng.integers(0, levels, 6400)
    held = np.repeat(rng.integers(0, levels, len(lengths)), lengths)
    x[place : place + len(held)] = held[: 6400 - place]
    (electrode,) = quality_report(Recording(x[None], rate)).electrodes
    assert electrode.flat == pytest.approx(fraction(x, 10, lambda value: True))
    ends = {x.min(), x.max()}
    assert electrode.clipped == pytest.approx(fraction(x, 3, lambda value: value in ends))


def test_an_extreme_that_is_passed_later_was_no_clipping() -> None:
    x = noise(1, 150, 200.0)
    x[0, 100:1100] = 500.0
    x[0, 25_000] = 501.0
    assert quality_report(Recording(x, 200.0)).electrodes[0].clipped == 0


@pytest.mark.parametrize("samples", [0, 1, 2, 30])
@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_the_shortest_recordings_have_a_report(samples: int, value: float) -> None:
    report = quality_report(Recording(np.full((2, samples), value), RATE))
    lost = samples == 0 or np.isnan(value)
    assert {electrode.missing for electrode in report.electrodes} == {float(lost)}
    assert {electrode.verdict for electrode in report.electrodes} == {"missing" if lost else "ok"}


def test_reports_are_plain_numbers_and_a_readable_table() -> None:
    x = noise(3)
    x[1] *= np.nan
    report = quality_report(Recording(x, RATE, unit="mV"))
    stored = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [ElectrodeQuality(**electrode) for electrode in stored["electrodes"]] == list(
        report.electrodes
    )
    head, names, *rows = report.summary().splitlines()
    assert head == "3 electrodes (ring3), 5.0 s at 1000 Hz: 2 ok, 1 missing"
    assert len({len(line) for line in (names, *rows)}) == 1
    assert [row.split()[:2] for row in rows] == [["0", "ok"], ["1", "missing"], ["2", "ok"]]
    assert "sd µV" in names


def test_the_signal_is_left_as_it_was() -> None:
    x = noise(2)
    x[0, 5] = np.inf
    before = x.copy()
    quality_report(Recording(x, RATE))
    np.testing.assert_array_equal(x, before)


class Endless:
    """A signal made while it is read."""

    def __init__(self, seconds: int) -> None:
        self.shape = (4, seconds * 1000)

    def read(self, start: int, stop: int) -> Any:
        return np.random.default_rng(start).normal(0, 20, (4, stop - start)).astype(np.float32)


def test_memory_does_not_grow_with_the_recording() -> None:
    def peak(seconds: int) -> int:
        tracemalloc.start()
        quality_report(Recording(Endless(seconds), RATE))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(480) < 1.1 * peak(120)


def test_bad_contact_is_found_in_real_recordings(data_dir: Path) -> None:
    found = [
        [electrode.verdict for electrode in quality_report(recording).electrodes]
        for recording in read_all(data_dir / "3dc_P01.h5")
    ]
    assert len(found) == 88
    first, bad, *others = (Counter(column) for column in zip(*found, strict=True))
    assert bad["noisy contact"] >= 70  # in some gestures the others are as loud
    for electrode in (first, *others):
        assert electrode["noisy contact"] == 0
        assert electrode["ok"] >= 80
        assert set(electrode) <= set(VERDICTS)

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal as dsp

from emgcodec.signal import (
    HUGE,
    LevelMeter,
    Notch,
    Preparation,
    Repair,
    Resampler,
    detect_mains,
    num_resampled,
    resampling_lookahead,
    robust_sd,
)

RATES = (100, 200, 333.33, 500, 1000, 1259.26, 2000, 2048, 4000, 10_000)
Array = np.ndarray[Any, Any]


def noise(electrodes: int, samples: int, seed: int = 0, offset: float = 0.0) -> Array:
    rng = np.random.default_rng(seed)
    return (50 * rng.standard_normal((electrodes, samples)) + offset).astype(np.float32)


def resample(x: Array, source: float, target: float) -> Array:
    resampler = Resampler(source, target, len(x))
    return np.concatenate([resampler.push(x), resampler.flush()], axis=1)


def pushed(push: Callable[[Array], Any], x: Array, cuts: list[int]) -> list[Any]:
    """What comes out when the signal comes in pieces, some of them empty."""
    return [push(part) for part in np.split(x, sorted(c % (x.shape[1] + 1) for c in cuts), axis=1)]


pieces = st.lists(st.integers(0, 10_000), max_size=12)


# Resampling


@pytest.mark.parametrize("source", RATES)
@pytest.mark.parametrize("target", [200, 2000, 1259.26])
def test_a_constant_passes_exactly(source: float, target: float) -> None:
    x = np.repeat(np.array([[8123.457], [-0.1], [15_000]], np.float32), 700, axis=1)
    y = resample(x, source, target)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, np.repeat(x[:, :1], y.shape[1], axis=1))


@pytest.mark.parametrize(
    ("source", "target"), [(1000, 2000), (200, 2000), (4000, 2000), (2048, 2000), (500, 1259.26)]
)
def test_it_agrees_with_an_ideal_resampler_on_band_limited_signals(
    source: float, target: float
) -> None:
    # Whole seconds, periodic, and below half of both Nyquist frequencies but for the short filter.
    seconds = 50 if target == 1259.26 else 4
    time = np.arange(round(seconds * source)) / source
    highest = 0.25 * min(source, target)
    rng = np.random.default_rng(3)
    tones = [(rng.integers(1, int(highest)), rng.uniform(0, 6), rng.uniform(1, 9)) for _ in "12345"]
    x = sum(a * np.sin(2 * np.pi * f * time + p) for f, p, a in tones)[None]
    y = resample(x.astype(np.float32), source, target)
    ideal = dsp.resample(x, y.shape[1], axis=1)
    inner = slice(y.shape[1] // 10, -(y.shape[1] // 10))  # ends are held, not periodic
    error = np.sqrt(np.mean((y - ideal)[:, inner] ** 2) / np.mean(ideal**2))
    assert error < (0.03 if source == 200 else 0.003)  # 4 samples to each side are a short filter


def test_what_the_new_rate_cannot_hold_is_filtered_out() -> None:
    time = np.arange(8000) / 4000
    high, low = (np.sin(2 * np.pi * f * time)[None].astype(np.float32) for f in (1300, 300))
    assert resample(high, 4000, 2000)[:, 100:-100].std() < 2e-3
    assert resample(low, 4000, 2000)[:, 100:-100].std() == pytest.approx(math.sqrt(0.5), rel=1e-3)


@given(
    st.sampled_from(RATES),
    st.sampled_from([200.0, 1259.26, 2000.0]),
    st.integers(1, 4),
    st.integers(0, 3000),
    st.sampled_from([0.0, 15_000.0]),
    pieces,
)
def test_pushes_of_any_size_give_the_same_bits(
    source: float, target: float, electrodes: int, samples: int, offset: float, cuts: list[int]
) -> None:
    x = noise(electrodes, samples, samples, offset)
    resampler = Resampler(source, target, electrodes)
    parts = [*pushed(resampler.push, x, cuts), resampler.flush()]
    together = np.concatenate(parts, axis=1)
    np.testing.assert_array_equal(together, resample(x, source, target))
    assert together.shape[1] == num_resampled(samples, source, target)


@pytest.mark.parametrize("source", RATES)
def test_empty_and_single_samples(source: float) -> None:
    assert resample(np.zeros((3, 0), np.float32), source, 2000).shape == (3, 0)
    y = resample(np.array([[7.0], [-2.5]], np.float32), source, 2000)
    assert y.shape == (2, num_resampled(1, source, 2000))
    np.testing.assert_array_equal(y, np.repeat([[7.0], [-2.5]], y.shape[1], axis=1))


@pytest.mark.parametrize("source", RATES)
def test_it_looks_no_further_ahead_than_it_says(source: float) -> None:
    ahead = resampling_lookahead(source, 2000)
    assert ahead <= max(0.010, 4 / source) + 1e-12
    assert (ahead == 0) == (source == 2000)
    x, changed = noise(2, 1500), noise(2, 1500)
    changed[:, 900:] += 100
    same = (resample(x, source, 2000) == resample(changed, source, 2000)).all(axis=0)
    assert same.argmin() >= (900 / source - ahead) * 2000
    assert not same.all()
    resampler = Resampler(source, 2000, 2)  # and what it may know it gives at once
    given_ = resampler.push(x).shape[1]
    assert given_ >= (1500 / source - ahead) * 2000 - 1


def test_lengths_are_exact_where_floats_are_not() -> None:
    assert num_resampled(125_926, 1259.26, 2000) == 200_000
    assert num_resampled(125_927, 1259.26, 2000) == 200_002
    assert num_resampled(10**12, 1000, 2000) == 2 * 10**12
    assert num_resampled(0, 1000, 2000) == 0


# Repair


def test_missing_samples_hold_the_last_good_one() -> None:
    nan, inf = np.nan, np.inf
    x = np.array([[nan, 1, 2, nan, nan, 3, inf], [5, -inf, 2 * HUGE, -HUGE, 0, nan, 4]], np.float32)
    repair = Repair(2)
    filled, good = repair.push(x)
    np.testing.assert_array_equal(
        filled, np.array([[0, 1, 2, 2, 2, 3, 3], [5, 5, 5, -HUGE, 0, 0, 4]], np.float32)
    )
    np.testing.assert_array_equal(good, np.abs(np.nan_to_num(x, nan=2 * HUGE)) <= HUGE)
    np.testing.assert_array_equal(repair.missing, [4, 3])
    np.testing.assert_array_equal(repair.push(np.full((2, 1), nan, np.float32))[0], [[3], [4]])


@given(st.integers(0, 200), st.floats(0, 1), pieces)
def test_repair_in_pieces(samples: int, share: float, cuts: list[int]) -> None:
    x = noise(3, samples)
    x[np.random.default_rng(samples).random(x.shape) < share] = np.nan
    whole, pieced = Repair(3), Repair(3)
    filled, good = whole.push(x.copy())
    parts = pushed(pieced.push, x, cuts)
    np.testing.assert_array_equal(np.concatenate([p[0] for p in parts], axis=1), filled)
    np.testing.assert_array_equal(np.concatenate([p[1] for p in parts], axis=1), good)
    np.testing.assert_array_equal(pieced.missing, whole.missing)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[good], x[good])


# Mains


@pytest.mark.parametrize(("mains", "rate"), [(50.0, 1000), (60.0, 2000), (50.0, 200)])
def test_the_notch_takes_the_line_and_its_harmonics_and_nothing_else(
    mains: float, rate: float
) -> None:
    time = np.arange(round(6 * rate)) / rate

    def gain(frequency: float) -> float:
        x = np.sin(2 * np.pi * frequency * time)[None]
        late = slice(len(time) // 2, None)
        return float(np.std(Notch(mains, rate).push(x)[:, late]) / np.std(x[:, late]))

    for line in (mains, 2 * mains, 3 * mains):
        if line < 0.45 * rate:
            assert gain(line) < 0.01
            assert gain(line - 0.2 * mains) > 0.95
            assert gain(line + 0.2 * mains) > 0.95
    assert gain(0.4 * mains) > 0.98
    constant = np.full((2, 500), 8000.0)  # no ringing at the start
    np.testing.assert_allclose(Notch(mains, rate).push(constant), constant, rtol=1e-9)


def test_a_line_beyond_the_rate_is_left_alone() -> None:
    x = noise(2, 100)
    np.testing.assert_array_equal(Notch(60.0, 100).push(x), x)


@given(st.integers(0, 2000), pieces)
def test_the_notch_in_pieces(samples: int, cuts: list[int]) -> None:
    x, notch = noise(2, samples, offset=9000), Notch(50.0, 1000)
    parts = pushed(notch.push, x, cuts)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), Notch(50.0, 1000).push(x))


@pytest.mark.parametrize("rate", [200, 1000, 2048])
def test_mains_are_found_where_half_of_the_electrodes_have_them(rate: float) -> None:
    time = np.arange(round(20 * rate)) / rate

    def hum(line: float, electrodes: int) -> list[Array]:
        x = noise(4, len(time)).astype(float)
        x[:electrodes] += 40 * np.sin(2 * np.pi * line * time)
        return np.array_split(x, 3, axis=1)

    assert detect_mains(hum(50, 4), rate) == 50.0
    assert detect_mains(hum(60, 3), rate) == 60.0
    assert detect_mains(hum(60, 1), rate) is None
    assert detect_mains(hum(70, 4), rate) is None
    assert detect_mains([np.zeros((4, 5000))], rate) is None


def test_mains_cannot_be_told_at_low_rates_or_from_moments() -> None:
    x = np.sin(2 * np.pi * 50 * np.arange(5000) / 140)[None]
    assert detect_mains([x], 140) is None
    assert detect_mains([noise(2, 1999)], 1000) is None
    assert detect_mains([], 1000) is None


# Preparation


@pytest.mark.parametrize("source", RATES)
def test_gaps_stay_where_they_are_at_every_rate(source: float) -> None:
    x = noise(3, 1200)
    x[1, 400:700] = np.nan
    x[2] = np.inf
    preparation = Preparation(source, 2000, 3, None)
    (y, good), (z, tail) = preparation.push(x), preparation.flush()
    y, good = np.concatenate([y, z], axis=1), np.concatenate([good, tail], axis=1)
    assert y.shape == good.shape == (3, num_resampled(1200, source, 2000))
    assert np.isfinite(y).all()
    nearest = np.floor(np.arange(y.shape[1]) / 2000 * source + 0.5 + 1e-9).clip(max=1199)
    np.testing.assert_array_equal(good[1], (nearest < 400) | (nearest >= 700))
    np.testing.assert_array_equal(good[[0, 2]].all(axis=1), [True, False])
    assert not good[2].any()
    np.testing.assert_array_equal(preparation.repair.missing, [0, 300, 1200])


@given(
    st.sampled_from(RATES), st.integers(0, 1500), st.sampled_from([None, 50.0]), pieces, st.floats()
)
def test_preparation_in_pieces(
    source: float, samples: int, mains: float | None, cuts: list[int], bad: float
) -> None:
    x = noise(2, samples, offset=500)
    x[:, samples // 3 : samples // 2] = np.float32(np.clip(bad, -1e30, 1e30))
    results = []
    for at in (cuts, []):
        preparation = Preparation(source, 2000, 2, mains)
        parts = [*pushed(preparation.push, x, at), preparation.flush()]
        results.append([np.concatenate(column, axis=1) for column in zip(*parts, strict=True)])
    for piecewise, whole in zip(*results, strict=True):
        np.testing.assert_array_equal(piecewise, whole)


# Levels


def test_the_level_is_the_rms_about_the_mean() -> None:
    x = noise(3, 128 * 50, offset=8000)
    x[1] *= 0
    meter = LevelMeter(3, 128)
    for part in np.split(x, [128 * 3, 128 * 31], axis=1):
        meter.push(part, np.ones(part.shape, bool))
    expected = np.sqrt(x.reshape(3, 50, 128).var(axis=2, dtype=float).mean(axis=1))
    np.testing.assert_allclose(meter.level(), expected, rtol=1e-6)
    assert meter.level().dtype == np.float32


def test_an_unfinished_window_counts_too() -> None:
    x = noise(2, 100)
    meter = LevelMeter(2, 128)
    meter.push(x, np.ones(x.shape, bool))
    np.testing.assert_allclose(meter.level(), x.std(axis=1), rtol=1e-6)


@pytest.mark.parametrize("every", [7, 64, 1000])
def test_missing_samples_neither_count_nor_silence_the_electrode(every: int) -> None:
    x, good = noise(2, 128 * 200), np.ones((2, 128 * 200), bool)
    good[0, ::every] = False
    x[0, ::every] = 1e6
    good[1] = False
    meter = LevelMeter(2, 128)
    meter.push(x, good)
    assert meter.level().tolist() == pytest.approx([50.0, 0.0], rel=0.02)


def test_nothing_heard_is_level_zero() -> None:
    meter = LevelMeter(2, 128)
    meter.push(np.zeros((2, 0), np.float32), np.zeros((2, 0), bool))
    assert meter.level().tolist() == [0.0, 0.0]


@given(st.integers(1, 400))
def test_robust_sd_is_the_scaled_median_deviation(samples: int) -> None:
    x = noise(3, samples, samples, offset=77)
    expected = [1.4826 * np.median(np.abs(row - np.median(row))) for row in x]
    np.testing.assert_allclose(robust_sd(x), expected, rtol=1e-6)


def test_robust_sd_ignores_glitches_and_what_is_missing() -> None:
    x = noise(4, 20_000)
    x[:, ::50] = 1e8
    x[1, ::2] = np.nan
    x[2] = np.inf
    x[3] = 5
    assert robust_sd(x).tolist() == pytest.approx([50.0, 50.0, 0.0, 0.0], rel=0.08)
    assert robust_sd(np.zeros((2, 0))).tolist() == [0.0, 0.0]

"""Each augmentation on its own: what it changes, how much, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training import small_codec

from emgcodec import Montage
from emgcodec.train.augment import (
    Augmented,
    augment,
    delayed,
    hum,
    rotated,
    slip,
    stretches,
    white_noise,
)
from emgcodec.train.recipe import AugmentRecipe

OFF = AugmentRecipe(rotation=0, dropout_share=0, gain=0)
WRISTS = Montage.preset("emg2qwerty")


def signal(montage: Montage = WRISTS, samples: int = 4000) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    level = rng.uniform(5, 50, (len(montage), 1))
    return (rng.normal(0, 1, (len(montage), samples)) * level).astype(np.float32)


def changed(seed: int = 0, montage: Montage = WRISTS, **fields: Any) -> Augmented:
    recipe = replace(OFF, **fields)
    rng = np.random.default_rng(seed)
    return augment(
        signal(montage), montage, recipe, rng, sample_rate=2000, hop_length=64, num_features=16
    )


def turns(done: Augmented, montage: Montage = WRISTS) -> np.ndarray[Any, Any]:
    """Degrees that each electrode was turned by, from -180 to 180."""
    pairs = zip(done.montage.electrodes, montage.electrodes, strict=True)
    return np.array([(b.angle - a.angle + 180) % 360 - 180 for b, a in pairs])


def test_nothing_is_done_unless_asked_for() -> None:
    done = changed()
    np.testing.assert_array_equal(done.x, signal())
    assert done.montage == WRISTS
    assert done.mask.all()
    assert done.hidden is None


def test_bands_are_turned_each_by_its_own_angle() -> None:
    angles = []
    for seed in range(200):
        done = changed(seed, rotation=12.0)
        found = turns(done)
        np.testing.assert_array_equal(done.x, signal())
        np.testing.assert_allclose(found[:16], found[0], atol=1e-5)
        np.testing.assert_allclose(found[16:], found[16], atol=1e-5)
        angles.append((found[0], found[16]))
    left, right = np.array(angles).T
    assert left.std() == pytest.approx(12, rel=0.2)
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.25
    assert [e.row for e in done.montage.electrodes] == [e.row for e in WRISTS.electrodes]


def test_some_windows_are_turned_by_any_angle() -> None:
    far = [np.abs(turns(changed(seed, rotation=3.0, full_circle=0.5))).max() for seed in range(200)]
    assert 0.4 < np.mean(np.array(far) > 30) < 0.6


def test_turning_there_and_back_is_nothing() -> None:
    montage = Montage.grid(4, 2)
    assert rotated(rotated(montage, [350]), [10]) == montage


def test_a_slip_by_one_spacing_is_the_neighbour() -> None:
    ring = Montage.ring(8)
    x = signal(ring)
    np.testing.assert_allclose(slip(ring, [1.0]) @ x, np.roll(x, -1, axis=0))
    np.testing.assert_allclose(slip(ring, [-1.0]) @ x, np.roll(x, 1, axis=0))
    half = slip(ring, [0.25]) @ x
    np.testing.assert_allclose(half, 0.75 * x + 0.25 * np.roll(x, -1, axis=0), atol=1e-4)


def test_a_slip_follows_angles_within_band_and_row() -> None:
    weights = slip(WRISTS, [0.5, 0.0])
    np.testing.assert_array_equal(weights[16:], np.eye(32, dtype=np.float32)[16:])
    assert (weights[:16, 16:] == 0).all()
    order = np.random.default_rng(1).permutation(32)
    np.testing.assert_array_equal(
        slip(WRISTS.select(order), [0.5, 0.0]), weights[np.ix_(order, order)]
    )
    grid = Montage.grid(4, 2)  # row by row, 90 degrees apart
    weights = slip(grid, [0.5])
    assert weights[0].tolist() == [0.5, 0.5, 0, 0, 0, 0, 0, 0]
    assert weights[7].tolist() == [0, 0, 0, 0, 0.5, 0, 0, 0.5]


def test_a_slip_does_not_reach_across_a_gap() -> None:
    patch = Montage.grid(3, 1, span=60.0)
    np.testing.assert_allclose(
        slip(patch, [0.5]), [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]], atol=1e-6
    )
    np.testing.assert_array_equal(slip(Montage.ring(1), [0.5]), [[1]])


@given(st.floats(-3, 3), st.sampled_from(["emg2qwerty", "myo", "flexemg"]))
def test_a_slip_is_a_mean(part: float, name: str) -> None:
    montage = Montage.preset(name)
    weights = slip(montage, [part, -part])
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (weights >= 0).all()


def test_electrodes_slip_in_signals_only() -> None:
    done = changed(shift=0.3)
    assert done.montage == WRISTS
    assert not np.allclose(done.x[:16], signal()[:16])


def test_electrodes_drop_out_in_some_windows_but_never_all() -> None:
    masks = [changed(seed, dropout=0.3, dropout_share=0.5).mask for seed in range(200)]
    share = np.array([1 - mask.mean() for mask in masks])
    assert 0.35 < np.mean(share == 0) < 0.65
    assert share[share > 0].mean() == pytest.approx(0.3, abs=0.05)
    assert all(changed(seed, dropout=1.0, dropout_share=1.0).mask.sum() == 1 for seed in range(20))


def test_gain_is_in_decibel_per_electrode() -> None:
    found = [20 * np.log10(changed(s, gain=2.0).x.std(1) / signal().std(1)) for s in range(40)]
    assert np.std(found) == pytest.approx(2.0, rel=0.1)
    assert np.std(found, axis=1).mean() == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize("snr", [0.0, 10.0, 20.0])
def test_noise_lies_so_far_below_each_electrode(snr: float) -> None:
    x = signal()
    rng = np.random.default_rng(1)
    noise = white_noise(x, snr, rng)
    below = 20 * np.log10(x.std(axis=1) / noise.std(axis=1))
    np.testing.assert_allclose(below, snr, atol=0.5)
    both = np.corrcoef(np.concatenate([noise, x]))
    assert np.abs(both - np.eye(len(both))).max() < 0.1
    line = hum(x, snr, 2000, rng)
    assert np.median(20 * np.log10(x.std(axis=1) / line.std(axis=1))) == pytest.approx(snr, abs=2)


def test_hum_is_of_the_mains() -> None:
    lines = set()
    for seed in range(20):
        wave = hum(signal(samples=20000), 10.0, 2000, np.random.default_rng(seed))
        power = np.abs(np.fft.rfft(wave, axis=1)) ** 2
        frequency = np.fft.rfftfreq(20000, 1 / 2000)
        lines.add(round(frequency[power[0].argmax()] / 10) * 10)
        peaks = [np.abs(frequency - k * line) < 2 for line in (50, 60) for k in (1, 2, 3)]
        assert power[:, np.any(peaks, axis=0)].sum() > 0.99 * power.sum()
    assert lines <= {50, 60, 100, 120, 150, 180}
    assert {50, 60} <= lines


def test_noise_and_hum_come_in_their_share_of_windows() -> None:
    for name in ("noise", "mains"):
        touched = [not np.array_equal(changed(s, **{name: 0.3}).x, signal()) for s in range(200)]
        assert 0.2 < np.mean(touched) < 0.4


def test_bands_come_apart_in_time() -> None:
    x = signal()
    late = delayed(x, WRISTS, [0, 7])
    np.testing.assert_array_equal(late[:16], x[:16])
    np.testing.assert_array_equal(late[16:, 7:], x[16:, :-7])
    np.testing.assert_array_equal(late[16:, :7], np.repeat(x[16:, :1], 7, axis=1))
    moved = [not np.array_equal(changed(s, band_jitter=0.03).x, x) for s in range(20)]
    assert np.mean(moved) > 0.8
    ring = Montage.ring(8)
    np.testing.assert_array_equal(changed(montage=ring, band_jitter=0.03).x, signal(ring))


@given(st.integers(1, 50), st.integers(0, 5), st.integers(0, 60), st.integers(0, 100))
def test_stretches_are_so_many_and_so_long(
    length: int, count: int, longest: int, seed: int
) -> None:
    found = stretches(length, count, longest, np.random.default_rng(seed))
    assert found.shape == (length,)
    assert found.sum() <= count * longest
    starts = found & ~np.concatenate([[False], found[:-1]])
    assert starts.sum() <= count


def test_masks_hide_time_and_frequency() -> None:
    times, bands = np.zeros(63), np.zeros(16)
    for seed in range(100):
        done = changed(seed, time_masks=2, time_mask_seconds=0.5, band_masks=1, band_mask_width=4)
        assert done.hidden is not None
        assert done.hidden.shape == (63, 16)
        rows, columns = done.hidden.all(axis=1), done.hidden.all(axis=0)
        assert np.array_equal(done.hidden, rows[:, None] | columns)
        assert rows.sum() <= 2 * round(0.5 * 2000 / 64)
        assert columns.sum() <= 4
        times += rows
        bands += columns
    assert (times > 0).all()
    assert (bands > 0).all()


def test_what_is_hidden_does_not_matter() -> None:
    """Hidden features are their mean: another signal there gives the same latents."""
    codec = small_codec().train()
    x = torch.from_numpy(signal(Montage.ring(4), 64 * 40))[None]
    hidden = torch.zeros(1, 40, 16, dtype=torch.bool)
    hidden[:, 20:24] = True
    latents = codec(x, montage=Montage.ring(4), hidden=hidden, quantize=False).latents
    plain = codec(x, montage=Montage.ring(4), quantize=False).latents
    assert not torch.allclose(latents, plain)
    assert torch.equal(latents[..., :20], plain[..., :20])
    hidden[:] = True
    one = codec(x, montage=Montage.ring(4), hidden=hidden, quantize=False).latents
    other = codec(x.flip(-1), montage=Montage.ring(4), hidden=hidden, quantize=False).latents
    torch.testing.assert_close(one, other)

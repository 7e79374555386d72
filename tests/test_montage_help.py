"""Montages from names, remapping to a codec's own, and armbands that were put on anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import codec_for
from hypothesis import given
from hypothesis import strategies as st

from emgcodec.io import read_all
from emgcodec.labels import infer_montage
from emgcodec.montage import Electrode, Montage, MontageError
from emgcodec.recording import Recording, RecordingError
from emgcodec.rotation import find_rotation
from emgcodec.simulate import gesture_recording
from emgcodec.simulate.anatomy import Person

EIGHT = [f"EMG {k}" for k in range(1, 9)]


@pytest.mark.parametrize(
    ("labels", "device", "expected"),
    [
        (EIGHT, "Thalmic Myo", Montage.preset("myo")),
        (EIGHT[::-1], "Myo", Montage.preset("myo").select(range(7, -1, -1))),
        (EIGHT, "3DC", None),  # has ten
        (EIGHT, "", None),  # no more than the ring that is assumed anyway
        (["biceps", "triceps"], "", None),
        (["L biceps 1", "R biceps 2"], "", None),  # no ring
        ([f"x{k % 2}" for k in range(8)], "", None),  # places given twice
        ([], "", None),
    ],
)
def test_montages_are_told_by_device_and_labels(
    labels: list[str], device: str, expected: Montage | None
) -> None:
    assert infer_montage(labels, device) == expected


@given(st.permutations(range(32)), st.sampled_from(["{s}_{k:02d}", "EMG {s} {k}", "{s}{k}"]))
def test_sides_and_numbers_give_a_pair_of_wristbands_in_any_order(
    order: list[int], form: str
) -> None:
    words = ("left", "right") if form != "{s}{k}" else ("ch-L", "ch-R")
    labels = [form.format(s=words[k // 16], k=k % 16) for k in order]
    found = infer_montage(labels)
    assert found is not None
    assert not found.assumed
    pair = Montage.preset("emg2qwerty")
    assert found.electrodes == pair.select(order).electrodes
    assert found.select(found.order_for(pair)).electrodes == pair.electrodes


def test_the_other_arm_counts_the_other_way_round() -> None:
    pair = Montage.preset("emg2qwerty")
    left, right = pair.electrodes[:16], pair.electrodes[16:]
    mirrored = Montage("left", left).mirrored().electrodes
    assert [e.angle for e in mirrored] == [e.angle for e in right]
    assert Montage("left", left).mirrored().mirrored().electrodes == left


def test_remapping_leaves_out_what_is_spare_and_names_what_is_missing() -> None:
    codec = codec_for("emg-codec")
    rng = np.random.default_rng(0)
    x = rng.normal(0, 20, (40, 4000)).astype(np.float32)
    pair = Montage.preset("emg2qwerty")
    spare = tuple(Electrode(2, 45.0 * k) for k in range(8))
    order = rng.permutation(40)
    wide = Montage("wide", pair.electrodes + spare).select(order)
    recording = Recording(x[order], 2000, montage=wide)
    with pytest.raises(
        MontageError, match=r"\(40 electrodes\) does not fit .* missing none.*remap"
    ):
        codec.tokenize(recording)
    fitted = recording.remap("emg2qwerty")
    np.testing.assert_array_equal(fitted.emg, x[:32])
    np.testing.assert_array_equal(fitted.crop(0.5, 1).emg, x[:32, 1000:2000])
    expected = codec.tokenize(Recording(x[:32], 2000, montage=pair))
    np.testing.assert_array_equal(codec.tokenize(fitted).codes, expected.codes)
    assert recording.num_electrodes == 40
    with pytest.raises(MontageError, match=r"missing \(band 1, 0 deg, row 0\).* and 10 more"):
        Recording(x[:16], 2000, montage=Montage("one", pair.electrodes[:16])).remap(pair)


@pytest.fixture(scope="module")
def worn() -> Recording:
    return gesture_recording(Person.draw(3), "cuff8", 1000, hold=0.5, rest=0.2)


@pytest.mark.parametrize("steps", [0, 1, 3, -2, 4])
def test_a_turned_band_is_found_and_put_right(worn: Recording, steps: int) -> None:
    # What electrode k sees now, electrode k + steps saw before; gains turn with the band.
    rng = np.random.default_rng(0)
    gains, noise = np.exp(rng.normal(0, 0.7, (8, 1))), rng.normal(0, 2, worn.emg.shape)
    before = Recording(gains * worn.emg, 1000, montage=worn.montage)
    turned = gains * (np.roll(worn.emg, -steps, axis=0) + noise)
    again = Recording(turned, 1000, montage=worn.montage)
    found = find_rotation(again, before)
    assert found.degrees % 360 == 45 * steps % 360
    assert found.similarity > 0.9
    assert found.similarity > found.runner_up
    assert f"{found.degrees:g} degrees" in str(found)
    put_right = found.apply(again)
    order = put_right.montage.order_for(worn.montage)
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(again.emg[order], worn.emg, strict=True)]
    assert min(correlation) > 0.5
    assert again.montage == worn.montage  # nothing is changed unasked
    apart = worn.montage.rotated(10.0)  # no electrode of the ring is at 0 degrees
    other = find_rotation(again.with_montage(apart), before.with_montage(apart))
    assert other.degrees % 360 == pytest.approx(45 * steps % 360)


def test_only_rings_of_one_device_can_be_compared(worn: Recording) -> None:
    with pytest.raises(MontageError, match="not that of the reference"):
        find_rotation(worn, worn.with_montage("myo").remap(Montage.ring(4)))
    uneven = Montage("uneven", tuple(Electrode(0, a) for a in (0, 10, 50, 90, 120, 200, 270, 300)))
    with pytest.raises(MontageError, match="no even ring"):
        find_rotation(worn.with_montage(uneven), worn.with_montage(uneven))
    flat = Recording(worn.emg * np.array([1.0] * 7 + [0.0])[:, None], 1000, montage=worn.montage)
    with pytest.raises(RecordingError, match="none of them flat"):
        find_rotation(worn, flat)
    with pytest.raises(RecordingError, match="none of them flat"):
        find_rotation(worn.crop(0, 0.1), worn)


def test_a_real_band_turned_by_rolling_its_electrodes_is_found(data_dir: Path) -> None:
    """Two cycles of the same gestures by one person; the second rolled, each gain its own."""
    rng = np.random.default_rng(0)
    right = total = 0
    for number in range(1, 7):
        takes = list(read_all(data_dir / f"3dc_P{number:02d}.h5"))
        cycles = []
        for name in ("train_rep0", "train_rep1"):
            parts = [t.emg for t in takes if t.metadata["recording"].startswith(name)]
            cycles.append(Recording(np.hstack(parts), 1000, montage="3dc", unit="adc"))
        gains = np.exp(rng.normal(0, 0.7, (10, 1)))
        before = Recording(gains * cycles[0].emg, 1000, montage="3dc", unit="adc")
        for steps in (0, 2, -3):
            turned = Recording(
                gains * np.roll(cycles[1].emg, -steps, axis=0), 1000, montage="3dc", unit="adc"
            )
            found = find_rotation(turned, before)
            right += round(found.degrees - 36 * steps) % 360 == 0
            total += 1
    assert right == total

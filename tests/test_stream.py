"""Streams give what the whole recording gives, however they are fed, alone and side by side."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CONFIGS, assert_same, codec_for, emg, montage_of, with_codebooks
from hypothesis import given, settings
from hypothesis import strategies as st

from emgcodec import (
    Calibration,
    CalibrationError,
    Codec,
    CodecError,
    Montage,
    MontageError,
    Recording,
    RecordingError,
)
from emgcodec.config import NormalizationConfig
from emgcodec.nn.normalize import CausalNorm
from emgcodec.presets import preset
from emgcodec.signal import Framing, Preparation, resampling_lookahead, usable_electrodes

FULL = os.environ.get("EMGCODEC_FULL") == "1"
SIZES = st.lists(st.sampled_from([0, 1, 7, 16, 64, 90, 1000, 100_000]), min_size=1, max_size=8)
Frames = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@cache
def quantized(name: str) -> Codec:
    """The small twin of a config; one without codebooks is given some: streams are of codes."""
    codec = codec_for(name)
    if codec.quantizer is not None:
        return codec
    torch.manual_seed(0)
    changes = {"quantizer.kind": "rvq", "quantizer.levels": 2}
    return with_codebooks(Codec(codec.config.replace(**changes)).eval())


def worn(codec: Codec, samples: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(C, n) µV with all that goes wrong: a burst of NaN, leads off, late and saturated."""
    x = emg(codec, samples, seed=seed)[0].numpy().copy()
    x[:, samples // 3 : samples // 3 + 150] = np.nan
    x[0, samples // 2 :] = np.nan
    x[1, : samples // 4] = np.nan
    x[2, samples // 5 :: 97] = np.inf
    x[3, samples // 2 : samples // 2 + 400] = 3000.0
    return x


def fed(stream: Any, x: np.ndarray[Any, Any], sizes: list[int]) -> Frames:
    """All frames of a signal pushed in pieces of these sizes, over and over; one slot's."""
    parts, start, turn = [], 0, 0
    while start < x.shape[-1]:
        size = sizes[turn % len(sizes)] if any(sizes) else 100
        parts.append(stream.push(x[..., start : start + size]))
        start, turn = start + size, turn + 1
    return joined([*parts, stream.flush()])


def joined(parts: list[Frames]) -> Frames:
    """(K, T) and (T,) of one slot."""
    codes, valid = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
    return codes[0], valid[0]


def assert_tokens(
    codec: Codec,
    x: np.ndarray[Any, Any],
    found: Frames,
    *,
    rate: float | None = None,
    montage: Montage | None = None,
    calibration: Calibration | None = None,
) -> None:
    """What a stream gave is what `tokenize` gives, but for near-ties."""
    rate, montage = rate or codec.sample_rate, montage or montage_of(codec)
    known: Any = {"montage": montage, "calibration": calibration}
    tokens = codec.tokenize(x, sample_rate=rate, **known)
    codes, valid = found
    assert np.array_equal(valid, tokens.valid)
    if np.array_equal(codes, tokens.codes):
        return
    mains = calibration.mains if calibration else None
    framing = Framing(Preparation(rate, codec.sample_rate, len(x), mains), codec.hop_length)
    parts = [framing.push(x), framing.flush()]
    clean, good = (np.concatenate([p[i] for p in parts], axis=1) for i in (0, 1))
    usable = torch.from_numpy(usable_electrodes(good, codec.hop_length))[None]
    latents = codec.encode_latent(torch.from_numpy(clean)[None], mask=usable, **known)
    a, b = (torch.from_numpy(c.astype(np.int64))[None] for c in (tokens.codes, codes))
    assert_same(codec, a, b, latents)


# The guarantee


@pytest.mark.parametrize("name", CONFIGS)
@given(sizes=SIZES, frames=st.integers(1, 70), spare=st.integers(0, 63))
@settings(max_examples=40 if FULL else 4)
def test_any_pushes_give_the_tokens(name: str, sizes: list[int], frames: int, spare: int) -> None:
    codec = quantized(name)
    x = worn(codec, frames * codec.hop_length + min(spare, codec.hop_length - 1))
    stream = codec.encode_stream(montage=montage_of(codec))
    found = fed(stream, x, sizes)
    if found[1].any() or found[1].size == 1:
        assert_tokens(codec, x, found)
    else:
        with pytest.raises(RecordingError):
            codec.tokenize(x, sample_rate=codec.sample_rate, montage=montage_of(codec))


@pytest.mark.parametrize("rate", [200.0, 1000.0, 1259.26, 2048.0, 4000.0])
@pytest.mark.parametrize("name", ["student", "emg-codec"])
def test_any_rate_with_a_calibration_gives_the_tokens(name: str, rate: float) -> None:
    codec = quantized(name)
    montage = montage_of(codec)
    x = worn(codec, int(2.3 * rate), seed=3)
    x[4] += 200 * np.sin(2 * np.pi * 50 * np.arange(x.shape[1]) / rate)
    calibration = codec.calibrate([Recording(emg(codec, int(3 * rate))[0], rate, montage=montage)])
    calibration = Calibration(**vars(calibration) | {"mains": 50.0})
    order = np.random.default_rng(0).permutation(len(montage))
    stream = codec.encode_stream(
        sample_rate=rate, montage=montage.select(order), calibration=calibration
    )
    found = fed(stream, x[order], [1, 16, 3, 100, 700])
    assert_tokens(codec, x, found, rate=rate, calibration=calibration)


@pytest.mark.parametrize("name", CONFIGS)
@given(data=st.data())
@settings(max_examples=15 if FULL else 2)
def test_slots_are_as_alone_whenever_they_begin(name: str, data: st.DataObject) -> None:
    codec = quantized(name)
    slots, rate = 3, data.draw(st.sampled_from([float(codec.sample_rate), 1000.0]))
    stream = codec.encode_stream(slots, sample_rate=rate, montage=montage_of(codec))
    heard: list[list[Any]] = [[] for _ in range(slots)]
    shown: list[list[Frames]] = [[] for _ in range(slots)]

    def note(frames: Frames) -> None:
        for slot, (codes, valid) in enumerate(zip(*frames, strict=True)):
            there = codes[0] >= 0
            assert not there[there.sum() :].any()  # what a slot does not have is at the end
            shown[slot].append((codes[None, :, there], valid[None, there]))

    for turn in range(4):
        n = data.draw(st.sampled_from([1, 37, 640, 1500]))
        x = np.stack([emg(codec, n, seed=10 * turn + slot)[0].numpy() for slot in range(slots)])
        note(stream.push(x))
        for slot in range(slots):
            heard[slot].append(x[slot])
        mask = np.array(data.draw(st.lists(st.booleans(), min_size=slots, max_size=slots)))
        if turn < 3 and not mask.all():
            stream.reset(mask)
            for slot in np.flatnonzero(mask):
                heard[slot], shown[slot] = [], []
    note(stream.flush())
    for slot in range(slots):
        x = np.concatenate(heard[slot], axis=1) if heard[slot] else np.zeros((1, 0), np.float32)
        found = joined(shown[slot])
        if x.shape[1]:
            assert_tokens(codec, x, found, rate=rate)
        else:
            assert found[1].size == 0


def test_sessions_share_a_codec_in_many_threads() -> None:
    # Also while it trains: dropout is then switched off for the time of a step.
    codec = quantized("tiny")
    signals = [worn(codec, 60 * codec.hop_length, seed=seed) for seed in range(4)]
    alone = [fed(codec.encode_stream(), x, [50, 7]) for x in signals]
    found: list[Frames | None] = [None] * len(signals)

    def work(i: int) -> None:
        found[i] = fed(codec.encode_stream(), signals[i], [50, 7])

    codec.train()
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(signals))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(m.training for m in codec.modules())
    finally:
        codec.eval()
    for a, b in zip(alone, found, strict=True):
        assert b is not None
        assert np.array_equal(a[0], b[0])
        assert np.array_equal(a[1], b[1])


def test_interleaved_sessions_do_not_meet() -> None:
    codec = quantized("student")
    signals = [worn(codec, 5000, seed=seed) for seed in range(3)]
    streams = [codec.encode_stream(montage=montage_of(codec)) for _ in signals]
    parts: list[list[Frames]] = [[] for _ in signals]
    for start in range(0, 5000, 130):
        for stream, x, part in zip(streams, signals, parts, strict=True):
            part.append(stream.push(x[:, start : start + 130]))
    for stream, x, part in zip(streams, signals, parts, strict=True):
        assert_tokens(codec, x, joined([*part, stream.flush()]))


@pytest.mark.parametrize("rate", [200.0, 1259.26, 2000.0, 4000.0])
def test_a_frame_comes_at_once(rate: float) -> None:
    codec = quantized("student")
    stream = codec.encode_stream(sample_rate=rate, montage="myo")
    lookahead = resampling_lookahead(rate, codec.sample_rate)
    assert stream.latency == pytest.approx(1 / codec.frame_rate + lookahead)
    x = np.random.default_rng(0).standard_normal((8, int(rate))).astype(np.float32) * 30
    frames = 0
    for n in range(x.shape[1]):
        frames += stream.push(x[:, n : n + 1])[1].shape[1]
        known = (n + 1 - 2) / rate  # two samples: the codec's own grid lies between the source's
        assert frames >= int((known - lookahead) * codec.frame_rate)


def test_the_buffer_that_was_pushed_may_be_used_again() -> None:
    codec = quantized("student")
    x = worn(codec, 3000)
    stream = codec.encode_stream(montage=montage_of(codec))
    buffer, parts = np.empty((5, 40), np.float32), []
    for start in range(0, 3000, 40):
        buffer[:] = x[:, start : start + 40]
        parts.append(stream.push(buffer))
        buffer[:] = 9e5
    assert_tokens(codec, x, joined([*parts, stream.flush()]))


class Endless:
    """A signal of any length, made page by page wherever it is read: (C, N) µV."""

    page = 1 << 16

    def __init__(self, codec: Codec, samples: int) -> None:
        self.codec, self.shape = codec, (len(montage_of(codec)), samples)

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        pages = range(start // self.page, -(-stop // self.page))
        x = np.concatenate([worn(self.codec, self.page, seed=p) for p in pages], axis=1)
        first = pages[0] * self.page
        return x[:, start - first : stop - first]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_ten_thousand_frames(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        assert_agreement(name, quantized(name), 10_000)


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="a million frames take minutes: EMGCODEC_FULL=1")
@pytest.mark.parametrize("name", ["bundled student", "emg-codec"])
def test_a_million_frames(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    whole = name == "emg-codec"  # at its full size, not as a small twin
    codec = with_codebooks(Codec(preset(name)).eval()) if whole else codec_for(name)
    with capsys.disabled():
        assert_agreement(name, codec, 1_000_000)


def assert_agreement(name: str, codec: Codec, frames: int) -> None:
    """Prints which share of frames agrees, and shows that each exception is a near-tie."""
    source = Endless(codec, frames * codec.hop_length)
    recording = Recording(source, codec.sample_rate, montage=montage_of(codec))
    tokens = codec.tokenize(recording)
    stream, rng = codec.encode_stream(montage=montage_of(codec)), np.random.default_rng(0)
    parts = []
    for start in range(0, source.shape[1], source.page):
        x, done = source.read(start, min(start + source.page, source.shape[1])), 0
        while done < x.shape[1]:
            size = int(rng.choice([1, 7, 640, 5000, 30_000]))
            parts.append(stream.push(x[:, done : done + size]))
            done += size
    codes, valid = joined([*parts, stream.flush()])
    assert np.array_equal(valid, tokens.valid)
    differs = np.flatnonzero((codes != tokens.codes).any(axis=0))
    agreement = 1 - len(differs) / frames
    print(f"\n{name}: {agreement:.6%} of {frames} frames agree, {len(differs)} to be near-ties")
    assert agreement >= 0.9999
    latents = latents_at(codec, recording, differs)
    a, b = (torch.from_numpy(c[:, differs].astype(np.int64))[None] for c in (tokens.codes, codes))
    for i in range(len(differs)):
        assert_same(codec, a[..., i : i + 1], b[..., i : i + 1], latents[..., i : i + 1])


@torch.no_grad()
def latents_at(codec: Codec, recording: Recording, frames: Any) -> torch.Tensor:
    """(1, D, n) latents of a few frames of a recording."""
    framing = Framing(
        Preparation(recording.sample_rate, codec.sample_rate, recording.num_electrodes, None),
        codec.hop_length,
        codec.block_frames,
    )
    state, found, first = codec.init_state(1, recording.montage), [], 0
    for block in recording.blocks():
        x, good = framing.push(block)
        for start in range(0, x.shape[1], codec.block_frames * codec.hop_length):
            part = slice(start, start + codec.block_frames * codec.hop_length)
            usable = torch.from_numpy(usable_electrodes(good[:, part], codec.hop_length))[None]
            h, _, state = codec.latent_step(torch.from_numpy(x[:, part])[None], state, usable)
            inside = frames[(frames >= first) & (frames < first + h.shape[1])]
            found.append(h[0, inside - first])
            first += h.shape[1]
    return torch.cat(found).T[None]


# Gaps and clocks


def test_a_gap_is_so_many_missing_samples() -> None:
    codec = quantized("student")
    x = worn(codec, 4000)
    x[:, 1500:2700] = np.nan
    counted, told = (codec.encode_stream(montage=montage_of(codec)) for _ in range(2))
    a = [counted.push(x[:, :1500], start=70_000)]
    a.append(counted.push(x[:, 2700:], start=72_700))
    b = [told.push(x[:, :1500]), told.push_gap(1200), told.push(x[:, 2700:])]
    assert_tokens(codec, x, joined([*a, counted.flush()]))
    assert_tokens(codec, x, joined([*b, told.flush()]))
    assert not joined(b)[1][24:42].any()


def test_a_gap_before_the_first_number_does_not_begin_to_count() -> None:
    codec = quantized("student")
    x = worn(codec, 3000)
    stream = codec.encode_stream(montage=montage_of(codec))
    parts = [stream.push_gap(500), stream.push(x[:, :1000], start=10**9)]
    parts += [stream.push(x[:, 1200:], start=10**9 + 1200), stream.flush()]
    whole = np.concatenate([np.full((len(x), 500), np.nan, np.float32), x], axis=1)
    whole[:, 1500:1700] = np.nan
    assert_tokens(codec, whole, joined(parts))


def test_the_student_takes_a_hundred_thousand_samples_at_once() -> None:
    """More than a step takes, and than the buffer of a session."""
    codec = codec_for("bundled student")
    x = worn(codec, 100_000)
    found = fed(codec.encode_stream(montage=montage_of(codec)), x, [100_000])
    assert_tokens(codec, x, found)


def test_what_is_usual_stays_as_it_is_over_a_gap() -> None:
    """But for how much it weighs, which time takes away."""
    codec = quantized("student")
    x = torch.from_numpy(worn(codec, 64 * 80))[None]
    _, before = codec.encode_step(x, codec.init_state(1, montage_of(codec)))
    _, after = codec.encode_step(torch.full_like(x, torch.nan), before)
    size = (before["frontend.stats"].shape[-1] - 1) // 2
    means = [s["frontend.stats"][..., 1:] / s["frontend.stats"][..., :1] for s in (before, after)]
    heard = before["frontend.stats"][0, :, 0] > 1
    assert heard.any()
    torch.testing.assert_close(means[0][0, heard], means[1][0, heard], rtol=0.02, atol=0.02)
    assert (after["frontend.stats"][0, heard, 0] < before["frontend.stats"][0, heard, 0]).all()
    assert size > 1


@pytest.mark.parametrize("domain", ["log_power", "amplitude"])
def test_one_frame_after_the_other_the_norm_knows_what_it_knows_of_all(domain: str) -> None:
    """Streams of a batch that stand at different frames; some electrodes come and go."""
    norm = CausalNorm(NormalizationConfig(), 3 if domain == "log_power" else 1, 31.25, domain, None)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 40, 4, 3, generator=generator) * 5
    valid = torch.rand(3, 40, 4, generator=generator) < 0.8
    values = values * valid[..., None]
    state, frames = norm.init_state(3, 4, None, torch.device("cpu")), torch.zeros(3).long()
    # The second and third stream are 5 and 8 frames ahead.
    for ahead, stream in ((5, 1), (8, 2)):
        _, started = norm(
            values[stream : stream + 1, :ahead] + 1,
            valid[stream : stream + 1, :ahead],
            frames[:1],
            norm.init_state(1, 4, None, torch.device("cpu")),
        )
        for name, part in started.items():
            state[name][stream] = part[0]
        frames[stream] = ahead
    whole, last = norm(values, valid, frames, state)
    expected, following = whole.normalize(values, valid), state
    for i in range(40):
        one = slice(i, i + 1)
        known, following = norm(values[:, one], valid[:, one], frames + i, following)
        found = known.normalize(values[:, one], valid[:, one])
        torch.testing.assert_close(found, expected[:, one], rtol=1e-5, atol=1e-5)
    for name, part in last.items():
        torch.testing.assert_close(following[name], part, rtol=1e-9, atol=1e-9)


def test_a_long_gap_is_only_frames() -> None:
    codec = quantized("student")
    stream = codec.encode_stream(montage="myo", sample_rate=200)
    codes, valid = stream.push_gap(200 * 600)
    assert valid.shape[1] == codes.shape[2] >= 600 * codec.frame_rate - 2
    assert not valid.any()


@pytest.mark.parametrize("start", [-1, 0, 1999, 2001 + 2000 * 3600])
def test_time_goes_neither_back_nor_far_on(start: int) -> None:
    codec = quantized("student")
    x = worn(codec, 4000)
    stream = codec.encode_stream(montage=montage_of(codec))
    parts = [stream.push(x[:, :2000], start=0)]
    with pytest.raises(RecordingError, match=f"start={start}: the next sample is number 2000"):
        stream.push(x[:, 2000:], start=start)
    for gap in (-5, 2.5, 2000 * 3600 + 1):
        with pytest.raises(RecordingError, match=f"num_samples={gap}"):
            stream.push_gap(gap)
    with pytest.raises(RecordingError, match=r"start=2000\.5: give a whole number"):
        stream.push(x[:, 2000:], start=2000.5)
    parts.append(stream.push(x[:, 2000:], start=2000))
    assert_tokens(codec, x, joined([*parts, stream.flush()]))


# What cannot be


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 16)),
        np.zeros((6, 16)),
        np.zeros((2, 5, 16)),
        np.zeros(5),
        np.zeros(()),
        np.zeros((5, 16), complex),
        np.zeros((5, 16), bool),
        [["a"] * 16] * 5,
    ],
)
def test_samples_of_another_shape_or_type_leave_the_session_as_it_was(bad: Any) -> None:
    codec = quantized("student")
    x = worn(codec, 3000)
    stream = codec.encode_stream(montage=montage_of(codec))
    parts = [stream.push(x[:, :1010])]
    with pytest.raises(RecordingError, match=r"samples are .* here \(1, 5, n\)"):
        stream.push(bad)
    parts.append(stream.push(x[:, 1010:]))
    assert_tokens(codec, x, joined([*parts, stream.flush()]))


@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_a_wrong_unit_is_refused_until_the_session_begins_anew(factor: float) -> None:
    codec = quantized("student")
    x = emg(codec, 24_000)[0].numpy()
    wrong = codec.encode_stream(montage=montage_of(codec))
    with pytest.raises(RecordingError, match="give the right unit="):
        fed(wrong, x * factor, [700])
    with pytest.raises(RecordingError, match="give the right unit="):
        wrong.push(x[:, :700] * factor)
    wrong.reset()
    assert_tokens(codec, x, fed(wrong, x, [7000]))
    unitless = codec.encode_stream(montage=montage_of(codec), unit="adc")
    assert fed(unitless, x * factor, [7000])[1].shape == (375,)


def test_other_units_become_microvolts() -> None:
    codec = quantized("student")
    x = worn(codec, 3000).astype(np.float64)
    stream = codec.encode_stream(montage=montage_of(codec), unit="mV")
    assert_tokens(codec, x.astype(np.float32), fed(stream, x / 1e3, [333]))


def test_leads_may_be_off_for_long_before_the_first_signal() -> None:
    codec = quantized("student")
    stream = codec.encode_stream(montage=montage_of(codec))
    flat = np.full((5, 2000), 12.0, np.float32)
    for _ in range(15):
        assert not stream.push(flat)[1].any()
    assert stream.push(emg(codec, 4000)[0].numpy())[1].any()


def test_most_leads_may_be_off_and_slots_unused() -> None:
    codec = quantized("student")
    stream = codec.encode_stream(3, montage=montage_of(codec))
    x = np.zeros((3, 5, 30_000), np.float32)
    x[1, 0] = emg(codec, 30_000)[0, 0].numpy()
    valid = stream.push(x)[1]
    assert valid[1, 8:].all()
    assert not valid[[0, 2]].any()


def test_a_state_of_another_codec_is_refused() -> None:
    codec = quantized("student")
    torch.manual_seed(1)
    twin = Codec(codec.config).eval()  # the same parts, other weights
    x = emg(codec, 2 * codec.hop_length)
    own, foreign = (c.init_state(1, montage_of(codec)) for c in (codec, twin))
    other = quantized("emg-codec").init_state(1, montage_of(quantized("emg-codec")))
    for state in (foreign, other, {}):
        with pytest.raises(CodecError, match="state is not of codec 'student-"):
            codec.encode_step(x, state)
    codes, following = codec.encode_step(x, own)
    assert codes.shape == (1, 2, 2)
    with pytest.raises(CodecError, match="state is not of codec"):
        twin.encode_step(x, following)


def test_what_a_session_cannot_be() -> None:
    codec, fixed = quantized("student"), quantized("emg-codec")
    with pytest.raises(CodecError, match="has no quantizer"):
        codec_for("tiny").encode_stream()
    with pytest.raises(CodecError, match="has no quantizer"):
        codec_for("tiny").decode_stream()
    with pytest.raises(MontageError, match="say which electrodes"):
        codec.encode_stream()
    with pytest.raises(MontageError, match="does not fit"):
        fixed.encode_stream(montage="myo")
    with pytest.raises(RecordingError, match="sample_rate=50"):
        codec.encode_stream(montage="myo", sample_rate=50)
    with pytest.raises(RecordingError, match="unit='volt' is unknown"):
        codec.encode_stream(montage="myo", unit="volt")
    for size in (0, -1, True, 1.5):
        with pytest.raises(CodecError, match="batch_size="):
            codec.encode_stream(size, montage="myo")  # type: ignore[arg-type]
    known = codec.calibrate([Recording(emg(codec, 4000)[0], 2000)])
    with pytest.raises(CalibrationError, match="in uV, this one is in adc"):
        codec.encode_stream(unit="adc", montage=known.montage, calibration=known)
    with pytest.raises(CalibrationError, match="of 2000 Hz, the signal of 1000 Hz"):
        codec.encode_stream(montage=known.montage, sample_rate=1000, calibration=known)
    with pytest.raises(CalibrationError, match="2 given for a batch of 3"):
        codec.encode_stream(3, montage=known.montage, calibration=[known, None])
    stream = codec.encode_stream(3, montage="myo")
    for mask in ([True], [1, 0, 1]):
        with pytest.raises(ValueError, match="give 3 booleans"):
            stream.reset(mask)


def test_each_slot_may_have_a_calibration_of_its_own() -> None:
    codec = quantized("student")
    x = [emg(codec, 3000, seed=seed)[0].numpy() for seed in (1, 2)]
    known = codec.calibrate([Recording(x[0] * 3, 2000)])
    stream = codec.encode_stream(2, montage=known.montage, calibration=[known, None])
    parts = [stream.push(np.stack(x)), stream.flush()]
    for slot, calibration in enumerate([known, None]):
        each = [(codes[slot, None], valid[slot, None]) for codes, valid in parts]
        montage = known.montage
        assert_tokens(codec, x[slot], joined(each), montage=montage, calibration=calibration)


# Decoding


@pytest.mark.parametrize("name", CONFIGS)
@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6), seed=st.integers(0, 9))
@settings(max_examples=20 if FULL else 3)
def test_decoding_in_pieces_is_the_whole(name: str, sizes: list[int], seed: int) -> None:
    codec = quantized(name)
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, codec.codebook_size, (2, codec.num_codebooks, sum(sizes)))
    valid = rng.random((2, sum(sizes))) < 0.9
    has_signal = "signal" in codec.heads
    stream = codec.decode_stream(2, montage="myo" if has_signal else None)
    parts, start = [], 0
    for size in sizes:
        parts.append(stream.push(codes[..., start : start + size], valid[:, start : start + size]))
        start += size
    parts.append(stream.flush())
    shown = torch.from_numpy(np.where(valid[:, None], codes, -1))
    for head in codec.heads:
        pieces = np.concatenate([p[head] for p in parts], axis=2 if head == "signal" else 1)
        if head == "signal":
            whole = codec.decode(shown, montage="myo")
            pieces = pieces[..., stream.delay :]
        else:
            whole = codec.predict(shown, head)
        torch.testing.assert_close(torch.from_numpy(pieces), whole, rtol=1e-3, atol=1e-4)


def test_decoding_is_the_same_over_many_blocks() -> None:
    codec = codec_for("bundled student")
    frames = 2 * codec.block_frames + 100
    codes = np.random.default_rng(0).integers(0, codec.codebook_size, (1, 2, frames))
    stream, parts, done = codec.decode_stream(montage="myo"), [], 0
    for size in (codec.block_frames + 7, 1, frames):
        parts.append(stream.push(codes[..., done : done + size]))
        done += size
    parts.append(stream.flush())
    shown = torch.from_numpy(codes)
    wave = np.concatenate([p["signal"] for p in parts], axis=2)[..., stream.delay :]
    whole = codec.decode(shown, montage="myo")
    torch.testing.assert_close(torch.from_numpy(wave), whole, rtol=1e-3, atol=1e-3)
    for head in set(codec.heads) - {"signal"}:
        scores = np.concatenate([p[head] for p in parts], axis=1)
        expected = codec.predict(shown, head)
        torch.testing.assert_close(torch.from_numpy(scores), expected, rtol=1e-3, atol=1e-3)


def test_a_decoding_slot_begins_anew_alone() -> None:
    codec = quantized("student")
    rng = np.random.default_rng(0)
    codes = rng.integers(0, codec.codebook_size, (2, 2, 90))
    stream = codec.decode_stream(2, montage="myo")
    stream.push(codes[..., :50])
    stream.reset([False, True])
    parts = [stream.push(codes[..., 50:]), stream.flush()]
    expected = [codec.predict(torch.from_numpy(codes[:1]), "gesture")[:, 50:]]
    expected.append(codec.predict(torch.from_numpy(codes[1:, :, 50:]), "gesture"))
    found = torch.from_numpy(np.concatenate([p["gesture"] for p in parts], axis=1))
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-3, atol=1e-4)
    wave = codec.decode(torch.from_numpy(codes[1:, :, 50:]), montage="myo")
    pieces = np.concatenate([p["signal"] for p in parts], axis=2)[1:, :, stream.delay :]
    torch.testing.assert_close(torch.from_numpy(pieces), wave, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_decoded() -> None:
    stream = quantized("student").decode_stream(2)
    codes = np.zeros((2, 2, 4), np.int64)
    assert set(stream.push(codes)) == {"gesture"}  # no montage, no waveform
    for bad in (codes[:1], codes + 64, codes.astype(float), codes[0, 0]):
        with pytest.raises(CodecError, match="codes"):
            stream.push(bad)
    with pytest.raises(CodecError, match="valid is int64"):
        stream.push(codes, np.ones((2, 4), np.int64))
    with pytest.raises(CodecError, match="valid is bool of shape"):
        stream.push(codes, np.ones((2, 5), bool))
    codes[1, :, 3] = -1
    with pytest.raises(CodecError, match="fewer frames than others"):
        stream.push(codes)

"""Recordings and streams to codes, whatever runs the codec: preparation, checks, what tokens say.

NumPy only, as `stream` is: the codec in torch and an exported one share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emgcodec.calibration import Calibration, Calibrations
from emgcodec.config import CodecConfig
from emgcodec.io import read
from emgcodec.montage import Montage, MontageError, as_montage
from emgcodec.recording import Recording, RecordingError, check_sample_rate, one_ahead
from emgcodec.signal import Framing, LevelMeter, Preparation, num_resampled, usable_electrodes
from emgcodec.stream import (
    BoolArray,
    CodecError,
    EncodeStream,
    FloatArray,
    Stepper,
    UnitCheck,
    check_calibration,
    electrode_order,
)
from emgcodec.tokens import Tokens, storable

_LEVEL_WINDOW = 128  # samples; divides every block


Start = Callable[[int, Montage, Calibrations], Stepper]
"""Makes what runs a codec on so many slots, from their beginning."""


class Facts(Protocol):
    """What a codec says of itself, whatever runs it."""

    config: CodecConfig

    @property
    def vocab_id(self) -> str:
        """Which codebooks."""

    @property
    def codec_id(self) -> str:
        """Which codec, by name and hash."""


def tokenize(
    codec: Facts,
    start: Start,
    recording: Recording | str | Path | npt.ArrayLike,
    *,
    sample_rate: float | None,
    unit: str | None,
    montage: Montage | str | None,
    calibration: Calibration | None,
) -> Tokens:
    """See `Codec.tokenize`."""
    rec = _as_recording(recording, sample_rate, unit, montage)
    order, target = electrode_order(rec.montage, codec.config.montage)
    check_calibration(calibration, rec.sample_rate, rec.unit)
    stepper = start(1, target, calibration)
    mains = calibration.mains if calibration else None
    meter = LevelMeter(rec.num_electrodes, _LEVEL_WINDOW)
    preparation = Preparation(rec.sample_rate, stepper.sample_rate, rec.num_electrodes, mains)
    codes = [np.zeros((stepper.num_codebooks, 0), np.int64)]
    num_samples = num_resampled(rec.num_samples, rec.sample_rate, stepper.sample_rate)

    def prepared() -> Iterator[tuple[FloatArray, BoolArray]]:
        left = num_samples
        for x, good in blocks(rec, preparation, stepper.hop_length, stepper.block_frames):
            meter.push(x[:, :left], good[:, :left])  # without what fills up the last frame
            left -= x.shape[1]
            yield x[order], usable_electrodes(good[order], stepper.hop_length)

    short = num_samples <= stepper.hop_length * stepper.block_frames
    for x, usable in prepared() if short else one_ahead(prepared()):
        codes.append(stepper.encode([0], x[None], usable[None])[0])
    found_codes = np.concatenate(codes, axis=1)
    valid: BoolArray = np.asarray((found_codes >= 0).all(axis=0))
    if len(valid) > 1 and not valid.any():
        raise RecordingError(
            "no frame has a usable electrode: the signal is missing, flat, or too small or large "
            f"for unit={rec.unit!r} (µV, or ADC counts)"
        )
    metadata = storable(rec.metadata)
    if rec.montage.assumed:
        metadata["montage_assumed"] = True
    if missing := int(preparation.repair.missing.sum()):
        metadata["missing_samples"] = missing
    return Tokens(
        codes=np.maximum(found_codes, 0).astype(np.uint16),
        valid=valid,
        num_samples=rec.num_samples,
        sample_rate=rec.sample_rate,
        frame_rate=codec.config.frame_rate,
        codebook_size=codec.config.quantizer.size,
        start_time=rec.start_time,
        montage=rec.montage,
        unit=rec.unit,
        scale=meter.level(),
        calibration=calibration.digest() if calibration else None,
        vocab_id=codec.vocab_id,
        codec_id=codec.codec_id,
        metadata=metadata,
    )


def encode_stream(
    codec: Facts,
    start: Start,
    batch_size: int,
    sample_rate: float | None,
    unit: str,
    montage: Montage | str | None,
    calibration: Calibrations,
) -> EncodeStream:
    """See `Codec.encode_stream`."""
    check_batch_size(batch_size)
    rate = check_sample_rate(codec.config.sample_rate if sample_rate is None else sample_rate)
    source = named_montage(montage, codec.config)
    order, target = electrode_order(source, codec.config.montage)
    each: Sequence[Calibration | None]
    if calibration is None or isinstance(calibration, Calibration):
        each = [calibration] * batch_size
    else:
        each = calibration
    for item in each:
        check_calibration(item, rate, unit)
    stepper = start(batch_size, target, each)
    mains = [item.mains if item else None for item in each]
    return EncodeStream(stepper, rate, unit, source, order, mains)


def check_batch_size(batch_size: int) -> None:
    """Raises a `CodecError` if there cannot be so many slots."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise CodecError(f"batch_size={batch_size!r}: give a whole number from 1 on")


def named_montage(montage: Montage | str | None, config: CodecConfig) -> Montage:
    """The montage of a stream: no signal has come yet that would tell of its electrodes."""
    montage = config.montage if montage is None else montage
    if montage is None:
        raise MontageError("montage: say which electrodes, for example 'myo' or Montage.ring(8)")
    return as_montage(montage)


def _as_recording(
    recording: Recording | str | Path | npt.ArrayLike,
    sample_rate: float | None,
    unit: str | None,
    montage: Montage | str | None,
) -> Recording:
    if isinstance(recording, str | Path):
        return read(recording, sample_rate=sample_rate, unit=unit, montage=montage)
    if isinstance(recording, Recording):
        if sample_rate is not None and sample_rate != recording.sample_rate:
            raise RecordingError(
                f"sample_rate={sample_rate}: the recording says {recording.sample_rate:g} Hz; "
                "leave it out, or pass the array"
            )
        if unit is not None and unit != recording.unit:
            raise RecordingError(
                f"unit={unit!r}: the recording is in {recording.unit}; leave it out"
            )
        if montage is not None:
            recording = recording.with_montage(montage)
        return recording
    if sample_rate is None:
        raise RecordingError("sample_rate is missing: an array needs it, for example 2000")
    return Recording(recording, sample_rate, unit=unit or "uV", montage=montage)


def blocks(
    rec: Recording, preparation: Preparation, hop_length: int, frames: int
) -> Iterator[tuple[FloatArray, BoolArray]]:
    """Prepared signal (C, n), at most so many whole frames at a time, and what is genuine in it."""
    framing = Framing(preparation, hop_length, frames)
    size = frames * hop_length
    check = UnitCheck(rec.unit)
    for raw in rec.blocks():
        check.push(raw)
        for start in range(0, raw.shape[1], size):
            x, good = framing.push(raw[:, start : start + size])
            yield from _cut(x, good, size)
    check.finish()
    yield from _cut(*framing.flush(), size)


def _cut(x: FloatArray, good: BoolArray, size: int) -> Iterator[tuple[FloatArray, BoolArray]]:
    """At most so many samples at a time."""
    for start in range(0, x.shape[1], size):
        yield x[:, start : start + size], good[:, start : start + size]

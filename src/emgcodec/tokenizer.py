"""Recordings to tokens and back: what `Codec.tokenize` and its sisters do, in constant memory."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgcodec import encoding
from emgcodec.calibration import Calibration, CalibrationError
from emgcodec.config import LabelHeadConfig
from emgcodec.montage import Montage
from emgcodec.recording import Event, Recording
from emgcodec.signal import (
    LevelMeter,
    Preparation,
    Repair,
    Resampler,
    detect_mains,
    num_resampled,
    usable_electrodes,
)
from emgcodec.steps import CodecSteps
from emgcodec.stream import electrode_order
from emgcodec.tensors import TensorCodec
from emgcodec.text import greedy_ctc
from emgcodec.tokens import Tokens

_LEVEL_SECONDS = 0.064  # as long, at any rate
_SMOOTHING_SECONDS = 0.3
_SHORTEST_EVENT = 0.1  # seconds

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


def _tensors(codec: TensorCodec, x: FloatArray, good: BoolArray) -> tuple[Tensor, Tensor]:
    """A batch of one for the codec: the signal, and which electrodes are genuine in each frame."""
    usable = usable_electrodes(good, codec.hop_length)
    signal, genuine = torch.from_numpy(x)[None], torch.from_numpy(usable)[None]
    return signal.to(codec.device), genuine.to(codec.device)


def tokenize(
    codec: TensorCodec,
    recording: Recording | str | Path | npt.ArrayLike,
    *,
    sample_rate: float | None,
    unit: str | None,
    montage: Montage | str | None,
    calibration: Calibration | None,
) -> Tokens:
    """See `Codec.tokenize`."""
    start = functools.partial(CodecSteps, codec)
    return encoding.tokenize(
        codec,
        start,
        recording,
        sample_rate=sample_rate,
        unit=unit,
        montage=montage,
        calibration=calibration,
    )


def calibrate(
    codec: TensorCodec, recordings: Iterable[Recording | tuple[npt.ArrayLike, float]]
) -> Calibration:
    """See `Codec.calibrate`."""
    if isinstance(recordings, Recording | str | Path | np.ndarray):
        raise CalibrationError("recordings: give a list, for example [recording]")
    recs = [r if isinstance(r, Recording) else Recording(*r) for r in recordings]
    if not recs:
        raise CalibrationError("recordings: none given; some seconds of unlabelled signal do")
    first = recs[0]
    order, montage = electrode_order(first.montage, codec.config.montage)
    for rec in recs:
        same = (first.sample_rate, first.unit, first.montage.electrodes)
        if (rec.sample_rate, rec.unit, rec.montage.electrodes) != same:
            raise CalibrationError(
                f"recordings: {rec!r} has another rate, unit or montage than {first!r}; "
                "calibrate one wearing of one device at a time"
            )
    mains = detect_mains(_repaired(recs), first.sample_rate)
    total = np.zeros((len(order), 2 * codec.frontend.num_features + 1))
    for rec in recs:
        state = codec.init_state(1, montage)
        preparation = Preparation(rec.sample_rate, codec.sample_rate, rec.num_electrodes, mains)
        for x, good in encoding.blocks(rec, preparation, codec.hop_length, codec.block_frames):
            signal, mask = _tensors(codec, x[order], good[order])
            sums, state = codec.statistics_step(signal, state, mask)
            total += sums[0].cpu().numpy()
    frames, sums_, squares = np.split(total, [1, 1 + codec.frontend.num_features], axis=1)
    if not frames.any():
        raise CalibrationError("recordings: no electrode has a single valid frame")
    mean = sums_ / np.maximum(frames, 1)
    variance = np.maximum(squares / np.maximum(frames, 1) - mean**2, 0.0)
    return Calibration(
        mean=mean,
        std=np.sqrt(variance),
        frames=frames[:, 0],
        domain=codec.frontend.domain,
        features=codec.features,
        montage=montage,
        sample_rate=first.sample_rate,
        unit=first.unit,
        mains=mains,
    )


def _repaired(recs: list[Recording]) -> Iterator[FloatArray]:
    for rec in recs:
        repair = Repair(rec.num_electrodes)
        for block in rec.blocks():
            yield repair.push(block)[0]


def code_tensor(codec: TensorCodec, tokens: Tokens) -> Tensor:
    """(1, K, T) for the codec, -1 where the signal was missing."""
    codes = np.where(tokens.valid, tokens.codes.astype(np.int64), -1)
    return torch.from_numpy(codes)[None].to(codec.device)


def detokenize(codec: TensorCodec, tokens: Tokens) -> Recording:
    """See `Codec.detokenize`."""
    resampler = Resampler(codec.sample_rate, tokens.sample_rate, len(tokens.montage))
    length = num_resampled(tokens.num_samples, tokens.sample_rate, codec.sample_rate)
    emg = np.zeros((len(tokens.montage), tokens.num_samples), np.float32)
    done = left = 0
    for wave in codec.wave_blocks(code_tensor(codec, tokens), tokens.montage):
        block = wave[0, :, : max(0, length - left)].cpu().numpy()
        silent = np.repeat(~tokens.valid, codec.hop_length)[left : left + block.shape[1]]
        left += block.shape[1]
        part = resampler.push(np.where(silent, 0.0, block))
        part = part[:, : tokens.num_samples - done]
        emg[:, done : done + part.shape[1]] = part
        done += part.shape[1]
    part = resampler.flush()[:, : tokens.num_samples - done]
    emg[:, done : done + part.shape[1]] = part
    found = level_in(emg, tokens)
    emg *= np.divide(tokens.scale, found, out=np.zeros_like(found), where=found > 0)[:, None]
    return Recording(
        emg,
        tokens.sample_rate,
        montage=tokens.montage,
        unit=tokens.unit,
        start_time=tokens.start_time,
        metadata=dict(tokens.metadata) | {"reconstructed_from": tokens.codec_id},
    )


def level_in(emg: FloatArray, tokens: Tokens) -> FloatArray:
    """Level (C,) of what was decoded from tokens, in the sense of their `scale`."""
    meter = LevelMeter(len(emg), max(2, round(_LEVEL_SECONDS * tokens.sample_rate)))
    frame = np.arange(emg.shape[1]) * tokens.frame_rate / tokens.sample_rate
    there = tokens.valid[np.minimum(frame.astype(np.int64), max(tokens.num_frames - 1, 0))]
    meter.push(emg, np.broadcast_to(there, emg.shape))
    return meter.level()


def transcribe(codec: TensorCodec, tokens: Tokens, head: str) -> list[Event]:
    """See `Codec.transcribe`."""
    scores = codec.predict(code_tensor(codec, tokens), head)[0].cpu()
    part = codec.config.heads[head]
    assert isinstance(part, LabelHeadConfig)
    rate, end = tokens.frame_rate, tokens.num_samples / tokens.sample_rate
    if part.kind == "ctc":
        blank = len(part.labels)
        log_probs = torch.log_softmax(scores.double(), dim=-1).numpy()
        log_probs[~tokens.valid] = np.where(np.arange(blank + 1) == blank, 0.0, -np.inf)
        return [
            Event(
                min(e.start / rate, end),
                min(e.end / rate, end),
                part.labels[e.label],
                score=e.score,
                kind="key",
            )
            for e in greedy_ctc(log_probs, blank=blank)
        ]
    probs = _smoothed(torch.softmax(scores, dim=-1).numpy(), round(_SMOOTHING_SECONDS * rate))
    return list(_runs(probs, tokens.valid, part.labels, rate, end))


def _smoothed(probs: FloatArray, frames: int) -> FloatArray:
    """Mean of each frame and those shortly before it, (T, V)."""
    total = np.cumsum(np.concatenate([np.zeros((1, probs.shape[1])), probs]), axis=0)
    stop = np.arange(1, len(probs) + 1)
    start = np.maximum(stop - max(frames, 1), 0)
    mean: FloatArray = ((total[stop] - total[start]) / (stop - start)[:, None]).astype(np.float32)
    return mean


def _runs(
    probs: FloatArray, valid: BoolArray, labels: tuple[str, ...], rate: float, end: float
) -> Iterator[Event]:
    """Runs of one most likely label; too short ones and frames without signal are left out."""
    best = np.where(valid, probs.argmax(axis=1), -1)
    edges = np.flatnonzero(np.diff(best)) + 1
    bounds = [0, *edges.tolist(), len(best)]
    for first, last in itertools.pairwise(bounds):
        if last - first < max(1, math.ceil(_SHORTEST_EVENT * rate)) or best[first] < 0:
            continue
        score = float(probs[first:last, best[first]].mean())
        yield Event(first / rate, min(last / rate, end), labels[best[first]], score=score)

"""Golden codes: what a model made of a simulated recording when it was saved, to be made again.

Another machine rounds otherwise, and a vector half way between two codes may go to the other one:
such near-ties are told, and anything else means that codes of this model cannot be trusted here.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emgcodec.config import CodecConfig
from emgcodec.folder import GOLDEN_FILE, ModelError
from emgcodec.gestures import GESTURES
from emgcodec.nn.quantizer import Quantizer
from emgcodec.recording import Recording
from emgcodec.signal import Preparation
from emgcodec.simulate import Person, gesture_recording, sample
from emgcodec.tensors import TensorCodec, inference
from emgcodec.tokenizer import tokenize
from emgcodec.tokens import Tokens

LARGEST_SHARE = 1e-4
"""Of all codes that may differ, near-ties though they are; one frame always may."""


class Choice(NamedTuple):
    """Two codes for one vector: the first level at which they differ, and by how much.

    `gap` is how much nearer one is than the other, in squared distance; up to `resolved` it is
    rounding that decides.
    """

    level: int
    gap: float
    resolved: float

    @property
    def near_tie(self) -> bool:
        """Whether either is right."""
        return self.gap <= self.resolved


@torch.no_grad()
def compare(quantizer: Quantizer, latent: Tensor, left: Tensor, right: Tensor) -> Choice:
    """Judges unlike codes of a frame.

    Args:
        quantizer: Whose codes.
        latent: (D,) of the frame.
        left: (K,) codes.
        right: (K,) others.
    """
    level = int((left != right).nonzero()[0])
    rest = quantizer.project_in(latent)
    for k in range(level):
        rest = rest - quantizer.codebooks[k, left[k]]
    distance = (quantizer.codebooks[level] - rest).square().sum(dim=-1)
    # Scores are differences of numbers as large as the vector: float32 resolves no finer.
    resolved = 1e-4 * distance.min() + 1e-6 * rest.square().sum()
    gap = (distance[left[level]] - distance[right[level]]).abs()
    return Choice(level, float(gap), float(resolved))


def golden_recording(config: CodecConfig) -> Recording:
    """``sample("armband")``, or a like one on the codec's own electrodes."""
    if config.montage is None:
        return sample("armband")
    return gesture_recording(
        Person.draw(0), config.montage, 1000.0, gestures=GESTURES[1:5], hold=1.45, rest=0.5
    )


def golden_tokens(codec: TensorCodec) -> Tokens | None:
    """Tokens of the golden recording, made on the CPU; None without codebooks."""
    if codec.quantizer is None:
        return None
    return _tokens(codec if codec.device.type == "cpu" else copy.deepcopy(codec).cpu())


@inference
def _tokens(codec: TensorCodec) -> Tokens:
    return tokenize(
        codec,
        golden_recording(codec.config),
        sample_rate=None,
        unit=None,
        montage=None,
        calibration=None,
    )


def verify(codec: TensorCodec, directory: Path) -> dict[int, Choice]:
    """Makes a model's golden codes again and compares.

    Args:
        codec: Loaded from the folder.
        directory: The model's folder.

    Returns:
        Near-ties that went the other way, by frame.

    Raises:
        ModelError: if there are no golden codes, they are of another model, or they are not
            reproduced.
    """
    made = golden_tokens(codec)
    if made is None:
        raise ModelError(f"{codec.config.name!r} has no codebooks, so there are no golden codes")
    path = directory / GOLDEN_FILE
    again = "load the model and save it again with save_pretrained() to make them"
    if not path.is_file():
        raise ModelError(f"{directory} has no {GOLDEN_FILE}: {again}")
    golden = Tokens.load(path)
    if golden.codec_id != made.codec_id:
        raise ModelError(f"{path} is of {golden.codec_id}, not of this model: {again}")
    if golden.metadata != made.metadata:
        raise ModelError(f"{path} is of another simulator or recording, {golden.metadata}: {again}")
    return agree(codec, golden, made)


def agree(codec: TensorCodec, golden: Tokens, made: Tokens) -> dict[int, Choice]:
    """Compares tokens of the golden recording.

    Returns:
        Near-ties that went the other way, by frame.

    Raises:
        ModelError: if too many codes differ, or one by more than a near-tie.
    """
    differs = golden.codes != made.codes
    choices = _judge(codec, golden, made, np.flatnonzero(differs.any(axis=0)).tolist())
    far = sum(not choice.near_tie for choice in choices.values())
    far += int((golden.valid != made.valid).sum())
    if far or (differs.mean() > LARGEST_SHARE and len(choices) > 1):
        raise ModelError(
            f"golden codes are not reproduced: {len(choices)} of {golden.num_frames} frames "
            f"differ, {far} by more than a near-tie; tokens made here do not mix with those made "
            "elsewhere, so check the versions of torch and numpy"
        )
    return choices


@inference
def _judge(
    codec: TensorCodec, golden: Tokens, made: Tokens, frames: list[int]
) -> dict[int, Choice]:
    if not frames:
        return {}
    assert codec.quantizer is not None
    rec = golden_recording(codec.config)
    preparation = Preparation(rec.sample_rate, codec.sample_rate, rec.num_electrodes, None)
    parts = [preparation.push(rec.emg)[0], preparation.flush()[0]]
    x = torch.from_numpy(np.concatenate(parts, axis=1))[None].to(codec.device)
    latents = codec.encode_latent(x, montage=rec.montage)[0]
    left, right = (torch.from_numpy(t.codes.astype(np.int64)) for t in (golden, made))
    return {
        frame: compare(codec.quantizer, latents[:, frame], left[:, frame], right[:, frame])
        for frame in frames
    }

"""`Codec`: EMG recordings in, discrete tokens out, and back."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from emgcodec.calibration import Calibration, Calibrations
from emgcodec.card import model_card
from emgcodec.checks import check_device
from emgcodec.config import CodecConfig
from emgcodec.fitting import HeadFit, fit_head
from emgcodec.folder import (
    load_config,
    load_devices,
    load_tensors,
    require_finite,
    save_model,
    stored_dtype,
)
from emgcodec.golden import golden_tokens
from emgcodec.hub import upload
from emgcodec.montage import Montage
from emgcodec.presets import preset
from emgcodec.pretrained import find_model
from emgcodec.recording import Event, Recording
from emgcodec.steps import DecodeStream, encode_stream
from emgcodec.stream import CodecError, EncodeStream
from emgcodec.tensors import TensorCodec, inference
from emgcodec.tokenizer import calibrate, detokenize, tokenize, transcribe
from emgcodec.tokens import Tokens


class Codec(TensorCodec):
    """A neural codec for surface EMG.

    Signals are (B, C, N): batch, electrodes, samples; codes are (B, K, T): levels, frames. The
    tensor methods expect microvolts (or ADC counts) at `sample_rate`; `tokenize` takes anything.

    Args:
        config: What to build; `from_preset` and `from_pretrained` are the usual ways.

    Attributes:
        devices: Calibrations by montage name, on the people whom the codec learned from: better
            than none for somebody who wears the same device, in its own units.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__(config)
        self.devices: dict[str, Calibration] = {}

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> Codec:
        """An untrained codec.

        Args:
            name: See `list_presets`.
            overrides: Fields of the config to change; parts by dotted name, for example
                ``**{"quantizer.levels": 4}``.

        Raises:
            ConfigError: for an unknown preset or field.
        """
        return cls(preset(name).replace(**overrides)).eval()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Codec:
        """A trained codec, in eval mode.

        Args:
            name_or_path: A released model (``student``, ``student-open``, ``teacher``,
                ``teacher-open``; see `list_pretrained` for those that are here), a folder, or
                ``org/name`` on the Hugging Face Hub; a `Path` is always a folder. None is the
                bundled student, which needs no network.
            revision: Branch, tag or commit on the Hub.
            device: Where to put it.
            token: For private and gated repositories; by default the one that is logged in.
            local_files_only: Of the Hub, take only what is in the cache.

        Raises:
            ModelError: if it does not exist, cannot be fetched or is damaged in any way.
            CodecError: if there is no such device.

        Warns:
            UserWarning: if the name of a released model is also that of a folder with one.
        """
        check_device(device)
        directory = find_model(
            name_or_path, revision=revision, token=token, local_files_only=local_files_only
        )
        config = load_config(directory)
        tensors = load_tensors(directory, config)
        codec = cls(config)
        codec.load_state_dict(tensors)
        codec.devices = load_devices(directory, codec.features)
        return codec.to(device).eval()

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes config.json, model.safetensors, a model card, golden codes and `devices`.

        `from_pretrained` reads them. The weights are rounded in place to the type they are stored
        in: the file is the model. Golden codes are what it makes of a simulated recording. The card
        has no scores: those of a released model are of its file, in the folder it was loaded from.
        """
        self.round_weights()
        card = model_card(self.config, parameters=self.num_parameters())
        golden = golden_tokens(self)
        save_model(directory, self.config, self.state_dict(), card, golden, self.devices)

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, token: str | bool | None = None
    ) -> str:
        """Saves it into a Hub repository, in one commit.

        Args:
            repo_id: ``org/name``; made if need be.
            private: Whether a repository that is made is private.
            token: With the right to write; by default the one that is logged in.

        Returns:
            Address of the commit.

        Raises:
            ModelError: if the Hub cannot be reached or refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload(Path(folder), repo_id, private=private, token=token)

    @torch.no_grad()
    def round_weights(self) -> Codec:
        """Rounds the parameters to the type they are stored in: the file is the model.

        Raises:
            ModelError: if that type cannot hold them; they stay as they are.
        """
        tensors = self.state_dict()
        rounded = {name: t.to(stored_dtype(name, self.config)) for name, t in tensors.items()}
        require_finite(rounded, self.config)
        for name, tensor in tensors.items():
            tensor.copy_(rounded[name])
        return self

    @inference
    def calibrate(
        self, recordings: Iterable[Recording | tuple[npt.ArrayLike, float]]
    ) -> Calibration:
        """Statistics of one wearing of a device, from some unlabelled signal.

        Args:
            recordings: Several gestures and rest, of one rate, unit and montage; or pairs of a
                (C, N) array in µV, taken for a ring, and its rate.

        Raises:
            CalibrationError: if there is no signal, or they do not belong together.
        """
        return calibrate(self, recordings)

    @inference
    def tokenize(
        self,
        recording: Recording | str | Path | npt.ArrayLike,
        *,
        sample_rate: float | None = None,
        unit: str | None = None,
        montage: Montage | str | None = None,
        calibration: Calibration | None = None,
    ) -> Tokens:
        """A recording, file or array to tokens, in constant memory.

        Args:
            recording: A `Recording`, a path, or a (C, N) array.
            sample_rate: Hz, of an array.
            unit: ``uV`` (an array's default), ``mV``, ``V`` or ``adc``; instead of a file's own.
            montage: Of an array, or instead of the recording's own.
            calibration: From `calibrate`, for the same electrodes.

        Raises:
            RecordingError: if shape, type, rate or unit cannot be.
            MontageError: if the electrodes do not fit.
            CalibrationError: if the calibration does not fit.
        """
        self._require_quantizer()
        return tokenize(
            self,
            recording,
            sample_rate=sample_rate,
            unit=unit,
            montage=montage,
            calibration=calibration,
        )

    def encode_stream(
        self,
        batch_size: int = 1,
        *,
        sample_rate: float | None = None,
        unit: str = "uV",
        montage: Montage | str | None = None,
        calibration: Calibrations = None,
    ) -> EncodeStream:
        """A session that takes samples as they come and gives the codes of `tokenize`.

        Args:
            batch_size: Slots: streams of like devices that are fed together.
            sample_rate: Hz, of the device; the codec's own by default.
            unit: ``uV``, ``mV``, ``V`` or ``adc``.
            montage: Electrodes of each slot; the codec's own by default, if it has one.
            calibration: From `calibrate`, for all slots, or one or None each.

        Raises:
            CodecError: if there is no quantizer, or the batch size cannot be.
            RecordingError: if rate or unit cannot be.
            MontageError: if the electrodes are not known or do not fit.
            CalibrationError: if the calibration does not fit.
        """
        self._require_quantizer()
        return encode_stream(self, batch_size, sample_rate, unit, montage, calibration)

    def decode_stream(
        self, batch_size: int = 1, *, montage: Montage | str | None = None
    ) -> DecodeStream:
        """A session that takes codes as they come and gives what the heads say.

        Args:
            batch_size: Slots: streams that are fed together.
            montage: Electrodes for the signal head to reconstruct; without it, only label heads.

        Raises:
            CodecError: if there is no quantizer, or the batch size cannot be.
        """
        self._require_quantizer()
        return DecodeStream(self, batch_size, montage)

    @inference
    def detokenize(self, tokens: Tokens) -> Recording:
        """Tokens to a recording of the source's rate, electrodes, scale and length.

        Raises:
            CodecError: if the tokens belong to other codebooks, or there is no signal head.
        """
        self.check_vocabulary(tokens)
        self._signal_head()
        return detokenize(self, tokens)

    @inference
    def transcribe(self, tokens: Tokens, head: str) -> list[Event]:
        """What a head reads in the tokens.

        Args:
            tokens: From `tokenize`.
            head: ``gesture``, ``gesture-<data set>`` for the device and gestures of that one,
                ``text`` or your own; see `heads`.

        Returns:
            Events with start, end, label and score.

        Raises:
            CodecError: if the tokens belong to other codebooks, or there is no such head.
        """
        self.check_vocabulary(tokens)
        return transcribe(self, tokens, head)

    @inference
    def fit_head(
        self,
        recordings: Iterable[Recording],
        head: str,
        *,
        calibration: Calibration | Sequence[Calibration | None] | None = None,
        reaction: float = 0.0,
    ) -> HeadFit:
        """Fits a head for your own classes on the frozen encoder, from the tokens alone.

        A ridge-penalised logistic regression on what the decoder makes of the tokens; encoder,
        codebooks and decoder stay as they are, so tokens and their vocabulary do too. The head
        then works in `predict` and `transcribe`, and is saved with the codec.

        Args:
            recordings: With ``gesture`` events, whose labels become the classes. Give each take
                as a recording of its own: whole ones are left out to estimate the accuracy.
            head: Its name; a label head of this name is replaced.
            calibration: From `calibrate`, for all recordings or one (or None) each. Tokens to
                read later should be made with a calibration too if these are.
            reaction: Seconds after an event's start that do not count, where events are cues.

        Returns:
            Classes, frames of each, and balanced accuracy in recordings that were left out in
            turn; nan if a class is in one recording alone.

        Raises:
            CodecError: if there are fewer than two classes, or one without a frame; for the signal
                head, a negative reaction, or calibrations of another number.
            CalibrationError: if one is not of its recording's device.
        """
        return fit_head(self, recordings, head, calibration=calibration, reaction=reaction)

    def check_vocabulary(self, tokens: Tokens) -> None:
        """Raises a `CodecError` if the tokens belong to other codebooks.

        Warns if they were made by another codec on the same codebooks.
        """
        if tokens.vocab_id != self.vocab_id:
            raise CodecError(
                f"tokens are of vocabulary {tokens.vocab_id!r} (codec {tokens.codec_id!r}), this "
                f"codec's is {self.vocab_id!r}: load the codec that made them"
            )
        if tokens.codec_id != self.codec_id:
            warnings.warn(
                f"tokens were made by {tokens.codec_id}, on the same codebooks as {self.codec_id}",
                stacklevel=3,
            )

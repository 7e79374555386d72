"""`Tokens`: the codes of one recording, with all that is needed to give them a meaning again.

Stored as one safetensors file: the tensors `codes`, `valid` and `scale`, and all other fields as
JSON text under the metadata key ``emgcodec_tokens``. That text begins with the SHA-256 of the whole
file, computed with the checksum's own 64 digits as zeros, so that no byte can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.files import written_beside
from emgcodec.layouts import MAX_CODEBOOK_SIZE, BoolArray, CodeArray, IdArray, Layout
from emgcodec.montage import Montage
from emgcodec.recording import FloatArray, RecordingError, check_sample_rate, exact_rate

SCALE_BITS = 32

_FORMAT_VERSION = 1
_KEY = "emgcodec_tokens"
_MARK = f'"{_KEY}":"{{\\"sha256\\":\\"'.encode()  # what stands before the checksum
_NO_CHECKSUM = "0" * 64
_TENSORS: dict[str, npt.DTypeLike] = {"codes": np.uint16, "valid": np.bool_, "scale": np.float32}

Metadata = dict[str, str | int | float | bool]


class TokensError(ValueError):
    """Tokens that cannot be, do not fit what is asked of them, or cannot be read."""


def count_frames(num_samples: int, sample_rate: float, frame_rate: float) -> int:
    """Frames of so many samples: ceil(num_samples * frame_rate / sample_rate), exactly."""
    return math.ceil(num_samples * exact_rate(frame_rate) / exact_rate(sample_rate))


@dataclass(frozen=True)
class Compression:
    """Bit rates of one recording and its tokens, all in bits per second; 0 where it is empty.

    The side information counted is the scale, 32 bits per electrode once per recording;
    calibration, gaps and file headers are not counted.

    Attributes:
        codes: The codes alone.
        side: The side information.
        adc: The source at the bits of its ADC (``metadata["bits"]``), or None if nobody said.
        int16: The source at 16 bits per sample.
        float32: The source at 32 bits per sample.
    """

    codes: float
    side: float
    adc: float | None
    int16: float
    float32: float

    @property
    def total(self) -> float:
        """Codes and side information."""
        return self.codes + self.side

    def ratio(self, source: str = "int16", *, side: bool = True) -> float:
        """How many times fewer bits the tokens take than the source.

        Args:
            source: ``adc``, ``int16`` or ``float32``.
            side: Divide by codes and side information, else by the codes alone.

        Returns:
            The ratio, or nan where either rate is 0 or not known.
        """
        bits = {"adc": self.adc, "int16": self.int16, "float32": self.float32}
        if source not in bits:
            raise TokensError(f"source={source!r} is unknown: choose from {list(bits)}")
        tokens = self.total if side else self.codes
        return (bits[source] or math.nan) / (tokens or math.nan)

    def __str__(self) -> str:
        lines = [
            f"codes    {self.codes:12.1f} bit/s",
            f"side     {self.side:12.1f} bit/s  (scale: 32 bits per electrode, once per recording)",
            f"total    {self.total:12.1f} bit/s",
        ]
        for name in ("adc", "int16", "float32"):
            rate, ratios = getattr(self, name), [self.ratio(name), self.ratio(name, side=False)]
            whole, alone = ("n/a" if math.isnan(r) else f"{r:.1f}x" for r in ratios)
            stated = "         n/a" if rate is None else f"{rate:12.1f}"
            lines.append(f"{name:9}{stated} bit/s  = {whole} the total, {alone} the codes alone")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Tokens:
    """The codes of one recording; immutable, equal by content.

    Attributes:
        codes: (K, T) uint16, below `codebook_size`.
        valid: (T,) bool, False for frames without valid signal.
        num_samples: N of the source; T is ceil(N * frame_rate / sample_rate) in exact arithmetic.
        sample_rate: Hz, of the source.
        frame_rate: Frames per second.
        codebook_size: V, codes of each level, 2 to 65 536.
        start_time: Time of the first sample, in unix seconds, or 0.
        montage: The C electrodes of the source, in the order of its rows.
        unit: ``uV`` or ``adc``, the unit of `scale`.
        scale: (C,) float32, root mean square of each electrode in `unit`, over valid samples,
            each window of the frontend without its mean.
        calibration: Digest of the `Calibration` that was used, or None.
        vocab_id: Which codebooks the codes belong to.
        codec_id: Which codec made them.
        metadata: Free facts: text, finite numbers and booleans.

    Raises:
        TokensError: if any of them cannot be or they do not fit together.
    """

    codes: CodeArray
    valid: BoolArray
    num_samples: int
    sample_rate: float
    frame_rate: float
    codebook_size: int
    start_time: float = 0.0
    montage: Montage
    unit: str
    scale: FloatArray
    calibration: str | None = None
    vocab_id: str = ""
    codec_id: str = ""
    metadata: Metadata = field(default_factory=dict)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "num_samples", _whole("num_samples", self.num_samples, 0, 2**63 - 1))
        size = _whole("codebook_size", self.codebook_size, 2, MAX_CODEBOOK_SIZE)
        put(self, "codebook_size", size)
        try:
            put(self, "sample_rate", check_sample_rate(self.sample_rate))
        except RecordingError as error:
            raise TokensError(str(error)) from error
        put(self, "frame_rate", _finite("frame_rate", self.frame_rate))
        if exact_rate(self.frame_rate) <= 0:
            raise TokensError(f"frame_rate={self.frame_rate} Hz: give a positive rate")
        put(self, "start_time", _finite("start_time", self.start_time))
        if not isinstance(self.montage, Montage):
            raise TokensError(f"montage={self.montage!r}: give a Montage")
        if self.unit not in ("uV", "adc"):
            raise TokensError(f"unit={self.unit!r}: give 'uV' or 'adc'")
        for name in ("vocab_id", "codec_id", "calibration"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (name == "calibration" and value is None):
                raise TokensError(f"{name}={value!r}: give a string")
        put(self, "metadata", _check_metadata(self.metadata))
        self._freeze_arrays()
        try:  # now, rather than when hours of work are to be saved
            json.dumps(self._fields(), ensure_ascii=False).encode()
        except ValueError as error:
            raise TokensError(f"a text or number cannot be stored: {error}") from error

    def _freeze_arrays(self) -> None:
        try:
            codes, valid, scale = (np.asarray(getattr(self, name)) for name in _TENSORS)
        except ValueError as error:
            raise TokensError(f"codes, valid or scale is not an array: {error}") from error
        if codes.ndim != 2 or not codes.shape[0] or codes.dtype.kind not in "iu":
            raise TokensError(
                f"codes are {codes.dtype} of shape {codes.shape}: give integers (levels, frames)"
            )
        if codes.size and not 0 <= codes.min() <= codes.max() < self.codebook_size:
            raise TokensError(
                f"codes from {codes.min()} to {codes.max()} are not in 0 to "
                f"{self.codebook_size - 1}; cut padding (-1) off and mark gaps with valid=False"
            )
        frames = count_frames(self.num_samples, self.sample_rate, self.frame_rate)
        if codes.shape[1] != frames:
            raise TokensError(
                f"codes have {codes.shape[1]} frames but num_samples={self.num_samples} at "
                f"{self.sample_rate:g} Hz make {frames} frames of {self.frame_rate:g} per second"
            )
        if valid.shape != (frames,) or valid.dtype != bool:
            raise TokensError(
                f"valid is {valid.dtype} of shape {valid.shape}: give {frames} booleans"
            )
        if scale.shape != (len(self.montage),) or scale.dtype.kind not in "iuf":
            raise TokensError(
                f"scale is {scale.dtype} of shape {scale.shape}: give one level for each of the "
                f"{len(self.montage)} electrodes of the montage"
            )
        # Beyond float32 it is inf, which the comparison refuses as it does NaN.
        with np.errstate(over="ignore"):
            scale = scale.astype(np.float32)
        if not ((scale >= 0) & (scale < np.inf)).all():
            raise TokensError(f"scale={scale.tolist()}: give finite levels of at least 0")
        for (name, dtype), array in zip(_TENSORS.items(), (codes, valid, scale), strict=True):
            copy = np.array(array, dtype, order="C")
            copy.flags.writeable = False
            object.__setattr__(self, name, copy)

    @property
    def num_codebooks(self) -> int:
        """K, levels of the codec."""
        return int(self.codes.shape[0])

    @property
    def num_frames(self) -> int:
        """T."""
        return int(self.codes.shape[1])

    @property
    def bits_per_frame(self) -> int:
        """K * ceil(log2(V))."""
        return self.num_codebooks * (self.codebook_size - 1).bit_length()

    @property
    def duration(self) -> float:
        """Length of the source in seconds."""
        return self.num_samples / self.sample_rate

    def token_times(self) -> npt.NDArray[np.float64]:
        """When each frame was complete, (T,) in seconds: `start_time` + (t + 1) / `frame_rate`.

        The last frame may be filled up: its time is then less than one frame behind the last
        sample, as it is in a stream that cannot know its end.
        """
        return self.start_time + np.arange(1, self.num_frames + 1) / self.frame_rate

    def to_ids(
        self, layout: str | Layout = "flat", *, offset: int = 0, specials: bool = False
    ) -> IdArray:
        """Token ids for a language model; see `Layout`.

        Args:
            layout: A kind of layout, or a `Layout` made for this codec.
            offset: First id, with a kind; a `Layout` brings its own.
            specials: Put bos before and eos behind a one-dimensional layout.

        Raises:
            TokensError: if the layout is for other codes.
            LayoutError: if there is no such layout.
        """
        return self._layout(layout, offset).to_ids(self.codes, self.valid, specials=specials)

    def to_text(self, layout: str | Layout = "flat") -> str:
        """Token ids as text; `layout` and errors are those of `to_ids`."""
        return self._layout(layout).to_text(self.codes, self.valid)

    def _layout(self, layout: str | Layout, offset: int = 0) -> Layout:
        ours = (self.num_codebooks, self.codebook_size)
        if not isinstance(layout, Layout):
            return Layout(layout, *ours, offset, self.vocab_id)
        if offset:
            raise TokensError(f"offset={offset}: the layout brings its own, {layout.offset}")
        theirs = (layout.num_codebooks, layout.codebook_size)
        if theirs != ours:
            raise TokensError(
                f"layout is for {theirs[0]} x {theirs[1]} codes but the tokens are of {ours[0]} x "
                f"{ours[1]}"
            )
        if layout.vocab_id and self.vocab_id and layout.vocab_id != self.vocab_id:
            raise TokensError(
                f"layout is for the codebooks {layout.vocab_id!r} but the tokens are of "
                f"{self.vocab_id!r}: tokenize with the codec that the layout was made for"
            )
        return layout

    def compression(self) -> Compression:
        """Bit rates of the tokens and of their source; ``print`` it for a table.

        Raises:
            TokensError: if ``metadata["bits"]`` is there but is no number of bits.
        """
        per_second = 1.0 / self.duration if self.num_samples else 0.0
        electrodes = len(self.montage)
        samples = electrodes * self.num_samples * per_second
        bits = self.metadata.get("bits")
        if bits is not None:
            bits = _whole("metadata['bits']", bits, 1, 64)
        return Compression(
            codes=self.bits_per_frame * self.num_frames * per_second,
            side=SCALE_BITS * electrodes * per_second,
            adc=None if bits is None else samples * bits,
            int16=samples * 16,
            float32=samples * 32,
        )

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file, beside `path` first and then renamed."""
        data = self._to_bytes()
        with written_beside(path) as beside:
            beside.write_bytes(data)

    @classmethod
    def load(cls, path: str | Path) -> Tokens:
        """Reads what `save` wrote.

        Raises:
            TokensError: if the file is foreign, damaged, changed or newer than this version.
            FileNotFoundError: if there is none.
        """
        from safetensors import SafetensorError

        with Path(path).open("rb") as file:
            head = file.read(1024)
            if _MARK not in head:  # known before a big foreign file is read
                raise TokensError(f"{path} is not a tokens file, or is cut off at its beginning")
            data = head + file.read()
        try:
            return cls._from_bytes(data)
        except (
            SafetensorError,
            KeyError,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:
            raise TokensError(f"{path} cannot be read: {error}") from error

    def _fields(self) -> dict[str, Any]:
        """All but the arrays, as plain JSON types."""
        names = [field.name for field in fields(self) if field.name not in _TENSORS]
        values = {name: getattr(self, name) for name in names}
        return values | {
            "montage": self.montage.to_dict(),
            "metadata": dict(sorted(self.metadata.items())),
        }

    def _to_bytes(self) -> bytes:
        from safetensors.numpy import save

        header = {"sha256": _NO_CHECKSUM, "format_version": _FORMAT_VERSION} | self._fields()
        text = json.dumps(header, separators=(",", ":"))
        return _seal(save({name: getattr(self, name) for name in _TENSORS}, {_KEY: text}))

    @classmethod
    def _from_bytes(cls, data: bytes) -> Tokens:
        from safetensors.numpy import load

        if _seal(data) != data:
            raise TokensError("it is cut off, damaged or changed: its checksum does not fit")
        end = 8 + int.from_bytes(data[:8], "little")
        values = json.loads(json.loads(data[8:end])["__metadata__"][_KEY])
        del values["sha256"]
        version = values.pop("format_version")
        if version != _FORMAT_VERSION:
            raise TokensError(
                f"its format_version is {version!r}, this emgcodec reads {_FORMAT_VERSION}: upgrade"
            )
        tensors = load(data)
        dtypes = {name: array.dtype for name, array in tensors.items()}
        if dtypes != _TENSORS:
            raise TokensError(f"it holds {dtypes}, not {list(_TENSORS)} in their types")
        if odd := (values | tensors).keys() ^ {field.name for field in fields(cls)}:
            raise TokensError(f"its fields {sorted(odd)} are unknown or missing")
        tokens = cls(**values | tensors | {"montage": Montage.from_dict(values["montage"])})
        if tokens._fields() != values:
            raise TokensError("its fields are not written as this version writes them")
        return tokens

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokens) and self._to_bytes() == other._to_bytes()

    def __repr__(self) -> str:
        gaps = int((~self.valid).sum())
        return (
            f"Tokens({self.num_codebooks} x {self.num_frames} codes of {self.codebook_size}, "
            f"{self.duration:.2f} s at {self.frame_rate:g} frames/s, "
            f"{len(self.montage)} electrodes ({self.montage.name})"
            f"{f', {gaps} gap frames' if gaps else ''})"
        )


def _seal(data: bytes) -> bytes:
    """The file with its own checksum in place."""
    start = data.index(_MARK) + len(_MARK)
    before, after = data[:start], data[start + len(_NO_CHECKSUM) :]
    checksum = hashlib.sha256(before + _NO_CHECKSUM.encode() + after).hexdigest()
    return before + checksum.encode() + after


def _whole(name: str, value: Any, low: int, high: int) -> int:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        raise TokensError(f"{name}={value!r}: give a whole number from {low} to {high}")
    return int(value)


def _finite(name: str, value: Any) -> float:
    number = isinstance(value, int | float | np.integer | np.floating)
    if not number or isinstance(value, bool) or not math.isfinite(value):
        raise TokensError(f"{name}={value!r}: give a finite number")
    return float(value)


def storable(metadata: Mapping[str, Any]) -> Metadata:
    """What tokens can hold of a recording's metadata: text, finite numbers and booleans."""
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in metadata.items()}
    return {
        key: value
        for key, value in plain.items()
        if isinstance(key, str)
        and (isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)))
    }


def _check_metadata(metadata: Mapping[str, Any]) -> Metadata:
    if not isinstance(metadata, Mapping):
        raise TokensError(f"metadata={metadata!r}: give a dict")
    plain = storable(metadata)
    for key, value in metadata.items():
        if key not in plain:
            raise TokensError(
                f"metadata[{key!r}]={value!r}: give text, a finite number or a boolean, or leave "
                "it out"
            )
    return plain

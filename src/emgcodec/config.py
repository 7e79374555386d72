"""What a codec is made of: frozen dataclasses with a strict, versioned JSON form."""

from __future__ import annotations

import difflib
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import pairwise
from typing import Any, Literal, TypeVar

from emgcodec.montage import Montage, MontageError

FORMAT_VERSION = 1

_T = TypeVar("_T")


class ConfigError(ValueError):
    """A configuration that cannot be built, or a stored one that cannot be read."""


def require(condition: bool, message: str) -> None:
    """Raises a `ConfigError` unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def within(part: object, low: float, high: float, *names: str) -> None:
    """Raises a `ConfigError` unless these fields, or all their entries, lie in a range.

    Ranges are wider than any use: they keep a hostile config from asking for any memory it likes.
    """
    for name in names:
        value = getattr(part, name)
        entries = value if isinstance(value, tuple) else (value,)
        require(
            1 <= len(entries) <= 64 and all(low <= entry <= high for entry in entries),
            f"{name}={value}: give {low} to {high}{', up to 64 of them' * (value is entries)}",
        )


@dataclass(frozen=True)
class NormalizationConfig:
    """Causal normalisation from past frames only.

    Attributes:
        time_constant: Seconds of the exponential memory.
        prior_seconds: An electrode with less memory than this borrows from its neighbours.
        prior_std: Standard deviation assumed before any frame was seen (log10 power).
    """

    time_constant: float = 30.0
    prior_seconds: float = 10.0
    prior_std: float = 0.5

    def __post_init__(self) -> None:
        within(self, 0, 1e6, "time_constant", "prior_std")
        require(
            0 < self.prior_seconds <= self.time_constant,
            f"prior_seconds={self.prior_seconds}: give more than 0 and at most "
            f"time_constant={self.time_constant}",
        )
        require(self.prior_std > 0, f"prior_std={self.prior_std}: give a positive number")


@dataclass(frozen=True)
class LogSpectrogramConfig:
    """Log spectrogram and a rotation-invariant MLP for each band of a fixed montage.

    Attributes:
        window: Samples of one spectrum.
        mlp_dim: Features of each band.
        rolls: Electrode shifts that are averaged over.
    """

    kind: Literal["log_spectrogram"] = "log_spectrogram"
    window: int = 64
    mlp_dim: int = 128
    rolls: tuple[int, ...] = (-1, 0, 1)

    def __post_init__(self) -> None:
        within(self, 1, 4096, "window", "mlp_dim")
        within(self, -128, 128, "rolls")


@dataclass(frozen=True)
class ConvConfig:
    """Strided convolutions on the raw signal of a fixed montage.

    Attributes:
        dims: Channels of each layer.
        kernels: Samples each layer sees.
        strides: Their product is the hop length.
    """

    kind: Literal["conv"] = "conv"
    dims: tuple[int, ...] = (128, 64, 64)
    kernels: tuple[int, ...] = (11, 3, 3)
    strides: tuple[int, ...] = (5, 2, 2)

    def __post_init__(self) -> None:
        within(self, 1, 65536, "dims", "kernels", "strides")
        require(
            len(self.dims) == len(self.kernels) == len(self.strides) > 0,
            f"dims={self.dims}, kernels={self.kernels}, strides={self.strides}: one each a layer",
        )


@dataclass(frozen=True)
class ElectrodeSetConfig:
    """Any electrodes at any positions: a shared MLP and attention over the set.

    Attributes:
        window: Samples of one spectrum.
        band_edges: First FFT bin of each frequency band, and one past the last.
        width: Features of each electrode.
        queries: Learned queries of the set attention.
        dynamic_range: Decades of power kept below an electrode's strongest band; what lies
            deeper (the images of a low source rate, say) is flattened.
    """

    kind: Literal["electrode_set"] = "electrode_set"
    window: int = 128
    band_edges: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 17, 21, 26, 32, 40, 50, 65)
    width: int = 128
    queries: int = 8
    dynamic_range: float = 4.0

    def __post_init__(self) -> None:
        within(self, 1, 4096, "window", "width", "queries")
        within(self, 0, 100, "dynamic_range")
        edges = self.band_edges
        rising = all(low < high for low, high in pairwise(edges))
        require(
            len(edges) > 1 and rising and edges[0] >= 1 and edges[-1] <= self.window // 2 + 1,
            f"band_edges={edges}: give rising FFT bins from 1 to {self.window // 2 + 1}",
        )

    @property
    def num_bands(self) -> int:
        """Frequency bands of one electrode."""
        return len(self.band_edges) - 1


@dataclass(frozen=True)
class TDSConfig:
    """Time-depth separable blocks (Hannun et al., 2019), padded on the left only.

    Attributes:
        channels: Channels of the time convolution; must divide the frontend's features.
        blocks: Number of blocks.
        kernel: Frames that a block sees.
        dropout: In training.
    """

    kind: Literal["tds"] = "tds"
    channels: int = 16
    blocks: int = 4
    kernel: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within(self, 1, 4096, "channels", "kernel")
        within(self, 0, 256, "blocks")
        within(self, 0, 1, "dropout")


@dataclass(frozen=True)
class TransformerConfig:
    """Causal pre-norm transformer with rotary positions and a bounded window.

    Attributes:
        dim: Width.
        blocks: Number of blocks.
        heads: Attention heads.
        window: Past frames a block sees beside its own.
        conv_position: Kernel of the causal grouped convolution that adds positions, as in
            wav2vec 2.0; 0 leaves it out.
        conv_groups: Groups of that convolution.
        dropout: In training.
    """

    kind: Literal["transformer"] = "transformer"
    dim: int = 128
    blocks: int = 6
    heads: int = 4
    window: int = 128
    conv_position: int = 0
    conv_groups: int = 16
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within(self, 1, 65536, "dim", "heads", "conv_groups")
        within(self, 1, 4096, "window")
        within(self, 0, 4096, "conv_position")
        within(self, 0, 256, "blocks")
        within(self, 0, 1, "dropout")
        require(
            self.dim % self.heads == 0 and (self.dim // self.heads) % 2 == 0,
            f"dim={self.dim}, heads={self.heads}: dim / heads must be an even whole number",
        )


@dataclass(frozen=True)
class QuantizerConfig:
    """Codebooks and how they are learned.

    Attributes:
        kind: ``rvq``, ``vq`` (one level) or ``none``.
        levels: Codebooks, each on the residual of those before.
        size: Codes in each.
        dim: Their width behind linear projections; 0 is the encoder's own, without projections.
        after_block: The blocks before it encode, those behind it decode.
        decay: Of the moving averages that train the codebooks.
        dead_below: A code used less than this share of uniform use is replaced.
        commitment: Weight of the commitment loss.
        level_dropout: Chance that a training item keeps only its first few levels.
    """

    kind: Literal["rvq", "vq", "none"] = "rvq"
    levels: int = 2
    size: int = 1024
    dim: int = 64
    after_block: int = 3
    decay: float = 0.99
    dead_below: float = 0.1
    commitment: float = 0.25
    level_dropout: float = 0.0

    def __post_init__(self) -> None:
        require(
            self.kind != "rvq" or 1 <= self.levels <= 16,
            f"quantizer.levels={self.levels}: give 1 to 16",
        )
        require(
            2 <= self.size <= 65536,
            f"quantizer.size={self.size}: codes are uint16, give 2 to 65536",
        )
        within(self, 0, 65536, "dim")
        within(self, 0, 1, "decay", "level_dropout")
        if self.kind != "rvq":
            object.__setattr__(self, "levels", int(self.kind == "vq"))


@dataclass(frozen=True)
class SignalHeadConfig:
    """Spectrum of each electrode, given its position, and a waveform from it.

    Attributes:
        rank: Features in which frame and position meet.
    """

    kind: Literal["signal"] = "signal"
    rank: int = 96

    def __post_init__(self) -> None:
        within(self, 1, 65536, "rank")


@dataclass(frozen=True)
class LabelHeadConfig:
    """Class scores for every frame.

    Attributes:
        kind: ``frame`` (one class a frame) or ``ctc`` (text; one more class is the blank).
        labels: Names of the classes, without the blank.
    """

    kind: Literal["frame", "ctc"] = "frame"
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(len(set(self.labels)) == len(self.labels) > 0, "labels: give names, each once")


FrontendConfig = LogSpectrogramConfig | ConvConfig | ElectrodeSetConfig
EncoderConfig = TDSConfig | TransformerConfig
HeadConfig = SignalHeadConfig | LabelHeadConfig


@dataclass(frozen=True)
class CodecConfig:
    """All that is needed to build a `Codec`.

    Attributes:
        name: Preset or model name.
        frontend: From samples to one vector a frame.
        encoder: The blocks; some before the quantizer, some behind it.
        sample_rate: Hz, of the signal inside the codec.
        hop_length: Samples of one frame.
        montage: Electrodes it is made for, or None for any.
        normalization: Of the frontend's features.
        quantizer: The codebooks.
        heads: Head by name.
        weights_license: Licence line of the weights; empty for untrained ones.
        storage: Type of the stored parameters; codebooks always stay float32.
        provenance: Free facts about training, plain JSON.
        format_version: Of this table; another one is refused.
    """

    name: str
    frontend: FrontendConfig
    encoder: EncoderConfig
    sample_rate: int = 2000
    hop_length: int = 16
    montage: Montage | None = None
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    heads: Mapping[str, HeadConfig] = field(default_factory=dict)
    weights_license: str = ""
    storage: Literal["float32", "float16"] = "float32"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        within(self, 100, 100_000, "sample_rate")
        within(self, 1, 4096, "hop_length")
        require(len(self.heads) <= 64, f"heads: {len(self.heads)} given, at most 64 work")
        require(
            0 <= self.quantizer.after_block <= self.encoder.blocks,
            f"quantizer.after_block={self.quantizer.after_block}: "
            f"the encoder has {self.encoder.blocks} blocks",
        )
        require(
            isinstance(self.frontend, ElectrodeSetConfig)
            or not any(isinstance(head, SignalHeadConfig) for head in self.heads.values()),
            f"heads: a signal head needs the frontend electrode_set, not {self.frontend.kind}",
        )
        if isinstance(self.frontend, ElectrodeSetConfig):
            require(
                self.montage is None and isinstance(self.encoder, TransformerConfig),
                "frontend electrode_set takes any montage (montage=None) and a transformer",
            )
        else:
            require(
                self.montage is not None, f"frontend {self.frontend.kind} needs a fixed montage"
            )
        for name, head in self.heads.items():
            require(
                isinstance(head, SignalHeadConfig) == (name == "signal"),
                f"heads: the head {name!r} is of kind {head.kind!r}; the one of kind 'signal' is "
                "called so, and no other",
            )
        hop = self.hop_length
        if isinstance(self.frontend, ConvConfig):
            product = 1
            for stride in self.frontend.strides:
                product *= stride
            require(
                product == hop, f"hop_length={hop} is not the product of the strides, {product}"
            )
        else:
            window = self.frontend.window
            require(
                window % hop == 0 and window > hop,
                f"frontend.window={window} is no multiple of hop_length={hop}",
            )

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives an equal config back."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CodecConfig:
        """Reads what `to_dict` wrote; nothing is dropped or guessed.

        Raises:
            ConfigError: for unknown or missing fields, wrong types, or a newer format.
        """
        version = data.get("format_version") if isinstance(data, Mapping) else None
        if version != FORMAT_VERSION:
            raise ConfigError(
                f"config format_version={version!r}: this emgcodec reads {FORMAT_VERSION}; "
                "upgrade emgcodec if the model is newer"
            )
        return from_plain(cls, data, "config")

    def replace(self, **changes: Any) -> CodecConfig:
        """A copy with some fields changed; parts by dotted name: ``{"quantizer.levels": 4}``.

        Raises:
            ConfigError: for a field that does not exist, or values that do not fit.
        """
        data = self.to_dict()
        for name, value in changes.items():
            set_field(data, name, to_plain(value))
        return CodecConfig.from_dict(data)


def set_field(data: dict[str, Any], name: str, value: Any, free: Sequence[str] = ()) -> None:
    """Changes one field of nested tables in place.

    Args:
        data: From `to_plain`.
        name: Dotted, such as ``quantizer.levels``.
        value: Plain JSON types.
        free: Tables that take any key; all that follows their name is one key.

    Raises:
        ConfigError: for a field that does not exist, naming the nearest one.
    """
    opened = next((table for table in free if name.startswith(f"{table}.")), None)
    *parents, last = name.split(".")
    if opened is not None:
        parents, last = opened.split("."), name[len(opened) + 1 :]
    part = data
    for parent in parents:
        part = part[parent] if isinstance(part.get(parent), dict) else {}
    if last not in part and opened is None:
        near = difflib.get_close_matches(name, list(_names(data)), 1, 0.5)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"config has no field {name!r}{hint}")
    part[last] = value


def _names(data: Mapping[str, Any]) -> Iterator[str]:
    """Dotted names of all fields of nested tables."""
    for key, value in data.items():
        yield key
        if isinstance(value, Mapping):
            yield from (f"{key}.{name}" for name in _names(value))


def to_plain(value: Any) -> Any:
    """A config, or a part of one, as plain JSON types."""
    if isinstance(value, Montage):
        return value.to_dict()
    if is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(cls: type[_T], data: Any, where: str) -> _T:
    """A dataclass from what `to_plain` gave; `where` names it in errors.

    Raises:
        ConfigError: for unknown or missing fields, or values of another type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} is {data!r}: a table of fields is needed")
    hints = typing.get_type_hints(cls)
    names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - names):
        raise ConfigError(f"{where} has unknown fields {unknown}: they belong to another version")
    if missing := sorted(names - set(data)):
        raise ConfigError(f"{where} lacks the fields {missing}")
    values = {name: _convert(hints[name], data[name], f"{where}.{name}") for name in names}
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Montage or (Montage in args):
        if value is None and type(None) in args:
            return None
        try:
            return Montage.from_dict(value)
        except (MontageError, TypeError, AttributeError) as error:
            raise ConfigError(f"{where}: {error}") from error
    if origin in (types.UnionType, typing.Union):
        kind = value.get("kind") if isinstance(value, Mapping) else None
        for option in args:
            if kind in typing.get_args(typing.get_type_hints(option)["kind"]):
                return from_plain(option, value, where)
        raise ConfigError(f"{where}.kind={kind!r} is unknown")
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{where}={value!r}: choose from {list(args)}")
        return value
    if is_dataclass(hint):
        return from_plain(typing.cast(type[Any], hint), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}={value!r}: a list is needed")
        return tuple(_convert(args[0], item, where) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}={value!r}: a table is needed")
        return {str(k): v if args[1] is Any else _convert(args[1], v, f"{where}.{k}")
                for k, v in value.items()}  # fmt: skip
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        require(abs(value) <= sys.float_info.max, f"{where}={value!r}: a finite number is needed")
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where}={value!r}: {hint.__name__} is needed")
    return value

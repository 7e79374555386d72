"""`Recipe`: all that a training depends on but the data's folder, as a strict TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_type_hints

from emgcodec.config import CodecConfig, ConfigError, from_plain, require, set_field, to_plain
from emgcodec.nn.quantizer import CodebookRules

_FREE = ("model.overrides", "data.weights")  # tables that take any key
_CODEC = {f.name for f in fields(CodecConfig)}


def _require_share(name: str, value: float) -> None:
    require(0 <= value <= 1, f"{name}={value}: give a share from 0 to 1")


@dataclass(frozen=True)
class ModelRecipe:
    """Which codec to train.

    Attributes:
        preset: Where to start, untrained.
        init: A bundled model or a folder to start from instead, with its weights.
        overrides: Fields of the codec's config to change, by dotted name.
        name: Of the result; empty keeps that of the preset.
        license: Licence line of the weights.
        own_heads: Whether each data set of real people has a gesture head of its own beside the
            one that all share: one name may look like another elsewhere.
    """

    preset: str = "student"
    init: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    license: str = ""
    own_heads: bool = False


@dataclass(frozen=True)
class DataRecipe:
    """Which people to learn from, and in which windows.

    Attributes:
        weights: Share of each data set in the training time; those not named are not read.
            ``simulated`` is the simulated people.
        people: ``train``: those whom the folder's splits.json (or the fold) gives to training;
            ``all``: everybody, whom no score may then be told of.
        fold: Evidence fold, 0 to 4, whose training people are taken; -1 for none.
        simulated: Simulated people.
        seconds: Longest window. Recordings of half of that or less come in batches of their own,
            of windows half as long and twice as many.
        batch_size: Windows of one step of one process.
        calibrated: Share of windows that start from the wearing's calibration.
        usual: Share of windows that start from what is usual for their device (`Codec.devices`);
            all others start cold.
        split: Of typing sessions: the name of a split file, or of a person, in the folder.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: {"simulated": 1.0})
    people: Literal["train", "all"] = "train"
    fold: int = -1
    simulated: int = 40
    seconds: float = 6.0
    batch_size: int = 16
    calibrated: float = 0.6
    usual: float = 0.0
    split: str = ""

    def __post_init__(self) -> None:
        known = [weight for weight in self.weights.values() if weight > 0]
        require(
            bool(known) and min(self.weights.values()) >= 0,
            f"data.weights={dict(self.weights)}: give numbers of at least 0, not all 0",
        )
        require(-1 <= self.fold <= 4, f"data.fold={self.fold}: give 0 to 4, or -1 for none")
        require(
            self.fold < 0 or self.people == "train",
            f"data.fold={self.fold}: a fold leaves people out, data.people='all' does not",
        )
        require(self.seconds > 0, f"data.seconds={self.seconds}: give a positive number")
        require(self.batch_size > 0, f"data.batch_size={self.batch_size}: give at least 1")
        require(
            self.simulated > 0 or not self.weights.get("simulated"),
            f"data.simulated={self.simulated}: the weights ask for simulated people, give some",
        )
        _require_share("data.calibrated", self.calibrated)
        require(
            0 <= self.usual <= 1 - self.calibrated,
            f"data.usual={self.usual}: give at least 0, and at most what data.calibrated="
            f"{self.calibrated} leaves",
        )


@dataclass(frozen=True)
class TypingRecipe:
    """Windows of typing: a core whose keys are to be read, and what the codec hears around it.

    Attributes:
        seconds: Core.
        left: Seconds before the core, which warm the codec up; none of their frames is scored.
        right: Seconds behind the core, in which its last keys may still come out.
        longer: Share of steps with longer cores and fewer of them, or long sessions do not work.
        longest: Seconds, at most, of a longer core.
        calibration: Seconds at a session's start that its calibration is made of.
    """

    seconds: float = 4.0
    left: float = 0.9
    right: float = 0.1
    longer: float = 0.2
    longest: float = 16.0
    calibration: float = 60.0

    def __post_init__(self) -> None:
        _require_share("typing.longer", self.longer)
        require(
            0 < self.seconds <= self.longest,
            f"typing.seconds={self.seconds}: give more than 0, at most typing.longest="
            f"{self.longest}",
        )
        require(
            self.left >= 0 and self.right >= 0,
            f"typing.left={self.left}, typing.right={self.right}: give at least 0",
        )
        require(self.calibration > 0, f"typing.calibration={self.calibration}: give seconds")


@dataclass(frozen=True)
class AugmentRecipe:
    """What is done to each window anew; 0 switches a thing off.

    Attributes:
        rotation: Degrees (standard deviation) that each band is turned around the limb.
        full_circle: Share of windows whose bands are turned by any angle instead.
        roll: Electrodes, at most, that the signals of each band move on around their ring.
        shift: Slip of each band, in electrode spacings (standard deviation): its electrodes read
            what lies between them and their neighbours on the ring, and do not know it.
        dropout: Chance that an electrode is missing, in the windows that lose any.
        dropout_share: Share of windows that lose electrodes.
        gain: Decibel (standard deviation) that each electrode is louder or softer.
        noise: Share of windows with white noise on top.
        noise_snr: Decibel that the noise lies below each electrode's own level, from and to.
        mains: Share of windows with hum of 50 or 60 Hz and its harmonics on top.
        mains_snr: Decibel that the hum lies below each electrode's own level, from and to.
        time_masks: Stretches of time in which the frontend's features are their mean.
        time_mask_seconds: Longest of them.
        band_masks: Ranges of frequency in which the frontend's features are their mean.
        band_mask_width: Widest of them, in features.
        band_jitter: Seconds, at most, that the bands of a window lie apart in time.
        label_jitter: Seconds (standard deviation) that labels come early or late.
    """

    rotation: float = 12.0
    full_circle: float = 0.0
    roll: int = 0
    shift: float = 0.0
    dropout: float = 0.1
    dropout_share: float = 0.5
    gain: float = 1.0
    noise: float = 0.0
    noise_snr: tuple[float, float] = (5.0, 25.0)
    mains: float = 0.0
    mains_snr: tuple[float, float] = (0.0, 25.0)
    time_masks: int = 0
    time_mask_seconds: float = 0.5
    band_masks: int = 0
    band_mask_width: int = 4
    band_jitter: float = 0.0
    label_jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("full_circle", "dropout", "dropout_share", "noise", "mains"):
            _require_share(f"augment.{name}", getattr(self, name))
        for name in ("noise_snr", "mains_snr"):
            value = getattr(self, name)
            require(
                len(value) == 2 and value[0] <= value[1],
                f"augment.{name}={value}: give the lowest and the highest decibel",
            )
        for name in (
            "rotation", "roll", "shift", "gain", "time_masks", "time_mask_seconds", "band_masks",
            "band_mask_width", "band_jitter", "label_jitter",
        ):  # fmt: skip
            value = getattr(self, name)
            require(value >= 0, f"augment.{name}={value}: give at least 0")


@dataclass(frozen=True)
class OptimRecipe:
    """AdamW, its schedule, and how long.

    Attributes:
        lr: Highest learning rate.
        betas: Memories of gradient and squared gradient.
        weight_decay: Of all parameters.
        clip: Largest norm of the gradient.
        accumulate: Batches of one step.
        warm_up: Steps in which the rate rises.
        floor: Share of the rate that the cosine leaves at the end.
        steps: How long; exact. 0 for no limit in steps.
        minutes: How long, in training time summed over resumes. 0 for no limit in time.
        ema: Memory of the averaged weights, which are the ones that are saved: they look back over
            1 / (1 - ema) steps, but never over more than a ninth of all. 0 saves the last weights.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    clip: float = 1.0
    accumulate: int = 1
    warm_up: int = 100
    floor: float = 0.0
    steps: int = 0
    minutes: float = 0.0
    ema: float = 0.999

    def __post_init__(self) -> None:
        require(self.lr > 0, f"optim.lr={self.lr}: give a positive number")
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"optim.betas={self.betas}: give two numbers from 0 to below 1",
        )
        require(self.clip > 0, f"optim.clip={self.clip}: give a positive number")
        require(self.accumulate > 0, f"optim.accumulate={self.accumulate}: give at least 1")
        require(0 <= self.ema < 1, f"optim.ema={self.ema}: give 0 to below 1")
        _require_share("optim.floor", self.floor)
        require(
            self.steps >= 0 and self.minutes >= 0,
            f"optim.steps={self.steps}, optim.minutes={self.minutes}: give at least 0",
        )


@dataclass(frozen=True)
class DecoderRecipe:
    """A second part of the training, for gestures: codes are final, only their readers learn.

    All before the quantizer and the codebooks is then as in the model that is saved, averaged and
    rounded; decoder and heads go on from where they are.

    Attributes:
        steps: How long, after those of ``optim``; 0 for no such part.
        lr: Highest learning rate, on a rise and a cosine of its own.
        seconds: Longest window, as in ``data``: from longer ones readers learn to look back.
        batch_size: Windows of one step of one process.
    """

    steps: int = 0
    lr: float = 5e-4
    seconds: float = 6.0
    batch_size: int = 16

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"decoder.steps={self.steps}: give at least 0")
        for name in ("lr", "seconds", "batch_size"):
            value = getattr(self, name)
            require(value > 0, f"decoder.{name}={value}: give a positive number")


@dataclass(frozen=True)
class LossRecipe:
    """What is minimised.

    Attributes:
        gesture: Weight of the cross-entropy of gestures.
        own_gesture: Weight of that of each data set's own head.
        text: Weight of the CTC loss of keys, per key.
        reconstruction: Weight of the squared error of the log spectrum.
        level: Weight of the squared error of an electrode's log level, the mean over its bands.
        commitment: Weight beside the quantizer's own.
        scores: Weight of the divergence from a teacher's scores, frame by frame.
        features: Weight of the squared distance, behind a linear map, from what its heads read.
        codes: Weight of the cross-entropy of its codes, summed over levels.
        latents: Weight of the squared distance from what it rounds, in shares of its variance.
        label_smoothing: Of the cross-entropy.
        quantizer_start: Share of the training before codebooks start; until then latents pass.
    """

    gesture: float = 1.0
    own_gesture: float = 1.0
    text: float = 1.0
    reconstruction: float = 0.5
    level: float = 0.5
    commitment: float = 1.0
    scores: float = 1.0
    features: float = 0.0
    codes: float = 0.0
    latents: float = 0.0
    label_smoothing: float = 0.05
    quantizer_start: float = 0.25

    def __post_init__(self) -> None:
        for name in ("label_smoothing", "quantizer_start"):
            _require_share(f"loss.{name}", getattr(self, name))


@dataclass(frozen=True)
class DistillRecipe:
    """Who teaches; weights are those of ``loss``.

    Attributes:
        teacher: A model by name or folder, of the same frames and features; empty for none.
        temperature: That scores of both are divided by before they are compared.
        codebooks: Whether the student takes the teacher's codebooks, which no longer move. It uses
            them from ``loss.quantizer_start`` on, as it would those of its own.
    """

    teacher: str = ""
    temperature: float = 2.0
    codebooks: bool = False

    def __post_init__(self) -> None:
        require(
            self.temperature > 0,
            f"distill.temperature={self.temperature}: give a positive number",
        )


@dataclass(frozen=True)
class RunRecipe:
    """Where and how it runs.

    Attributes:
        accelerator: ``auto`` takes a GPU where there is one.
        processes: On this machine; each has a batch of its own.
        precision: ``bf16`` leaves normalisation, quantizer and losses in float32 and above.
        seed: Of weights, windows and all other chance.
        checkpoint_seconds: Between checkpoints.
        checkpoint_steps: Between checkpoints as well; 0 counts seconds only.
        log_steps: Between lines of the log.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    processes: int = 1
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = 0
    checkpoint_seconds: float = 120.0
    checkpoint_steps: int = 0
    log_steps: int = 25

    def __post_init__(self) -> None:
        for name in ("processes", "log_steps"):
            require(getattr(self, name) > 0, f"run.{name}={getattr(self, name)}: give at least 1")
        require(self.seed >= 0, f"run.seed={self.seed}: give a whole number of at least 0")


@dataclass(frozen=True)
class Recipe:
    """A training. Two with equal recipes and data give the same model (see `OptimRecipe.minutes`).

    Attributes:
        model: Which codec.
        data: Which people, which windows.
        typing: Windows of those who type.
        augment: What is done to them.
        optim: How it learns, and how long.
        decoder: What follows for those who read the codes.
        codebooks: How they start, and how dead codes come back.
        loss: What it learns.
        distill: Whom it learns from.
        run: Where it runs.
    """

    model: ModelRecipe
    data: DataRecipe
    typing: TypingRecipe
    augment: AugmentRecipe
    optim: OptimRecipe
    decoder: DecoderRecipe
    codebooks: CodebookRules
    loss: LossRecipe
    distill: DistillRecipe
    run: RunRecipe

    def __post_init__(self) -> None:
        require(
            self.optim.steps > 0 or self.optim.minutes > 0,
            "optim.steps and optim.minutes are both 0: say how long to train, in one of them",
        )
        require(
            self.decoder.steps == 0 or self.optim.minutes == 0,
            f"decoder.steps={self.decoder.steps} follow optim.steps: set optim.minutes=0",
        )

    @classmethod
    def load(cls, name: str | Path, changes: Iterable[str] = ()) -> Recipe:
        """Reads a recipe; what it leaves out has its default.

        Args:
            name: Path of a TOML file, or the name of a bundled recipe. Its first line may be
                ``extends = "tiny"``: what it leaves out is then as in that recipe.
            changes: ``key=value`` each: a dotted name and a TOML value; a text needs no quotes.
                Fields of the codec's config go by their own names, ``quantizer.levels=4``.

        Raises:
            ConfigError: if there is none, it is no TOML, or has fields or values that cannot be.
        """
        data = cls.defaults()
        for table in _tables(name):
            for key, value in _fields(table):
                set_field(data, key, value, _FREE)
        for change in changes:
            key, equals, value = change.partition("=")
            require(bool(equals), f"--set {change}: give key=value, for example optim.lr=5e-4")
            key = key.strip()
            if key.partition(".")[0] in _CODEC:
                key = f"model.overrides.{key}"
            set_field(data, key, _value(value.strip()), _FREE)
        return cls.from_dict(data)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """What `load` leaves where nothing is said, in plain JSON types."""
        return {name: to_plain(part()) for name, part in get_type_hints(cls).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Reads what `to_dict` wrote.

        Raises:
            ConfigError: for unknown or missing fields, or values that cannot be.
        """
        return from_plain(cls, data, "recipe")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives an equal recipe back."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("emgcodec.train") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())


def _tables(name: str | Path, *above: str) -> Iterator[dict[str, Any]]:
    """What a recipe says, after what those say that it extends."""
    require(str(name) not in above, f"recipe {name} extends itself: {above}")
    try:
        table = tomllib.loads(_text(name))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"recipe {name} is no TOML: {error}") from error
    if base := table.pop("extends", None):
        yield from _tables(base, *above, str(name))
    yield table


def _text(name: str | Path) -> str:
    if Path(name).is_file():
        return Path(name).read_text("utf-8")
    bundled = str(name).removesuffix(".toml")
    if bundled in list_recipes():
        return (resources.files("emgcodec.train") / "recipes" / f"{bundled}.toml").read_text(
            "utf-8"
        )
    raise ConfigError(f"recipe {str(name)!r} is neither a file nor bundled: {list_recipes()}")


def _fields(table: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested tables; a free table replaces its default."""
    for key, value in table.items():
        name = where + key
        if not isinstance(value, Mapping):
            yield name, value
            continue
        if name in _FREE:
            yield name, {}
        yield from _fields(value, f"{name}.")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a word without its quotes; a field of another type will refuse it

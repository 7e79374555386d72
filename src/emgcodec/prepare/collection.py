"""What a source collection is: its facts, who trains and who tests, and how its files are read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FORMAT_VERSION = 1


class PrepareError(ValueError):
    """A clone that is not the pinned one, or a file in it that is not as it should be."""


@dataclass(frozen=True, order=True)
class Take:
    """One recording of the corpus: one cycle through the gestures, or one continuous take.

    Attributes:
        subject: The person, as in the name of the corpus file.
        name: Id of the recording in that file.
        session: Of the source; empty where it has none.
        repetition: Of the source; 0 where it counts none.
        condition: What sets it apart: force, protocol, half of the collection; or empty.
        rank: Place among the recordings of the person; names decide between equal ones.
    """

    subject: str
    rank: int = field(default=0, kw_only=True)
    name: str
    session: str = ""
    repetition: int = 0
    condition: str = ""

    def __str__(self) -> str:
        return f"{self.subject} {self.name}"


@dataclass(frozen=True)
class Segment:
    """One contiguous stretch: a source file, or what lies between two cut lines of one.

    Attributes:
        samples: (N, C) integers as the source has them.
        labels: (N,) int8, number of the gesture; -1 where it is not known.
        cut_lines: Lines skipped behind it.
    """

    samples: npt.NDArray[np.signedinteger[Any]]
    labels: npt.NDArray[np.int8]
    cut_lines: int = 0


@dataclass(frozen=True)
class Collection:
    """A public repository of recordings.

    Attributes:
        name: Of the dataset.
        repository: Owner and name on GitHub.
        commit: The one commit that the corpus is made of.
        licence: As the repository states it.
        citation: What its authors ask to cite.
        device: What recorded it.
        channels: C.
        sample_rate: Hz.
        unit: Of ``(sample + offset) * scale``.
        gestures: Names in the order of the labels.
        train: People to train on.
        validation: People to choose by; everyone else is for the test.
        pattern: Regular expression for the paths of its files below the clone.
        place: From a match of it to the recording and the label, -1 where `read` finds the
            labels; None leaves the file out.
        read: From such a file and its label to segments.
        kept: Which takes of people for training and validation belong to the corpus; of people
            for the test all do.
        scale: See `unit`.
        offset: See `unit`.
        scale_uv: Microvolts per count where they are known.
    """

    name: str
    repository: str
    commit: str
    licence: str
    citation: str
    device: str
    channels: int
    sample_rate: float
    unit: str
    gestures: tuple[str, ...]
    train: frozenset[str]
    validation: frozenset[str]
    pattern: str
    place: Callable[[re.Match[str]], tuple[Take, int] | None]
    read: Callable[[Path, int], list[Segment]]
    kept: Callable[[Take], bool] = lambda _: True
    scale: float = 1.0
    offset: float = 0.0
    scale_uv: float | None = None

    def part(self, subject: str) -> str:
        """``train``, ``validation`` or ``test``."""
        if subject in self.train:
            return "train"
        return "validation" if subject in self.validation else "test"

    def attributes(self, subject: str, commit: str) -> dict[str, str | int | float]:
        """Attributes of the corpus file of a person."""
        facts: dict[str, str | int | float] = {
            "format_version": FORMAT_VERSION,
            "dataset": self.name,
            "subject": subject,
            "device": self.device,
            "sample_rate_hz": self.sample_rate,
            "channels": self.channels,
            "unit": self.unit,
            "scale": self.scale,
            "offset": self.offset,
            "label_names": json.dumps(self.gestures),
            "licence": self.licence,
            "citation": self.citation,
            "source": f"github.com/{self.repository}",
            "source_commit": commit,
        }
        return facts if self.scale_uv is None else facts | {"scale_uV": self.scale_uv}


def names(listed: str) -> tuple[str, ...]:
    """``"Fist, Open"`` as two."""
    return tuple(listed.split(", "))


def people(form: str, *numbers: int) -> frozenset[str]:
    """Names of people: ``people("P{:02d}", 1, 2)`` is P01 and P02."""
    return frozenset(form.format(number) for number in numbers)

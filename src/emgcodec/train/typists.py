"""Simulated typists in the files of emg2qwerty: sessions, and split files beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from emgcodec.files import written_beside
from emgcodec.io import write_session
from emgcodec.simulate import SIMULATOR_VERSION, Person, typing_recording
from emgcodec.train.sessions import GENERIC, HELD, Split

_FIRST_PERSON = 5000  # nobody whom another training meets


def write_typists(
    folder: Path, users: int, sessions: int, minutes: float, *, test_users: int = 1
) -> list[Path]:
    """Writes what is not there yet: sessions, a split for all and one for each who tests.

    Those who test, ``user0`` and on, are in the split ``generic`` only to test; in their own they
    hold back two sessions to select and two to test, like in emg2qwerty. Each session is another
    wearing.

    Args:
        folder: Where to; split files go into ``splits``.
        users: How many type.
        sessions: Of each.
        minutes: The least length of each.
        test_users: How many of them test.

    Returns:
        The session files.

    Raises:
        ValueError: if nobody is left to learn from.
    """
    if not 0 < test_users < users:
        raise ValueError(f"test_users={test_users}: give at least 1 and fewer than users={users}")
    if sessions <= 2 * HELD:
        raise ValueError(f"sessions={sessions}: give at least {2 * HELD + 1}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        f"user{user}": [folder / f"user{user}-session{k:02}.hdf5" for k in range(sessions)]
        for user in range(users)
    }
    todo = [(u, k, path) for u, each in enumerate(paths.values()) for k, path in enumerate(each)]
    for user, k, path in tqdm(todo, desc="typing", unit="sessions"):
        if not path.is_file():
            _write(path, user, k, 60.0 * minutes)
    _write_splits(folder / "splits", paths, test_users)
    return [path for _, _, path in todo]


def _write(path: Path, user: int, number: int, seconds: float) -> None:
    person = Person.draw(_FIRST_PERSON + user)
    rec = typing_recording(person, seconds=seconds, seed=number, session=number)
    rec.metadata |= {
        "subject": f"user{user}",
        "session": path.stem,
        "simulator_version": SIMULATOR_VERSION,
    }
    write_session(rec, path)


def _write_splits(folder: Path, paths: Mapping[str, list[Path]], test_users: int) -> None:
    names = list(paths)
    testing, learning = names[:test_users], names[test_users:]
    splits = [
        Split(
            GENERIC,
            tuple(path for name in learning for path in paths[name][:-1]),
            tuple(paths[name][-1] for name in learning),
            tuple(path for name in testing for path in paths[name][-HELD:]),
        ),
        *(Split.own(name, paths[name]) for name in testing),
    ]
    folder.mkdir(exist_ok=True)
    for split in splits:
        with written_beside(folder / f"{split.name}.yaml") as beside:
            beside.write_text(split.to_yaml(), encoding="utf-8")

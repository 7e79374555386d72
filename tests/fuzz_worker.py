"""Opens hostile files in a process of its own, which may take no memory and touch nothing.

Reads lines ``kind, tab, path`` on stdin; answers each with a line of JSON: the outcome and what it
took. A process that dies leaves a question unanswered.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_bombs import SECRET

from emgcodec import Calibration, Codec, Recording, Tokens, read_all
from emgcodec.calibration import CalibrationError
from emgcodec.checks import CodecError
from emgcodec.config import ConfigError
from emgcodec.folder import ModelError
from emgcodec.montage import MontageError
from emgcodec.recording import RecordingError
from emgcodec.tokens import TokensError
from emgcodec.train.checkpoint import Checkpoint
from emgcodec.train.recipe import Recipe
from emgcodec.wire import Unpacker, WireError

SECONDS, MEMORY = 10, 1 << 30
_FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.", "socket.")
_FORBIDDEN += ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link")
_FORBIDDEN += ("os.truncate", "os.chmod", "pickle.find_class", "shutil.", "tempfile.", "exec")
_MOST_TOKENIZED = 1_000_000  # numbers; of longer ones only blocks are looked at


class Hang(BaseException):
    """Nothing came for too long."""


class Forbidden(BaseException):
    """Something was touched that reading does not touch."""


class Wrong(BaseException):
    """A result that cannot be."""


def demand(true: object, words: str) -> None:
    if not true:
        raise Wrong(words)


def _probe(path: Path) -> None:
    """What an opener would do that failed: the suite's own test."""
    does: dict[str, Callable[[], object]] = {
        "crash": os.abort,
        "memory": lambda: bytes(2 * MEMORY),
        "touched": path.unlink,
        "wrong": lambda: demand(False, "on purpose"),
        "undocumented": lambda: {}["on purpose"],
    }
    does[path.stem.removeprefix("probe-")]()


def open_recordings(path: Path, codec: Codec) -> None:
    if path.name.startswith("probe-"):
        _probe(path)
    try:
        found = []
        try:
            found = list(read_all(path))
        except RecordingError as error:
            if "sample_rate=" not in str(error):
                raise
        # Not within the clause above, where the first error still holds what was read.
        found = found or list(read_all(path, sample_rate=1000))
    except (RecordingError, MontageError) as error:
        demand(path.name in str(error), f"the error does not name the file: {error}")
        raise
    for recording in found:
        _look_through(recording, codec)


def _look_through(recording: Recording, codec: Codec) -> None:
    small = recording.num_electrodes * recording.num_samples < _MOST_TOKENIZED
    length = 0
    for block in recording.blocks():
        demand(block.dtype == np.float32, "numbers are not float32")
        demand(len(block) == recording.num_electrodes, "a block has other electrodes")
        demand(not (block == SECRET).any(), "the content of another file")
        length += block.shape[1]
    demand(length == recording.num_samples, f"{length} samples instead of the stated ones")
    if small:
        demand(codec.tokenize(recording).num_samples == length, "tokens of another length")


def open_tokens(path: Path, good: Tokens, codec: Codec) -> None:
    tokens = Tokens.load(path)
    tokens.to_ids()
    tokens.compression()
    if tokens.num_samples < _MOST_TOKENIZED:
        codec.detokenize(tokens).emg.sum()


def open_model(path: Path, good: Codec) -> None:
    if path.is_dir():
        Codec.from_pretrained(path)
    else:
        Recipe.load(str(path), [])


def open_tensors(path: Path, good: Codec) -> None:
    if path.suffix == ".calibration":
        Calibration.load(path)
    elif path.is_dir():
        codec = Codec.from_pretrained(path)
        demand(codec.codec_id == good.codec_id, "another model without a word")
    else:
        Checkpoint.load(path)


def open_packets(path: Path, tokens: Tokens) -> None:
    raw = path.read_bytes()
    unpacker, at = Unpacker(tokens), 0
    for _ in range(100):
        end = at + max(1, len(raw) // 7)
        first = unpacker.next_frame
        began = unpacker.beginnings
        codes, valid = unpacker.push(raw[at:end])
        at = end
        first = unpacker.next_frame - codes.shape[1] if unpacker.beginnings > began else first
        where = first + np.flatnonzero(valid)
        demand((where < tokens.num_frames).all(), "frames that were never sent")
        demand((codes[:, valid] == tokens.codes[:, where]).all(), "codes that were never sent")


EXPECTED = {
    "recording": (RecordingError, MontageError, CodecError),
    "dataset": (RecordingError, MontageError, CodecError),
    "archive": (RecordingError, MontageError, CodecError),
    "tokens": (TokensError, MontageError, CodecError),
    "config": (ModelError, ConfigError),
    "safetensors": (ModelError, ConfigError, CalibrationError),
    "packets": (WireError,),
}


def openers(good: Path) -> dict[str, Callable[[Path], None]]:
    codec, tokens = Codec.from_pretrained(good / "model"), Tokens.load(good / "a.tokens")
    return {
        "recording": functools.partial(open_recordings, codec=codec),
        "dataset": functools.partial(open_recordings, codec=codec),
        "archive": functools.partial(open_recordings, codec=codec),
        "tokens": functools.partial(open_tokens, good=tokens, codec=codec),
        "config": functools.partial(open_model, good=codec),
        "safetensors": functools.partial(open_tensors, good=codec),
        "packets": functools.partial(open_packets, tokens=tokens),
    }


_watched = False


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if not _watched:
        return
    if event == "open":
        path, mode, flags = args
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
            raise Forbidden(f"opened {path!r} to write")
    elif event.startswith(_FORBIDDEN) and not _of_python(event):
        raise Forbidden(f"{event} {args!r:.100}")


def _of_python(event: str) -> bool:
    """Whether code runs because a module is imported or its annotations are looked up."""
    names = [frame.filename for frame in traceback.extract_stack()[:-2]]
    return event == "exec" and (names[-1].endswith("typing.py") or "importlib" in "".join(names))


def _hung(*_: object) -> None:
    raise Hang


def answer(opener: Callable[[Path], None], expected: Any, path: Path) -> tuple[str, str]:
    global _watched
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # whatever else the machine does
    _watched = True
    try:
        opener(path)
    except expected as error:
        return "refused", f"{type(error).__name__}: {error}"
    except BaseException as error:
        name = {MemoryError: "memory", Hang: "hang", Forbidden: "touched", Wrong: "wrong"}
        where = traceback.extract_tb(error.__traceback__)[-3:]
        places = " < ".join(f"{Path(w.filename).name}:{w.lineno}" for w in reversed(where))
        return name.get(type(error), "undocumented"), f"{type(error).__name__}: {error} at {places}"
    finally:
        _watched = False
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "read", ""


def status(name: str) -> int:
    """A line of the kernel's about this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def main(good: Path) -> None:
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    open_by_kind = openers(good)
    for kind, name in (line.split() for line in sys.stdin.readline().split(";") if line.strip()):
        open_by_kind[kind](Path(name))  # loads whatever is loaded late
    signal.signal(signal.SIGPROF, _hung)
    sys.addaudithook(_watch)
    most = status("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    print("ready", flush=True)
    for line in sys.stdin:
        kind, path = line.rstrip("\n").split("\t")
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory counts from here
        before, start = status("VmRSS"), time.process_time()
        outcome, words = answer(open_by_kind[kind], EXPECTED[kind], Path(path))
        took = {"seconds": time.process_time() - start, "bytes": status("VmHWM") - before}
        print(json.dumps({"outcome": outcome, "words": words[:300], **took}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

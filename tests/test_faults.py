"""What fails around us: full disks, folders that cannot be written, kills, files that change."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_files import write_corpus, write_session
from scipy.io import savemat
from training import small_codec, write_people, write_recipe

from emgcodec import Codec, Montage, Recording, Tokens, cli, read, read_all
from emgcodec.cli import main
from emgcodec.files import write_json, written_beside
from emgcodec.io import write
from emgcodec.io import write_session as write_typing
from emgcodec.recording import RecordingError
from emgcodec.runtime import EdgeCodec
from emgcodec.train.checkpoint import Checkpoint
from emgcodec.train.recipe import Recipe

SMALL_DISK = 256 << 10
FULL = "No space left|File too large|requested and .* written"
CHANCE = np.random.default_rng(0)


def noise(samples: int, montage: str = "myo", rate: float = 1000) -> Recording:
    electrodes = len(Montage.preset(montage))
    return Recording(CHANCE.normal(0, 50, (electrodes, samples)), rate, montage=montage)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return small_codec()


# Disks


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    with mounted(folder, f"size={SMALL_DISK}") as disk:
        yield disk


@contextmanager
def small_files(folder: Path) -> Iterator[Path]:
    """Files may not grow beyond a limit, which any user may set."""
    folder.mkdir(exist_ok=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_DISK, limits[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


Write = Callable[[Path, int], object]


def _tokens(path: Path, size: int) -> None:
    frames = size * 100_000
    Tokens(
        codes=np.zeros((2, frames), np.uint16),
        valid=np.ones(frames, bool),
        num_samples=frames,
        sample_rate=1000,
        frame_rate=1000,
        codebook_size=4,
        montage=Montage.ring(2),
        unit="uV",
        scale=np.ones(2, np.float32),
    ).save(path)


def _checkpoint(path: Path, size: int) -> None:
    import torch

    write_recipe(path.parent.parent)
    recipe = Recipe.load(path.parent.parent / "recipe.toml", [])
    Checkpoint(recipe, "data", 3, 1.0, {"a": torch.rand(size**3 * 15_000)}).save(path)


def _typing(path: Path, size: int) -> None:
    write_typing(noise(100 + 20_000 * (size - 1), "emg2qwerty", 2000), path)


def _decoded(path: Path, size: int) -> None:
    from emgcodec.cli.decode import _write

    _write(noise(100 + 20_000 * (size - 1)), path)


WRITERS: dict[str, Write] = {
    "a.tokens": lambda path, size: _tokens(path, size - 1),
    "ours.h5": lambda path, size: write(noise(100 + 20_000 * (size - 1)), path),
    "a.edf": lambda path, size: write(noise(1000 + 20_000 * (size - 1)), path),
    "a.bdf": lambda path, size: write(noise(1000 + 20_000 * (size - 1)), path),
    "session.hdf5": _typing,
    "decoded.npz": _decoded,
    "state.safetensors": _checkpoint,
    "a.json": lambda path, size: write_json(path, "x" * (size - 1) * 400_000),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("disk", [small_disk, small_files])
def test_a_full_disk_leaves_what_was_there(disk: Any, name: str, tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as folder:
        WRITERS[name](folder / name, 1)
        before = (folder / name).read_bytes()
        with pytest.raises((OSError, RecordingError), match=FULL):
            WRITERS[name](folder / name, 3)
        assert {p.name for p in folder.iterdir()} == {name}
        assert (folder / name).read_bytes() == before
        WRITERS[name](folder / name, 1)  # and it goes on where there is room


@pytest.mark.parametrize("disk", [small_disk, small_files])
def test_a_full_disk_leaves_the_model_that_was_there(
    disk: Any, codec: Codec, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk") as folder:
        codec.save_pretrained(folder / "model")
        large = Codec.from_preset("student")
        with pytest.raises(OSError, match=FULL):
            large.save_pretrained(folder / "model")
        assert Codec.from_pretrained(folder / "model").codec_id == codec.codec_id
        assert {p.name for p in folder.iterdir()} == {"model"}


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    if os.geteuid() == 0:  # whom no mode keeps out
        with mounted(folder, "ro") as disk:
            yield disk
    else:
        folder.mkdir()
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_cannot_be_written_is_named(name: str, tmp_path: Path) -> None:
    with read_only(tmp_path / "disk") as folder:
        with pytest.raises((OSError, RecordingError), match=r"Read-only|[Dd]enied|disk"):
            WRITERS[name](folder / name, 1)
        assert list(folder.iterdir()) == []


def test_commands_say_in_a_line_that_the_disk_is_full(
    codec: Codec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec.save_pretrained(tmp_path / "model")
    for name, samples in (("a", 500), ("b", 400_000), ("c", 500)):
        write(noise(samples), tmp_path / f"{name}.h5")
    argv = ["tokenize", *(str(tmp_path / f"{n}.h5") for n in "abc"), "-o", str(tmp_path / "out")]
    argv += ["--model", str(tmp_path / "model")]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, limits[1]))
    try:
        assert main(argv) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"b.h5: [Errno {errno.EFBIG}]" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.tokens", "c.tokens"]
    assert main(argv) == 0
    assert len(list((tmp_path / "out").iterdir())) == 3


# Interrupted writes


@pytest.mark.parametrize("end", [KeyboardInterrupt, MemoryError, OSError])
def test_an_interrupted_write_leaves_what_was_there(end: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)

    def interrupted() -> None:
        with written_beside(path) as beside:
            beside.write_text("half")
            raise end

    with pytest.raises(end):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert json.loads(path.read_text()) == 1


def test_what_a_kill_left_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("# sample_rate: 1000\n1,2\n3,4\n")
    code = (
        "import os, sys; from pathlib import Path; from emgcodec.files import written_beside\n"
        "with written_beside(Path(sys.argv[1])) as beside:\n"
        "    beside.write_text('9,9'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    (recording,) = read_all(tmp_path)
    assert recording.emg.tolist() == [[1, 3], [2, 4]]


# Files that change while they are read


def _npy(path: Path) -> None:
    np.save(path, CHANCE.normal(0, 9, (3, 5000)))


def _mat(path: Path) -> None:
    savemat(path, {"emg": CHANCE.normal(0, 9, (5000, 3)), "fs": 1000.0})


CHANGING: dict[str, Callable[[Path], object]] = {
    "a.npy": _npy,
    "a.edf": lambda path: write(noise(5000), path),
    "ours.h5": lambda path: write(noise(5000), path),
    "corpus.h5": write_corpus,
    "session.hdf5": lambda path: write_session(path, np.arange(5000) / 2000),
}


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(16))


def _replace(path: Path) -> None:
    os.replace(path.with_suffix(".new"), path)


@pytest.mark.parametrize("change", [_cut, _append, _replace, Path.unlink])
@pytest.mark.parametrize("name", CHANGING)
def test_a_file_that_changes_while_it_is_read_is_told(
    name: str, change: Callable[[Path], None], codec: Codec, tmp_path: Path
) -> None:
    path = tmp_path / name
    CHANGING[name](path)
    path.with_suffix(".new").write_bytes(path.read_bytes())
    recording = next(read_all(path, **({"sample_rate": 1000} if name == "a.npy" else {})))
    recording.read(0, 50)
    change(path)
    with pytest.raises(RecordingError, match=rf"{name}: (was changed|cannot be read: No such)"):
        recording.read(0, 50)
    with pytest.raises(RecordingError, match=name):
        codec.tokenize(recording)


@pytest.mark.parametrize("name", ["a.mat", "a.csv"])
def test_a_file_that_changes_while_it_is_opened_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emgcodec.io import entry

    path = tmp_path / name
    _mat(path) if name == "a.mat" else path.write_text("1,2\n" * 500)
    rate = entry.Options.rate

    def late(self: Any, stated: float | None) -> float:
        _append(path)
        return rate(self, stated)

    monkeypatch.setattr(entry.Options, "rate", late)
    with pytest.raises(RecordingError, match=f"{name}: was changed"):
        read(path, sample_rate=1000)


# Two at once


def test_two_writers_of_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    def write_often(size: int) -> None:
        for _ in range(20):
            _tokens(tmp_path / "a.tokens", size)

    with ThreadPoolExecutor(2) as both:
        list(both.map(write_often, (0, 1)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.tokens"]
    assert Tokens.load(tmp_path / "a.tokens").num_frames in (0, 100_000)


def command(*argv: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "emgcodec", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_tokenize_into_one_folder(codec: Codec, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path / "model")
    for k in range(6):
        write(noise(3000), tmp_path / "in" / f"{k}.h5") if k else (tmp_path / "in").mkdir()
    argv = ("tokenize", tmp_path / "in", "-o", tmp_path / "out", "--model", tmp_path / "model")
    both = [command(*argv) for _ in range(2)]
    assert [process.communicate(timeout=120) and process.returncode for process in both] == [0, 0]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"{k}.tokens" for k in range(1, 6)
    ]
    for path in sorted((tmp_path / "out").iterdir()):
        assert Tokens.load(path) == codec.tokenize(tmp_path / "in" / f"{path.stem}.h5")


# SIGTERM; `corpus build` and the trainer have their own tests beside those of their kills


def _terminate_when(process: subprocess.Popen[str], true: Callable[[], bool]) -> str:
    end = time.monotonic() + 120
    while not true() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    return errors


def _begun(folder: Path, suffix: str) -> Callable[[], bool]:
    """Whether a file is whole and there are more to come."""
    return lambda: any(folder.glob(f"*{suffix}"))


def _long_tokenize(folder: Path) -> tuple[list[object], str, int]:
    (folder / "in").mkdir()
    for k in range(60):
        write(noise(20_000), folder / "in" / f"{k:02}.h5")
    return (
        ["tokenize", folder / "in", "-o", folder / "out", "--model", folder / "model"],
        ".tokens",
        60,
    )


def _long_decode(folder: Path) -> tuple[list[object], str, int]:
    tokens = Codec.from_pretrained(folder / "model").tokenize(noise(20_000))
    for k in range(60):
        tokens.save(folder / f"{k:02}.tokens")
    files = sorted(folder.glob("*.tokens"))
    return ["decode", *files, "-o", folder / "out", "--model", folder / "model"], ".npz", 60


def _long_simulate(folder: Path) -> tuple[list[object], str, int]:
    sizes = ["--users", 2, "--test-users", 1, "--sessions", 5, "--minutes", 1]
    return ["data", "simulate", *sizes, "--out", folder / "out"], ".hdf5", 10


def _long_corpus(folder: Path) -> tuple[list[object], str, int]:
    write_people(folder / "in")
    more = ["--shard-megabytes", 0.001, "--model", folder / "model"]
    return ["corpus", "build", folder / "in", "-o", folder / "out", *more], ".json", 1


@pytest.mark.parametrize(
    "prepare",
    [
        _long_tokenize,
        _long_corpus,
        pytest.param(_long_decode, marks=pytest.mark.slow),
        pytest.param(_long_simulate, marks=pytest.mark.slow),
    ],
)
def test_sigterm_leaves_whole_files_and_a_rerun_completes(
    prepare: Callable[[Path], tuple[list[object], str, int]], codec: Codec, tmp_path: Path
) -> None:
    codec.save_pretrained(tmp_path / "model")
    argv, suffix, count = prepare(tmp_path)
    errors = _terminate_when(command(*argv), _begun(tmp_path / "out", suffix))
    assert "interrupted; finished files are whole" in errors
    assert not list((tmp_path / "out").glob(".*.*"))  # nothing half written
    rerun = command(*argv)
    _, errors = rerun.communicate(timeout=240)
    assert rerun.returncode == 0, errors
    assert len(list((tmp_path / "out").glob(f"*{suffix}"))) == count


@pytest.mark.slow  # graphs take a minute to trace
def test_sigterm_in_an_export_leaves_no_graph_and_a_rerun_completes(
    codec: Codec, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    codec.save_pretrained(tmp_path / "model")
    argv = ["export", tmp_path / "model", "-o", tmp_path / "out"]
    # They are written beside, and moved when all have been checked.
    errors = _terminate_when(command(*argv), _begun(tmp_path, "/*.onnx"))
    assert "interrupted; finished files are whole" in errors
    assert {p.name for p in tmp_path.iterdir()} == {"model", "out"}
    assert list((tmp_path / "out").iterdir()) == []
    rerun = command(*argv)
    _, errors = rerun.communicate(timeout=500)
    assert rerun.returncode == 0, errors
    assert {p.name for p in tmp_path.iterdir()} == {"model", "out"}
    assert EdgeCodec(tmp_path / "out").codec_id == codec.codec_id


def test_sigterm_ends_a_stream_with_all_that_is_known(codec: Codec, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path / "model")
    write(recording := noise(600_000), tmp_path / "a.h5")  # ten minutes in their own time
    process = command("stream", tmp_path / "a.h5", "--model", tmp_path / "model")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGTERM)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    frames = [json.loads(line) for line in [*lines, *rest.splitlines()]][1:]
    assert [frame["frame"] for frame in frames] == list(range(len(frames)))
    whole = codec.tokenize(recording.crop(0, (len(frames) + 8) / codec.frame_rate))
    same = [f["codes"] == whole.codes[:, f["frame"]].tolist() for f in frames[:-8]]
    assert np.mean(same) > 0.99


def test_sigterm_stops_a_training_that_can_be_resumed(tmp_path: Path) -> None:
    write_people(tmp_path / "data")
    recipe = write_recipe(tmp_path)
    more = ["--data", tmp_path / "data", "--cache", tmp_path / "cache"]
    argv = ["train", recipe, "--out", tmp_path / "out", *more, "--set", "optim.steps=100000"]
    process = command(*argv, "--set", "run.checkpoint_seconds=0.1")
    errors = _terminate_when(process, (tmp_path / "out" / "checkpoint.safetensors").is_file)
    assert "--resume goes on" in errors
    state = Checkpoint.load(tmp_path / "out" / "checkpoint.safetensors")
    assert state.step > 0
    assert not list((tmp_path / "out").glob(".*.*"))


def test_sigterm_that_python_drops_comes_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Dying:
        def __del__(self) -> None:  # within which Python prints an exception and goes on
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)

    def work(args: object) -> int:
        Dying()
        went_on.append(True)
        time.sleep(60)
        return 0

    went_on: list[bool] = []
    hook = sys.unraisablehook
    monkeypatch.setattr(cli.data, "run", work)
    assert main(["data", "list"]) == 130
    assert went_on
    assert "interrupted" in capsys.readouterr().err
    assert sys.unraisablehook is hook


def test_sigterm_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert main(["data", "list"]) == 0
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)

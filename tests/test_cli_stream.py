"""`emgcodec stream`: stdin, files and the Lab Streaming Layer; interrupted, it ends cleanly."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import PIPE
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import codec_for

from emgcodec import Codec, Recording, Tokens, sample
from emgcodec.cli import main
from emgcodec.wire import Unpacker


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    codec_for("student").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def codec(model: str) -> Codec:
    return Codec.from_pretrained(model)


@pytest.fixture(scope="module")
def armband() -> Recording:
    """8 electrodes, 1 kHz, 3 s."""
    return sample("armband").crop(0, 3)


RAW = ("-", "--sample-rate", 1000, "--montage", "cuff8")


def run(*argv: Any) -> int:
    try:
        return main([str(part) for part in argv])
    except SystemExit as error:  # argparse
        return int(error.code or 0)


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def heard(codec: Codec, x: np.ndarray[Any, Any]) -> Tokens:
    return codec.tokenize(x, sample_rate=1000, montage="cuff8")


def assert_lines(text: str, codec: Codec, tokens: Tokens) -> None:
    """What was printed is the codec's facts and the tokens, frame by frame."""
    facts, *lines = map(json.loads, text.splitlines())
    assert facts["codec_id"] == codec.codec_id
    assert facts["vocab_id"] == codec.vocab_id
    assert [line["frame"] for line in lines] == list(range(tokens.num_frames))
    assert [line["codes"] for line in lines] == tokens.codes.T.tolist()
    assert [line["valid"] for line in lines] == tokens.valid.tolist()
    assert [line["end"] for line in lines] == pytest.approx(tokens.token_times())


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_raw_samples_on_stdin(
    dtype: str,
    armband: Recording,
    codec: Codec,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    x = armband.emg.astype(dtype)
    pipe(monkeypatch, x.T.astype(np.dtype(dtype).newbyteorder("<")).tobytes())
    assert run("stream", *RAW, "--dtype", dtype, "--model", model) == 0
    assert_lines(capsys.readouterr().out, codec, heard(codec, x))


def test_a_calibrated_file_as_packets(
    armband: Recording,
    codec: Codec,
    model: str,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    known = codec.calibrate([armband])
    known.save(tmp_path / "worn.calibration")
    np.save(tmp_path / "rec.npy", armband.emg)
    options = "--packets", "--fast", "--calibration", tmp_path / "worn.calibration"
    facts = "--sample-rate", 1000, "--montage", "cuff8", "--model", model
    assert run("stream", tmp_path / "rec.npy", *facts, *options) == 0
    tokens = codec.tokenize(armband, calibration=known)
    unpacker = Unpacker(codec)
    codes, valid = unpacker.push(capfdbinary.readouterr().out)
    assert np.array_equal(codes, tokens.codes)
    assert np.array_equal(valid, tokens.valid)
    assert (unpacker.lost, unpacker.skipped) == (0, 0)


def test_a_signal_of_a_file_of_several(
    model: str, codec: Codec, armband: Recording, tmp_path: Path, capsys: Any
) -> None:
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["left"], file["right"] = armband.emg, armband.emg[:3]
    stated = ("--sample-rate", 1000, "--montage", "cuff8", "--dataset", "left", "--fast")
    assert run("stream", tmp_path / "two.h5", *stated, "--model", model) == 0
    assert_lines(capsys.readouterr().out, codec, heard(codec, armband.emg))


def test_a_file_takes_its_time(
    armband: Recording, codec: Codec, model: str, tmp_path: Path, capsys: Any
) -> None:
    np.save(tmp_path / "rec.npy", armband.emg[:, :1000])
    begin = time.monotonic()
    assert run("stream", tmp_path / "rec.npy", "--sample-rate", 1000, "--model", model) == 0
    assert time.monotonic() - begin >= 1.0
    tokens = codec.tokenize(tmp_path / "rec.npy", sample_rate=1000)
    assert_lines(capsys.readouterr().out, codec, tokens)


def test_a_sample_that_is_cut_short_is_told_and_the_rest_is_written(
    armband: Recording, model: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pipe(monkeypatch, np.ascontiguousarray(armband.emg.T).tobytes()[:-5])
    assert run("stream", *RAW, "--model", model) == 2
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1 + 94
    assert "stdin ended 27 bytes into a sample, which has 32" in shown.err


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["-", "--montage", "myo"], "give --sample-rate and --montage"),
        (["-", "--sample-rate", "200"], "give --sample-rate and --montage"),
        (["nothing.npy"], "nothing.npy"),
        ([], "required"),
        (["rec.npy", "--lsl", "Armband"], "not allowed"),
        (["-", "--dataset", "left"], "--dataset and --fast are for files"),
        (["--lsl", "Armband", "--fast"], "--dataset and --fast are for files"),
        (["--lsl", "Armband", "--sample-rate", "200"], "--sample-rate 200: an LSL stream states"),
    ],
)
def test_what_cannot_be_streamed(argv: list[str], complaint: str, model: str, capsys: Any) -> None:
    assert run("stream", *argv, "--model", model) == 2
    assert complaint in capsys.readouterr().err


class Interrupted(io.BytesIO):
    """Gives some bytes, and then there is Ctrl-C: while more are waited for, or before."""

    def __init__(self, data: bytes, waits: bool) -> None:
        super().__init__(data)
        self.waits = waits

    def read1(self, size: int | None = -1) -> bytes:
        data = super().read1(size)
        if not data or not self.waits:
            signal.raise_signal(signal.SIGINT)
        return data


def test_an_interrupt_writes_what_is_known(
    armband: Recording, codec: Codec, model: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    x = armband.emg[:, :1010]  # the last frame is not full
    handler = signal.getsignal(signal.SIGINT)
    stdin = Interrupted(np.ascontiguousarray(x.T).tobytes(), waits=True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stdin))
    assert run("stream", *RAW, "--model", model) == 0
    assert_lines(capsys.readouterr().out, codec, heard(codec, x))
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_interrupt_does_not_cut_a_step(
    armband: Recording, codec: Codec, model: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from emgcodec.stream import EncodeStream

    push = EncodeStream.push

    def interrupted(self: EncodeStream, samples: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return push(self, samples)

    monkeypatch.setattr(EncodeStream, "push", interrupted)
    pipe(monkeypatch, np.ascontiguousarray(armband.emg.T).tobytes())
    assert run("stream", *RAW, "--model", model) == 0
    x = armband.emg[:, : (1 << 16) // 32]  # what was read at once
    assert_lines(capsys.readouterr().out, codec, heard(codec, x))


def test_a_lab_streaming_layer_outlet(
    armband: Recording, codec: Codec, model: str, pylsl: Any
) -> None:
    name = f"emgcodec test {os.getpid()}"
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo(name, "EMG", 8, 1000.0, "float32", name))
    x = armband.emg
    command = [sys.executable, "-m", "emgcodec", "stream", "--lsl", name, "--model", model]
    command += ["--montage", "cuff8"]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdout is not None
        guard = threading.Timer(60, process.kill)
        guard.start()
        assert outlet.wait_for_consumers(30)
        clock = pylsl.local_clock()
        for first in range(0, 2000, 50):
            stamp = clock + (first + 49) / 1000 + (0.7 if first >= 1000 else 0)  # a gap
            outlet.push_chunk(x[:, first : first + 50].T.tolist(), stamp)
        lines = [process.stdout.readline() for _ in range(85)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
        guard.cancel()
    assert process.returncode == 0, errors
    assert b"Traceback" not in errors
    gap = np.full((8, 700), np.nan, np.float32)
    x = np.concatenate([x[:, :1000], gap, x[:, 1000:2000]], axis=1)
    assert_lines((b"".join(lines) + rest).decode(), codec, heard(codec, x))


class Sender:
    """A stream inlet whose samples and time stamps are written down; then it is gone."""

    def __init__(self, *chunks: list[float]) -> None:
        self.chunks = list(chunks)

    def pull_chunk(self, timeout: float, most: int) -> tuple[list[list[float]], list[float]]:
        if not self.chunks:
            raise EOFError
        stamps = self.chunks.pop(0)
        return [[stamp] * 2 for stamp in stamps], stamps


def test_clocks_that_are_set_and_senders_that_end() -> None:
    """At 100 Hz: jitter, a gap of 0.5 s, an hour's jump, a clock set back, and the end."""
    from emgcodec.io.lsl import Inlet

    inlet = object.__new__(Inlet)
    inlet.sample_rate, inlet.num_electrodes, inlet._ended = 100.0, 2, EOFError
    late = 5000.0
    inlet._inlet = Sender(
        [1.0, 1.01, 1.15], [], [1.66, 1.67], [late, late + 0.01], [2.0, 2.01, 2.52]
    )
    found = [each if isinstance(each, int) else each[0].tolist() for each in inlet.blocks(8)]
    assert found == [
        [1.0, 1.01, 1.15], [], 50, [1.66, 1.67], [late, late + 0.01], [2.0, 2.01], 50, [2.52]
    ]  # fmt: skip


def test_streams_that_nobody_sends(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, model: str, pylsl: Any
) -> None:
    lsl = pytest.importorskip("emgcodec.io.lsl")
    monkeypatch.setattr(lsl, "_RESOLVE_SECONDS", 0.2)
    assert run("stream", "--lsl", "nobody", "--model", model) == 2
    assert "lsl='nobody': found []" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pylsl", None)
    assert run("stream", "--lsl", "nobody", "--model", model) == 2
    assert "pip install 'emgcodec[lsl]'" in capsys.readouterr().err

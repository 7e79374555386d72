"""The command line: what it writes, and one clear line for whatever is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import codec_for
from io_files import write_corpus

from emgcodec import Codec, Montage, Recording, Tokens, read, sample
from emgcodec.cli import COMMANDS, main
from emgcodec.config import LabelHeadConfig


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    codec_for("student").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def armband() -> Recording:
    return sample("armband").crop(0, 3)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, armband: Recording) -> Path:
    """A folder to work in, with a recording `rec.npy` (8 electrodes, 1 kHz, 3 s) in it."""
    monkeypatch.chdir(tmp_path)
    np.save("rec.npy", armband.emg)
    return tmp_path


def run(*argv: Any) -> int:
    try:
        return main([str(part) for part in argv])
    except SystemExit as error:  # argparse
        return int(error.code or 0)


def tokens_of(model: str, name: str = "rec.npy") -> Path:
    assert run("tokenize", name, "-o", "tok", "--sample-rate", 1000, "--model", model) == 0
    return Path("tok") / f"{Path(name).stem}.tokens"


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_that_parses(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from emgcodec.cli import build_parser

    assert run(command, "--help") == 0
    examples = capsys.readouterr().out.split("example:\n")[1].splitlines()
    assert examples
    for line in examples:
        program, *argv = line.split()
        assert program == "emgcodec"
        assert build_parser().parse_args(argv).command == command


@pytest.mark.parametrize("argv", [["--help"], ["--version"], *([c, "--help"] for c in COMMANDS)])
def test_help_loads_no_torch(argv: list[str]) -> None:
    code = (
        "import sys; from emgcodec.cli import main\n"
        f"try: main({argv})\n"
        "except SystemExit as end: print('exit', end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "exit 0 False"


def test_the_installed_command(here: Path, model: str) -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="emgcodec")
    assert script.value == "emgcodec.cli:main"
    code = "import sys; from emgcodec.cli import main; sys.argv[0] = 'emgcodec'; sys.exit(main())"

    def command(*argv: str) -> subprocess.CompletedProcess[str]:
        argv = (sys.executable, "-W", "error", "-c", code, *argv)
        return subprocess.run(argv, capture_output=True, text=True)

    good = ("tokenize", "rec.npy", "-o", "out", "--sample-rate", "1000", "--model", model)
    done = command(*good)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 token files (3.0 s of signal) in out\n"
    done = command("tokenize", "nowhere.h5", *good[2:])
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "nowhere.h5" in done.stderr


# tokenize and decode


def test_there_and_back(here: Path, model: str, armband: Recording) -> None:
    np.savez("rec.npz", emg=armband.emg / 1000, unit="mV", sample_rate=1000, start_time=5.5)
    argv = ["tokenize", "rec.npz", "-o", "tok", "--montage", "myo", "--model", model]
    assert run(*argv) == 0
    assert [path.name for path in Path("tok").iterdir()] == ["rec.tokens"]  # and no leftovers
    tokens = Tokens.load("tok/rec.tokens")
    codec = Codec.from_pretrained(model)
    expected = codec.tokenize(read("rec.npz", montage="myo"))
    assert tokens == expected
    assert run("decode", "tok/rec.tokens", "-o", "deep/out", "--model", model) == 0
    assert [path.name for path in Path("deep/out").iterdir()] == ["rec.npz"]
    back, direct = read("deep/out/rec.npz"), codec.detokenize(tokens)
    np.testing.assert_array_equal(back.emg, direct.emg)
    assert (back.sample_rate, back.unit, back.start_time) == (1000.0, "uV", 5.5)
    assert back.montage == Montage.preset("myo")
    assert back.emg.shape == armband.emg.shape


def test_counts_stay_counts_and_an_assumed_montage_stays_assumed(here: Path, model: str) -> None:
    argv = ["--sample-rate", 1259.26, "--unit", "adc", "--model", model]
    assert run("tokenize", "rec.npy", "-o", "tok", *argv) == 0
    assert run("decode", "tok/rec.tokens", "-o", "out", "--model", model) == 0
    back = read("out/rec.npz")
    assert (back.unit, back.sample_rate, back.montage) == (
        "adc",
        1259.26,
        Montage.ring(8, assumed=True),
    )


def test_a_montage_given_overrides_the_stored_one(here: Path) -> None:
    stored = json.dumps(Montage.preset("myo").to_dict())
    np.savez("x.npz", emg=np.ones((8, 100)), sample_rate=1000, montage=stored)
    assert read("x.npz").montage == Montage.preset("myo")
    assert read("x.npz", montage="cuff8").montage == Montage.preset("cuff8")


@pytest.mark.parametrize("stored", ["myo", "[1, 2]", '{"name": "a"}', "{", [1, 2], 5, ""])
def test_a_stored_montage_that_cannot_be_is_named(
    here: Path, stored: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("x.npz", emg=np.ones((8, 100)), sample_rate=1000, montage=stored)
    assert run("inspect", "x.npz") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "x.npz: " in error
    assert "montage" in error


def test_one_file_for_each_contiguous_recording(
    here: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    recordings = {
        "take": (rng.integers(-500, 500, (900, 10)), np.zeros(900), [0]),
        "cycle": (rng.integers(-500, 500, (900, 10)), np.zeros(900), [0, 300, 800]),
    }
    write_corpus(here / "P01.h5", recordings=recordings)
    assert run("tokenize", "P01.h5", "-o", "tok", "--model", model) == 0
    samples = {path.name: Tokens.load(path).num_samples for path in Path("tok").iterdir()}
    assert samples == {
        "P01_take.tokens": 900,
        "P01_cycle.0.tokens": 300,
        "P01_cycle.1.tokens": 500,
        "P01_cycle.2.tokens": 100,
    }
    assert capsys.readouterr().out == "4 token files (1.8 s of signal) in tok\n"


def test_folders_and_equal_names_lose_nothing(here: Path, model: str, armband: Recording) -> None:
    for k, folder in enumerate(("a", "b")):
        Path(folder).mkdir()
        np.save(f"{folder}/day.1.npy", armband.emg[:, : 1000 + k])
        np.save(f"{folder}/my rec.npy", armband.emg[:, : 1010 + k])
    Path("a/notes.txt").write_text("nothing to read here")
    argv = ["-o", "tok", "--sample-rate", 1000, "--model", model]
    assert run("tokenize", "a", "b/day.1.npy", "b/my rec.npy", *argv) == 0
    samples = {path.name: Tokens.load(path).num_samples for path in Path("tok").iterdir()}
    assert samples == {
        "day.1.tokens": 1000,
        "day.1_2.tokens": 1001,
        "my-rec.tokens": 1010,
        "my-rec_2.tokens": 1011,
    }
    os.renames("tok/day.1_2.tokens", "tok2/day.1.tokens")
    files = ("tok/day.1.tokens", "tok2/day.1.tokens")
    assert run("decode", *files, "-o", "out", "--model", model) == 0
    assert read("out/day.1.npz").num_samples == 1000
    assert read("out/day.1_2.npz").num_samples == 1001


def test_what_fails_is_named_and_the_others_are_done(
    here: Path, model: str, capsys: pytest.CaptureFixture[str], armband: Recording
) -> None:
    Path("bad.npy").write_bytes(Path("rec.npy").read_bytes()[:200])
    np.save("volts.npy", armband.emg * 1e-6)
    np.save("more.npy", armband.emg)
    files = ("bad.npy", "rec.npy", "volts.npy", "missing.npy", "more.npy")
    argv = ["--sample-rate", 1000, "--model", model]
    assert run("tokenize", *files, "-o", "tok", *argv) == 2
    shown = capsys.readouterr()
    assert sorted(path.name for path in Path("tok").iterdir()) == ["more.tokens", "rec.tokens"]
    assert shown.out == "2 token files (6.0 s of signal) in tok\n"
    lines = shown.err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["bad.npy", "volts.npy", "missing.npy"]
    assert "unit=" in lines[1]

    damaged = bytearray(Path("tok/rec.tokens").read_bytes())
    damaged[-1] ^= 1
    Path("tok/broken.tokens").write_bytes(damaged)
    files = ("tok/broken.tokens", "tok/rec.tokens")
    assert run("decode", *files, "-o", "out", "--model", model) == 2
    assert [path.name for path in Path("out").iterdir()] == ["rec.npz"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "tok/broken.tokens" in line


def test_recordings_without_samples(here: Path, model: str) -> None:
    np.save("none.npy", np.zeros((4, 0), np.float32))
    assert (
        run("decode", tokens_of(model, "none.npy"), "-o", "out", "--events", "--model", model) == 0
    )
    assert read("out/none.npz").emg.shape == (4, 0)


def test_calibration_is_used_and_recorded(here: Path, model: str, armband: Recording) -> None:
    calibration = Codec.from_pretrained(model).calibrate([(armband.emg, 1000)])
    calibration.save("cal")
    argv = ["tokenize", "rec.npy", "-o", "tok", "--sample-rate", 1000, "--model", model]
    assert run(*argv, "--calibration", "cal") == 0
    assert Tokens.load("tok/rec.tokens").calibration == calibration.digest()


def test_a_device_that_the_model_knows_calibrates_by_its_name(
    here: Path, model: str, armband: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = Codec.from_pretrained(model)
    codec.devices = {"band": codec.calibrate([(armband.emg, 1000)])}
    codec.save_pretrained("known")
    argv = ["tokenize", "rec.npy", "-o", "tok", "--sample-rate", 1000, "--model", "known"]
    assert run(*argv, "--calibration", "band") == 0
    assert Tokens.load("tok/rec.tokens").calibration == codec.devices["band"].digest()
    assert run("info", "known") == 0
    assert "devices       band\n" in capsys.readouterr().out
    assert run(*argv, "--calibration", "myo") == 2
    assert "neither a file nor a device that" in capsys.readouterr().err


def test_decode_prints_events_under_the_name_of_their_file(
    here: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tokens_of(model)
    capsys.readouterr()
    assert run("decode", path, path, "--events", "--model", model) == 0
    lines = capsys.readouterr().out.splitlines()
    codec = Codec.from_pretrained(model)
    events = [str(event) for event in codec.transcribe(Tokens.load(path), "gesture")]
    assert lines == 2 * [f"{path}: gesture", *events]


def test_decode_prints_the_heads_that_are_asked_for(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = Codec.from_preset("student", provenance={"data": {"3dc": {"people": ["P01"]}}})
    for name in ("gesture-3dc", "gesture-mine"):
        codec.add_label_head(name, LabelHeadConfig("frame", ("fist", "rest")))
    codec.save_pretrained("heads")
    path = tokens_of("heads")

    def printed(*argv: str) -> list[str]:
        capsys.readouterr()
        assert run("decode", path, "--model", "heads", *argv) == 0
        start = f"{path}: "
        lines = capsys.readouterr().out.splitlines()
        return [line.removeprefix(start) for line in lines if line.startswith(start)]

    three = ("--head", "gesture-3dc")
    assert printed("--events") == ["gesture", "gesture-mine"]
    assert printed(*three, *three) == ["gesture-3dc"]
    assert printed("--events", *three) == ["gesture-3dc", "gesture", "gesture-mine"]
    for wrong in ("gesture-4dc", "signal"):
        assert run("decode", path, "-o", "out", "--model", "heads", "--head", wrong) == 2
        assert wrong in capsys.readouterr().err
        assert not list(Path().glob("out/*"))


# info and inspect


def test_info_of_a_model_and_of_tokens(
    here: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, codec = tokens_of(model), Codec.from_pretrained(model)
    assert run("info", model) == 0
    shown = capsys.readouterr().out
    assert {codec.codec_id, codec.vocab_id} <= set(shown.split())
    assert "31.25 /s" in shown
    assert run("info", path) == 0
    shown = capsys.readouterr().out
    assert {codec.codec_id, codec.vocab_id, "cold"} <= set(shown.split())
    assert "94 of 94" in shown
    assert "int16" in shown
    assert run("info", "--list") == 0
    assert "teacher-large" in capsys.readouterr().out.split()


def test_info_moves_no_cursor(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {"weights_license": "Free\x1b[31m\nname  another", "provenance": {"by": "\x9b2J"}}
    Codec.from_preset("student", **told).save_pretrained("model")
    assert run("info", "model") == 0
    shown = capsys.readouterr().out
    assert all(c.isprintable() for c in shown.replace("\n", ""))
    assert "weights       Free [31m name  another\n" in shown
    assert "provenance    by: see --provenance\n" in shown
    assert run("info", "--provenance", "model") == 0
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert "\x1b" not in shown
    assert json.loads(shown) == told["provenance"]


def test_an_error_moves_no_cursor(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tokenize", "no\x1b[2Jfile.csv", "-o", "out") == 2
    shown = capsys.readouterr().err
    assert all(c.isprintable() for c in shown.replace("\n", ""))
    assert "no [2Jfile.csv" in shown


def test_a_signal_in_a_file_of_several_is_chosen_by_name(
    here: Path, armband: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File("two.h5", "w") as file:
        file["left"], file["right"] = armband.emg, armband.emg[:3]
    assert run("inspect", "two.h5", "--sample-rate", 1000, "--brief") == 2
    assert "dataset=" in capsys.readouterr().err
    assert run("inspect", "two.h5", "--sample-rate", 1000, "--brief", "--dataset", "right") == 0
    assert "3 electrodes" in capsys.readouterr().out


def test_inspect_shows_recordings_events_and_quality(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(here / "P01.h5")
    assert run("inspect", "P01.h5") == 0
    shown = capsys.readouterr().out
    for name in ("take", "cycle.0", "cycle.1", "cycle.2"):
        assert f"P01 {name}: Recording(10 electrodes (3dc)" in shown
    assert "   1 x gesture Power Grip" in shown
    assert shown.count("verdict") == 4
    assert run("inspect", "P01.h5", "--brief") == 0
    assert "verdict" not in capsys.readouterr().out


def test_inspect_draws_each_recording(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    x = np.random.default_rng(0).integers(-500, 500, (1000, 10))
    Path("data").mkdir()
    for name in ("P01", "P02"):
        write_corpus(Path("data") / f"{name}.h5", recordings={"t": (x, x[:, 0] * 0, [0])})
    assert run("inspect", "data", "--brief", "--png", "my plot.png") == 0
    pictures = sorted(path.name for path in Path().glob("*.png"))
    assert pictures == ["my plot.png", "my-plot_t.png"]
    assert all(Path(name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    shown = capsys.readouterr().out
    assert all(f"plot: {name}\n" in shown for name in pictures)
    np.save("data/P03.npy", x.T[:, :500])
    np.save("data/t.npy", x.T[:, :500])
    argv = ["inspect", "data", "--sample-rate", 1000, "--brief", "--png", "p.png"]
    assert run(*argv) == 0
    names = [path.name for path in Path().glob("p*.png")]
    assert sorted(names) == ["p.png", "p_P03.png", "p_t.png", "p_t_2.png"]


# Bad input


def _foreign(here: Path, model: str) -> list[Any]:
    other = Codec.from_preset("student")
    other.tokenize(read("rec.npy", sample_rate=1000)).save("foreign.tokens")
    return ["decode", "foreign.tokens", "-o", "out", "--model", model]


def _truncated(here: Path, model: str) -> list[Any]:
    path = tokens_of(model)
    path.write_bytes(path.read_bytes()[:-100])
    return ["decode", path, "-o", "out", "--model", model]


def _no_pickle(here: Path, model: str) -> list[Any]:
    Path("x.pkl").write_bytes(b"\x80\x04K\x01.")
    return ["tokenize", "x.pkl", "-o", "out", "--model", model]


def _wrong_calibration(here: Path, model: str) -> list[Any]:
    fewer = read("rec.npy", sample_rate=1000).emg[:3]
    Codec.from_pretrained(model).calibrate([(fewer, 1000)]).save("cal")
    return [*_tokenize("rec.npy", "--sample-rate", 1000)(here, model), "--calibration", "cal"]


def _tokenize(*argv: Any) -> Any:
    return lambda here, model: ["tokenize", *argv, "-o", "out", "--model", model]


def _damaged_model(here: Path, model: str) -> list[Any]:
    folder = here / "damaged"
    codec_for("student").save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return ["info", folder]


def _file_for_folder(command: str) -> Any:
    def argv(here: Path, model: str) -> list[Any]:
        path = tokens_of(model) if command == "decode" else "rec.npy"
        return [command, path, "--model", model, "-o", "rec.npy"]

    return argv


def _text(here: Path, model: str) -> list[Any]:
    Path("words.csv").write_text("some,words\nand,more\n")
    return ["inspect", "words.csv"]


def _unknown(here: Path, model: str) -> list[Any]:
    Path("x.bin").write_bytes(bytes(range(256)))
    return ["inspect", "x.bin"]


BAD = {
    "tokenize a missing file": (_tokenize("nowhere.h5"), "nowhere.h5"),
    "decode a missing file": (
        lambda h, m: ["decode", "no.tokens", "--events", "--model", m],
        "no.tokens",
    ),
    "inspect a missing file": (lambda h, m: ["inspect", "nowhere.h5"], "nowhere.h5"),
    "info of nothing": (lambda h, m: ["info", "nowhere.tokens"], "nowhere.tokens"),
    "info of no tokens": (lambda h, m: ["info", "rec.npy"], "rec.npy is not a tokens file"),
    "an empty folder": (_tokenize("empty"), "empty: holds no recordings"),
    "an unknown format": (_unknown, "x.bin: is in no known format"),
    "a text that is no table": (_text, "words.csv: "),
    "a pickle": (_no_pickle, "x.pkl: is a Python pickle"),
    "truncated tokens": (_truncated, "rec.tokens cannot be read: it is cut off"),
    "tokens of another vocabulary": (_foreign, "foreign.tokens: tokens are of vocabulary"),
    "a recording for tokens": (
        lambda h, m: ["decode", "rec.npy", "--events", "--model", m],
        "not a tokens",
    ),
    "no sample rate": (_tokenize("rec.npy"), "rec.npy: states no sampling rate"),
    "a rate in kHz": (_tokenize("rec.npy", "--sample-rate", 2), "sample_rate=2.0"),
    "a rate that is none": (_tokenize("rec.npy", "--sample-rate", "nan"), "sample_rate=nan"),
    "an unknown montage": (_tokenize("rec.npy", "--sample-rate", 1000, "--montage", "x"), "'x'"),
    "a wrong montage": (_tokenize("rec.npy", "--sample-rate", 1000, "--montage", "3dc"), "rec.npy"),
    "a wrong unit": (_tokenize("rec.npy", "--sample-rate", 1000, "--unit", "V"), "rec.npy: rec: "),
    "no such model": (lambda h, m: ["tokenize", "rec.npy", "-o", "out", "--model", "no"], "'no'"),
    "a damaged model": (_damaged_model, "model.safetensors is damaged"),
    "no such calibration": (
        _tokenize("rec.npy", "--sample-rate", 1000, "--calibration", "cal"),
        "cal",
    ),
    "no calibration": (_tokenize("rec.npy", "--calibration", "rec.npy"), "not a calibration file"),
    "a calibration of other electrodes": (_wrong_calibration, "rec.npy: rec: "),
    "a file for tokens": (_file_for_folder("tokenize"), "--out rec.npy: a file is in its place"),
    "a file for signals": (_file_for_folder("decode"), "--out rec.npy: a file is in its place"),
    "nothing to do": (lambda h, m: ["decode", "rec.npy", "--model", m], "nothing to do"),
    "a picture of no format": (
        lambda h, m: ["inspect", "rec.npy", "--sample-rate", 1000, "--png", "p.doc"],
        "p.doc",
    ),
    "a picture nowhere": (
        lambda h, m: ["inspect", "rec.npy", "--sample-rate", 1000, "--png", "no/p.png"],
        "no/",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(
    case: str, here: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    make, words = BAD[case]
    argv = make(here, model)
    capsys.readouterr()
    before = Path("rec.npy").read_bytes()
    assert run(*argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"emgcodec {argv[0]}: ")
    assert words in lines[0]
    assert Path("rec.npy").read_bytes() == before
    assert not list(Path().glob("out/*"))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["tokenize", "rec.npy"], "-o/--out"),
        (["tokenize", "rec.npy", "-o", "out", "--sample-rate", "2k"], "'2k'"),
        (["inspect", "rec.npy", "--unit", "volt"], "'volt'"),
    ],
)
def test_arguments_that_cannot_be(
    here: Path, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


# The model that comes with the package


def test_the_default_model_is_the_bundled_student(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("info") == 0
    assert "student" in capsys.readouterr().out.split()
    assert run("tokenize", "rec.npy", "-o", "tok", "--sample-rate", 1000) == 0
    assert run("decode", "tok/rec.tokens", "-o", "out", "--events") == 0
    assert read("out/rec.npz").emg.shape == (8, 3000)
    assert Tokens.load("tok/rec.tokens").codec_id.startswith("student-")

"""Public repositories to the corpus: values, labels, who is where, and what is refused."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepare_sources import (
    CUE,
    PEOPLE,
    Made,
    made_up,
    make,
    of_another,
    source_file,
    takes,
    write_source,
)

import emgcodec.prepare
from emgcodec import read_all
from emgcodec.cli import main
from emgcodec.prepare import COLLECTIONS, PrepareError, prepare
from emgcodec.prepare.collection import Take
from emgcodec.prepare.write import CorpusRecording, write_corpus

REAL = {  # a small file of each, and whether undoing it takes more than a moment
    "3dc_P14.h5": True,
    "contraction_intensity_S02.h5": True,
    "flexemg_S002.h5": False,
    "myo_laval_preF06.h5": False,
    "myo_ciil_min07.h5": False,
    "myo_readings_R64917.h5": False,
}
PINNED_H5PY = "3.16.0"  # constraints.txt; another may pack the same content otherwise


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(clone: Path) -> str:
    git(clone, "init", "-q")
    git(clone, "add", "-A")
    git(clone, "commit", "-qm", "recordings")
    return git(clone, "rev-parse", "HEAD")


def written(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stored(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray, list[int]]]:
    with h5py.File(path) as file:
        return {
            name: (group["emg"][:], group["labels"][:], group["segment_starts"][:].tolist())
            for name, group in file["recordings"].items()
        }


# What comes out


@pytest.mark.parametrize("name", COLLECTIONS)
def test_a_clone_becomes_recordings_with_its_values_labels_and_people(
    name: str, tmp_path: Path
) -> None:
    made, collection = made_up(name), COLLECTIONS[name]
    done = prepare(name, write_source(tmp_path / "clone", name, made), tmp_path, any_commit=True)
    parts = dict(zip(PEOPLE[name][::-1], ("test", "validation", "train"), strict=False))
    folders = {"train": "", "validation": "", "test": "test/"}
    assert done.files == tuple(
        f"{folders[parts[person]]}{name}_{person}.h5" for person in sorted(PEOPLE[name])
    )
    absent = (collection.train | collection.validation) - set(PEOPLE[name])
    assert all(person in done.notes[0] for person in absent)
    assert len(done.notes) == bool(absent)

    for file in done.files:
        recordings = list(read_all(tmp_path / file, unit="adc"))
        theirs = [each for each in made if f"_{each.take.subject}.h5" in file]
        by_name = sorted(theirs, key=lambda each: each.take.name)
        expected = [(each.take, *segment) for each in by_name for segment in each.segments]
        assert len(recordings) == len(expected)
        for rec, (take, samples, labels) in zip(recordings, expected, strict=True):
            np.testing.assert_array_equal(rec.emg.T, (samples + collection.offset).astype("f4"))
            runs = np.split(labels, np.flatnonzero(np.diff(labels)) + 1)
            heard = [collection.gestures[run[0]] for run in runs if run[0] >= 0]
            assert [event.label for event in rec.events] == heard
            assert rec.sample_rate == collection.sample_rate
            facts = ("subject", "session", "repetition", "condition")
            assert [rec.metadata[key] for key in facts] == [getattr(take, key) for key in facts]
            assert rec.metadata["dataset"] == name

    splits = json.loads((tmp_path / "splits.json").read_text())
    for part in ("train", "validation", "test"):
        assert splits[part] == [
            f for f in done.files if parts[Path(f).stem[len(name) + 1 :]] == part
        ]
    with (tmp_path / "manifest.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(done.files)
    for path, row in rows.items():
        content = (tmp_path / path).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert int(row["bytes"]) == len(content)
        assert int(row["recordings"]) == len(stored(tmp_path / path))
    assert done.seconds == pytest.approx(sum(float(row["seconds"]) for row in rows.values()))


def test_wide_values_keep_32_bits_and_the_others_16(tmp_path: Path) -> None:
    for name in ("multiday", "3dc"):
        made = made_up(name)[:2]
        prepare(name, write_source(tmp_path / name, name, made), tmp_path, any_commit=True)
    wide = stored(tmp_path / "test" / "multiday_S00.h5")["day005"]
    narrow = stored(tmp_path / "3dc_P02.h5")["train_rep0"]
    assert (wide[0].dtype, narrow[0].dtype) == (np.int32, np.int16)
    for _, labels, starts in (wide, narrow):
        assert labels[starts].tolist() == list(range(11))
        assert starts[:3] == [0, 20, 41]


def test_people_for_the_test_are_whole_and_of_others_only_what_the_corpus_has(
    tmp_path: Path,
) -> None:
    everything = {
        "contraction_intensity": [
            Take(who, f"{force}_rep1", "all", 1, force)
            for who in ("S01", "S10")
            for force in ("Light", "30P", "80P")
        ],
        "flexemg": [
            Take(who, f"Session3Train_trial{k:02d}", "Session3Train", k)
            for who in ("S001", "S002", "S003")
            for k in (1, 3)
        ],
        "myo_readings": [
            Take(who, f"session{session}_{k}", session, 0, CUE if k else "rest only")
            for who in ("R10000", "R70000", "R60186")
            for session in ("1", "2")
            for k in (0, 3)
        ],
    }
    for name, listed in everything.items():
        made = [make(name, take, seed) for seed, take in enumerate(listed)]
        prepare(name, write_source(tmp_path / name, name, made), tmp_path, any_commit=True)
    found = {
        path.stem: sorted(stored(path))
        for path in (*tmp_path.glob("*.h5"), *tmp_path.glob("test/*"))
    }
    assert found == {
        "contraction_intensity_S01": ["80P_rep1"],
        "contraction_intensity_S10": ["30P_rep1", "80P_rep1", "Light_rep1"],
        "flexemg_S001": ["Session3Train_trial01"],
        "flexemg_S003": ["Session3Train_trial01", "Session3Train_trial03"],
        "myo_readings_R10000": ["session1_3"],
        "myo_readings_R70000": [f"session{s}_{k}" for s in (1, 2) for k in (0, 3)],
    }
    rest = list(read_all(tmp_path / "test", recording="session1_0"))
    assert [[event.label for event in rec.events] for rec in rest] == [["Hibernation (rest)"]]
    unlabelled = list(read_all(tmp_path / "test", recording="Session3Train_trial03"))
    assert [rec.events for rec in unlabelled] == [()]


# What is dropped


def test_repeated_segments_stay_with_who_comes_first(tmp_path: Path) -> None:
    first, second = (make("3dc", take, 1 + k) for k, take in enumerate(takes("3dc", "P13")))
    other = make("3dc", takes("3dc", "P14")[0], 3)
    partly = replace(other, segments=first.segments[:2] + other.segments[2:])
    whole = of_another(second, "P14")
    nobody = of_another(first, "P21")
    clone = write_source(tmp_path / "clone", "3dc", [nobody, whole, partly, second, first])
    done = prepare("3dc", clone, tmp_path, any_commit=True)
    assert done.files == ("3dc_P13.h5", "3dc_P14.h5")
    assert not list(tmp_path.glob("test/*"))
    assert set(stored(tmp_path / "3dc_P13.h5")) == {"train_rep0", "test_rep3"}
    ((samples, labels, starts),) = stored(tmp_path / "3dc_P14.h5").values()
    assert starts == np.cumsum([0, *(len(s) for s, _ in other.segments[2:-1])]).tolist()
    np.testing.assert_array_equal(samples, np.concatenate([s for s, _ in other.segments[2:]]))
    np.testing.assert_array_equal(labels, np.concatenate([k for _, k in other.segments[2:]]))
    assert done.notes[:3] == (
        "P14 train_rep0: 2 segments repeat P13 train_rep0",
        "P14 test_rep3: 11 segments repeat P13 test_rep3",
        "P21 train_rep0: 11 segments repeat P13 train_rep0",
    )


def test_the_evaluation_copy_and_the_earlier_day_stay(tmp_path: Path) -> None:
    mine = make("myo_laval", takes("myo_laval", "evalF00")[0], 0)
    copy = of_another(mine, "preF07", condition="PreTrainingDataset")
    days = [make("multiday", take, 1) for take in takes("multiday", "S00")]  # of equal values
    for name, made in {"myo_laval": [copy, mine], "multiday": days[::-1]}.items():
        prepare(name, write_source(tmp_path / name, name, made), tmp_path, any_commit=True)
    assert [path.name for path in tmp_path.glob("myo_laval*.h5")] == ["myo_laval_evalF00.h5"]
    assert list(stored(tmp_path / "test" / "multiday_S00.h5")) == ["day005"]


@pytest.mark.parametrize(
    ("cut", "lengths"),
    [
        ("1,2,3,4,5,6,7,8,02,2,3,4,5,6,7,8,0", [30, 30]),  # glued to the next line
        ("1,2,3,4,5,6,7,-", [30, 30]),
        ("", [30, 30]),
    ],
)
def test_a_cut_line_is_skipped_and_told_and_parts_the_take(
    cut: str, lengths: list[int], tmp_path: Path
) -> None:
    made = make("myo_readings", takes("myo_readings", "R10000")[0], 0)
    clone = write_source(tmp_path / "clone", "myo_readings", [made])
    (path,) = clone.rglob("*.txt")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:30], cut, *lines[30:]]))
    done = prepare("myo_readings", clone, tmp_path, any_commit=True)
    assert done.notes[0] == f"{path}: 1 cut lines skipped"
    recordings = list(read_all(tmp_path / "myo_readings_R10000.h5"))
    assert [rec.num_samples for rec in recordings] == lengths
    together = np.concatenate([rec.emg.T for rec in recordings])
    np.testing.assert_array_equal(together, made.segments[0][0])


def test_an_incomplete_cycle_is_told(tmp_path: Path) -> None:
    clone = write_source(tmp_path / "clone", "3dc", made_up("3dc"))
    (clone / "Participant2" / "train" / "EMG_gesture_0_4.txt").unlink()
    done = prepare("3dc", clone, tmp_path, any_commit=True)
    assert done.notes[0] == "P02 train_rep0: only 10 gestures"


# What is refused


def test_only_the_pinned_commit_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "myo_laval"
    clone = write_source(tmp_path / "clone", name, made_up(name))
    head, out = commit(clone), tmp_path / "out"
    with pytest.raises(PrepareError) as caught:
        prepare(name, clone, out)
    assert head in str(caught.value)
    assert COLLECTIONS[name].commit in str(caught.value)
    assert not out.exists()

    prepare(name, clone, out, any_commit=True)
    monkeypatch.setitem(COLLECTIONS, name, replace(COLLECTIONS[name], commit=head))
    pinned = prepare(name, clone, tmp_path / "pinned")
    assert written(out) == written(tmp_path / "pinned")
    with h5py.File(out / pinned.files[0]) as file:
        assert file.attrs["source_commit"] == head

    (clone / "more.txt").write_text("not from there")
    with pytest.raises(PrepareError, match=f"{head}-dirty"):
        prepare(name, clone, out)
    with pytest.raises(PrepareError, match="the repository it is in begins at"):
        prepare(name, clone / "EvaluationDataset", out)


def test_a_folder_that_is_no_clone_needs_any_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    clone = write_source(tmp_path / "clone", "myo_laval", made_up("myo_laval"))
    with pytest.raises(PrepareError, match=r"git clone https://github\.com/UlysseCoteAllard/"):
        prepare("myo_laval", clone, tmp_path / "out")
    done = prepare("myo_laval", clone, tmp_path / "out", any_commit=True)
    with h5py.File(tmp_path / "out" / done.files[0]) as file:
        assert file.attrs["source_commit"] == "unknown"
    with pytest.raises(PrepareError, match="is no folder"):
        prepare("myo_laval", tmp_path / "nowhere", tmp_path, any_commit=True)
    with pytest.raises(PrepareError, match="no file is named like"):
        prepare("3dc", clone, tmp_path, any_commit=True)
    with pytest.raises(PrepareError, match=r"name='laval' is unknown: choose from \['3dc', "):
        prepare("laval", clone, tmp_path)


def first_value(new: str) -> Callable[[Path], object]:
    """Replaces the first number of a table."""

    def change(path: Path) -> None:
        text = path.read_text()
        first = text.replace(" ", ",").split(",")[0]
        path.write_text(new + text[len(first) :])

    return change


def matlab(**variables: object) -> Callable[[Path], object]:
    from scipy.io import savemat

    return lambda path: savemat(path, variables)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("3dc", first_value("1.5"), "0.5 counts off the nearest integer"),
        ("3dc", first_value("32768"), "expected signed 16-bit"),
        ("3dc", first_value("nan"), "counts off the nearest integer"),
        ("3dc", first_value("1,2"), "expected rows of 10 numbers"),
        ("3dc", first_value("one"), "expected rows of 10 numbers"),
        ("3dc", lambda path: path.write_text(" \n"), "expected rows of 10 numbers, found nothing"),
        ("3dc", lambda path: path.write_text("1,2\n3,4\n"), "found rows of 2"),
        ("3dc", lambda path: path.write_bytes(b"\xff\xfe1"), "expected rows of 10 numbers"),
        ("3dc", lambda p: p.rename(p.with_name("EMG_gesture_0_11.txt")), "only 11 gestures"),
        ("3dc", lambda p: _beside(p, "EMG/EMG_gesture_0_0.txt"), "is the same part of P02"),
        ("contraction_intensity", first_value("0.00030518"), "0.5 counts off"),
        ("contraction_intensity", first_value("10.000305"), "expected signed 16-bit"),
        ("multiday", first_value("0.0005"), "0.5 counts off"),
        ("myo_ciil", first_value("128"), "expected signed 8-bit"),
        ("myo_ciil", lambda p: _restate(p, "Wrist_Flexion"), "calls it 'Wrist_Flexion'"),
        ("myo_ciil", lambda p: _beside(p, "metadata.json", "[1]"), "metadata.json: expected class"),
        ("myo_laval", lambda path: path.write_bytes(b"123"), "3 bytes: expected a multiple of 16"),
        ("myo_laval", lambda path: path.write_bytes(b""), "0 bytes: expected a multiple of 16"),
        ("myo_laval", lambda path: path.write_bytes(bytes(15) + b"\1"), "signed 8-bit"),
        ("myo_readings", first_value("128"), "expected signed 8-bit"),
        ("myo_readings", lambda path: path.write_text("1 2\n" * 9), "9 lines are not eight values"),
        ("myo_readings", lambda path: path.write_text(""), "are not eight values and a label"),
        ("myo_readings", lambda path: path.write_text("1,2,3,4,5,6,7,8,4"), r"has labels \[4\]"),
        ("flexemg", lambda path: path.write_bytes(b"MATLAB 7.3"), "expected a MATLAB 5 file"),
        ("flexemg", matlab(other=np.ones(3)), "expected a MATLAB 5 file with `raw`"),
        ("flexemg", matlab(raw=np.zeros((27999, 96))), r"expected numbers \(28000, 96\)"),
        ("flexemg", matlab(raw=np.ones((28000, 96))), "all zero from column 64"),
        ("flexemg", matlab(raw=np.pad(np.full((28000, 64), 0.5), ((0, 0), (0, 32)))), "0.5 counts"),
        ("flexemg", matlab(raw=np.pad(np.full((28000, 64), 4e4), ((0, 0), (0, 32)))), "16-bit"),
    ],
)
def test_a_file_that_is_not_as_expected_is_named(
    name: str, damage: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    made = made_up(name)[:1]
    clone = write_source(tmp_path / "clone", name, made)
    path = clone / source_file(name, made[0].take, int(made[0].segments[0][1][0]))
    damage(path)
    with pytest.raises(PrepareError, match=words) as caught:
        prepare(name, clone, tmp_path / "out", any_commit=True)
    assert str(path.parent) in str(caught.value)
    assert not list((tmp_path / "out").rglob("*.*"))  # nor half a file


def _beside(path: Path, name: str, text: str | None = None) -> None:
    other = path.with_name(name) if "/" not in name else path.parent / name
    other.parent.mkdir(exist_ok=True)
    other.write_text(path.read_text() if text is None else text)


def _restate(path: Path, gesture: str) -> None:
    facts = path.with_name("metadata.json")
    facts.write_text(facts.read_text().replace("Hand_Close", gesture))


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=40))
def test_volts_of_five_digits_give_back_every_count(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("volts") / "S1.csv"
    values = np.resize(np.array(counts, np.int16), (len(counts), 8))
    np.savetxt(path, (values + 0.5) * 20 / 65535, "%.5g", ",")
    (segment,) = COLLECTIONS["contraction_intensity"].read(path, 0)
    np.testing.assert_array_equal(segment.samples, values)


# Again, and beside others


def test_a_run_that_broke_off_is_repeated_and_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = write_source(tmp_path / "clone", "myo_ciil", made_up("myo_ciil"))
    prepare("myo_ciil", clone, tmp_path / "whole", any_commit=True)
    collection, read_so_far = COLLECTIONS["myo_ciil"], []

    def read(path: Path, label: int) -> object:
        read_so_far.append(path)
        if len(read_so_far) > 12:  # in the second person
            os.kill(os.getpid(), signal.SIGTERM)
        return collection.read(path, label)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setitem(COLLECTIONS, "myo_ciil", replace(collection, read=read))
        argv = ["data", "prepare", "myo_ciil", "--source", str(clone), "--out", str(out)]
        assert main([*argv, "--any-commit"]) == 130
    assert set(written(out)) == {"myo_ciil_min00.h5"}
    for _ in range(2):
        prepare("myo_ciil", clone, out, any_commit=True)
        assert written(out) == written(tmp_path / "whole")


def test_the_tables_hold_all_collections_and_no_file_of_another_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("myo_readings", "3dc", "myo_readings"):
        clone = write_source(tmp_path / name, name, made_up(name))
        prepare(name, clone, out, any_commit=True)
    files = [row.split(",")[0] for row in (out / "manifest.csv").read_text().splitlines()[1:]]
    expected = ["3dc_P02.h5", "3dc_P15.h5", "test/3dc_P17.h5"]
    expected += ["myo_readings_R10000.h5", "myo_readings_R64917.h5", "test/myo_readings_R70000.h5"]
    assert files == expected
    assert json.loads((out / "splits.json").read_text())["test"] == expected[2::3]

    stale = out / "3dc_P03.h5"
    stale.write_bytes((out / "3dc_P02.h5").read_bytes())
    done = prepare("3dc", tmp_path / "3dc", out, any_commit=True)
    assert done.notes[-1] == f"{stale}: is left from another run and in no table: delete it"
    assert "P03" not in (out / "manifest.csv").read_text()

    (out / "manifest.csv").write_text("file,mine\n")
    with pytest.raises(PrepareError, match=r"manifest\.csv: expected the columns"):
        prepare("3dc", tmp_path / "3dc", out, any_commit=True)


# The command


def test_the_command_lists_and_prepares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    listed = capsys.readouterr().out
    for each in COLLECTIONS.values():
        for fact in (each.name, each.device, each.licence, each.commit, each.citation):
            assert fact in listed

    clone = write_source(tmp_path / "clone", "myo_laval", made_up("myo_laval"))
    argv = ["data", "prepare", "myo_laval", "--source", str(clone), "--out", str(tmp_path / "out")]
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"emgcodec data: --source {clone}: is ")
    assert printed.err.count("\n") == 1
    assert main([*argv, "--any-commit"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("not in this clone: evalM00, ")
    assert "3 corpus files (0.0" in printed.out
    assert printed.err == ""


# The real corpus


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * slow) for n, slow in REAL.items()]
)
def test_real_files_undone_into_a_clone_come_back_the_same(
    name: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, _, subject = name.removesuffix(".h5").rpartition("_")
    commit = COLLECTIONS[dataset].commit
    monkeypatch.setattr(emgcodec.prepare, "clone_commit", lambda *_: commit)
    made = []
    with h5py.File(data_dir / name) as file:
        for key, group in file["recordings"].items():
            facts = [group.attrs[k] for k in ("session", "repetition", "condition")]
            starts, emg, labels = (group[k][:] for k in ("segment_starts", "emg", "labels"))
            pairs = zip(np.split(emg, starts[1:]), np.split(labels, starts[1:]), strict=True)
            made.append(Made(Take(subject, key, *facts), tuple(pairs)))
    prepare(dataset, write_source(tmp_path / "clone", dataset, made), tmp_path / "out")
    ours, theirs = tmp_path / "out" / name, data_dir / name
    same_content(ours, theirs)
    if h5py.__version__ == PINNED_H5PY:
        assert ours.read_bytes() == theirs.read_bytes()


def same_content(ours: Path, theirs: Path) -> None:
    """Groups, attributes and datasets are equal in names, types, values and packing."""

    def nodes(file: h5py.File) -> dict[str, object]:
        found = {"/": file}
        file.visititems(lambda name, node: found.__setitem__(name, node))
        return found

    with h5py.File(ours) as a, h5py.File(theirs) as b:
        left, right = nodes(a), nodes(b)
        assert set(left) == set(right)
        for key, mine in left.items():
            other = right[key]
            assert dict(mine.attrs) == dict(other.attrs)
            for attribute in mine.attrs:
                types = (node.attrs.get_id(attribute).dtype for node in (mine, other))
                assert len(set(types)) == 1
            if isinstance(mine, h5py.Dataset):
                for fact in ("dtype", "shape", "chunks", "compression", "compression_opts"):
                    assert getattr(mine, fact) == getattr(other, fact)
                assert mine.shuffle == other.shuffle
                np.testing.assert_array_equal(mine[()], other[()])


def test_people_are_where_the_real_corpus_has_them(data_dir: Path) -> None:
    splits = json.loads((data_dir / "splits.json").read_text())
    for part in ("train", "validation"):
        named = {
            f"{name}_{person}.h5"
            for name, each in COLLECTIONS.items()
            for person in getattr(each, part)
        }
        assert set(splits[part]) == named


def test_writing_a_real_file_again_changes_nothing(data_dir: Path, tmp_path: Path) -> None:
    name = "myo_ciil_min07.h5"
    with h5py.File(data_dir / name) as file:
        recordings = [
            CorpusRecording(
                Take(
                    "min07", key, *(group.attrs[k] for k in ("session", "repetition", "condition"))
                ),
                *(group[k][:] for k in ("emg", "labels", "segment_starts")),
            )
            for key, group in file["recordings"].items()
        ]
        write_corpus(tmp_path / name, dict(file.attrs), recordings)
    same_content(tmp_path / name, data_dir / name)


# The page


def test_the_page_states_the_pinned_commits() -> None:
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text("utf-8")
    for each in COLLECTIONS.values():
        assert f"| `{each.name}` | {each.repository} | `{each.commit}` |" in page

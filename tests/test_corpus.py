"""Corpora of tokens: what is in them, how their consumers read them, and how they survive kills."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import codec_for
from hypothesis import given
from hypothesis import strategies as st
from io_files import write_corpus, write_session
from test_io_bids import dataset

from emgcodec import Codec, Event, Layout, Recording, read_all
from emgcodec.cli import main
from emgcodec.corpus import CorpusError, build
from emgcodec.corpus.jobs import Input, Job, make_jobs
from emgcodec.corpus.pool import run_local
from emgcodec.corpus.settings import Settings
from emgcodec.io import write

ROOT = Path(__file__).parents[1]
TINY = 1e-6  # megabytes: a shard for each file
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]),
    "RAY_USAGE_STATS_ENABLED": "0",
}

pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    codec_for("student").save_pretrained(folder)
    return str(folder)


def take(seed: int, samples: int = 400) -> tuple[Any, Any, list[int]]:
    rng = np.random.default_rng(seed)
    return rng.integers(-500, 500, (samples, 10)), np.repeat([0, 1], samples // 2), [0]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpus files of three people, a typing session, a table, and one file cut off."""
    folder = tmp_path_factory.mktemp("mixed")
    for number in range(3):
        takes = {f"take{k}": take(10 * number + k) for k in range(2)}
        write_corpus(
            folder / f"P{number}.h5", recordings=takes, subject=f"P{number}", licence="MIT"
        )
    key = {"start": 0.1, "end": 0.2, "key": "a"}
    write_session(folder / "typing.hdf5", np.arange(1000) / 2000, typed=[key])
    table = np.random.default_rng(5).normal(0, 30, (300, 4))
    table[100:200] = np.nan
    np.savetxt(folder / "armband.csv", table, delimiter=",")
    (folder / "cut.h5").write_bytes((folder / "P0.h5").read_bytes()[:3000])
    return folder


def options(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "sample_rate": 1000.0, "shard_megabytes": TINY} | more


def tree(out: Path) -> dict[str, str]:
    """Checksums of all files that are not hidden."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file() and not path.relative_to(out).as_posix().startswith(".")
    }


def table(out: Path) -> list[dict[str, Any]]:
    """All rows of a corpus in Parquet, by id."""
    paths = out.glob("*/*.parquet")
    return sorted((row for p in paths for row in pq.read_table(p).to_pylist()), key=by_id)


def by_id(row: dict[str, Any]) -> str:
    return str(row["id"])


@pytest.fixture(scope="module")
def whole(mixed: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "corpus"
    build([mixed], out, **options(model))
    return out


# What is in it


def test_every_recording_is_there_once_with_the_codec_s_own_tokens(
    mixed: Path, whole: Path, model: str
) -> None:
    codec, wanted = Codec.from_pretrained(model), {}
    for path in sorted(mixed.iterdir()):
        if path.name != "cut.h5":
            for rec in read_all(path, sample_rate=1000.0):
                wanted[f"{path.name}:{rec.metadata['recording']}"] = rec, codec.tokenize(rec)
    rows = table(whole)
    assert [row["id"] for row in rows] == sorted(wanted)
    layout = Layout("flat", codec.num_codebooks, codec.codebook_size, vocab_id=codec.vocab_id)
    for row in rows:
        rec, tokens = wanted[row["id"]]
        assert np.array_equal(np.transpose(row["codes"]), tokens.codes)
        assert row["valid"] == tokens.valid.tolist()
        assert row["input_ids"] == tokens.to_ids(layout, specials=True).tolist()
        assert row["subject"] == rec.metadata.get("subject", "")
        assert row["licence"] == rec.metadata.get("licence", "")
        assert (row["sample_rate"], row["frame_rate"]) == (rec.sample_rate, codec.frame_rate)
        assert [(e["start"], e["end"], e["label"]) for e in row["events"]] == [
            (e.start, e.end, e.label) for e in rec.events
        ]
        valid = np.ones(row["num_frames"], bool)
        for start, stop in row["gaps"]:
            valid[start:stop] = False
        assert row["valid"] == valid.tolist()
    texts = {row["source"]: row["text"] for row in rows}
    assert texts["typing"] == "a"
    assert next(row for row in rows if row["source"] == "armband")["gaps"]


def test_sessions_calibrate_on_their_first_seconds(mixed: Path, model: str, tmp_path: Path) -> None:
    build([mixed / "P1.h5"], tmp_path / "out", **options(model, calibrate=0.2))
    codec = Codec.from_pretrained(model)
    first, second = read_all(mixed / "P1.h5")
    calibration = codec.calibrate([first.crop(0.0, 0.2)])  # of 0.4 s
    one, two = table(tmp_path / "out")
    for row, rec in ((one, first), (two, second)):
        tokens = codec.tokenize(rec, calibration=calibration)
        assert np.array_equal(np.transpose(row["codes"]), tokens.codes)
        assert row["calibration"] == calibration.digest()
    assert (one["calibrates"], two["calibrates"]) == (True, False)
    cold = codec.tokenize(second)
    assert not np.array_equal(np.transpose(two["codes"]), cold.codes)


def test_gestures_that_follow_one_another_are_cut_apart(model: str, tmp_path: Path) -> None:
    held = [("fist", 0.0, 0.5), ("rest", 0.6, 1.0), ("fist", 1.25, 2.0)]
    events = [Event(start, end, label) for label, start, end in held]
    events.append(Event(0.7, 0.8, "beep", kind="cue"))
    x = np.random.default_rng(0).normal(0, 30, (8, 2000)).astype("f4")
    several = Recording(x, 1000, montage="myo", events=events, start_time=100.0)
    alone = Recording(x, 1000, montage="myo", events=[events[0]])
    for name, rec in (("several", several), ("alone", alone)):
        write(rec, tmp_path / f"{name}.h5")
    more = {"calibrate": 0.8, "by_gesture": True}
    build([tmp_path], tmp_path / "out", **options(model, **more))
    codec = Codec.from_pretrained(model)
    calibration = codec.calibrate([several.crop(0.0, 0.8)])
    rows = {row["id"]: row for row in table(tmp_path / "out")}
    for label, start, end in held:
        row = rows.pop(f"several.h5:several@{start:.3f}")
        tokens = codec.tokenize(several.crop(start, end), calibration=calibration)
        assert np.array_equal(np.transpose(row["codes"]), tokens.codes)
        assert row["start_time"] == pytest.approx(100.0 + start)
        assert [e["label"] for e in row["events"] if e["kind"] == "gesture"] == [label]
        assert row["calibrates"] == (start < 0.8)
    (row,) = rows.values()  # one gesture stays as it is
    assert row["id"] == "alone.h5:alone"
    assert row["num_samples"] == 2000


def test_the_manifest_names_model_backend_files_and_what_is_wrong(whole: Path, model: str) -> None:
    manifest = json.loads((whole / "manifest.json").read_text())
    codec = Codec.from_pretrained(model)
    assert manifest["complete"]
    assert manifest["settings"]["codec_id"] == codec.codec_id
    assert manifest["settings"]["layout"]["vocab_id"] == codec.vocab_id
    assert {"processor", "torch", "numpy", "emgcodec"} <= manifest["backend"].keys()
    files = tree(whole)
    assert files.pop("manifest.json")
    assert manifest["files"] == files
    ((name, reason),) = manifest["skipped"]
    assert name == "cut.h5"
    assert "truncated" in reason
    ((name, samples, frames),) = manifest["repaired"]
    assert name.startswith("armband.csv")
    assert samples == 400
    assert frames > 0
    rows = sum(split["recordings"] for split in manifest["splits"].values())
    assert rows == len(table(whole)) == 8
    schema = pq.read_schema(next(whole.glob("*/*.parquet")))
    assert json.loads(schema.metadata[b"emgcodec"]) == manifest["settings"]


def test_a_person_is_in_one_split(mixed: Path, model: str, tmp_path: Path) -> None:
    halves = {"a": 0.5, "b": 0.5}
    build([mixed], tmp_path / "out", **options(model, splits=halves))
    splits: dict[str, set[str]] = {}
    for path in (tmp_path / "out").glob("*/*.parquet"):
        for row in pq.read_table(path).to_pylist():
            splits.setdefault(row["subject"], set()).add(path.parent.name)
    assert {len(found) for found in splits.values()} == {1}
    assert splits[""] == {"a"}  # who is not named may be anybody
    assert set.union(*splits.values()) == {"a", "b"}


def settings(**more: Any) -> Settings:
    values: dict[str, Any] = dict.fromkeys(("sample_rate", "unit", "montage"))
    values |= {"codec_id": "c", "model_licence": "", "layout": Layout("flat", 2, 64)}
    values |= {"format": "parquet", "splits": {"a": 0.7, "b": 0.3}, "shard_megabytes": 1.0}
    return Settings(**values | more)


def test_splits_have_their_share_of_the_people() -> None:
    split_of = settings().split_of
    found = [split_of(f"3dc/P{number}") for number in range(2000)]
    assert abs(found.count("a") / 2000 - 0.7) < 0.03
    assert settings(splits={"z": 0.1, "rest": 0.9}).split_of("") == "z"


@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=20))
def test_every_file_is_in_one_job_of_about_the_size(sizes: list[int]) -> None:
    files = [Input(f"{number:03d}", "", size, 0) for number, size in enumerate(sizes)]
    jobs = make_jobs(files, settings())
    assert [file for job in jobs for file in job.inputs] == files
    assert len({job.name for job in jobs}) == len(jobs)
    assert all(job.size <= 1_000_000 or len(job.inputs) == 1 for job in jobs)
    assert jobs == make_jobs(files, settings())
    other = make_jobs(files, settings(codec_id="d"))
    assert not {job.name for job in jobs} & {job.name for job in other}


# How consumers read it


def test_datasets_streams_it(whole: Path) -> None:
    datasets = pytest.importorskip("datasets")
    found = []
    for split in json.loads((whole / "manifest.json").read_text())["splits"]:
        files = str(whole / split / "*.parquet")
        found += list(
            datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
        )
    assert sorted((row["id"], row["input_ids"]) for row in found) == [
        (row["id"], row["input_ids"]) for row in table(whole)
    ]


def together(mixed: Path, model: str, out: Path, **more: Any) -> Path:
    """The stem of a corpus of one shard and split."""
    one = {"shard_megabytes": 100, "splits": {"train": 1.0}} | more
    build([mixed], out, **options(model, **one))
    return next((out / "train").iterdir()).with_suffix("")


def lines(stem: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stem.with_suffix(".jsonl").read_text().splitlines()]


def test_flat_npy_is_mapped(mixed: Path, whole: Path, model: str, tmp_path: Path) -> None:
    stem = together(mixed, model, tmp_path / "out", format="npy")
    ids = np.load(stem.with_suffix(".npy"), mmap_mode="r")
    assert ids.dtype == np.uint16
    found = {r["id"]: ids[r["start"] : r["start"] + r["length"]].tolist() for r in lines(stem)}
    assert found == {row["id"]: row["input_ids"] for row in table(whole)}
    assert sum(map(len, found.values())) == len(ids)
    assert {r["id"]: r["gaps"] for r in lines(stem)} == {r["id"]: r["gaps"] for r in table(whole)}


@pytest.mark.parametrize(("offset", "kind"), [(0, "<u2"), (128_256, "<i4")])
def test_megatron_by_the_byte(
    mixed: Path, whole: Path, model: str, tmp_path: Path, offset: int, kind: str
) -> None:
    stem = together(mixed, model, tmp_path / "out", format="megatron", offset=offset)
    ids = np.fromfile(stem.with_suffix(".bin"), kind)
    index = stem.with_suffix(".idx").read_bytes()
    count = len(table(whole))
    code = {"<u2": 8, "<i4": 4}[kind]
    assert index[:34] == b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, code, count, count + 1)
    lengths = np.frombuffer(index, "<i4", count, 34)
    pointers = np.frombuffer(index, "<i8", count, 34 + 4 * count)
    documents = np.frombuffer(index, "<i8", count + 1, 34 + 12 * count)
    assert len(index) == 34 + 12 * count + 8 * (count + 1)
    assert documents.tolist() == list(range(count + 1))
    wanted = {row["id"]: np.array(row["input_ids"]) + offset for row in table(whole)}
    for row, start, length in zip(lines(stem), pointers // ids.itemsize, lengths, strict=True):
        assert np.array_equal(ids[start : start + length], wanted[row["id"]])


@pytest.mark.slow
def test_megatron_reads_it(mixed: Path, whole: Path, model: str, tmp_path: Path) -> None:
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    for offset in (0, 128_256):
        stem = together(mixed, model, tmp_path / f"{offset}", format="megatron", offset=offset)
        found = indexed.IndexedDataset(str(stem))
        wanted = {row["id"]: row["input_ids"] for row in table(whole)}
        assert len(found) == len(wanted)
        for ids, row in zip(found, lines(stem), strict=True):
            assert (ids.astype(int) - offset).tolist() == wanted[row["id"]]


def test_webdataset_reads_it(mixed: Path, whole: Path, model: str, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    stem = together(mixed, model, tmp_path / "out", format="webdataset")
    path = str(stem.with_suffix(".tar"))
    found = list(webdataset.WebDataset(path, shardshuffle=False).decode())
    assert len({sample["__key__"] for sample in found}) == len(found)
    found.sort(key=lambda sample: sample["json"]["id"])
    for sample, row in zip(found, table(whole), strict=True):
        assert sample["json"]["id"] == row["id"]
        assert sample["ids.npy"].tolist() == row["input_ids"]
        assert np.array_equal(sample["codes.npy"].T, row["codes"])
        assert sample["valid.npy"].tolist() == row["valid"]


@pytest.mark.parametrize(
    "chosen",
    [
        {"layout": "parallel", "stack": 3, "gaps": "runs"},
        {"layout": "delay", "offset": 1000},
        {"layout": "joint", "gaps": "runs"},
    ],
)
def test_ids_of_any_layout_give_the_codes_back(
    mixed: Path, model: str, tmp_path: Path, chosen: dict[str, Any]
) -> None:
    stem = together(mixed, model, tmp_path / "out", **chosen)
    codec = Codec.from_pretrained(model)
    kind = chosen.pop("layout")
    layout = Layout(kind, codec.num_codebooks, codec.codebook_size, **chosen)
    for row in pq.read_table(stem.with_suffix(".parquet")).to_pylist():
        codes, valid = layout.to_codes(np.transpose(row["input_ids"]), row["valid"])
        assert np.array_equal(codes.T[valid], np.array(row["codes"])[valid])
        assert valid.tolist() == row["valid"]


# The same files however they are made, and after whatever


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of jobs that are done from now on."""
    from emgcodec.corpus.shard import ShardMaker

    done: list[str] = []
    make = ShardMaker.__call__

    def call(self: ShardMaker, job: Any) -> Any:
        done.append(job.inputs[0].name)
        return make(self, job)

    monkeypatch.setattr(ShardMaker, "__call__", call)
    return done


def test_what_is_whole_is_not_done_again_and_what_is_not_is(
    mixed: Path, whole: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, done = tmp_path / "out", counted(monkeypatch)
    shutil.copytree(whole, out)
    for engine in ({}, {"workers": 2}, {"engine": "ray", "address": "nowhere:1"}):
        build([mixed], out, **options(model, **engine))
        assert done == []
        assert tree(out) == tree(whole)

    records = {
        json.loads(path.read_text())["inputs"][0][0]: path for path in out.glob(".jobs/*.json")
    }

    def files(name: str) -> list[Path]:
        return [out / file for file in json.loads(records[name].read_text())["files"]]

    (damaged,) = files("P0.h5")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (missing,) = files("P1.h5")
    missing.unlink()
    records["P2.h5"].unlink()  # killed between its files and its record
    (out / ".jobs" / "emg-0.part").mkdir()
    (out / ".jobs" / "emg-0.part" / "half.parquet").write_bytes(b"PAR1")
    (out / ".jobs" / ".emg-0.1-1.json").write_text("{")
    records["typing.hdf5"].write_text("")  # the power failed
    build(sorted(mixed.iterdir(), reverse=True), out, **options(model))
    assert done == ["P0.h5", "P1.h5", "P2.h5", "typing.hdf5"]
    assert tree(out) == tree(whole)
    assert {p.name for p in out.glob(".jobs/*")} == {p.name for p in whole.glob(".jobs/*")}


def failing(error: Exception, name: str) -> Callable[..., Any]:
    """`read_all` that cannot read one file."""

    def read(path: str, **more: Any) -> Iterator[Recording]:
        if Path(path).name == name:
            raise error
        yield from read_all(path, **more)

    return read


def test_what_was_skipped_is_read_again_if_one_asks_for_it(
    mixed: Path, whole: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, done = tmp_path / "out", counted(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr("emgcodec.corpus.shard.read_all", failing(OSError("disk"), "P1.h5"))
        report = build([mixed], out, **options(model))
    assert ["P1.h5", "disk"] in report.skipped
    done.clear()
    assert build([mixed], out, **options(model)).skipped == report.skipped
    assert done == []
    report = build([mixed], out, **options(model, retry=True))
    assert sorted(done) == ["P1.h5", "cut.h5"]
    assert [name for name, _ in report.skipped] == ["cut.h5"]
    assert tree(out) == tree(whole)


def test_a_file_is_skipped_and_a_broken_machine_stops_everything(
    mixed: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched = "emgcodec.corpus.shard.read_all"
    for error in (NotImplementedError("compression"), RecursionError("depth"), KeyError("emg")):
        monkeypatch.setattr(patched, failing(error, "P1.h5"))
        name = type(error).__name__
        report = build([mixed / "P0.h5", mixed / "P1.h5"], tmp_path / name, **options(model))
        assert [skipped for skipped, _ in report.skipped] == ["P1.h5"]
    for error in (RuntimeError("illegal instruction"), MemoryError()):
        monkeypatch.setattr(patched, failing(error, "P1.h5"))
        with pytest.raises(type(error)):
            build([mixed / "P0.h5", mixed / "P1.h5"], tmp_path / "out", **options(model))


def test_a_device_that_is_not_the_cpu_is_held_against_it(
    mixed: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under another name the same device: what a GPU gives is printed in the same way."""
    argv = ["corpus", "build", str(mixed / "P0.h5"), "-o", str(tmp_path / "out")]
    assert main([*argv, "--model", model, "--device", "cpu:0"]) == 0
    assert "the CPU finds 100.0000% of the codes too" in capsys.readouterr().out


def test_an_emg_bids_dataset_is_one_input(model: str, tmp_path: Path) -> None:
    pytest.importorskip("edfio")
    dataset(tmp_path / "bids")
    build([tmp_path / "bids"], tmp_path / "out", **options(model))
    codec = Codec.from_pretrained(model)
    rows, wanted = table(tmp_path / "out"), list(read_all(tmp_path / "bids"))
    assert len(rows) == len(wanted) == 2
    for row, rec in zip(rows, wanted, strict=True):
        assert np.array_equal(np.transpose(row["codes"]), codec.tokenize(rec).codes)
        assert row["subject"] == "01"


def test_parquet_without_its_library_is_refused_at_once(
    mixed: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emgcodec.corpus.formats.find_spec", lambda _: None)
    with pytest.raises(CorpusError, match="pyarrow"):
        build([mixed], tmp_path / "out", **options(model))


def test_files_may_change_and_more_may_come_but_none_may_be_lost(
    mixed: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(mixed, source)
    late = (source / "P2.h5").rename(tmp_path / "P2.h5")
    build([source], out, **options(model))
    done = counted(monkeypatch)
    late.rename(source / "P2.h5")
    shutil.copy(source / "P0.h5", source / "cut.h5")  # mended
    report = build([source], out, **options(model))
    assert done == ["P2.h5", "cut.h5"]
    assert report.skipped == []
    build([source], tmp_path / "afresh", **options(model))
    assert tree(out) == tree(tmp_path / "afresh")
    before = tree(out)
    (source / "P1.h5").unlink()
    with pytest.raises(CorpusError, match=r"P1\.h5.*name another folder"):
        build([source], out, **options(model))
    assert tree(out) == before


def test_shards_are_dealt_anew_when_files_come_between(
    mixed: Path, model: str, tmp_path: Path
) -> None:
    """Several files a shard: an early one moves all others on, and nothing is there twice."""
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(mixed, source)
    two = options(model, shard_megabytes=0.04)
    first = (source / "P0.h5").rename(tmp_path / "P0.h5")
    build([source], out, **two)
    next(out.glob(".jobs/*.json")).unlink()  # killed between its files and its record
    first.rename(source / "P0.h5")
    build([source], out, **two)
    build([source], tmp_path / "afresh", **two)
    assert tree(out) == tree(tmp_path / "afresh")


def test_another_backend_is_refused(
    mixed: Path, whole: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    for path in out.glob(".jobs/*.json"):
        record = json.loads(path.read_text())
        record["backend"]["torch"] = "1.0"
        path.write_text(json.dumps(record))
    assert build([mixed], out, **options(model)).skipped  # nothing to do: nothing to refuse
    next(out.glob("*/*.parquet")).unlink()
    before = tree(out)
    with pytest.raises(CorpusError, match=r"another backend \(torch 1\.0, now 2"):
        build([mixed], out, **options(model))
    before.pop("manifest.json")
    after = tree(out)
    assert json.loads((out / "manifest.json").read_text())["complete"] is False
    after.pop("manifest.json")
    assert after == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layout": "joint"}, "begun with other settings"),
        ({"format": "npy"}, "begun with other settings"),
        ({"unit": "mV"}, "unit"),
        ({"shard_megabytes": 3}, "shard_megabytes"),
        ({"splits": {"train": 1.0}}, "splits"),
    ],
)
def test_other_settings_are_refused(
    mixed: Path, whole: Path, model: str, change: dict[str, Any], words: str
) -> None:
    before = tree(whole)
    with pytest.raises(CorpusError, match=words):
        build([mixed], whole, **options(model, **change))
    assert tree(whole) == before


def _foreign(out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("do not touch")


def _newer(out: Path) -> None:
    out.mkdir()
    (out / "manifest.json").write_text('{"format_version": 2}')


@pytest.mark.parametrize(
    ("prepare", "change", "words"),
    [
        (None, {"format": "mds"}, "format='mds'"),
        (None, {"format": "npy", "layout": "delay"}, "layout='flat'"),
        (None, {"format": "megatron", "layout": "parallel"}, "layout='flat'"),
        (None, {"format": "npy", "offset": 65_500, "layout": "flat"}, "offset=0"),
        (None, {"layout": "zigzag"}, "zigzag"),
        (None, {"engine": "dask"}, "engine='dask'"),
        (None, {"workers": 0}, "workers=0"),
        (None, {"device": "cuda:99"}, "device='cuda:99'.*cpu"),
        (None, {"shard_megabytes": 0}, "shard_megabytes=0"),
        (None, {"splits": {"train": 0.5}}, "add up to 1"),
        (None, {"splits": {}}, "add up to 1"),
        (None, {"splits": {"a/b": 1.0}}, "splits="),
        (None, {"splits": {"a": 1.5, "b": -0.5}}, "splits="),
        (None, {"model": "nobody"}, "nobody"),
        (None, {"inputs": ["nowhere.h5"]}, "nowhere.h5 does not exist"),
        (None, {"inputs": []}, "no recordings"),
        (_foreign, {}, "something else"),
        (_newer, {}, "manifest"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    mixed: Path,
    model: str,
    tmp_path: Path,
    prepare: Callable[[Path], None] | None,
    change: dict[str, Any],
    words: str,
) -> None:
    if prepare:
        prepare(tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    inputs = change.pop("inputs", [mixed])
    with pytest.raises(ValueError, match=words):
        build(inputs, tmp_path / "out", **options(model) | change)
    assert sorted(tmp_path.rglob("*")) == before


def test_one_process_a_folder(mixed: Path, model: str, whole: Path) -> None:
    from filelock import FileLock

    with (
        FileLock(whole / ".jobs" / "lock"),
        pytest.raises(CorpusError, match="another process"),
    ):
        build([mixed], whole, **options(model))


# Processes, and what kills them


def command(source: Path, out: Path, model: str, *more: str) -> list[str]:
    argv = [sys.executable, "-m", "emgcodec", "corpus", "build", str(source), "-o", str(out)]
    argv += ["--model", model, "--sample-rate", "1000", "--shard-megabytes", str(TINY)]
    return [*argv, "--workers", "2", *more]


def started(argv: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not true() and process.poll() is None:
        time.sleep(0.01)


def all_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen files of some work."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(12):
        takes = {f"take{k}": take(100 * number + k, 20_000) for k in range(2)}
        write_corpus(folder / f"P{number:02d}.h5", recordings=takes, subject=f"P{number:02d}")
    return folder


@pytest.fixture(scope="module")
def many_whole(many: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("many_whole") / "corpus"
    build([many], out, **options(model))
    return tree(out)


def test_killed_and_stopped_it_goes_on_in_two_processes(
    many: Path, many_whole: dict[str, str], model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def records() -> int:
        return len(list(out.glob(".jobs/*.json")))

    for number, end in ((1, signal.SIGKILL), (4, signal.SIGTERM)):
        process = started(command(many, out, model))
        wait_until(lambda number=number: records() >= number, process)  # type: ignore[misc]
        process.send_signal(end)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (-9 if end is signal.SIGKILL else 130), errors
        deadline = time.monotonic() + 20
        while not all_gone(process.pid):  # the workers do not outlive it
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert number <= records() < 12
        assert json.loads((out / "manifest.json").read_text())["complete"] is False
    assert "interrupted" in errors
    assert [path for path in out.glob(".jobs/*") if path.is_dir()] == []
    build([many], out, **options(model))
    assert tree(out) == many_whole


class Dying:
    """A `ShardMaker` of a worker that the system kills."""

    def __call__(self, job: Job) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_worker_that_dies_is_told_of() -> None:
    jobs = [Job(name, ()) for name in "ab"]
    with pytest.raises(CorpusError, match="worker died"):
        list(run_local(jobs, Dying(), 2))  # type: ignore[arg-type]


def kill_at_random(argv: list[str], out: Path, chance: random.Random) -> None:
    """While it starts, or some shards later and a little more: starting takes most of the time."""

    def records() -> int:
        return len(list(out.glob(".jobs/*.json")))

    before, more = records(), chance.choice([0, 1, 2, 4])
    process = started(argv)
    if more:
        wait_until(lambda: records() >= before + more, process)
    time.sleep(chance.uniform(0, 0.3 if more else 6.0))
    with contextlib.suppress(ProcessLookupError):  # it may have come to its end
        os.killpg(process.pid, signal.SIGKILL) if chance.random() < 0.5 else process.kill()
    process.communicate(timeout=60)


def survive_kills(
    kills: int, argv: Callable[[Path], list[str]], folder: Path, wanted: dict[str, str]
) -> None:
    chance, number = random.Random(0), 0
    for kill in range(kills):
        out = folder / str(number)
        kill_at_random(argv(out), out, chance)
        if len(list(out.glob(".jobs/*.json"))) == 12 or kill == kills - 1:
            done = subprocess.run(argv(out), env=ENVIRONMENT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert tree(out) == wanted
            number += 1
    assert number


@pytest.mark.slow
def test_fifty_kills(many: Path, many_whole: dict[str, str], model: str, tmp_path: Path) -> None:
    survive_kills(50, lambda out: command(many, out, model), tmp_path, many_whole)


@pytest.mark.slow
def test_ten_kills_on_ray(
    many: Path, many_whole: dict[str, str], model: str, tmp_path: Path
) -> None:
    pytest.importorskip("ray")

    def argv(out: Path) -> list[str]:
        return command(many, out, model, "--engine", "ray", "--workers", "64")

    survive_kills(10, argv, tmp_path, many_whole)


_CLUSTER = """
import sys, ray
from ray.cluster_utils import Cluster
from emgcodec.cli import main
head = {"num_cpus": 1, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print("nodes", len(cluster.list_all_nodes()))
status = main([*sys.argv[1:], "--address", cluster.address])
cluster.shutdown()
sys.exit(status)
"""


@pytest.mark.slow
def test_two_ray_nodes_make_the_same_files(
    many: Path, many_whole: dict[str, str], model: str, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    argv = command(many, tmp_path / "out", model, "--engine", "ray", "--workers", "4")[3:]
    done = subprocess.run(
        [sys.executable, "-c", _CLUSTER, *argv],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "nodes 2" in done.stdout
    assert tree(tmp_path / "out") == many_whole


def test_the_command_says_what_it_skipped_and_repaired(
    mixed: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["corpus", "build", str(mixed), "-o", str(tmp_path / "out"), "--model", model]
    argv += ["--sample-rate", "1000", "--splits", "train=0.5,test=0.5"]
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert [line for line in shown.err.splitlines() if "skipped" in line] == shown.err.splitlines()
    assert "skipped cut.h5: cannot be read as HDF5" in shown.err
    assert "repaired armband.csv:armband: 400 samples missing" in shown.out
    assert "1 recordings name no person: all are in train" in shown.out  # the table
    assert "train: " in shown.out
    assert len(table(tmp_path / "out")) == 8

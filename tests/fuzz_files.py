"""Good files of every kind that is read, and what is done to them."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
from io_files import table, write_corpus, write_dataset, write_session, write_xdf, xdf_stream
from scipy.io import savemat
from training import small_codec, write_recipe

from emgcodec import Montage, Recording
from emgcodec.io import write
from emgcodec.recording import Event
from emgcodec.train.checkpoint import Checkpoint
from emgcodec.train.recipe import Recipe
from emgcodec.wire import Packer

Damage = Callable[[Random, bytes], bytes]

X = np.random.default_rng(0).normal(0, 50, (3, 200))
RATES = {"sample_rate": 1000}
_SEAL = b'{\\"sha256\\":\\"'

NUMBERS = [0, 1, 2, 3, 64, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
WORDS = [
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "-0",
    "1e999",
    "1e308",
    "1e-320",
    "99999999999999999999",
    "../../x",
    "\x00",
    "é",
    "[]",
    "{}",
    "null",
]
VALUES: list[Any] = [*NUMBERS, *(-n for n in NUMBERS), 10**400, 1e308, 1e-320, float("nan")]
VALUES += [float("inf"), "", "os.system", "../../x", "\0", None, True, [], {}, [[]], [""], {"": 0}]


def specimens(folder: Path) -> dict[str, list[Path]]:
    """Writes good files; which there are, by kind."""
    folder.mkdir()
    codec = small_codec()
    recording = Recording(X, 1000, montage=Montage.ring(3), events=[Event(0, 0.01, "a")])
    write_corpus(folder / "corpus.h5")
    keys = [{"key": "a", "start": 0.01, "end": 0.02, "ascii": 97}]
    write_session(folder / "session.hdf5", np.arange(60) / 2000, typed=keys)
    with h5py.File(folder / "pose.hdf5", "w") as file:
        row = np.dtype([("time", "<f8"), ("joint_angles", "<f4", (20,)), ("emg", "<f4", (16,))])
        rows = np.zeros(60, row)
        rows["time"] = np.arange(60) / 2000
        file.create_dataset("emg2pose/timeseries", data=rows, chunks=True)
        file["emg2pose"].attrs.update(user="a", session="b", stage="c", side="left")
    with h5py.File(folder / "generic.h5", "w") as file:
        file.create_dataset("run/emg", data=X.T / 1000, compression="gzip", shuffle=True)
        file["restimulus"] = np.repeat([0, 1, 0, 2], 50)
        file.attrs.update(sampling_rate=1000.0, unit="mV")
    np.save(folder / "array.npy", X)
    np.savez_compressed(folder / "arrays.npz", emg=X / 1000, sample_rate=1000, unit="mV")
    np.savez(
        folder / "stored.npz", emg=X.astype("i2"), montage=json.dumps(Montage.ring(3).to_dict())
    )
    (folder / "table.csv").write_text(table(X, first="# unit: uV\n# sample_rate: 1000\na,b,c"))
    head = "Export:,1\nSampling Rate: 1000 Hz\nTime [s],EMG 1 (mV),ACC X (g)"
    (folder / "export.tsv").write_text(table(np.stack([np.arange(200), *X[:2]]) / 1000, "\t", head))
    for name in ("plain.edf", "plain.bdf", "ours.h5"):
        write(recording, folder / name)
    for name, packed in (("packed.mat", True), ("plain.mat", False)):
        arrays = {"emg": X.T, "fs": 1000.0, "restimulus": np.repeat([[0], [1]], 100, axis=0)}
        savemat(folder / name, arrays, do_compression=packed)
    np.resize(X, (200, 8)).clip(-128, 127).astype("<i2").tofile(folder / "myo.dat")
    stamps = (np.arange(200) / 1000).tolist()
    marks = xdf_stream(2, ["go"], [0.1], name="M", kind="Markers", rate=0, form="string")
    channels = [(f"EMG {k}", "mV", "EMG") for k in range(3)]
    write_xdf(folder / "lab.xdf", xdf_stream(1, X.T / 1000, stamps, channels=channels), marks)
    recordings = sorted(folder.iterdir())
    write_dataset(folder / "bids", lambda path: write(Recording(X, 1000), path))
    tokens, calibration = codec.tokenize(recording), codec.calibrate([recording])
    tokens.save(folder / "a.tokens")
    calibration.save(folder / "worn.calibration")
    codec.save_pretrained(folder / "model")
    recipe = Recipe.load(write_recipe(folder), [])
    state = {"model.a": codec.state_dict()["quantizer.codebooks"]}
    Checkpoint(recipe, "data", 3, 1.5, state).save(folder / "state.safetensors")
    packer = Packer(tokens)
    packets = [
        packer.pack(tokens.codes[:, k:][:, :5], tokens.valid[k : k + 5]) for k in range(0, 20, 5)
    ]
    (folder / "stream.packets").write_bytes(b"".join(packet for some in packets for packet in some))
    return {
        "recording": [path for path in recordings if path.suffix != ".npz"],
        "dataset": [folder / "bids"],
        "archive": [path for path in recordings if path.suffix == ".npz"],
        "tokens": [folder / "a.tokens"],
        "config": [folder / "model", folder / "recipe.toml"],
        "safetensors": [
            folder / "worn.calibration",
            folder / "state.safetensors",
            folder / "model",
        ],
        "packets": [folder / "stream.packets"],
    }


def _flip(chance: Random, data: bytes) -> bytes:
    raw = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        raw[_place(chance, raw)] ^= 1 << chance.randrange(8)
    return bytes(raw)


def _numbers(chance: Random, data: bytes) -> bytes:
    """Sizes and offsets that cannot be, in either order of bytes."""
    raw = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        size = chance.choice([1, 2, 4, 8])
        at = _place(chance, raw) // size * size
        number = chance.choice(NUMBERS) % 2 ** (8 * size)
        raw[at : at + size] = number.to_bytes(size, chance.choice(["little", "big"]))
    return bytes(raw)


def _cut(chance: Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


def _leave_out(chance: Random, data: bytes) -> bytes:
    a, b = sorted((_place(chance, data), _place(chance, data)))
    return data[:a] + data[b:]


def _repeat(chance: Random, data: bytes) -> bytes:
    a, b = sorted((_place(chance, data), _place(chance, data)))
    return data[:b] + data[a:b] * chance.randint(1, 20) + data[b:]


def _turn(chance: Random, data: bytes) -> bytes:
    """The other order of bytes."""
    size, a = chance.choice([2, 4, 8]), _place(chance, data)
    stop = a + size * chance.randint(1, 40)
    words = (data[k : k + size][::-1] for k in range(a, stop, size))
    return data[:a] + b"".join(words) + data[stop:]


def _reword(chance: Random, data: bytes) -> bytes:
    """Another number or word where there was one."""
    import re

    places = list(re.finditer(rb"[\w.+-]+", data[:4096]))
    if not places:
        return _flip(chance, data)
    place = chance.choice(places)
    word = chance.choice(WORDS).encode()
    if chance.random() < 0.5:  # in fields of fixed width
        word = word[: len(place[0])].ljust(len(place[0]))
    return data[: place.start()] + word + data[place.end() :]


def _place(chance: Random, data: bytes | bytearray) -> int:
    """Anywhere, but rather where headers are."""
    return chance.randrange(max(1, min(len(data), chance.choice([512, 4096, len(data)]))))


DAMAGE: list[Damage] = [_flip, _numbers, _cut, _leave_out, _repeat, _turn, _reword]


def damaged(chance: Random, data: bytes) -> bytes:
    for _ in range(chance.choice([1, 1, 2])):
        data = chance.choice(DAMAGE)(chance, data) if data else data
    return data


def sealed(data: bytes) -> bytes:
    """A tokens file with a checksum that fits what was made of it."""
    start = data.find(_SEAL) + len(_SEAL)
    blank = data[:start] + b"0" * 64 + data[start + 64 :]
    return data[:start] + hashlib.sha256(blank).hexdigest().encode() + data[start + 64 :]


def changed(chance: Random, value: Any) -> Any:
    """Something else at one place of a JSON value."""
    if isinstance(value, dict | list) and value and chance.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = chance.choice(keys)
        value[key] = changed(chance, value[key])
        return value
    return chance.choice(VALUES)


def header_changed(chance: Random, data: bytes) -> bytes:
    """A safetensors file with something else in its header, whose length fits."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    for name in list(header.get("__metadata__", {})):  # JSON within JSON
        if chance.random() < 0.7:
            try:
                inner = changed(chance, json.loads(header["__metadata__"][name]))
            except json.JSONDecodeError:
                continue
            header["__metadata__"][name] = json.dumps(inner)
    if chance.random() < 0.4:
        header = changed(chance, header)
    text = json.dumps(header, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + data[end:]


def odd_array(chance: Random) -> np.ndarray[Any, Any]:
    """An array of any type and shape, with numbers that overflow or are none."""
    shape = chance.choice(
        [(), (0,), (7,), (3, 200), (200, 3), (0, 200), (200, 0), (200, 129), (1, 1, 1), (2, 3, 200)]
    )
    kind = chance.choice(
        [
            "f2",
            "<f4",
            ">f4",
            "<f8",
            ">f8",
            "i1",
            "<i2",
            ">i2",
            "<i4",
            ">i4",
            "<i8",
            ">u8",
            "?",
            "c16",
            "S5",
            "U5",
        ]
    )
    fill = chance.choice([0, 1, -1, 127, 1e4, 1e39, 1e300, np.nan, np.inf])
    with np.errstate(all="ignore"):
        values = np.full(shape, fill) if chance.random() < 0.5 else np.resize(X, shape) * fill
        array = np.asarray(values).astype(kind)
    if array.size and array.dtype.kind == "f" and chance.random() < 0.5:
        array.reshape(-1)[0] = chance.choice([np.nan, np.inf, -np.inf])
    return np.asfortranarray(array) if chance.random() < 0.3 else array


def odd_arrays(chance: Random, path: Path) -> None:
    """A file of arrays that is whole, whatever it holds."""
    names = ["emg", "sample_rate", "unit", "fs", "restimulus", "montage", "start_time", "../../x"]
    arrays = {name: odd_array(chance) for name in chance.sample(names, chance.randint(1, 4))}
    if path.suffix == ".npy":
        np.save(path, next(iter(arrays.values())))
    elif path.suffix == ".npz":
        (np.savez_compressed if chance.random() < 0.5 else np.savez)(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                if array.dtype.kind == "U":
                    file.attrs[name.replace("/", "")] = str(array)
                elif chance.random() < 0.3 and array.nbytes < 60_000:
                    file.attrs[name.replace("/", "")] = array
                else:
                    file[name] = array


def rewired(chance: Random, path: Path) -> None:
    """An HDF5 file with another object, attribute or link at one place."""
    with h5py.File(path, "r+") as file:
        nodes: list[str] = []
        file.visit(nodes.append)
        name = chance.choice(["/", *nodes])
        attributes = list(file[name].attrs)
        if attributes and (name == "/" or chance.random() < 0.5):
            key = chance.choice(attributes)
            text = file[name].attrs[key]
            if isinstance(text, str) and text[:1] in "[{" and text[:1]:
                file[name].attrs[key] = json.dumps(changed(chance, json.loads(text)))
            else:
                value = chance.choice([v for v in VALUES if not isinstance(v, dict) and v])
                file[name].attrs[key] = (
                    odd_array(chance).tolist() if value is True else str(value).replace("\0", " ")
                )
        elif name != "/":
            del file[name]
            links = [
                h5py.SoftLink("/"),
                h5py.SoftLink("/emg"),
                h5py.ExternalLink("secret.h5", "/emg"),
            ]
            array = odd_array(chance)
            file[name] = chance.choice([*links, str(array) if array.dtype.kind == "U" else array])


def make(chance: Random, kind: str, source: Path, folder: Path) -> Path:
    """A hostile copy of a good file or model, in a folder of its own."""
    folder.mkdir()
    path = folder / source.name
    if source.is_dir():
        shutil.copytree(source, path)
        if kind == "dataset":
            _one_of(chance, path)
            return path
        name = "config.json" if kind == "config" else "model.safetensors"
        raw = (path / name).read_bytes()
        if chance.random() < 0.3:
            raw = damaged(chance, raw)
        elif kind == "config":
            raw = json.dumps(changed(chance, json.loads(raw))).encode()
        else:
            raw = header_changed(chance, raw)
        (path / name).write_bytes(raw)
        return path
    shutil.copyfile(source, path)
    raw, bytewise = path.read_bytes(), chance.random() < 0.5
    if kind == "tokens" or (kind == "safetensors" and not bytewise):
        raw = damaged(chance, raw) if bytewise else header_changed(chance, raw)
        path.write_bytes(sealed(raw) if kind == "tokens" and chance.random() < 0.7 else raw)
    elif path.suffix in (".h5", ".hdf5") and not bytewise and chance.random() < 0.7:
        rewired(chance, path)
    elif path.suffix in (".npy", ".npz", ".h5") and not bytewise:
        odd_arrays(chance, path)
        if kind == "archive" and chance.random() < 0.3:
            _readd(chance, path)
    else:
        path.write_bytes(damaged(chance, raw))
    return path


def _readd(chance: Random, path: Path) -> None:
    """A name twice, or one that points elsewhere."""
    with zipfile.ZipFile(path, "a") as archive:
        name = chance.choice([archive.namelist()[0], "../../x.npy", "/etc/x.npy", "a" * 9999])
        archive.writestr(name, damaged(chance, archive.read(archive.namelist()[0])))


def _one_of(chance: Random, folder: Path) -> None:
    """Damage to one file of a dataset: its signal, a table or the sidecar."""
    files = sorted(folder.rglob("*emg.*")) + sorted(folder.rglob("sub-*.tsv"))
    path = chance.choice(files)
    raw, bytewise = path.read_bytes(), chance.random() < 0.5
    if path.suffix == ".json" and not bytewise:
        path.write_text(json.dumps(changed(chance, json.loads(raw))))
    elif path.suffix == ".tsv" and not bytewise:
        rows = [line.split("\t") for line in raw.decode().splitlines()]
        row = chance.choice(rows)
        if chance.random() < 0.3:
            del row[chance.randrange(len(row)) :]
        else:
            row[chance.randrange(len(row))] = chance.choice(WORDS)
        path.write_text("".join("\t".join(row) + "\n" for row in rows))
    else:
        path.write_bytes(damaged(chance, raw))

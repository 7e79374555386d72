"""Files made to do harm, one for each way: each must be refused, or read as what it is."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from io_files import ROW, table, write_corpus, write_dataset, write_xdf, xdf_length, xdf_stream
from safetensors.numpy import save_file
from scipy.io import savemat

from emgcodec import Recording
from emgcodec.io import write
from emgcodec.io.entry import MAX_EVENTS

SECRET = 31337.0
"""What stands in a file that none of those given names, and that must not come out of any."""

X = np.random.default_rng(0).normal(0, 50, (3, 300))
ZEROS = 1 << 26
FLICKER = (np.arange(MAX_EVENTS + 1) % 2).astype("i1")[None]
NESTED = "[" * 100_000


class Harm:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch harmed",)


def _zip(path: Path, members: dict[str, bytes | int]) -> Path:
    """An archive of files, or of so many zeros behind the header of an array."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            with archive.open(name, "w", force_zip64=True) as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    file.write(npy_header((3, 1 << 28)))  # 6 GiB
                    for _ in range(content >> 24):
                        file.write(bytes(1 << 24))
    return path


def npy_header(shape: tuple[int, ...], descr: str = "<f8", order: bool = False) -> bytes:
    text = repr({"descr": descr, "fortran_order": order, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _nested(name: str, key: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        save_file({"a": X}, folder / name, {key: NESTED})
        return folder / name

    return write


def _nested_sidecar(folder: Path) -> Path:
    write_dataset(folder / "bids", lambda path: write(Recording(X, 1000), path))
    (folder / "bids" / "emg.json").write_text(NESTED)
    return folder / "bids"


def _bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _archive(members: Callable[[], dict[str, bytes | int]]) -> Callable[[Path], Path]:
    return lambda folder: _zip(folder / "x.npz", members())


def _npy(array: Any) -> bytes:
    array = np.asarray(array)
    return npy_header(array.shape, array.dtype.str) + array.tobytes()


def _pickled(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        array = np.array([[Harm()]], dtype=object)
        if name.endswith(".npy"):
            np.save(folder / name, array, allow_pickle=True)
        elif name.endswith(".npz"):
            np.savez(folder / name, emg=array, allow_pickle=True)
        elif name.endswith(".mat"):
            savemat(folder / name, {"emg": np.array([[{"a": pickle.dumps(Harm())}]], dtype=object)})
        else:
            (folder / name).write_bytes(pickle.dumps(Harm()))
        return folder / name

    return write


def _hdf5(build: Callable[[Any], None]) -> Callable[[Path], Path]:
    """A file by its builder, beside a secret."""

    def write(folder: Path) -> Path:
        with h5py.File(folder / "secret.bin", "w") as file:
            file["emg"] = np.full((3, 300), SECRET)
        (folder / "secret.raw").write_bytes(np.full((3, 300), SECRET).tobytes())
        with h5py.File(folder / "x.h5", "w") as file:
            file.attrs["fs"] = 1000.0
            build(file)
        return folder / "x.h5"

    return write


def _external_link(file: Any) -> None:
    file["emg"] = h5py.ExternalLink("secret.bin", "/emg")


def _external_storage(file: Any) -> None:
    file.create_dataset("emg", (3, 300), "f8", external=[("secret.raw", 0, 7200)])


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 300), "f8")
    layout[:] = h5py.VirtualSource("secret.bin", "emg", (3, 300))
    file.create_virtual_dataset("emg", layout)


def _circle(file: Any) -> None:
    file["a/b"] = file["/"]
    file["emg"] = X


def _unfilled(file: Any) -> None:
    file.create_dataset("emg", (1 << 40, 8), "f4", chunks=(1024, 8), compression="gzip")


def _one_chunk(file: Any) -> None:
    file.create_dataset("emg", (1 << 30, 8), "f4", chunks=(1 << 28, 1), compression="gzip")


def _packed(file: Any) -> None:
    emg = file.create_dataset("emg", (8, ZEROS // 8), "f4", chunks=(8, 1 << 17), compression="gzip")
    for start in range(0, ZEROS // 8, 1 << 22):
        emg[:, start : start + (1 << 22)] = 0


def _labels(file: Any) -> None:
    """Labels as long as the signal, and wider, are read at once."""
    zeros = {"compression": "gzip", "chunks": (1, 1 << 20)}
    emg = file.create_dataset("emg", (1, ZEROS // 2), "i1", **zeros)
    labels = file.create_dataset("restimulus", (1, ZEROS // 2), "i8", **zeros)
    for start in range(0, ZEROS // 2, 1 << 24):
        emg[:, start : start + (1 << 24)] = 0
        labels[:, start : start + (1 << 24)] = 0


def _flicker(file: Any) -> None:
    """Labels that change at every sample."""
    zeros = {"compression": "gzip", "chunks": (1, 1 << 18)}
    file.create_dataset("emg", (1, FLICKER.size), "i1", **zeros)[:] = 0
    file.create_dataset("restimulus", data=FLICKER, **zeros)


def _flicker_mat(folder: Path) -> Path:
    arrays = {"emg": 0 * FLICKER, "restimulus": FLICKER, "fs": 1000.0}
    savemat(folder / "x.mat", arrays, do_compression=True)
    return folder / "x.mat"


def _notes(text: bytes, count: int) -> Callable[[Path], Path]:
    """So many annotations in one data record, behind a signal."""

    def write(folder: Path) -> Path:
        notes = text * count
        head = _edf(1, len(notes) // 2, ("EMG", "EDF Annotations"))
        (folder / "x.edf").write_bytes(head + bytes(len(notes)) + notes)
        return folder / "x.edf"

    return write


def _leaps(folder: Path) -> Path:
    """A session whose clock leaps at every third sample."""
    rows = np.zeros(1 << 16, ROW)
    rows["time"] = np.arange(len(rows)) // 3 + np.arange(len(rows)) % 3 / 2000
    with h5py.File(folder / "x.hdf5", "w") as file:
        file.create_dataset("emg2qwerty/timeseries", data=rows, compression="gzip")
    return folder / "x.hdf5"


def _markers(folder: Path) -> Path:
    """A stream of more markers than there can be, declared by one chunk that holds them."""
    signal = xdf_stream(1, X.T, (np.arange(300) / 1000).tolist())
    marks = xdf_stream(2, [""], [0.0], name="Marks", kind="Markers", rate=0, form="string")
    head = marks[: marks.index(xdf_length(1) + b"\x08") - 4 - 2 - 5]
    body = struct.pack("<HI", 3, 2) + xdf_length(MAX_EVENTS + 1) + b"\0\x01\0" * (MAX_EVENTS + 1)
    return write_xdf(folder / "x.xdf", signal, head + xdf_length(len(body)) + body)


def _many(file: Any) -> None:
    for k in range(3000):
        file[f"emg{k}"] = 0


def _deep(file: Any) -> None:
    file["/".join("a" * 900)] = X


def _text_attribute(file: Any) -> None:
    file["emg"] = X
    file.attrs["fs"] = "1" * 60_000


def _objects(file: Any) -> None:
    file.create_dataset("emg", (3, 300), h5py.ref_dtype)


def _corpus(**facts: Any) -> Callable[[Path], Path]:
    return lambda folder: write_corpus(folder / "x.h5", **facts)


def _repeated(starts: list[int]) -> Callable[[Path], Path]:
    labels = np.zeros(100, "i1")
    take = {"take": (np.ones((100, 10), "i2"), labels, starts)}
    return lambda folder: write_corpus(folder / "x.h5", recordings=take)


def _labels_taken(labels: np.ndarray[Any, Any], starts: Any) -> Callable[[Path], Path]:
    """A recording of a corpus with such labels and segments."""
    take = {"take": (np.zeros((len(labels), 1), "i2"), labels, starts)}
    return lambda folder: write_corpus(folder / "x.h5", recordings=take)


def _backwards(folder: Path) -> Path:
    rows = np.zeros(100, ROW)
    rows["time"] = np.arange(100)[::-1] / 2000
    with h5py.File(folder / "x.hdf5", "w") as file:
        file.create_dataset("emg2qwerty/timeseries", data=rows, chunks=True)
    return folder / "x.hdf5"


def _mat(folder: Path) -> Path:
    """An array of 2 GiB in 2 MB."""
    shape, name = struct.pack("<II2i", 5, 8, 1 << 28, 1), struct.pack("<II8s", 1, 3, b"emg")
    flags = struct.pack("<IIII", 6, 8, 6, 0)
    size = 1 << 31
    head = struct.pack("<II", 14, (48 + size) % 2**32) + flags + shape + name
    head += struct.pack("<II", 9, size)
    packer = zlib.compressobj(9)
    packed = packer.compress(head)
    for _ in range(size >> 24):
        packed += packer.compress(bytes(1 << 24))
    packed += packer.flush()
    text = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (folder / "x.mat").write_bytes(text + struct.pack("<II", 15, len(packed)) + packed)
    return folder / "x.mat"


def _mat_held(folder: Path) -> Path:
    """Just as many numbers as are read at once, packed a thousand times."""
    savemat(folder / "x.mat", {"emg": np.zeros(((1 << 26) // 8, 8))}, do_compression=True)
    return folder / "x.mat"


def _xdf(length: int, **stream: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        data = xdf_stream(1, X.T, (np.arange(300) / 1000).tolist(), **stream)
        return write_xdf(folder / "x.xdf", data.replace(xdf_length(100), xdf_length(length)))

    return write


def _edf(records: int, per: int, labels: tuple[str, ...] = ("EMG",)) -> bytes:
    """A header that declares so much, with nothing behind it."""
    count = len(labels)
    fields: list[tuple[int, list[str]]] = [
        (16, list(labels)), (80, [""] * count), (8, ["uV"] * count), (8, ["-100"] * count),
        (8, ["100"] * count), (8, ["-32768"] * count), (8, ["32767"] * count),
        (80, [""] * count), (8, [str(per)] * count), (32, [""] * count),
    ]  # fmt: skip
    start = ["0", "X X X X", "Startdate X X X X", "01.01.85", "00.00.00", str(256 * (count + 1))]
    ends = [(8, start[0]), (80, start[1]), (80, start[2]), (8, start[3]), (8, start[4])]
    ends += [(8, start[5]), (44, ""), (8, str(records)), (8, "1"), (4, str(count))]
    head = "".join(text.ljust(width) for width, text in ends)
    return (head + "".join(t.ljust(w) for w, texts in fields for t in texts)).encode()


def _config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        from training import small_codec

        small_codec().save_pretrained(folder / "model")
        path = folder / "model" / "config.json"
        table = json.loads(path.read_text())
        change(table)
        path.write_text(json.dumps(table))
        return folder / "model"

    return write


def _weights(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        _config(lambda table: None)(folder)
        (folder / "model" / "model.safetensors").write_bytes(content)
        return folder / "model"

    return write


def _tensors(offsets: list[int], shape: list[int]) -> bytes:
    text = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
    return len(text).to_bytes(8, "little") + text


def _safetensors(folder: Path) -> Path:
    save_file({"mean": np.zeros(3)}, folder / "x.calibration", {"emgcodec_calibration": "[]"})
    return folder / "x.calibration"


def _rows(columns: np.ndarray[Any, Any], first: str) -> bytes:
    return table(columns, first=first).encode()


_CLOCK = np.arange(300) / 1000

Bomb = tuple[str, Callable[[Path], Path]]

BOMBS: dict[str, Bomb] = {
    "nested calibration": ("safetensors", _nested("x.calibration", "emgcodec_calibration")),
    "nested checkpoint": ("safetensors", _nested("x.safetensors", "emgcodec_checkpoint")),
    "nested sidecar": ("dataset", _nested_sidecar),
    "zip bomb": ("archive", _archive(lambda: {"emg.npy": 1 << 28})),
    "zip bomb beside the signal": (
        "archive",
        _archive(lambda: {"emg.npy": _npy(X), "unit.npy": 1 << 28}),
    ),
    "shape bomb in npz": ("archive", _archive(lambda: {"emg.npy": npy_header((3, 1 << 50))})),
    "shape that overflows": ("archive", _archive(lambda: {"emg.npy": npy_header((2**32, 2**32))})),
    "negative shape": (
        "archive",
        _archive(lambda: {"emg.npy": npy_header((-3, -300)) + bytes(7200)}),
    ),
    "path traversal": (
        "archive",
        _archive(lambda: {"../../emg.npy": _npy(X), "/etc/passwd.npy": _npy(X)}),
    ),
    "names twice": ("archive", _archive(lambda: {"emg.npy": _npy(X), "./emg.npy": _npy(X)})),
    "pickle in npz": ("archive", _pickled("x.npz")),
    "pickle in npy": ("recording", _pickled("x.npy")),
    "objects in mat": ("recording", _pickled("x.mat")),
    "pickle": ("recording", _pickled("x.pkl")),
    "pickle named csv": ("recording", _pickled("x.csv")),
    "shape bomb in npy": ("recording", _bytes("x.npy", npy_header((3, 1 << 50)))),
    "npy of too many bytes": ("recording", _bytes("x.npy", npy_header((3, 2**62 // 8)))),
    "code in an npy header": (
        "recording",
        _bytes(
            "x.npy",
            npy_header((3, 300)).replace(b"(3,", b"(__import__('os').system('touch harmed'),"),
        ),
    ),
    "long npy header": (
        "recording",
        _bytes("x.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 26) + b"(" * (1 << 26)),
    ),
    "other order of bytes": (
        "recording",
        _bytes("x.npy", npy_header((3, 300), ">f8") + X.astype(">f8").tobytes()),
    ),
    "external link": ("recording", _hdf5(_external_link)),
    "external storage": ("recording", _hdf5(_external_storage)),
    "virtual dataset": ("recording", _hdf5(_virtual)),
    "groups in a circle": ("recording", _hdf5(_circle)),
    "never filled": ("recording", _hdf5(_unfilled)),
    "one huge chunk": ("recording", _hdf5(_one_chunk)),
    "zeros packed in HDF5": ("recording", _hdf5(_packed)),
    "labels packed in HDF5": ("recording", _hdf5(_labels)),
    "labels that flicker in HDF5": ("recording", _hdf5(_flicker)),
    "labels that flicker in mat": ("recording", _flicker_mat),
    "labels that flicker in a corpus": ("recording", _labels_taken(FLICKER[0], [0])),
    "segments of two samples": (
        "recording",
        _labels_taken(FLICKER[0, : 1 << 18], np.arange(0, 1 << 18, 2)),
    ),
    "a clock that leaps": ("recording", _leaps),
    "annotations without end in EDF": ("recording", _notes(b"+1\x14a\x14\0", MAX_EVENTS + 2)),
    "annotations that do not end in EDF": ("recording", _notes(b"+1\x14", 1 << 20)),
    "markers without end in XDF": ("recording", _markers),
    "many datasets": ("recording", _hdf5(_many)),
    "deep groups": ("recording", _hdf5(_deep)),
    "a rate of 60 000 digits": ("recording", _hdf5(_text_attribute)),
    "references": ("recording", _hdf5(_objects)),
    "a rate beyond all": ("recording", _corpus(sample_rate_hz=1e300)),
    "a rate just too high": ("recording", _corpus(sample_rate_hz=1e9)),
    "a rate of nan": ("recording", _corpus(sample_rate_hz=float("nan"))),
    "a scale that overflows": ("recording", _corpus(scale=1e300)),
    "an infinite offset": ("recording", _corpus(offset=float("inf"))),
    "labels beyond their names": ("recording", _corpus(label_names="[]")),
    "label names in depth": ("recording", _corpus(label_names="[" * 20_000)),
    "segments out of order": ("recording", _repeated([0, 50, 20])),
    "segments without end": ("recording", _repeated([0, 2**31 - 1])),
    "time going backwards in HDF5": ("recording", _backwards),
    "time going backwards": (
        "recording",
        _bytes("x.csv", _rows(np.stack([_CLOCK[::-1], *X]), "time,a,b,c")),
    ),
    "time standing still": (
        "recording",
        _bytes("x.csv", _rows(np.stack([0 * _CLOCK, *X]), "time,a,b,c")),
    ),
    "time of nan": (
        "recording",
        _bytes("x.csv", _rows(np.stack([_CLOCK * np.nan, *X]), "time,a,b,c")),
    ),
    "channels twice": (
        "recording",
        _bytes("x.csv", _rows(X, "# sample_rate: 1000\nEMG 1,EMG 1,EMG 1")),
    ),
    "channels without a name": ("recording", _bytes("x.csv", _rows(X, "# sample_rate: 1000\n,,"))),
    "numbers that overflow": (
        "recording",
        _bytes("x.csv", b"# sample_rate: 1000\n" + b"1e999,-1e308,nan\n" * 300),
    ),
    "a million columns": ("recording", _bytes("x.csv", b",".join([b"1"] * 1_000_000) + b"\n")),
    "a million lines of names": ("recording", _bytes("x.csv", b"a\n" * 1_000_000)),
    "a rate that backtracks": ("recording", _bytes("x.csv", b"sampl" * 40_000 + b"\n1,2\n3,4\n")),
    "a name that backtracks": (
        "recording",
        _bytes("x.csv", b"time series" * 5_000 + b",a\n1,2\n3,4\n"),
    ),
    "zeros packed in mat": ("recording", _mat),
    "as much as is held in mat": ("recording", _mat_held),
    "no samples in XDF": ("recording", _xdf(0)),
    "too many samples in XDF": ("recording", _xdf(2**32 - 1)),
    "too many channels in XDF": ("recording", _xdf(100, stated=2**31)),
    "a rate of nan in XDF": ("recording", _xdf(100, rate=float("nan"))),
    "a rate of infinity in XDF": ("recording", _xdf(100, rate=float("inf"))),
    "entities in XDF": ("recording", _xdf(100, name="&a;" * 1000)),
    "records without end in EDF": ("recording", _bytes("x.edf", _edf(99_999_999, 1))),
    "samples without end in EDF": ("recording", _bytes("x.edf", _edf(1, 99_999_999))),
    "no samples in EDF": ("recording", _bytes("x.edf", _edf(-1, 0))),
    "9999 signals in EDF": ("recording", _bytes("x.edf", _edf(0, 1, ("EMG",) * 9999))),
    "no signals in EDF": ("recording", _bytes("x.edf", _edf(0, 1, ()))),
    "empty signals in EDF": ("recording", _bytes("x.edf", _edf(0, 1, ("",) * 4))),
    "a model without end": ("config", _config(lambda t: t["quantizer"].update(size=2**40))),
    "a kind that is a module": ("config", _config(lambda t: t["encoder"].update(kind="os.system"))),
    "weights beyond the file": ("safetensors", _weights(_tensors([0, 2**60], [2**58]))),
    "weights over each other": ("safetensors", _weights(_tensors([0, 4], [2**62, 2**62]))),
    "a header beyond the file": ("safetensors", _weights(b"\xff" * 8 + b"{}")),
    "a pickle for weights": ("safetensors", _weights(pickle.dumps(Harm()))),
    "a calibration that is a list": ("safetensors", _safetensors),
    "a header beyond the tokens": (
        "tokens",
        _bytes("x.tokens", b"\xff" * 8 + b'"emgcodec_tokens":"{\\"sha256\\":\\"'),
    ),
    "packets of marks": ("packets", _bytes("x.packets", b"EC" * 500_000)),
    "packets of headers": ("packets", _bytes("x.packets", b"EC\x01\x02\x05\xff" * 100_000)),
}

HEAVY = {
    "zip bomb",
    "zip bomb beside the signal",
    "zeros packed in HDF5",
    "labels packed in HDF5",
    "zeros packed in mat",
    "as much as is held in mat",
    "long npy header",
    "a million columns",
    "a million lines of names",
    "a rate just too high",
}
"""What takes seconds to make or to refuse."""

PROBES: dict[str, Bomb] = {
    word: ("recording", _bytes(f"probe-{word}.csv", b""))
    for word in ("crash", "memory", "touched", "wrong", "undocumented")
}
"""Of these the opener itself does what it must not."""

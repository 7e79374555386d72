"""Turn a live signal into tokens: raw samples on stdin, a file in real time, or an LSL stream.

Example:
  emgcodec stream session.hdf5 --fast
  emgcodec stream - --montage myo --sample-rate 200 --dtype int16 --unit adc --packets
  emgcodec stream --lsl Armband --montage myo --calibration worn.calibration
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from emgcodec.cli import options

if TYPE_CHECKING:
    import numpy.typing as npt

    from emgcodec.codec import Codec
    from emgcodec.montage import Montage

    Block = npt.NDArray[Any] | int  # samples (C, n), or how many are missing
    Source = tuple[float, str, Montage, Iterator[Block]]  # rate, unit, electrodes, signal

_FAST_SECONDS = 10.0  # of a file, at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("path", nargs="?", help="file, or - for raw samples on stdin")
    source.add_argument("--lsl", metavar="NAME", help="stream on the Lab Streaming Layer")
    parser.add_argument("--fast", action="store_true", help="do not wait for a file's own time")
    parser.add_argument(
        "--dtype",
        choices=("float32", "int16"),
        default="float32",
        help="of raw samples: little-endian, all electrodes of one time before those of the next",
    )
    parser.add_argument("--packets", action="store_true", help="packets instead of JSON lines")
    options.add_calibration_option(parser)
    options.add_model_option(parser)
    options.add_recording_options(parser)


def run(args: argparse.Namespace) -> int:
    """Writes frames as they become known; at the end or at Ctrl-C the last of them."""
    from tqdm import tqdm

    from emgcodec.codec import Codec

    codec = Codec.from_pretrained(args.model)
    frame = codec.hop_length / codec.sample_rate
    find = _lsl if args.lsl else _stdin if args.path == "-" else _file
    if find is not _file and (args.dataset or args.fast):
        raise ValueError("--dataset and --fast are for files: leave them out")
    if args.lsl and args.sample_rate:
        raise ValueError(f"--sample-rate {args.sample_rate:g}: an LSL stream states its own")
    rate, unit, montage, blocks = find(args, codec.config.montage, frame)
    calibration = options.calibration(codec, args.calibration)
    stream = codec.encode_stream(
        sample_rate=rate, unit=unit, montage=montage, calibration=calibration
    )
    write = _packets(codec) if args.packets else _lines(codec)
    progress = tqdm(unit="s", desc="stream", unit_scale=True, disable=None)
    try:
        for block in _until_interrupted(blocks):
            known = stream.push_gap(block) if isinstance(block, int) else stream.push(block)
            write(*known)
            progress.update(known[1].shape[1] * frame)
    finally:
        write(*stream.flush())
        progress.close()
    return 0


def _file(args: argparse.Namespace, fixed: Montage | None, frame: float) -> Source:
    from emgcodec.io import read

    rec = read(args.path, **options.stated(args))

    def blocks() -> Iterator[Block]:
        begin, done = time.monotonic(), 0.0
        for block in rec.blocks(_FAST_SECONDS if args.fast else frame):
            done += block.shape[1] / rec.sample_rate
            if not args.fast:
                time.sleep(max(0.0, begin + done - time.monotonic()))
            yield block

    return rec.sample_rate, rec.unit, rec.montage, blocks()


def _stdin(args: argparse.Namespace, fixed: Montage | None, frame: float) -> Source:
    import numpy as np

    from emgcodec.montage import Montage

    montage = Montage.preset(args.montage) if args.montage else fixed
    if args.sample_rate is None or montage is None:
        raise ValueError("raw samples say nothing of themselves: give --sample-rate and --montage")
    dtype = np.dtype(args.dtype).newbyteorder("<")
    size = len(montage) * dtype.itemsize

    def blocks() -> Iterator[Block]:
        rest = b""
        while data := rest + sys.stdin.buffer.read1(1 << 16):  # type: ignore[union-attr]
            if data == rest:
                raise ValueError(f"stdin ended {len(rest)} bytes into a sample, which has {size}")
            rest = data[len(data) // size * size :]
            yield np.frombuffer(data[: len(data) - len(rest)], dtype).reshape(-1, len(montage)).T

    return args.sample_rate, args.unit or "uV", montage, blocks()


def _lsl(args: argparse.Namespace, fixed: Montage | None, frame: float) -> Source:
    from emgcodec.io.lsl import Inlet
    from emgcodec.montage import resolve_montage

    inlet = Inlet(args.lsl)
    blocks = inlet.blocks(max(1, round(frame * inlet.sample_rate)))
    montage = resolve_montage(args.montage, inlet.num_electrodes)
    return inlet.sample_rate, args.unit or "uV", montage, blocks


def _until_interrupted(blocks: Iterator[Block]) -> Iterator[Block]:
    """The blocks until Ctrl-C or SIGTERM, which cut waiting short, but never the work on one."""
    waiting = stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        if waiting:
            raise KeyboardInterrupt

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not stopped:
            waiting = True
            block = next(blocks)
            waiting = False
            yield block
    except (KeyboardInterrupt, StopIteration):
        return
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _lines(codec: Codec) -> Callable[..., None]:
    """Writes a JSON object about the codec, then one for each frame."""
    names = "codec_id", "vocab_id", "frame_rate", "num_codebooks", "codebook_size"
    print(json.dumps({name: getattr(codec, name) for name in names}), flush=True)
    frames = 0

    def write(codes: npt.NDArray[Any], valid: npt.NDArray[Any]) -> None:
        nonlocal frames
        for each, usable in zip(codes[0].T.tolist(), valid[0].tolist(), strict=True):
            end = round((frames + 1) / codec.frame_rate, 6)
            print(json.dumps({"frame": frames, "end": end, "codes": each, "valid": usable}))
            frames += 1
        sys.stdout.flush()

    return write


def _packets(codec: Codec) -> Callable[..., None]:
    """Writes packets; see docs/streaming.md."""
    from emgcodec.wire import Packer

    packer = Packer(codec)

    def write(codes: npt.NDArray[Any], valid: npt.NDArray[Any]) -> None:
        sys.stdout.buffer.write(b"".join(packer.pack(codes[0], valid[0])))
        sys.stdout.buffer.flush()

    return write

"""The codec on a device without torch: export once, then tokens and a stream from ONNX graphs.

python examples/onnx_edge.py              # exports the bundled student into ./edge, a minute or two
python examples/onnx_edge.py edge/        # what the device does: runs what is there
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from emgcodec import sample
from emgcodec.runtime import EdgeCodec
from emgcodec.wire import Packer

SAMPLES = 16  # that the device gives at a time


def main() -> None:
    """Prints what a stream on the device makes, sends and takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="with exported graphs")
    folder = parser.parse_args().folder
    if folder is None:
        from emgcodec import Codec  # the only lines that need torch
        from emgcodec.export import export

        folder = Path("edge")
        print(f"{100 * export(Codec.from_pretrained(), folder):.2f} % of codes are those of torch")

    codec, rec = EdgeCodec(folder), sample("armband")
    stream = codec.encode_stream(sample_rate=rec.sample_rate, montage=rec.montage)
    packer, sent, parts = Packer(codec), 0, []
    begin = time.process_time()
    for start in range(0, rec.num_samples, SAMPLES):
        codes, valid = stream.push(rec.emg[:, start : start + SAMPLES])
        sent += sum(map(len, packer.pack(codes[0], valid[0])))
        parts.append(codes[0])
    parts.append(stream.flush()[0][0])
    share = (time.process_time() - begin) / rec.duration

    tokens = codec.tokenize(rec)
    same = (np.concatenate(parts, axis=1) == tokens.codes).mean()
    print(f"{tokens} by {codec.codec_id}, {codec.precision}")
    print(f"{100 * same:.2f} % of the stream's codes are those of the whole recording")
    print(f"{100 * share:.1f} % of a core, {8 * sent / rec.duration:.0f} bit/s with headers")


if __name__ == "__main__":
    main()

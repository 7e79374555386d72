"""A wristband and whoever listens: samples to codes, packets over a bad wire, gestures live.

python examples/stream_live.py            # at the pace of the signal
python examples/stream_live.py --fast
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from emgcodec import Codec, sample
from emgcodec.wire import Packer, Unpacker

SAMPLES = 16  # that the device gives at a time
LOST = 0.02  # share of packets


def main() -> None:
    """Prints the gesture that is read whenever it changes, and what the wire cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="do not wait for the signal's own time")
    fast = parser.parse_args().fast
    codec, rec, rng = Codec.from_pretrained(), sample("armband"), np.random.default_rng(0)

    # The device: raw samples in, packets out.
    encoder = codec.encode_stream(sample_rate=rec.sample_rate, montage=rec.montage)
    packer = Packer(codec)
    # The listener: packets in, scores of each gesture out.
    unpacker, decoder = Unpacker(codec), codec.decode_stream()

    shown, sent, begin = "", 0, time.monotonic()
    scores = np.zeros(len(codec.labels("gesture")))
    for start in [*range(0, rec.num_samples, SAMPLES), rec.num_samples]:
        if not fast:
            due = begin + (start + SAMPLES) / rec.sample_rate
            time.sleep(max(0.0, due - time.monotonic()))
        if start < rec.num_samples:
            codes, valid = encoder.push(rec.emg[:, start : start + SAMPLES])
        else:
            codes, valid = encoder.flush()  # the last frame
        for packet in packer.pack(codes[0], valid[0]):
            sent += len(packet)
            if rng.random() < LOST:
                continue
            for frame in decoder.push(*unpacker.push(packet))["gesture"][0]:
                scores = 0.9 * scores + 0.1 * frame
        gesture = codec.labels("gesture")[int(scores.argmax())]
        if gesture != shown:
            print(f"{start / rec.sample_rate:6.2f} s  {gesture}", flush=True)
            shown = gesture
    rate = 8 * sent / rec.duration
    print(f"{encoder.latency * 1e3:.0f} ms from a frame's first sample to its codes")
    print(f"{rate:.0f} bit/s with all packets' headers, {unpacker.lost} frames lost")


if __name__ == "__main__":
    main()

"""The main job on one recording: tokens, events, a reconstruction and a picture of all three.

python examples/demo.py                  # a simulated armband
python examples/demo.py session.hdf5     # your own recording
"""

from __future__ import annotations

import sys

from emgcodec import Codec, Recording, read_all, sample
from emgcodec.plot import plot_tokens


def load(path: str | None) -> Recording:
    """The first contiguous recording of the file, or the sample."""
    return sample("armband") if path is None else next(iter(read_all(path)))


def main() -> None:
    """Prints and plots the result."""
    rec = load(sys.argv[1] if len(sys.argv) > 1 else None)
    codec = Codec.from_pretrained()
    tokens = codec.tokenize(rec)
    events = codec.transcribe(tokens, "gesture")
    back = codec.detokenize(tokens)
    print(rec, tokens, tokens.compression(), sep="\n")
    print("first ids for a language model:", tokens.to_ids("flat")[:12].tolist())
    print("events (cold start, no calibration):", *events[:12], sep="\n")
    print("reconstruction:", back)
    print("picture:", plot_tokens(rec, tokens, back, events, "demo.png"))


if __name__ == "__main__":
    main()

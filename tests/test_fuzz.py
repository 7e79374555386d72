"""Whatever is given: a correct result or an error that is documented, and nothing else."""

from __future__ import annotations

import os

import numpy as np
from fuzz import GOOD, LIMITS, SHARES, fuzz
from fuzz_bombs import BOMBS, HEAVY, PROBES
from hypothesis import given
from hypothesis import strategies as st
from training import small_codec

from emgcodec import Recording
from emgcodec.checks import CodecError
from emgcodec.recording import RecordingError
from emgcodec.wire import Packer, Unpacker, WireError

FULL = os.environ.get("EMGCODEC_FULL") == "1"


def test_hostile_files_are_read_or_refused() -> None:
    # Bombs that take seconds to make or to refuse are for the full run.
    bombs = BOMBS if FULL else {name: b for name, b in BOMBS.items() if name not in HEAVY}
    found = fuzz(10_000 if FULL else 300, bombs=bombs)
    assert found["failures"] == []
    assert found["slowest"]["seconds"] < LIMITS["seconds"]
    assert found["largest"]["megabytes"] * 1e6 < LIMITS["bytes"]
    counts = found["outcomes"]
    assert set(counts) == set(SHARES)
    assert {outcome for kind in counts for outcome in counts[kind]} == set(GOOD)


STRANGE = st.sampled_from([0.0, 1.0, -1e30, 3e38, 1e-38, np.nan, np.inf, -np.inf, 32767.0])


@given(
    values=st.lists(STRANGE, min_size=1, max_size=6),
    electrodes=st.integers(1, 5),
    samples=st.integers(0, 700),
    rate=st.sampled_from([100, 999.9, 2000, 1e6]),
    unit=st.sampled_from(["uV", "V", "adc"]),
)
def test_any_numbers_become_tokens_or_an_error(
    values: list[float], electrodes: int, samples: int, rate: float, unit: str
) -> None:
    codec = small_codec()
    emg = np.resize(np.array(values, np.float32), (electrodes, samples))
    try:
        tokens = codec.tokenize(Recording(emg, rate, unit=unit))
    except (RecordingError, CodecError):
        return
    assert tokens.num_samples == samples
    assert np.isfinite(codec.detokenize(tokens).emg).all()


@given(data=st.data())
def test_any_bytes_on_the_wire_are_codes_that_were_sent(data: st.DataObject) -> None:
    codec = small_codec()
    codes = np.arange(40).reshape(2, 20) % codec.codebook_size
    packer = Packer(codec)
    raw = bytearray()
    for k in range(0, 20, 4):
        raw += b"".join(packer.pack(codes[:, k : k + 4], np.ones(4, bool)))
        raw += data.draw(st.binary(max_size=9) | st.just(b"EC\x01"))
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    unpacker, first = Unpacker(codec), 0
    for byte in np.array_split(np.frombuffer(bytes(raw), np.uint8), data.draw(st.integers(1, 9))):
        try:
            got, valid = unpacker.push(byte.tobytes())
        except WireError:
            continue
        first = unpacker.next_frame - got.shape[1]
        where = first + np.flatnonzero(valid)
        assert (got[:, valid] == codes[:, where]).all()


def test_what_is_forbidden_is_noticed() -> None:
    """Else a suite without failures would say nothing."""
    found = fuzz(0, bombs=PROBES)
    told = {each["case"]: each["outcome"] for each in found["failures"]}
    assert told == {name: name for name in PROBES}

"""Packets: what is packed comes out; what is lost, damaged or late becomes a gap, never a code."""

from __future__ import annotations

import subprocess
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgcodec.wire import MAX_FRAMES, Packer, Unpacker, WireError


def like(levels: int = 2, size: int = 1024, **changes: str) -> Any:
    """What a wire wants to know of a codec."""
    ids = {"vocab_id": "0123456789ab", "codec_id": "mine-ba9876543210"} | changes
    return SimpleNamespace(num_codebooks=levels, codebook_size=size, **ids)


def frames(count: int, levels: int = 2, size: int = 1024, seed: int = 0) -> Any:
    """Codes and validity; codes are 0 where they are not valid, as streams give them."""
    rng = np.random.default_rng(seed)
    valid = rng.random(count) < 0.8
    return np.where(valid, rng.integers(0, size, (levels, count)), 0), valid


def received(unpacker: Unpacker, parts: list[bytes]) -> Any:
    found = [unpacker.push(part) for part in parts]
    return np.concatenate([f[0] for f in found], 1), np.concatenate([f[1] for f in found])


def sent(packer: Packer, codes: Any, valid: Any, size: int) -> list[bytes]:
    starts = range(0, len(valid), size)
    packed = [packer.pack(codes[:, i : i + size], valid[i : i + size]) for i in starts]
    assert all(len(each) == 1 for each in packed)
    return [each[0] for each in packed]


@given(
    levels=st.integers(1, 16),
    size=st.sampled_from([2, 3, 64, 1000, 1024, 65_536]),
    count=st.integers(0, 600),
    cut=st.integers(1, 700),
)
def test_what_is_packed_comes_out(levels: int, size: int, count: int, cut: int) -> None:
    codec = like(levels, size)
    codes, valid = frames(count, levels, size)
    stream = b"".join(Packer(codec).pack(codes, valid))
    unpacker = Unpacker(codec)
    pieces = [stream[i : i + cut] for i in range(0, len(stream), cut)]
    a, b = received(unpacker, [b"", *pieces])
    assert np.array_equal(a, codes)
    assert np.array_equal(b, valid)
    assert (unpacker.lost, unpacker.late, unpacker.skipped) == (0, 0, 0)
    assert unpacker.next_frame == count


def test_a_packet_is_laid_out_as_documented() -> None:
    import struct
    import zlib

    packer = Packer(like())
    packer.pack(*frames(5))
    codes = np.array([[1023, 1, 512], [0, 2, 1023]])
    (packet,) = packer.pack(codes, np.array([True, True, False]))
    assert packet[:6] == b"EC" + bytes([1, 2, 10, 3])
    assert packet[6:14].hex() == "456789ab" + "76543210"
    assert struct.unpack("<I", packet[18:22]) == (5,)
    assert struct.unpack("<H", packet[22:24]) == (zlib.crc32(packet[:22]) & 0xFFFF,)
    assert packet[24] == 0b11000000
    bits = "".join(f"{code:010b}" for code in codes.T.flatten())
    assert packet[25:33] == int(bits.ljust(64, "0"), 2).to_bytes(8, "big")
    assert struct.unpack("<I", packet[33:]) == (zlib.crc32(packet[:33]),)


@given(data=st.data())
def test_loss_damage_repeats_and_reordering_become_gaps(data: st.DataObject) -> None:
    codec = like()
    codes, valid = frames(120, seed=1)
    packets = sent(Packer(codec), codes, valid, 4)
    intact = {packet: i for i, packet in enumerate(packets)}
    order = list(range(len(packets)))
    for _ in range(data.draw(st.integers(0, 6))):
        i, j = data.draw(st.tuples(*[st.integers(0, len(order) - 1)] * 2))
        match data.draw(st.sampled_from(["lose", "swap", "repeat", "damage", "cut"])):
            case "lose" if len(order) > 5:
                order.pop(i)
            case "swap":
                order[i], order[j] = order[j], order[i]
            case "repeat":
                order.insert(j, order[i])
            case "damage":
                bit = data.draw(st.integers(0, 8 * len(packets[order[i]]) - 1))
                changed = bytearray(packets[order[i]])
                changed[bit // 8] ^= 1 << bit % 8
                packets[order[i]] = bytes(changed)
            case "cut":
                packets[order[i]] = packets[order[i]][: data.draw(st.integers(0, 40))]
    unpacker = Unpacker(codec)
    # What was cut is found to be so once there is more than it.
    a, b = received(unpacker, [*(packets[i] for i in order), b"\0" * 800])
    first = unpacker.next_frame - len(b)
    assert np.array_equal(a[:, b], codes[:, first : first + len(b)][:, b])  # never a wrong code
    assert not (b & ~valid[first : first + len(b)]).any()
    arrived, newest = set(), -1
    for i in order:
        if packets[i] in intact and intact[packets[i]] > newest:
            newest = intact[packets[i]]
            arrived.add(newest)
    expected = np.repeat([i in arrived for i in range(30)], 4) & valid
    assert np.array_equal(b, expected[first : first + len(b)])  # and all that came in order


def test_late_packets_of_any_stream_that_ended_begin_nothing() -> None:
    codec = like()
    codes, valid = frames(16)
    streams = [sent(Packer(codec), codes, valid, 4) for _ in range(4)]
    unpacker = Unpacker(codec)
    for stream in streams[:3]:
        received(unpacker, stream[:2])
    assert len(received(unpacker, [streams[0][2], streams[1][2]])[1]) == 0
    a, b = received(unpacker, streams[3])
    assert np.array_equal(a, codes)
    assert np.array_equal(b, valid)
    assert (unpacker.beginnings, unpacker.late) == (4, 8)


def test_codes_of_no_codec_are_not_packed() -> None:
    with pytest.raises(WireError, match="vocab_id=''"):
        Packer(like(vocab_id=""))


def test_a_sender_that_begins_anew_is_not_late() -> None:
    codec = like()
    codes, valid = frames(40)
    old, new = Packer(codec), Packer(codec)
    before, after = sent(old, codes, valid, 4), sent(new, codes, valid, 4)
    unpacker = Unpacker(codec)
    assert len(received(unpacker, before[:6])[1]) == 24
    a, b = received(unpacker, [after[0], before[6], *after[1:]])
    assert np.array_equal(a, codes)
    assert np.array_equal(b, valid)
    assert (unpacker.beginnings, unpacker.late, unpacker.lost) == (2, 4, 0)
    # In one piece: frames of one call are of one stream.
    unpacker = Unpacker(codec)
    assert len(unpacker.push(before[0] + after[0] + after[1])[1]) == 4
    assert unpacker.beginnings == 1
    assert len(unpacker.push()[1]) == 8
    assert unpacker.beginnings == 2


def test_who_joins_late_begins_there() -> None:
    codec = like()
    packets = sent(Packer(codec), *frames(400), 4)
    unpacker = Unpacker(codec)
    assert len(received(unpacker, packets[90:])[1]) == 40
    assert (unpacker.next_frame, unpacker.lost, unpacker.beginnings) == (400, 0, 1)


def test_an_endless_loss_begins_anew_instead_of_filling_the_memory() -> None:
    codec = like()
    packer, unpacker = Packer(codec), Unpacker(codec)
    unpacker.push(packer.pack(*frames(4))[0])
    packer.next_frame += 1 << 21
    assert len(unpacker.push(packer.pack(*frames(4))[0])[1]) == 4
    assert (unpacker.beginnings, unpacker.lost) == (2, 0)


def test_after_all_indices_a_stream_begins_anew() -> None:
    codec = like()
    packer, unpacker = Packer(codec), Unpacker(codec)
    packer.next_frame = (1 << 32) - 6
    found = [unpacker.push(packer.pack(*frames(4))[0])[1].size for _ in range(3)]
    assert found == [4, 4, 4]
    assert (unpacker.beginnings, packer.next_frame) == (2, 8)


def test_packets_of_another_vocabulary_are_refused_and_nothing_else_is() -> None:
    codec, other = like(), like(vocab_id="ffffffffffff")
    mine, foreign = sent(Packer(codec), *frames(12), 4), Packer(other).pack(*frames(4))[0]
    unpacker = Unpacker(codec)
    assert len(unpacker.push(mine[0] + foreign + mine[1])[1]) == 4
    with pytest.raises(WireError, match=r"of vocabulary ffffffff.*here it is 456789ab.*load"):
        unpacker.push(mine[2])
    assert len(unpacker.push()[1]) == 8
    assert unpacker.lost == 0
    levels = Packer(like(3)).pack(*frames(4, 3))[0]
    with pytest.raises(WireError, match="3 levels of 10 bits"):
        unpacker.push(levels)


def test_a_later_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = like()
    with monkeypatch.context() as later:
        later.setattr("emgcodec.wire._VERSION", 2)
        packet = Packer(codec).pack(*frames(4))[0]
    with pytest.raises(WireError, match="version 2 of the wire, here it is 1"):
        Unpacker(codec).push(packet)


def test_another_codec_on_the_same_codebooks_is_warned_of_once() -> None:
    packets = sent(Packer(like(codec_id="twin-000000000000")), *frames(12), 4)
    unpacker = Unpacker(like())
    with pytest.warns(UserWarning, match="packets are of codec 00000000, on the same codebooks"):
        assert len(unpacker.push(packets[0])[1]) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(unpacker.push(packets[1])[1]) == 4


def test_long_signals_make_several_packets() -> None:
    codec = like()
    codes, valid = frames(2 * MAX_FRAMES + 1)
    packets = Packer(codec).pack(codes, valid)
    assert [packet[5] for packet in packets] == [255, 255, 1]
    assert Packer(codec).pack(codes[:, :0], valid[:0]) == []


@pytest.mark.parametrize(
    ("codes", "valid"),
    [
        (np.full((2, 3), 1024), np.ones(3, bool)),
        (np.full((2, 3), -1), np.ones(3, bool)),
        (np.zeros((3, 3), int), np.ones(3, bool)),
        (np.zeros((2, 3)), np.ones(3, bool)),
        (np.zeros((2, 3), int), np.ones(4, bool)),
        (np.zeros((2, 3), int), np.ones(3)),
        (np.zeros((2, 3), int), np.ones((1, 3), bool)),
        (np.zeros((1, 2, 3), int), np.ones(3, bool)),
    ],
)
def test_what_cannot_be_packed(codes: Any, valid: Any) -> None:
    packer = Packer(like())
    with pytest.raises(WireError, match="codes"):
        packer.pack(codes, valid)
    assert packer.next_frame == 0


def test_an_id_that_no_codec_has() -> None:
    with pytest.raises(WireError, match=r"vocab_id='v1'.*names no codec"):
        Packer(like(vocab_id="v1"))


def test_the_far_end_needs_no_torch() -> None:
    code = "import sys, emgcodec.wire, emgcodec.stream; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

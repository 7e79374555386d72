"""Packets of codes for a wire that loses, damages and reorders; docs/streaming.md has every byte.

NumPy only: the far end needs no torch to tell what arrived.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections import deque
from secrets import randbits
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from emgcodec.codec import Codec
    from emgcodec.tokens import Tokens

MAX_FRAMES = 255
"""Frames of a packet."""

_MAGIC, _VERSION = b"EC", 1
_HEADER, _CHECK, _CRC = struct.Struct("<2s4B4s4sII"), struct.Struct("<H"), struct.Struct("<I")
_PAYLOAD = _HEADER.size + _CHECK.size  # where it begins
_LONGEST_LOSS = 1 << 20  # frames; after more a stream begins anew
_REMEMBERED = 1024  # streams that ended, whose late packets begin nothing

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class WireError(ValueError):
    """Codes that cannot be packed, or packets for another receiver."""


class _Header(NamedTuple):
    magic: bytes
    version: int
    levels: int
    bits: int
    frames: int
    vocabulary: bytes
    codec: bytes
    stream: int
    first: int

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of the validity and of the codes."""
        return -(-self.frames // 8), -(-self.frames * self.levels * self.bits // 8)


def _template(codec: Codec | Tokens) -> _Header:
    """The header of a packet without frames."""
    bits = (codec.codebook_size - 1).bit_length()
    try:
        vocabulary, maker = (bytes.fromhex(i[-8:]) for i in (codec.vocab_id, codec.codec_id))
        if len(vocabulary) != 4 or len(maker) != 4:
            raise ValueError("too short")
    except ValueError as error:
        raise WireError(
            f"vocab_id={codec.vocab_id!r} or codec_id={codec.codec_id!r} names no codec"
        ) from error
    return _Header(_MAGIC, _VERSION, codec.num_codebooks, bits, 0, vocabulary, maker, 0, 0)


class Packer:
    """Codes of one stream to packets.

    Args:
        codec: That makes the codes, or tokens made by it.

    Attributes:
        next_frame: Index of the next frame.
    """

    def __init__(self, codec: Codec | Tokens) -> None:
        self._template, self._size = _template(codec), codec.codebook_size
        self._begin()

    def _begin(self) -> None:
        # Drawn, so that a sender that begins anew is not taken for one that is late.
        self._stream, self.next_frame = randbits(32), 0

    def pack(self, codes: npt.ArrayLike, valid: npt.ArrayLike) -> list[bytes]:
        """The next frames, in packets of at most `MAX_FRAMES`.

        Args:
            codes: (K, t) integers.
            valid: (t,) bool.

        Raises:
            WireError: if type, shape or range cannot be.
        """
        codes, valid = np.asarray(codes), np.asarray(valid)
        shape = self._template.levels, valid.size
        fits = codes.shape == shape and valid.ndim == 1
        if not fits or codes.dtype.kind not in "iu" or valid.dtype != bool:
            raise WireError(
                f"codes are {codes.dtype} of shape {codes.shape}, valid {valid.dtype} of shape "
                f"{valid.shape}: give integers ({shape[0]}, frames) and booleans (frames,)"
            )
        if codes.size and not 0 <= codes.min() <= codes.max() < self._size:
            raise WireError(f"codes lie outside 0 to {self._size - 1}")
        starts = range(0, valid.size, MAX_FRAMES)
        return [self._pack(codes[:, i : i + MAX_FRAMES], valid[i : i + MAX_FRAMES]) for i in starts]

    def _pack(self, codes: IntArray, valid: BoolArray) -> bytes:
        if self.next_frame + valid.size > 1 << 32:  # after a year at 125 frames a second
            self._begin()
        header = self._template._replace(
            frames=valid.size, stream=self._stream, first=self.next_frame
        )
        packed = _HEADER.pack(*header)
        packed += _CHECK.pack(zlib.crc32(packed) & 0xFFFF)
        bits = (codes.T[..., None] >> _shifts(header.bits) & 1).astype(bool)
        packed += np.packbits(valid).tobytes() + np.packbits(bits).tobytes()
        self.next_frame += valid.size
        return packed + _CRC.pack(zlib.crc32(packed))


class Unpacker:
    """Bytes as they arrive to codes; what does not arrive whole and in order becomes a gap.

    Bytes may come as packets or cut anywhere: after damage the next whole packet is found.

    Args:
        codec: That will decode, or tokens of its vocabulary.

    Attributes:
        next_frame: Index of the next frame of the stream.
        beginnings: Streams begun so far: at the first packet, when the sender begins anew, and
            after a loss of more than 2^20 frames. Frames of one call are of one stream; a
            session that decodes them must be reset when this grows.
        lost: Frames given as gaps.
        late: Frames left out because they came after their gap, or twice.
        skipped: Bytes that were no whole packet.
    """

    def __init__(self, codec: Codec | Tokens) -> None:
        self._template = _template(codec)
        self._buffer = bytearray()
        self._stream: int | None = None
        self._ended: deque[int] = deque(maxlen=_REMEMBERED)
        self.next_frame = self.beginnings = self.lost = self.late = self.skipped = 0

    def push(self, data: bytes = b"") -> tuple[IntArray, BoolArray]:
        """Takes bytes, gives the frames that are now known.

        Returns:
            Codes (K, t), 0 where not valid, and validity (t,), False where a frame was lost.

        Raises:
            WireError: at a packet of another vocabulary. Only that is left out: frames before it
                were given, those behind it come with the next call.
        """
        self._buffer += data
        ours = self._template
        found = [self._gap(0)]
        while (header := self._peek()) is not None:
            foreign = (*header[:4], header.vocabulary) != (*ours[:4], ours.vocabulary)
            if len(found) > 1 and (foreign or self._begins(header)):
                break
            frames = self._take(header)
            if header.version != ours.version:
                raise WireError(
                    f"a packet is of version {header.version} of the wire, here it is "
                    f"{ours.version}: use the same emgcodec at both ends"
                )
            if foreign:
                raise WireError(
                    f"a packet is of vocabulary {header.vocabulary.hex()}, {header.levels} levels "
                    f"of {header.bits} bits; here it is {ours.vocabulary.hex()}, "
                    f"{ours.levels} of {ours.bits}: load the sender's codec"
                )
            found += self._follow(header, frames)
        codes, valid = zip(*found, strict=True)
        return np.concatenate(codes, axis=1), np.concatenate(valid)

    def _peek(self) -> _Header | None:
        """The header of the next whole packet, which then stands first; None if none is there."""
        while True:
            at = self._buffer.find(_MAGIC)
            # Half a mark may wait for its other half.
            self._skip(at if at >= 0 else len(self._buffer) - self._buffer.endswith(_MAGIC[:1]))
            if len(self._buffer) < _PAYLOAD:
                return None
            header = _Header(*_HEADER.unpack_from(self._buffer))
            (check,) = _CHECK.unpack_from(self._buffer, _HEADER.size)
            if check == zlib.crc32(self._buffer[: _HEADER.size]) & 0xFFFF:
                end = _PAYLOAD + sum(header.sizes)
                if len(self._buffer) < end + _CRC.size:
                    return None
                (crc,) = _CRC.unpack_from(self._buffer, end)
                if crc == zlib.crc32(self._buffer[:end]):
                    return header
            self._skip(1)

    def _skip(self, count: int) -> None:
        self.skipped += count
        del self._buffer[:count]

    def _take(self, header: _Header) -> tuple[IntArray, BoolArray]:
        """Codes and validity of the packet that stands first."""
        of_valid, of_codes = header.sizes
        end = _PAYLOAD + of_valid + of_codes
        payload = np.frombuffer(bytes(self._buffer[_PAYLOAD:end]), np.uint8)
        del self._buffer[: end + _CRC.size]
        shape = header.frames, header.levels, header.bits
        valid = np.unpackbits(payload[:of_valid], count=shape[0]).astype(bool)
        bits = np.unpackbits(payload[of_valid:], count=int(np.prod(shape))).reshape(shape)
        codes = (bits.astype(np.int64) << _shifts(header.bits)).sum(axis=-1)
        return np.where(valid, codes.T, 0), valid

    def _begins(self, header: _Header) -> bool:
        """Whether a packet begins a stream."""
        if header.stream == self._stream:
            return header.first - self.next_frame > _LONGEST_LOSS
        return header.stream not in self._ended

    def _follow(
        self, header: _Header, frames: tuple[IntArray, BoolArray]
    ) -> list[tuple[IntArray, BoolArray]]:
        """The frames of a packet and the gap before them, or nothing if they come too late."""
        if self._begins(header):
            if header.codec != self._template.codec:
                warnings.warn(
                    f"packets are of codec {header.codec.hex()}, on the same codebooks as "
                    f"{self._template.codec.hex()} here",
                    stacklevel=3,
                )
            if header.stream != self._stream:
                if self._stream is not None:
                    self._ended.append(self._stream)
                self._stream = header.stream
            self.next_frame = header.first
            self.beginnings += 1
        lost = header.first - self.next_frame
        if header.stream != self._stream or lost < 0:
            self.late += header.frames
            return []
        self.lost += lost
        self.next_frame = header.first + header.frames
        return [self._gap(lost), frames]

    def _gap(self, frames: int) -> tuple[IntArray, BoolArray]:
        return np.zeros((self._template.levels, frames), np.int64), np.zeros(frames, bool)


def _shifts(bits: int) -> IntArray:
    """By how much each bit of a code is shifted, the highest first."""
    return np.arange(bits)[::-1]

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from emgcodec.layouts import KINDS, Layout, LayoutError
from emgcodec.montage import Electrode, Montage
from emgcodec.tokens import Tokens, TokensError, count_frames


def make(num_samples: int = 2001, **changes: Any) -> Tokens:
    frames = count_frames(num_samples, 2000, 31.25)
    rng = np.random.default_rng(0)
    given = {
        "codes": rng.integers(0, 1024, (2, frames)),
        "valid": np.arange(frames) % 5 != 3,
        "num_samples": num_samples,
        "sample_rate": 2000,
        "frame_rate": 31.25,
        "codebook_size": 1024,
        "start_time": 1.7e9 + 0.1,
        "montage": Montage.preset("myo"),
        "unit": "uV",
        "scale": np.linspace(0, 50, 8),
        "calibration": "0123456789ab",
        "vocab_id": "v1",
        "codec_id": "me/codec",
        "metadata": {"subject": "Zoë", "bits": 12, "gain": 0.1, "left": True},
    }
    return Tokens(**given | changes)


finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]))


@st.composite
def tokens(draw: st.DrawFn) -> Tokens:
    num_samples = draw(st.integers(0, 300))
    sample_rate = draw(
        st.sampled_from([200, 1259.26, 2000, 2048.0, 1000 / 3]) | st.floats(100, 1e4)
    )
    frame_rate = draw(st.sampled_from([31.25, 125, 12.5, 2000 / 24]) | st.floats(0.1, 100))
    frames = count_frames(num_samples, sample_rate, frame_rate)
    size = draw(st.integers(2, 65_536))
    electrodes = draw(
        st.lists(
            st.builds(Electrode, st.integers(0, 15), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)),
            min_size=1,
            max_size=5,
        )
    )
    levels = draw(st.integers(1, 8))
    codes = hnp.arrays(np.uint16, (levels, frames), elements=st.integers(0, size - 1))
    scale = hnp.arrays(np.float32, len(electrodes), elements=st.floats(0, 2**100, width=32))
    return Tokens(
        codes=draw(codes),
        valid=draw(hnp.arrays(np.bool_, frames)),
        num_samples=num_samples,
        sample_rate=sample_rate,
        frame_rate=frame_rate,
        codebook_size=size,
        start_time=draw(finite),
        montage=Montage(draw(words), tuple(electrodes), draw(st.booleans())),
        unit=draw(st.sampled_from(["uV", "adc"])),
        scale=draw(scale),
        calibration=draw(st.none() | words),
        vocab_id=draw(words),
        codec_id=draw(words),
        metadata=draw(st.dictionaries(words, words | st.integers() | finite | st.booleans())),
    )


@given(tokens())
def test_files_give_exactly_the_same_back(tmp_path_factory: Any, one: Tokens) -> None:
    path = tmp_path_factory.getbasetemp() / "one.safetensors"
    one.save(path)
    two = Tokens.load(path)
    assert two == one
    assert repr(vars(two)) == repr(vars(one) | {"metadata": dict(sorted(one.metadata.items()))})
    for name in ("codes", "valid", "scale"):
        assert getattr(two, name).dtype == getattr(one, name).dtype
        assert getattr(two, name).tobytes() == getattr(one, name).tobytes()
    for kind in KINDS[:3]:
        codes, valid = Layout(kind, one.num_codebooks, one.codebook_size).to_codes(one.to_ids(kind))
        assert np.array_equal(valid, one.valid)
        assert np.array_equal(codes, np.where(one.valid, one.codes, 0))
    assert two.token_times().shape == (one.num_frames,)
    assert "bit/s" in str(two.compression())


def test_saving_leaves_one_file_and_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a b.tokens"
    make(0).save(path)
    make().save(str(path))
    first = path.read_bytes()
    make(metadata=dict(reversed(make().metadata.items()))).save(path)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]
    assert set(load(first)) == {"codes", "valid", "scale"}
    with pytest.raises(FileNotFoundError):
        make().save(tmp_path / "nowhere" / "x")
    with pytest.raises(FileNotFoundError):
        Tokens.load(tmp_path / "nowhere")


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for length in range(8):  # until the header is padded with the most spaces
        make(300, codec_id="x" * length).save(path)
        if b"}}" + b" " * 7 in (data := path.read_bytes()):
            break
    else:
        raise AssertionError("no padding in any of the files")
    for place in range(len(data)):
        for mask in (0x01, 0x20, 0x29, 0xFF):  # 0x29 makes a tab of a space
            path.write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            with pytest.raises(TokensError, match=r"x (is not|cannot be read)"):
                Tokens.load(path)


def test_every_truncation_and_any_more_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    make(300).save(path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(TokensError, match="cut off"):
            Tokens.load(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(TokensError, match="checksum"):
        Tokens.load(path)


def test_foreign_files(tmp_path: Path) -> None:
    path, exploded = tmp_path / "x", tmp_path / "exploded"

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(exploded),)

    one = make()
    np.savez(tmp_path / "x.npz", codes=one.codes)
    foreign = [
        b"",
        b"\0" * 5000,
        b"PK",
        pickle.dumps(one),
        pickle.dumps(Bomb()),
        (tmp_path / "x.npz").read_bytes(),
        save({"codes": np.array(one.codes)}),
        save({"weight": np.zeros(3)}, {"format": "pt"}),
        save({"codes": np.array(one.codes)}, {"emgcodec_tokens": "{}"}),
    ]
    for data in foreign:
        path.write_bytes(data)
        with pytest.raises(TokensError, match=r"x is not a tokens file"):
            Tokens.load(path)
    assert not exploded.exists()


def forge(tensors: dict[str, Any], header: dict[str, Any] | str) -> bytes:
    """A file with a right checksum, whatever it holds; from the description of the format."""
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    text = '{"sha256":"' + "0" * 64 + '",' + text[1:]
    return seal(save(tensors, {"emgcodec_tokens": text}))


def seal(data: bytes) -> bytes:
    return data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1)


def parts(one: Tokens, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    one.save(path)
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8:end])["__metadata__"]["emgcodec_tokens"])
    del header["sha256"]
    return load(data), header


def test_the_format_is_as_described(tmp_path: Path) -> None:
    path = tmp_path / "x"
    tensors, header = parts(make(), path)
    assert header["format_version"] == 1
    assert forge(tensors, header) == path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format_version": 2}, "upgrade"),
        ({"format_version": None}, "upgrade"),
        ({"colour": "red"}, "colour"),
        ({"codes": [[1]]}, "frames|not written"),
        ({"num_samples": 2001.0}, "num_samples"),
        ({"num_samples": 4000}, "frames"),
        ({"num_samples": -1}, "num_samples"),
        ({"codebook_size": 2}, "codes"),
        ({"codebook_size": 10**6}, "codebook_size"),
        ({"sample_rate": "2000"}, "sample_rate"),
        ({"sample_rate": math.inf}, "sample_rate"),
        ({"frame_rate": math.nan}, "frame_rate"),
        ({"start_time": None}, "start_time"),
        ({"montage": None}, "montage"),
        ({"montage": Montage.ring(4).to_dict()}, "scale"),
        ({"montage": Montage.ring(8).to_dict() | {"colour": "red"}}, "not written"),
        ({"montage": {"name": "x", "electrodes": [[math.inf]]}}, "finite"),
        ({"unit": "V"}, "unit"),
        ({"calibration": 3}, "calibration"),
        ({"vocab_id": None}, "vocab_id"),
        ({"metadata": {"a": [1]}}, "metadata"),
        ({"metadata": {"a": math.nan}}, "metadata"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_files_with_a_right_checksum_and_a_wrong_field(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "x"
    tensors, header = parts(make(), path)
    path.write_bytes(forge(tensors, header | changes))
    with pytest.raises(TokensError, match=f"x cannot be read.*({reason})"):
        Tokens.load(path)


def test_files_with_a_right_checksum_and_other_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x"
    tensors, header = parts(make(), path)
    for name in header:
        path.write_bytes(forge(tensors, {key: header[key] for key in header if key != name}))
        with pytest.raises(TokensError, match=name):
            Tokens.load(path)
    others = [
        {key: tensors[key] for key in ("codes", "scale")},
        tensors | {"more": np.zeros(1)},
        tensors | {"codes": tensors["codes"].astype(np.int64)},
        tensors | {"codes": tensors["codes"][:, 1:].copy()},
        tensors | {"codes": tensors["codes"].ravel()},
        tensors | {"codes": tensors["codes"][:0]},
        tensors | {"valid": tensors["valid"].astype(np.uint8)},
        tensors | {"scale": np.full(8, np.nan, np.float32)},
        tensors | {"scale": -np.ones(8, np.float32)},
    ]
    for other in others:
        path.write_bytes(forge(other, header))
        with pytest.raises(TokensError, match="x cannot be read"):
            Tokens.load(path)
    for text in ("[1]", "{", '{"a":' + "[" * 100_000, '{"a":' + "9" * 5000 + "}"):
        path.write_bytes(forge(tensors, text))
        with pytest.raises(TokensError, match="x cannot be read"):
            Tokens.load(path)


def test_sizes_beyond_the_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    tensors, header = parts(make(), path)
    data = forge(tensors, header)
    start = data.index(b"sha256") + 11
    blank = data[:start] + b"0" * 64 + data[start + 64 :]
    codes = f'"shape":[2,{tensors["codes"].shape[1]}]'.encode()
    assert seal(blank) == data
    for before, after in (
        (blank[:8], (2**62).to_bytes(8, "little")),
        (blank[:8], (len(data) * 2).to_bytes(8, "little")),
        (codes, codes.replace(b"[2,", b"[9,")),
    ):
        assert before in blank
        path.write_bytes(seal(blank.replace(before, after, 1)))
        with pytest.raises(TokensError, match="x cannot be read"):
            Tokens.load(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"codes": np.zeros((2, 31), int)}, "32 frames"),
        ({"codes": [[1], [1, 2]]}, "not an array"),
        ({"codes": np.zeros((0, 32), int)}, "levels, frames"),
        ({"codes": np.zeros(32, int)}, "levels, frames"),
        ({"codes": np.zeros((2, 32))}, "float64"),
        ({"codes": np.full((2, 32), 1024)}, "0 to 1023"),
        ({"codes": np.full((2, 32), -1)}, "padding"),
        ({"codes": np.full((2, 32), 65_536)}, "0 to 1023"),
        ({"valid": np.ones(31, bool)}, "32 booleans"),
        ({"valid": np.ones(32, int)}, "32 booleans"),
        ({"num_samples": True}, "num_samples"),
        ({"num_samples": -1}, "num_samples"),
        ({"sample_rate": 2.0}, "sample_rate"),
        ({"frame_rate": 0.0}, "frame_rate"),
        ({"frame_rate": -31.25}, "frame_rate"),
        ({"frame_rate": math.inf}, "frame_rate"),
        ({"codebook_size": 1}, "codebook_size"),
        ({"start_time": math.nan}, "start_time"),
        ({"montage": "myo"}, "montage"),
        ({"montage": Montage.ring(4)}, "4 electrodes"),
        ({"unit": "mV"}, "unit"),
        ({"scale": np.ones((8, 1))}, "8 electrodes"),
        ({"scale": np.full(8, np.inf)}, "finite"),
        ({"scale": np.full(8, 1e300)}, "finite"),
        ({"scale": np.full(8, np.nan)}, "finite"),
        ({"scale": -np.ones(8)}, "finite"),
        ({"scale": ["1"] * 8}, "scale"),
        ({"vocab_id": None}, "vocab_id"),
        ({"codec_id": 5}, "codec_id"),
        ({"codec_id": "\ud800"}, "stored"),
        ({"calibration": b"x"}, "calibration"),
        ({"metadata": {"a": None}}, "leave it out"),
        ({"metadata": {"a": np.zeros(2)}}, "leave it out"),
        ({"metadata": {1: "a"}}, "leave it out"),
        ({"metadata": {"a": math.inf}}, "leave it out"),
        ({"metadata": {"a": "\udc80"}}, "stored"),
        ({"metadata": {"a": 10**5000}}, "stored"),
        ({"metadata": None}, "dict"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(TokensError, match=reason):
        make(**changes)


@given(st.integers(0, 10**9), st.sampled_from([63, 125, 200, 2000]), st.sampled_from([16, 64, 80]))
def test_frames_are_counted_exactly(samples: int, rate: int, hop: int) -> None:
    assert count_frames(samples, 20 * rate, 20 * rate / hop) == -(-samples // hop)
    inexact = Fraction(samples) * Fraction("31.25") / Fraction("1259.26")
    assert count_frames(samples, 1259.26, 31.25) == math.ceil(inexact)


def test_tokens_do_not_change_and_compare_by_content() -> None:
    codes, metadata = np.asfortranarray(make().codes), {"a": np.float32(0.5), "b": np.int64(3)}
    one = make(codes=codes, metadata=metadata)
    two = replace(one)
    codes[0, 0] ^= 1
    metadata["a"] = np.float32(1)
    assert one == two
    assert one.metadata == {"a": 0.5, "b": 3}
    assert type(one.metadata["b"]) is int
    assert one != make(codes=codes, metadata=one.metadata)
    assert one != replace(one, start_time=0.0)
    assert one != replace(one, valid=~one.valid)
    assert one != replace(one, scale=one.scale * 2)
    assert one != replace(one, metadata={"a": 0.5, "b": True})
    assert one != "tokens"
    for name in ("codes", "valid", "scale"):
        assert getattr(one, name).flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            getattr(one, name)[0] = 0
    with pytest.raises(FrozenInstanceError):
        one.unit = "adc"  # type: ignore[misc]


def test_a_file_of_fortran_ordered_codes_holds_the_codes(tmp_path: Path) -> None:
    one = make(codes=np.asfortranarray(make().codes))
    one.save(tmp_path / "x")
    assert np.array_equal(load((tmp_path / "x").read_bytes())["codes"], make().codes)


def test_sizes_and_times() -> None:
    one = make(2001, start_time=10.0)
    assert (one.num_codebooks, one.num_frames, one.bits_per_frame) == (2, 32, 20)
    assert make(codebook_size=1025).bits_per_frame == 22
    assert one.duration == 2001 / 2000
    times = one.token_times()
    assert times.dtype == np.float64
    assert times[0] == 10.032
    assert 0 <= times[-1] - 10.0 - one.duration < 1 / 31.25
    assert make(0).token_times().shape == (0,)
    assert repr(one) == (
        "Tokens(2 x 32 codes of 1024, 1.00 s at 31.25 frames/s, 8 electrodes (myo), 6 gap frames)"
    )
    assert "gap" not in repr(make(0))


def test_layouts_must_fit_the_codes() -> None:
    one = make()
    ids = one.to_ids("delay", offset=100)
    assert np.array_equal(ids, one.to_ids(Layout("delay", 2, 1024, 100)))
    assert np.array_equal(ids, one.to_ids(Layout("delay", 2, 1024, 100, "v1")))
    assert one.to_ids(specials=True)[0] == 2048
    assert one.to_text() == Layout("flat", 2, 1024).to_text(one.codes, one.valid)
    assert one.to_text("joint").startswith(f"<emg_{one.codes[0, 0]:04d}_{one.codes[1, 0]:04d}>")
    with pytest.raises(TokensError, match="v2"):
        one.to_ids(Layout("flat", 2, 1024, 0, "v2"))
    assert make(vocab_id="").to_ids(Layout("flat", 2, 1024, 0, "v2")).size == 64
    for layout in (Layout("flat", 1, 1024), Layout("flat", 2, 512)):
        with pytest.raises(TokensError, match="2 x 1024"):
            one.to_text(layout)
    with pytest.raises(TokensError, match="offset=5"):
        one.to_ids(Layout("flat", 2, 1024, 100), offset=5)
    with pytest.raises(LayoutError, match="kind"):
        one.to_ids("zigzag")


def test_compression_states_its_denominators() -> None:
    result = make(20_000).compression()  # 10 s: 313 frames, 8 electrodes
    assert result.codes == pytest.approx(20 * 313 / 10)
    assert result.side == pytest.approx(32 * 8 / 10)
    assert result.total == result.codes + result.side
    assert result.adc == pytest.approx(8 * 2000 * 12)
    assert result.ratio() == pytest.approx(256_000 / (626 + 25.6))
    assert result.ratio("float32", side=False) == pytest.approx(512_000 / 626)
    assert result.ratio("adc") == pytest.approx(192_000 / 651.6)
    assert str(result).splitlines() == [
        "codes           626.0 bit/s",
        "side             25.6 bit/s  (scale: 32 bits per electrode, once per recording)",
        "total           651.6 bit/s",
        "adc          192000.0 bit/s  = 294.7x the total, 306.7x the codes alone",
        "int16        256000.0 bit/s  = 392.9x the total, 408.9x the codes alone",
        "float32      512000.0 bit/s  = 785.8x the total, 817.9x the codes alone",
    ]
    with pytest.raises(TokensError, match="source"):
        result.ratio("int8")


def test_compression_of_nothing_and_of_an_unknown_adc() -> None:
    empty = make(0).compression()
    assert (empty.codes, empty.side, empty.adc, empty.float32) == (0, 0, 0, 0)
    assert math.isnan(empty.ratio())
    assert "n/a the total, n/a the codes alone" in str(empty)
    unknown = make(metadata={}).compression()
    assert unknown.adc is None
    assert math.isnan(unknown.ratio("adc"))
    assert str(unknown).splitlines()[3].split()[:3] == ["adc", "n/a", "bit/s"]
    for bits in ("12", 0, 12.5, True):
        with pytest.raises(TokensError, match="bits"):
            make(metadata={"bits": bits}).compression()


def test_import_is_light() -> None:
    code = "import sys, emgcodec.tokens; print('torch' in sys.modules, 'scipy' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]

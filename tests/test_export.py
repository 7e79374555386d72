"""Exported graphs give the codes of torch, and what runs them needs none."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same, codec_for, emg, montage_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stream import assert_tokens, fed, joined, quantized, worn

from emgcodec import (
    Calibration,
    CalibrationError,
    Codec,
    CodecError,
    Montage,
    Recording,
    Tokens,
    __version__,
)
from emgcodec.runtime import BLOCK_FILE, DECODE_FILE, STEP_FILE, EdgeCodec, ExportError, Graph

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")

from emgcodec.export import export  # noqa: E402


@pytest.fixture(scope="module")
def codec() -> Codec:
    return codec_for("student")


@pytest.fixture(scope="module")
def folder(codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small twin of the student, exported once."""
    target = tmp_path_factory.mktemp("edge")
    assert export(codec, target) >= 0.9999
    assert sorted(p.name for p in target.iterdir()) == [DECODE_FILE, BLOCK_FILE, STEP_FILE]
    return target


@pytest.fixture(scope="module")
def edge(folder: Path) -> EdgeCodec:
    return EdgeCodec(folder)


def assert_is(codec: Codec, edge: EdgeCodec, samples: int, **known: Any) -> None:
    """Tokens of a worn device, and of its stream, are those of torch."""
    x, montage = worn(codec, samples), montage_of(codec)
    rate = known.pop("rate", codec.sample_rate)
    tokens = edge.tokenize(x, sample_rate=rate, montage=montage, **known)
    expected = codec.tokenize(x, sample_rate=rate, montage=montage, **known)
    assert tokens.valid.any()
    assert not tokens.valid.all()
    assert tokens.codec_id == expected.codec_id
    assert tokens.metadata == expected.metadata
    np.testing.assert_array_equal(tokens.scale, expected.scale)
    found = tokens.codes.astype(np.int64), tokens.valid
    assert_tokens(codec, x, found, rate=rate, montage=montage, **known)
    stream = edge.encode_stream(sample_rate=rate, montage=montage, **known)
    sizes = [1, 16, 0, 200, 5000]
    assert_tokens(codec, x, fed(stream, x, sizes), rate=rate, montage=montage, **known)


def test_tokens_are_those_of_torch(codec: Codec, edge: EdgeCodec) -> None:
    assert_is(codec, edge, 300 * codec.hop_length)
    assert (edge.vocab_id, edge.codec_id) == (codec.vocab_id, codec.codec_id)
    assert edge.precision == "float32"


def test_tokens_with_a_calibration_and_a_foreign_rate(codec: Codec, edge: EdgeCodec) -> None:
    montage = montage_of(codec)
    calibration = codec.calibrate([Recording(emg(codec, 3000)[0], 1000, montage=montage)])
    assert_is(codec, edge, 4000, rate=1000, calibration=calibration)


@given(first=st.integers(1, 70), second=st.integers(1, 70), electrodes=st.integers(1, 12))
@settings(max_examples=6)
def test_any_batch_time_and_montage(
    codec: Codec, edge: EdgeCodec, first: int, second: int, electrodes: int
) -> None:
    montage = Montage.ring(electrodes)
    x = np.random.default_rng(first).standard_normal((16, electrodes, 1)) * 30
    x = x * np.random.default_rng(second).standard_normal(
        (16, electrodes, (first + second) * codec.hop_length)
    )
    stream = edge.encode_stream(16, montage=montage)
    parts = [stream.push(part) for part in np.split(x, [first * codec.hop_length], axis=2)]
    found = torch.from_numpy(np.concatenate([codes for codes, _ in parts], axis=2))
    given_ = torch.from_numpy(x.astype(np.float32))
    latents = codec.encode_latent(given_, montage=montage)
    assert_same(codec, codec.encode(given_, montage=montage), found, latents)


def test_a_slot_begins_anew_apart(codec: Codec, edge: EdgeCodec) -> None:
    x = worn(codec, 40 * codec.hop_length)
    stream = edge.encode_stream(2, montage=montage_of(codec))
    stream.push(np.stack([x, x])[..., :1000])
    stream.reset(np.array([False, True]))
    parts = [stream.push(np.stack([x, x])[..., 1000:2000])]
    alone = edge.encode_stream(montage=montage_of(codec))
    codes, _ = joined([alone.push(x[:, 1000:2000])])
    np.testing.assert_array_equal(parts[0][0][1][:, : codes.shape[1]], codes)


def test_a_foreign_calibration_is_refused(codec: Codec, edge: EdgeCodec) -> None:
    montage = montage_of(codec)
    calibration = codec.calibrate([Recording(emg(codec, 3000)[0], 2000, montage=montage)])
    other = Calibration(**vars(calibration) | {"features": "of-another"})
    with pytest.raises(CalibrationError, match="of-another"):
        edge.encode_stream(montage=montage, calibration=other)
    with pytest.raises(CalibrationError, match="batch of 2"):
        edge.encode_stream(2, montage=montage, calibration=[calibration])
    with pytest.raises(CodecError, match="batch_size"):
        edge.encode_stream(0, montage=montage)


def test_metadata_says_what_it_is(codec: Codec, folder: Path) -> None:
    for name in (STEP_FILE, BLOCK_FILE, DECODE_FILE):
        stored = onnx.load(folder / name).metadata_props
        facts = {entry.key: json.loads(entry.value) for entry in stored}
        assert facts["codec_id"] == codec.codec_id
        assert facts["vocab_id"] == codec.vocab_id
        assert (facts["sample_rate"], facts["hop_length"]) == (2000, 64)
        assert facts["labels"] == {"gesture": list(codec.labels("gesture"))}
        assert facts["config"] == json.loads(json.dumps(codec.config.to_dict()))
        assert facts["agreement"] >= 0.9999


def test_files_that_cannot_be_run_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is missing"):
        EdgeCodec(tmp_path)
    for name in (STEP_FILE, BLOCK_FILE):
        shutil.copy(folder / name, tmp_path)
    cut = (tmp_path / STEP_FILE).read_bytes()[:-1000]
    (tmp_path / STEP_FILE).write_bytes(cut)
    with pytest.raises(ExportError, match="damaged"):
        EdgeCodec(tmp_path)
    for changed, message in (("format_version", "format_version"), ("codec_id", "different")):
        model = onnx.load(folder / STEP_FILE)
        facts = {p.key: p.value for p in model.metadata_props} | {changed: "99"}
        onnx.helper.set_model_props(model, facts)
        onnx.save(model, tmp_path / STEP_FILE)
        with pytest.raises(ExportError, match=message):
            EdgeCodec(tmp_path)


def test_a_codec_without_codes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no quantizer"):
        export(codec_for("tiny"), tmp_path / "edge")
    assert not (tmp_path / "edge").exists()


def installed(folder: Path, *names: str) -> Path:
    """Some of the packages that are installed here, and nothing else."""
    folder.mkdir()
    for name in names:
        place = importlib.util.find_spec(name)
        assert place is not None
        assert place.origin is not None
        package = Path(place.origin).parent
        for part in {package, *package.parent.glob(f"{name}.libs")}:
            (folder / part.name).symlink_to(part)
    facts = f"emgcodec-{__version__}.dist-info"
    (folder / facts).symlink_to(Path(str(distribution("emgcodec").locate_file(facts))))
    return folder


def test_it_runs_without_torch(codec: Codec, folder: Path, tmp_path: Path) -> None:
    """In an interpreter with what docs/export.md names, and no other package."""
    x, montage = worn(codec, 5000), montage_of(codec)
    np.save(tmp_path / "x.npy", x)
    needed = "numpy", "scipy", "safetensors", "onnxruntime"
    packages = installed(tmp_path / "site", "emgcodec", *needed)
    code = f"""
import sys
sys.path.append({str(packages)!r})
import numpy as np
from emgcodec import Montage, Tokens
from emgcodec.runtime import EdgeCodec
from emgcodec.wire import Packer, Unpacker
try:
    import torch
except ImportError:
    pass
else:
    raise AssertionError("torch is there")
x = np.load({str(tmp_path / "x.npy")!r})
edge = EdgeCodec({str(folder)!r})
montage = Montage.ring({len(montage)})
edge.tokenize(x, sample_rate=2000, montage=montage).save({str(tmp_path / "x.tokens")!r})
stream = edge.encode_stream(montage=montage)
parts = [stream.push(x), stream.flush()]
codes, valid = (np.concatenate(each, axis=-1)[0] for each in zip(*parts))
tokens = Tokens.load({str(tmp_path / "x.tokens")!r})
assert np.array_equal(codes, tokens.codes)
found = Unpacker(edge).push(b"".join(Packer(edge).pack(codes, valid)))
assert np.array_equal(found[0], codes) and np.array_equal(found[1], valid)
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
    made = Tokens.load(tmp_path / "x.tokens")
    assert_tokens(codec, x, (made.codes.astype(np.int64), made.valid), montage=montage)


@pytest.mark.parametrize(("streams", "electrodes"), [(1, 5), (3, 17)])
def test_what_is_decoded_is_what_torch_decodes(
    codec: Codec, folder: Path, streams: int, electrodes: int
) -> None:
    """Blocks of any size up to the largest, with frames missing."""
    montage, graph = Montage.ring(electrodes), Graph(folder / DECODE_FILE, 1)
    rng = np.random.default_rng(0)
    sizes = [64, 1, 30, 7]
    codes = rng.integers(0, codec.codebook_size, (streams, codec.num_codebooks, sum(sizes)))
    valid = rng.random((streams, sum(sizes))) < 0.9
    stream = codec.decode_stream(streams, montage=montage)
    state = graph.init_state(streams, electrodes)
    positions = np.repeat(montage.positions()[None], streams, axis=0)
    for part, there in zip(
        *(np.split(a, np.cumsum(sizes)[:-1], -1) for a in (codes, valid)), strict=True
    ):
        shown = np.where(there[:, None], part, -1)
        found, state = graph({"codes": shown, "positions": positions} | state)
        expected = stream.push(part, there)
        assert found.keys() == expected.keys()
        for name, wanted in expected.items():
            np.testing.assert_allclose(found[name], wanted, rtol=1e-3, atol=1e-3)


def test_a_block_of_one_frame_is_a_step(codec: Codec, edge: EdgeCodec) -> None:
    """Both graphs carry the same state."""
    montage = montage_of(codec)
    x = worn(codec, 40 * codec.hop_length)
    state, codes = edge.step.init_state(1, len(montage)), []
    other = dict(state)
    mask = np.ones((1, len(montage), 1), bool)
    fixed = {"mask": mask, "positions": montage.positions()[None]}
    for frame in np.split(np.nan_to_num(x), 40, axis=1):
        inputs = fixed | {"x": frame[None]}
        one, state = edge.step(inputs | state)
        two, other = edge.block(inputs | other)
        codes.append((one["codes"], two["codes"]))
    assert np.mean([np.array_equal(*each) for each in codes]) > 0.95  # but for near-ties
    for name, array in state.items():
        np.testing.assert_allclose(array, other[name], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_ten_thousand_frames_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Five minutes of the released student, in blocks and pushed in any sizes."""
    codec = codec_for("bundled student")
    export(codec, tmp_path)
    edge, frames = EdgeCodec(tmp_path), 10_000
    x, montage = worn(codec, frames * codec.hop_length), montage_of(codec)
    expected = codec.tokenize(x, sample_rate=codec.sample_rate, montage=montage)
    whole = edge.tokenize(x, sample_rate=codec.sample_rate, montage=montage)
    stream = fed(edge.encode_stream(montage=montage), x, [1, 16, 64, 640, 7000])
    for kind, codes in (("blocks", whole.codes), ("stream", stream[0])):
        share = (codes == expected.codes).all(axis=0).mean()
        with capsys.disabled():
            print(f"\n{kind}: {share:.4%} of {frames} frames are torch's")
        assert share >= 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emg-codec", "tiny", "bundled student"])
def test_every_family_exports(name: str, tmp_path: Path) -> None:
    codec = quantized(name)
    assert export(codec, tmp_path) >= 0.9999
    assert_is(codec, EdgeCodec(tmp_path), 300 * codec.hop_length)


@pytest.mark.slow
def test_int8_is_a_codec_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from emgcodec.cli import main

    assert main(["export", "student", "-o", str(tmp_path), "--int8"]) == 0
    assert "do not mix" in capsys.readouterr().out
    codec, edge = codec_for("bundled student"), EdgeCodec(tmp_path)
    assert edge.precision == "int8"
    assert 0.5 < edge.agreement < 1
    assert edge.codec_id != codec.codec_id
    assert edge.vocab_id == codec.vocab_id
    tokens = edge.tokenize(emg(codec, 20_000)[0], sample_rate=2000)
    with pytest.warns(UserWarning, match="int8"):
        codec.detokenize(tokens)

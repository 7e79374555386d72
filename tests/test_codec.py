"""`Codec` through its public methods: presets, files, recordings, heads, and bad input."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CONFIGS, codec_for, emg, montage_of
from safetensors.torch import load_file, save_file

from emgcodec import (
    Calibration,
    CalibrationError,
    Codec,
    CodecConfig,
    CodecError,
    ConfigError,
    ModelError,
    Montage,
    MontageError,
    Recording,
    RecordingError,
    Tokens,
    list_presets,
    list_pretrained,
    pretrained,
    sample,
)
from emgcodec.calibration import save_calibrations
from emgcodec.config import SignalHeadConfig
from emgcodec.montage import Electrode

PARAMETERS = {  # encoder (before the quantizer), codebooks, decoder, heads
    "emg-codec": (276_240, 524_288, 422_448, 25_443),
    "emg-codec-vq": (276_240, 262_144, 422_448, 25_443),
    "emg-codec-none": (276_240, 0, 422_448, 25_443),
    "emg2qwerty-tds": (1_608_984, 0, 3_608_136, 76_131),
    "tiny": (2_204_544, 0, 0, 12_771),
    "small": (5_362_304, 0, 0, 25_443),
    "large": (109_310_080, 0, 0, 101_475),
    "student": (72_768, 131_072, 88_032, 16_971),
    "teacher": (755_200, 131_072, 603_392, 25_531),
    "teacher-large": (3_459_072, 131_072, 3_176_192, 39_227),
}


def noise(electrodes: int = 6, samples: int = 3000, *, level: float = 30.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((electrodes, samples)) * level).astype(np.float32)


@pytest.mark.parametrize("name", list_presets())
def test_presets_have_the_stated_parameters(name: str) -> None:
    with torch.device("meta"):
        codec = Codec(Codec.from_preset("student").config if name == "student" else _config(name))
    counts = tuple(
        codec.num_parameters(part) for part in ("encoder", "codebooks", "decoder", "heads")
    )
    assert counts == PARAMETERS[name]
    assert codec.num_parameters() == sum(counts)


def _config(name: str) -> CodecConfig:
    from emgcodec.presets import preset

    return preset(name)


def test_properties_of_the_published_tokenizer() -> None:
    codec = Codec.from_preset("emg-codec")
    assert (codec.sample_rate, codec.hop_length, codec.frame_rate) == (2000, 16, 125.0)
    assert (codec.num_codebooks, codec.codebook_size, codec.bits_per_frame) == (2, 1024, 20)
    assert (codec.receptive_field, codec.lookahead) == (560, 0)
    assert codec.heads == ("text",)
    assert len(codec.labels("text")) == 98
    assert codec.num_frames(0) == 0
    assert codec.num_frames(17) == 2
    overridden = Codec.from_preset("emg-codec", **{"quantizer.levels": 4, "quantizer.size": 512})
    assert overridden.bits_per_frame == 36


@pytest.mark.parametrize("name", CONFIGS)
def test_receptive_field_is_what_is_stated(name: str) -> None:
    codec = codec_for(name)
    hop, last = codec.hop_length, 200
    x = emg(codec, last * hop)
    state = codec.init_state(1, montage_of(codec))
    # The normalisation remembers for longer; a strong calibration keeps it still.
    still = codec.calibrate([Recording(x[0].numpy(), codec.sample_rate, montage=montage_of(codec))])
    frozen = replace(still, frames=still.frames * 1e12)
    codec.frontend.norm.full_weight, usual = 1e15, codec.frontend.norm.full_weight
    try:
        options = {"montage": montage_of(codec), "calibration": frozen}
        end = last * hop
        if codec.receptive_field >= end:
            pytest.skip(f"receptive field of {codec.receptive_field} samples")
        before = codec.encode_latent(x, **options)[0, :, -1]
        changed = x.clone()
        changed[..., : end - codec.receptive_field] *= -3.0
        after = codec.encode_latent(changed, **options)[0, :, -1]
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
        changed[..., : end - codec.receptive_field + codec.hop_length * 2] *= 5.0
        assert not torch.equal(before, codec.encode_latent(changed, **options)[0, :, -1])
    finally:
        codec.frontend.norm.full_weight = usual
    assert state["frames"].item() == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_config_round_trip(name: str) -> None:
    config = codec_for(name).config
    assert CodecConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_config_is_strict() -> None:
    data = Codec.from_preset("student").config.to_dict()
    for change, word in (
        ({"format_version": 2}, "upgrade"),
        ({"colour": "red"}, "colour"),
        ({"hop_length": "64"}, "hop_length"),
        ({"hop_length": 0}, "hop_length"),
        ({"frontend": {"kind": "os.system"}}, "kind"),
        ({"quantizer": data["quantizer"] | {"after_block": 99}}, "after_block"),
    ):
        with pytest.raises(ConfigError, match=word):
            CodecConfig.from_dict(data | change)
    with pytest.raises(ConfigError, match="hop_length"):
        CodecConfig.from_dict({k: v for k, v in data.items() if k != "hop_length"})
    with pytest.raises(ConfigError, match="no field"):
        Codec.from_preset("student", levels=3)
    with pytest.raises(ConfigError, match="choose from"):
        Codec.from_preset("studnet")


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_and_loaded_is_the_same_codec(name: str, tmp_path: Path) -> None:
    codec = codec_for(name)
    if codec.config.storage != "float32":
        codec = Codec(codec.config).eval()
        codec.load_state_dict(codec_for(name).state_dict())
        codec.round_weights()
    codec.save_pretrained(tmp_path / "model")
    loaded = Codec.from_pretrained(tmp_path / "model")
    golden = ["golden.tokens"] if codec.num_codebooks else []
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "README.md", "config.json", *golden, "model.safetensors",
    ]  # fmt: skip
    assert not loaded.training
    assert (loaded.codec_id, loaded.vocab_id) == (codec.codec_id, codec.vocab_id)
    x = emg(codec, 40 * codec.hop_length)
    assert torch.equal(codec.encode_latent(x), loaded.encode_latent(x))
    assert loaded.config == codec.config


def test_damaged_models_are_refused(tmp_path: Path) -> None:
    codec_for("student").save_pretrained(tmp_path / "good")
    tensors = load_file(tmp_path / "good" / "model.safetensors")
    first = next(name for name in tensors if "codebooks" not in name)

    def damaged(name: str, change: dict[str, Any] | None) -> Path:
        target = tmp_path / name
        shutil.copytree(tmp_path / "good", target)
        if change is not None:
            kept = {k: v for k, v in (tensors | change).items() if v is not None}
            save_file(kept, target / "model.safetensors")
        return target

    with pytest.raises(ModelError, match="missing"):
        Codec.from_pretrained(damaged("missing", {first: None}))
    with pytest.raises(ModelError, match="left over"):
        Codec.from_pretrained(damaged("extra", {"more": torch.zeros(1)}))
    with pytest.raises(ModelError, match="config asks"):
        Codec.from_pretrained(damaged("shape", {first: torch.zeros(3, dtype=torch.float16)}))
    with pytest.raises(ModelError, match="config asks"):
        Codec.from_pretrained(damaged("type", {first: tensors[first].float()}))
    with pytest.raises(ModelError, match="non-finite"):
        Codec.from_pretrained(damaged("nan", {first: tensors[first] * float("nan")}))
    cut = damaged("cut", None)
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="damaged"):
        Codec.from_pretrained(cut)
    pickled = damaged("pickle", None)
    (pickled / "model.safetensors").unlink()
    torch.save(tensors, pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickles"):
        Codec.from_pretrained(pickled)
    broken = damaged("json", None)
    (broken / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        Codec.from_pretrained(broken)
    changed = damaged("changed", {first: tensors[first] * 2})
    with pytest.raises(ModelError, match="not the file"):
        Codec.from_pretrained(changed)
    with pytest.raises(ModelError, match="bundled"):
        Codec.from_pretrained("no-such-model")
    with pytest.raises(ModelError, match=r"no folder with config\.json.*pickles"):
        Codec.from_pretrained(tmp_path / "none")
    with pytest.raises(ModelError, match="bundled"):
        Codec.from_pretrained("a" * 1000)
    piped = damaged("piped", None)
    (piped / "config.json").unlink()
    os.mkfifo(piped / "config.json")
    with pytest.raises(ModelError, match="no folder with"):
        Codec.from_pretrained(piped)
    many = damaged("many", {f"more{i}": torch.zeros(1) for i in range(8)})
    with pytest.raises(ModelError, match=r"left over .*more4'\] and 3 more"):
        Codec.from_pretrained(many)
    large = damaged("large", None)
    os.truncate(large / "model.safetensors", 1 << 36)  # a hole: no disk is that large
    with pytest.raises(ModelError, match=r"at most .* are read"):
        Codec.from_pretrained(large)
    for device in ("nope", "cuda:99"):
        with pytest.raises(CodecError, match=f"device='{device}'.*cpu"):
            Codec.from_pretrained(device=device)
    for name in ("student", str(tmp_path / "good")):
        with pytest.raises(ModelError, match="revision"):
            Codec.from_pretrained(name, revision="v2")


def test_a_folder_that_is_called_like_a_released_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine, released = codec_for("student"), Codec.from_pretrained("student")
    mine.save_pretrained("student")
    with pytest.warns(UserWarning, match=r"'\./student'"):
        assert Codec.from_pretrained("student").codec_id == released.codec_id
    for folder in ("./student", Path("student"), tmp_path / "student"):
        assert Codec.from_pretrained(folder).codec_id == mine.codec_id
    assert Codec.from_pretrained().codec_id == released.codec_id


def test_what_is_not_here_says_how_to_train_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_here", dict)  # as in a wheel, which has none
    with pytest.raises(ModelError, match=r"neither here nor published.*emgcodec train teacher"):
        Codec.from_pretrained("teacher")


def test_a_model_saved_before_hashes_were_is_read(tmp_path: Path) -> None:
    codec_for("student").save_pretrained(tmp_path)
    table = json.loads((tmp_path / "config.json").read_text())
    assert len(table.pop("weights_sha256")) == 64
    (tmp_path / "config.json").write_text(json.dumps(table))
    assert Codec.from_pretrained(tmp_path).codec_id == codec_for("student").codec_id


def test_the_bundled_student() -> None:
    assert "student" in list_pretrained()
    codec = Codec.from_pretrained()
    assert codec.codec_id == Codec.from_pretrained("student").codec_id
    assert codec.config.weights_license
    assert codec.config.montage is None
    weights = Path(__file__).parents[1] / "src/emgcodec/weights/student/model.safetensors"
    assert weights.stat().st_size < 5_000_000
    rec = sample("armband")
    tokens = codec.tokenize(rec)
    assert len(np.unique(tokens.codes[0])) > 30
    back = codec.detokenize(tokens)
    ratio = back.emg.std(axis=1) / rec.emg.std(axis=1)
    assert (ratio > 0.3).all()
    assert (ratio < 3.0).all()


def test_identity_follows_the_weights() -> None:
    codec = Codec.from_preset("student")
    vocab, whole = codec.vocab_id, codec.codec_id
    with torch.no_grad():
        codec.frontend.mix.weight.mul_(1.5)
    assert codec.vocab_id == vocab
    assert codec.codec_id != whole
    assert codec.quantizer is not None
    codec.quantizer.set_codebooks(codec.quantizer.codebooks * 2)
    assert codec.vocab_id != vocab


@pytest.mark.parametrize("electrodes", [1, 2, 7, 64, 128])
@pytest.mark.parametrize("rate", [100.0, 200.0, 1000.0, 1259.26, 2000.0, 4096.0])
def test_one_checkpoint_takes_any_armband(electrodes: int, rate: float) -> None:
    codec = codec_for("student")
    rec = Recording(noise(electrodes, int(rate * 1.5)), rate)
    tokens = codec.tokenize(rec)
    back = codec.detokenize(tokens)
    assert (back.num_electrodes, back.num_samples, back.sample_rate) == (
        electrodes, rec.num_samples, rate,
    )  # fmt: skip
    assert back.montage == rec.montage
    assert np.isfinite(back.emg).all()


def test_tokens_carry_the_recording(tmp_path: Path) -> None:
    codec = codec_for("student")
    rec = Recording(
        noise(8), 1000, montage="myo", unit="adc", start_time=1.7e9, metadata={"subject": "S1"}
    )
    tokens = codec.tokenize(rec)
    assert (tokens.num_samples, tokens.sample_rate, tokens.unit) == (3000, 1000, "adc")
    assert (tokens.start_time, tokens.montage, tokens.metadata["subject"]) == (
        1.7e9, Montage.preset("myo"), "S1",
    )  # fmt: skip
    assert (tokens.vocab_id, tokens.codec_id) == (codec.vocab_id, codec.codec_id)
    np.testing.assert_allclose(tokens.scale, rec.emg.std(axis=1), rtol=0.1)
    tokens.save(tmp_path / "rec.tokens")
    assert Tokens.load(tmp_path / "rec.tokens") == tokens
    codec.check_vocabulary(tokens)


def test_array_file_and_recording_give_the_same_tokens(tmp_path: Path) -> None:
    codec = codec_for("student")
    x = noise(5, 4000)
    np.save(tmp_path / "x.npy", x)
    array = codec.tokenize(x, sample_rate=1000)
    assert np.array_equal(array.codes, codec.tokenize(Recording(x, 1000)).codes)
    assert np.array_equal(array.codes, codec.tokenize(tmp_path / "x.npy", sample_rate=1000).codes)
    millivolts = codec.tokenize(x.astype(np.float64) / 1000, sample_rate=1000, unit="mV")
    assert (array.codes == millivolts.codes).mean() > 0.999


def test_missing_samples_are_repaired_or_masked_and_reported() -> None:
    codec = codec_for("student")
    x = noise(4, 8000)
    whole = codec.tokenize(x, sample_rate=2000)
    spotted = x.copy()
    spotted[2, 3001] = np.nan
    spotted[1, 5000] = np.inf
    tokens = codec.tokenize(spotted, sample_rate=2000)
    assert tokens.metadata["missing_samples"] == 2
    assert tokens.valid.all()
    assert (tokens.codes == whole.codes).mean() > 0.9
    gap = x.copy()
    gap[:, 3000:4000] = np.nan
    tokens = codec.tokenize(gap, sample_rate=2000)
    assert not tokens.valid[48:62].any()
    assert tokens.valid[:46].all()
    assert tokens.valid[70:].all()
    back = codec.detokenize(tokens)
    assert np.isfinite(back.emg).all()
    assert (back.emg[:, 3200:3800] == 0).all()


def test_a_flat_electrode_is_masked() -> None:
    codec = codec_for("student")
    x = noise(5, 6000)
    x[3] = 12.5
    flat = codec.tokenize(x, sample_rate=2000)
    x[3] = -700.0
    assert np.array_equal(flat.codes, codec.tokenize(x, sample_rate=2000).codes)
    assert flat.scale[3] == 0


def test_calibration_round_trip_and_use(tmp_path: Path) -> None:
    codec = codec_for("student")
    rec = Recording(noise(6, 20_000), 1000)
    calibration = codec.calibrate([rec, (rec.emg, 1000)][:1])
    calibration.save(tmp_path / "c.calibration")
    loaded = Calibration.load(tmp_path / "c.calibration")
    assert loaded == calibration
    assert loaded.digest() == calibration.digest()
    assert repr(loaded) == repr(calibration)
    assert calibration.digest() in repr(loaded)
    tokens = codec.tokenize(rec, calibration=loaded)
    assert tokens.calibration == calibration.digest()
    assert not np.array_equal(tokens.codes, codec.tokenize(rec).codes)
    data = bytearray((tmp_path / "c.calibration").read_bytes())
    data[-3] ^= 1
    (tmp_path / "c.calibration").write_bytes(data)
    with pytest.raises(CalibrationError, match="damaged"):
        Calibration.load(tmp_path / "c.calibration")
    (tmp_path / "c.calibration").write_bytes(b"nothing")
    with pytest.raises(CalibrationError, match="not a calibration"):
        Calibration.load(tmp_path / "c.calibration")
    with pytest.raises(MontageError, match="missing"):
        codec.tokenize(noise(5), sample_rate=1000, calibration=loaded)
    with pytest.raises(CalibrationError, match="features"):
        codec_for("emg-codec").tokenize(
            noise(32), sample_rate=1000, montage="emg2qwerty", calibration=loaded
        )
    with pytest.raises(CalibrationError, match="none given"):
        codec.calibrate([])
    with pytest.raises(CalibrationError, match="gain"):
        loaded.scaled(0)


def test_calibration_finds_the_mains_and_only_then_notches() -> None:
    codec = codec_for("student")
    time = np.arange(20_000) / 1000
    hum = noise(6, 20_000) + 100 * np.sin(2 * np.pi * 50 * time)
    assert codec.calibrate([Recording(noise(6, 20_000), 1000)]).mains is None
    calibration = codec.calibrate([Recording(hum, 1000)])
    assert calibration.mains == 50.0


def test_a_montage_fixed_codec_takes_its_electrodes_in_any_order() -> None:
    codec = codec_for("emg-codec")
    montage = Montage.preset("emg2qwerty")
    order = list(range(31, -1, -1))
    x = noise(32, 4000)
    straight = codec.tokenize(Recording(x, 2000, montage=montage))
    turned = codec.tokenize(Recording(x[order], 2000, montage=montage.select(order)))
    assert np.array_equal(straight.codes, turned.codes)
    assert np.array_equal(straight.scale[order], turned.scale)
    with pytest.raises(MontageError, match="missing"):
        codec.tokenize(noise(8), sample_rate=2000, montage="myo")


def test_transcribe_gives_events_within_the_recording() -> None:
    codec = codec_for("student")
    tokens = codec.tokenize(noise(8, 10_000), sample_rate=1000, montage="myo")
    events = codec.transcribe(tokens, "gesture")
    assert events
    for event in events:
        assert 0 <= event.start < event.end <= 10.0
        assert event.label in codec.labels("gesture")
        assert event.score is not None
        assert 0 < event.score <= 1
    typed = codec_for("emg-codec")
    x = typed.tokenize(noise(32, 4000), sample_rate=2000, montage="emg2qwerty")
    assert all(e.label in typed.labels("text") for e in typed.transcribe(x, "text"))


BAD_SIGNALS = {
    "samples first": (noise(5000, 8), {}, "electrodes first"),
    "no electrodes": (np.zeros((0, 100)), {}, "no electrode"),
    "one dimension": (np.zeros(100), {}, r"x\[None\]"),
    "four dimensions": (np.zeros((1, 2, 3, 4)), {}, "shape"),
    "complex": (noise().astype(complex), {}, "complex"),
    "object": (np.array([[None, 1.0]]), {}, "object"),
    "text": (np.array([["a", "b"]]), {}, "dtype"),
    "rate zero": (noise(), {"sample_rate": 0}, "sample_rate"),
    "rate negative": (noise(), {"sample_rate": -5}, "sample_rate"),
    "rate nan": (noise(), {"sample_rate": float("nan")}, "sample_rate"),
    "rate low": (noise(), {"sample_rate": 50}, "100 Hz"),
    "rate text": (noise(), {"sample_rate": "2k"}, "not a number"),
    "rate missing": (noise(), {"sample_rate": None}, "sample_rate"),
    "volts": (noise() * 1e-6, {}, "unit="),
    "nanovolts": (noise() * 1e4, {}, "unit="),
    "flat": (np.zeros((4, 5000)), {}, "flat or missing"),
    "unit": (noise(), {"unit": "kV"}, "unit"),
    "montage size": (noise(), {"montage": "myo"}, "8 electrodes"),
    "montage name": (noise(), {"montage": "glove"}, "choose from"),
}


@pytest.mark.parametrize("case", BAD_SIGNALS)
def test_bad_signals_are_named(case: str) -> None:
    x, options, words = BAD_SIGNALS[case]
    with pytest.raises(ValueError, match=words) as caught:
        codec_for("student").tokenize(x, **({"sample_rate": 1000} | options))
    assert isinstance(caught.value, RecordingError | MontageError)


def test_adc_counts_are_never_range_checked() -> None:
    codec = codec_for("student")
    assert codec.tokenize(noise() * 1e3, sample_rate=1000, unit="adc").unit == "adc"
    assert codec.tokenize(noise() * 1e-3, sample_rate=1000, unit="adc").unit == "adc"


def test_bad_files_are_named(tmp_path: Path) -> None:
    codec = codec_for("student")
    (tmp_path / "x.bin").write_bytes(b"\x00\x01" * 50)
    with pytest.raises(RecordingError, match=r"x\.bin"):
        codec.tokenize(tmp_path / "x.bin")
    np.save(tmp_path / "x.npy", noise())
    with pytest.raises(RecordingError, match="sample_rate"):
        codec.tokenize(tmp_path / "x.npy")
    data = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(data[: len(data) // 2])
    with pytest.raises(RecordingError, match=r"x\.npy"):
        codec.tokenize(tmp_path / "x.npy", sample_rate=1000)
    with pytest.raises((RecordingError, FileNotFoundError)):
        codec.tokenize(tmp_path / "none.npy", sample_rate=1000)


def test_tokens_of_another_vocabulary_are_refused() -> None:
    tokens = codec_for("student").tokenize(noise(), sample_rate=1000)
    other = Codec(codec_for("student").config).eval()
    for use in (lambda: other.detokenize(tokens), lambda: other.transcribe(tokens, "gesture")):
        with pytest.raises(CodecError, match="vocabulary"):
            use()


def test_bad_tensors_are_named() -> None:
    codec = codec_for("student")
    good = torch.randn(2, 4, 640) * 30
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (good[0], {}, r"x\[None\]"),
        (good.mT, {}, "electrodes first"),
        (good[:, :0], {}, "no electrode"),
        (good.to(torch.complex64), {}, "real"),
        (good.numpy(), {}, "torch tensor"),
        (good, {"lengths": [3]}, "lengths"),
        (good, {"lengths": [1, 641]}, "lengths"),
        (good, {"lengths": [1.0, 2.0]}, "lengths"),
        (good, {"num_codebooks": 3}, "num_codebooks"),
        (good, {"num_codebooks": 0}, "num_codebooks"),
        (good, {"mask": torch.ones(2, 5, dtype=torch.bool)}, "mask"),
        (good, {"montage": "myo"}, "8 electrodes"),
        (good, {"montage": [Montage.ring(4)]}, "montage"),
        (good, {"montage": Montage.ring(5)}, "5 electrodes"),
    ]
    for x, options, words in cases:
        with pytest.raises(ValueError, match=words):
            codec.encode(x, **options)
    codes = codec.encode(good)
    for bad in (codes[0], codes.float(), codes + 5000, torch.cat([codes, codes], dim=1)):
        with pytest.raises(CodecError, match=r"codes|num_codebooks"):
            codec.decode_latent(bad)
    with pytest.raises(CodecError, match="length"):
        codec.decode(codes, montage="myo", length=5000)
    with pytest.raises(MontageError, match="montage"):
        codec.decode(codes)


def test_heads_that_do_not_exist_are_named() -> None:
    student, typed = codec_for("student"), codec_for("emg-codec")
    codes = typed.encode(emg(typed, 1600))
    with pytest.raises(CodecError, match=r"signal head.*text"):
        typed.decode(codes)
    with pytest.raises(CodecError, match=r"text.*gesture"):
        student.predict(codes[:, :, :10] % 64, "text")
    with pytest.raises(CodecError, match="labels"):
        student.labels("signal")
    plain = codec_for("tiny")
    with pytest.raises(CodecError, match="encode_latent"):
        plain.encode(emg(plain, 1600))
    with pytest.raises(CodecError, match="encode_latent"):
        plain.tokenize(noise(32), sample_rate=2000, montage="emg2qwerty")


def test_a_model_knows_the_devices_of_those_it_learned_from(tmp_path: Path) -> None:
    codec = Codec.from_preset("student")
    rec = Recording(noise(8, 20_000), 200, montage="myo", unit="adc")
    codec.devices = {"myo": codec.calibrate([rec])}
    codec.save_pretrained(tmp_path / "model")
    loaded = Codec.from_pretrained(tmp_path / "model")
    assert loaded.devices == codec.devices
    assert loaded.codec_id == codec.codec_id  # what it knows of devices makes no other codec of it
    tokens = loaded.tokenize(rec, calibration=loaded.devices["myo"])
    assert tokens.calibration == codec.devices["myo"].digest()
    path = tmp_path / "model" / "devices.safetensors"
    with pytest.raises(CalibrationError, match="not of a wearing"):
        Calibration.load(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(ModelError, match="damaged"):
        Codec.from_pretrained(tmp_path / "model")
    save_calibrations({"myo": replace(codec.devices["myo"], features="of-another")}, path)
    with pytest.raises(ModelError, match="other features"):
        Codec.from_pretrained(tmp_path / "model")
    codec.devices = {}
    codec.save_pretrained(tmp_path / "model")
    assert not path.exists()
    assert Codec.from_pretrained(tmp_path / "model").devices == {}


def test_weights_that_cannot_be_stored_stay_as_they_are(tmp_path: Path) -> None:
    codec = Codec(codec_for("student").config)
    codec.load_state_dict(codec_for("student").state_dict())
    name, weight = next(iter(codec.named_parameters()))
    weight.data.flatten()[0] = 1e5
    before = weight.clone()
    with pytest.raises(ModelError, match=rf"{name}.*float16"):
        codec.save_pretrained(tmp_path / "model")
    assert torch.equal(weight, before)
    assert not (tmp_path / "model").exists()


def test_metadata_that_tokens_cannot_hold_is_left_out() -> None:
    told = {"age": float("nan"), "bits": np.int64(12), "arm": "left", "list": [1]}
    rec = Recording(emg(codec_for("student"), 4000)[0].numpy(), 2000, metadata=told)
    tokens = codec_for("student").tokenize(rec)
    kept = {k: v for k, v in tokens.metadata.items() if k in told}
    assert kept == {"bits": 12, "arm": "left"}
    assert tokens.compression().adc


def test_a_path_is_no_calibration(tmp_path: Path) -> None:
    codec, x = codec_for("student"), np.ones((8, 400))
    with pytest.raises(CalibrationError, match=r"calibration='x\.cal'.*Calibration\.load"):
        codec.tokenize(x, sample_rate=2000, calibration="x.cal")  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match="Calibration"):
        codec.encode_stream(montage="myo", calibration="x.cal")  # type: ignore[arg-type]


def test_montages_by_name_for_each_item() -> None:
    codec = codec_for("student")
    codes = codec.encode(torch.randn(2, 8, 4000) * 20, montage=["myo", "myo"])
    spectra = [codec.decode_spectrum(codes, m) for m in ("myo", ["myo", "myo"])]
    assert torch.equal(*spectra)


def test_rows_beyond_a_fixed_montage_are_padding() -> None:
    codec = codec_for("emg-codec")
    assert codec.config.montage is not None
    x = emg(codec, 40 * codec.hop_length)
    more = torch.cat([x, torch.ones(len(x), 8, x.shape[-1])], dim=1)
    whole = codec.encode(more, montage=[codec.config.montage])
    assert torch.equal(whole, codec.encode(x))


def test_montages_that_a_frontend_cannot_split_are_refused() -> None:
    uneven = Montage("uneven", tuple(Electrode(int(k > 2), 45.0 * k) for k in range(8)))
    with pytest.raises(ConfigError, match=r"uneven.*bands"):
        Codec.from_preset("emg-codec", montage=uneven)


def test_the_signal_head_has_its_name() -> None:
    heads = {"wave": SignalHeadConfig()}
    with pytest.raises(ConfigError, match="'wave'"):
        Codec(codec_for("student").config.replace(heads=heads))

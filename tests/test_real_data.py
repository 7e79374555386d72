"""The command line on real recordings, with the one bundled student; needs EMGCODEC_DATA."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from emgcodec import Codec, Recording, Tokens, read, read_all, write
from emgcodec.cli import main
from emgcodec.quality import quality_report

FILES = {  # electrodes, Hz, unit
    "3dc_P15.h5": (10, 1000.0, "adc"),
    "contraction_intensity_S08.h5": (8, 1000.0, "adc"),
    "flexemg_S002.h5": (64, 1000.0, "uV"),
    "myo_laval_evalF00.h5": (8, 200.0, "adc"),
}


def pieces(path: Path) -> int:
    """Contiguous recordings, counted in the file itself."""
    with h5py.File(path) as file:
        return sum(
            1 if group.attrs["contiguous"] else len(group["segment_starts"])
            for group in file["recordings"].values()
        )


def rms(rec: Recording) -> np.ndarray:
    """Of each electrode, about the mean of each 64 ms, where nothing is missing."""
    window = round(0.064 * rec.sample_rate)
    emg = rec.emg[:, : rec.num_samples // window * window].astype(float)
    parts = emg.reshape(len(emg), -1, window)
    return np.sqrt(np.nanmean(parts.var(axis=2), axis=1))


@pytest.mark.parametrize("name", FILES)
def test_the_command_line_takes_real_files_there_and_back(
    name: str, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    electrodes, rate, unit = FILES[name]
    tokenized, decoded = tmp_path / "tokens", tmp_path / "decoded"
    assert main(["tokenize", str(data_dir / name), "-o", str(tokenized)]) == 0
    assert capsys.readouterr().err == ""
    assert len(list(tokenized.iterdir())) == pieces(data_dir / name)

    stem = Path(name).stem
    chosen = list(read_all(data_dir / name))
    chosen = chosen[:: max(1, len(chosen) // 6)]
    files = [tokenized / f"{stem}_{rec.metadata['recording']}.tokens" for rec in chosen]
    assert main(["decode", *map(str, files), "-o", str(decoded)]) == 0
    for rec, file in zip(chosen, files, strict=True):
        tokens, back = Tokens.load(file), read(decoded / f"{file.stem}.npz")
        assert tokens.metadata["dataset"] == rec.metadata["dataset"]
        assert (rec.num_electrodes, rec.sample_rate, rec.unit) == (electrodes, rate, unit)
        assert back.emg.shape == rec.emg.shape
        assert (back.sample_rate, back.unit, back.montage) == (rate, unit, rec.montage)
        assert np.isfinite(back.emg).all()
        # The stored scale is that of the source; means of log spectra decode to less than it.
        level, stored = rms(rec), tokens.scale
        np.testing.assert_allclose(stored, level, rtol=0.25)
        good = [each.verdict == "ok" for each in quality_report(rec).electrodes]
        ratio = rms(back)[good] / level[good]
        assert 0.4 < np.median(ratio) < 1.5, f"{file.stem}: {ratio}"


@pytest.mark.parametrize("name", ["3dc_P15.h5", "myo_laval_evalF00.h5"])
def test_the_same_electrodes_in_another_file_format_give_the_same_tokens(
    name: str, data_dir: Path, tmp_path: Path
) -> None:
    rec = next(read_all(data_dir / name))
    facts = {"sample_rate": rec.sample_rate, "unit": rec.unit}
    np.savez(tmp_path / "rec.npz", emg=rec.emg, **facts)
    argv = ["tokenize", str(tmp_path / "rec.npz"), "--montage", rec.montage.name]
    assert main([*argv, "-o", str(tmp_path)]) == 0
    assert main(["tokenize", str(data_dir / name), "-o", str(tmp_path / "all")]) == 0
    first = tmp_path / "all" / f"{Path(name).stem}_{rec.metadata['recording']}.tokens"
    ours, theirs = Tokens.load(tmp_path / "rec.tokens"), Tokens.load(first)
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    np.testing.assert_array_equal(ours.scale, theirs.scale)


def there_and_back(rec: Recording, path: Path) -> Recording:
    """What is left of a recording in another format; all that tokens are made of must be."""
    write(rec, path)
    back = read(path)
    np.testing.assert_array_equal(back.emg, rec.emg)
    for fact in ("sample_rate", "unit", "montage", "num_samples"):
        assert getattr(back, fact) == getattr(rec, fact)
    assert [(e.label, e.kind) for e in back.events] == [(e.label, e.kind) for e in rec.events]
    return back


@pytest.mark.parametrize("suffix", [".edf", ".bdf", ".h5"])
def test_a_recording_of_each_device_has_the_same_tokens_in_other_formats(
    suffix: str, data_dir: Path, tmp_path: Path
) -> None:
    codec = Codec.from_pretrained()
    for name in FILES:
        rec = next(read_all(data_dir / name))
        tokens = codec.tokenize(rec)
        again = codec.tokenize(there_and_back(rec, tmp_path / f"x{suffix}"))
        np.testing.assert_array_equal(again.codes, tokens.codes)
        np.testing.assert_array_equal(again.scale, tokens.scale)
        assert again.montage == tokens.montage


@pytest.mark.slow
def test_every_recording_has_the_same_tokens_through_edf_and_bdf(
    data_dir: Path, tmp_path: Path
) -> None:
    codec = Codec.from_pretrained()
    for path in sorted(data_dir.glob("*.h5")):
        for rec in read_all(path):
            tokens = codec.tokenize(rec)
            for suffix in (".edf", ".bdf"):
                again = codec.tokenize(there_and_back(rec, tmp_path / f"x{suffix}"))
                np.testing.assert_array_equal(again.codes, tokens.codes)

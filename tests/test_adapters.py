"""Bridges to MNE-Python and scikit-learn."""

from __future__ import annotations

import builtins
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import codec_for

from emgcodec.adapters import from_mne, to_mne
from emgcodec.montage import Montage
from emgcodec.recording import Event, Recording, RecordingError

mne = pytest.importorskip("mne")
pytest.importorskip("sklearn")
from sklearn.base import clone  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402

from emgcodec.adapters import TokenFeatures  # noqa: E402

X = np.random.default_rng(0).normal(0, 50, (4, 3000)).astype(np.float32)
EVENTS = [Event(0.5, 1.0, "fist"), Event(1.5, 1.5, "go", kind="prompt")]


@pytest.mark.parametrize("start_time", [0.0, 1.5e9 + 0.25])
def test_mne_and_back(start_time: float) -> None:
    recording = Recording(X, 1000, start_time=start_time, events=EVENTS)
    raw = to_mne(recording)
    assert set(raw.get_channel_types()) == {"emg"}
    np.testing.assert_allclose(raw.get_data() * 1e6, X, rtol=1e-6)
    back = from_mne(raw)
    np.testing.assert_allclose(back.emg, X, rtol=1e-6)
    assert (back.unit, back.sample_rate, back.start_time) == ("uV", 1000, start_time)
    assert list(back.events) == EVENTS
    part = from_mne(raw.copy().crop(0.25, 2.0))
    np.testing.assert_allclose(part.read(10, 90), X[:, 260:340], rtol=1e-6)
    assert [round(e.start, 6) for e in part.events] == [0.25, 1.25]
    assert part.start_time == pytest.approx(start_time + 0.25 if start_time else 0)


def test_counts_have_no_unit_in_mne() -> None:
    raw = to_mne(Recording(X, 200, unit="adc"))
    assert set(raw.get_channel_types()) == {"misc"}
    with pytest.raises(RecordingError, match="picks=None"):
        from_mne(raw)
    back = from_mne(raw, picks="misc", unit="adc", montage=Montage.ring(4))
    np.testing.assert_array_equal(back.emg, X)
    assert not back.montage.assumed


def test_files_of_mne_are_read_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "x_raw.fif"
    to_mne(Recording(X, 1000)).save(path, verbose="error")
    raw = mne.io.read_raw_fif(path, verbose="error")
    recording = from_mne(raw)
    np.testing.assert_allclose(recording.read(100, 200), X[:, 100:200], rtol=1e-6)
    assert not raw.preload


def test_joined_recordings_are_refused() -> None:
    raws = [to_mne(Recording(X, 1000)) for _ in range(2)]
    with pytest.raises(RecordingError, match="crop it at each 'EDGE boundary'"):
        from_mne(mne.concatenate_raws(raws, verbose="error"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    codec_for("student").save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("output", ["tokens", "latents", "histogram"])
def test_features_are_those_of_the_tokens(model: str, output: str) -> None:
    windows = X.reshape(4, 3, 1000).swapaxes(0, 1)
    features = TokenFeatures(model, output=output, sample_rate=1000)
    found = features.fit_transform(windows)
    again = pickle.loads(pickle.dumps(clone(features))).transform(list(windows))
    np.testing.assert_array_equal(found, again)
    recordings = [Recording(x, 1000) for x in windows]
    np.testing.assert_array_equal(TokenFeatures(model, output=output).transform(recordings), found)
    codec = codec_for("student")
    tokens = codec.tokenize(recordings[1])
    expected = {
        "tokens": tokens.codes.ravel(),
        "histogram": np.ravel(
            [np.bincount(c, minlength=64) / tokens.num_frames for c in tokens.codes]
        ),
        "latents": codec.decode_latent(_tensor(tokens.codes))[0].mean(dim=1).numpy(),
    }[output]
    np.testing.assert_allclose(found[1], expected, rtol=1e-5, atol=1e-6)
    assert len(pickle.dumps(features)) < 2000  # settings, not weights


def _tensor(codes: Any) -> Any:
    import torch

    return torch.from_numpy(codes.astype(np.int64))[None]


def test_it_is_a_step_of_a_pipeline(model: str) -> None:
    rng = np.random.default_rng(0)
    weak, strong = rng.normal(0, 5, (6, 4, 1000)), rng.normal(0, 5, (6, 4, 1000))
    strong[:, :2] *= 20
    labels = [0] * 6 + [1] * 6
    pipeline = make_pipeline(TokenFeatures(model, sample_rate=1000), LogisticRegression())
    windows = np.concatenate([weak, strong])
    assert pipeline.fit(windows[::2], labels[::2]).score(windows[1::2], labels[1::2]) == 1


def test_wrong_settings_and_items_are_named(model: str) -> None:
    with pytest.raises(RecordingError, match="output='words'"):
        TokenFeatures(model, output="words").fit([])
    with pytest.raises(RecordingError, match="sample_rate is missing"):
        TokenFeatures(model).transform(X[None])
    parts = [Recording(X, 1000), Recording(X[:, :900], 1000)]
    with pytest.raises(RecordingError, match="from 58 to 188 tokens"):
        TokenFeatures(model, output="tokens").transform(parts)
    assert TokenFeatures(model).transform(parts).shape == (2, 128)


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in ("mne", "sklearn", "edfio", "pyxdf"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RecordingError, match="pip install mne"):
        to_mne(Recording(X, 1000))
    monkeypatch.delitem(sys.modules, "emgcodec.adapters.sklearn")
    with pytest.raises(RecordingError, match="pip install scikit-learn"):
        __import__("emgcodec.adapters.sklearn")


def test_importing_the_bridges_loads_neither() -> None:
    code = "import sys, emgcodec.adapters; print(*{'mne', 'sklearn', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

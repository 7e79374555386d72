"""What the README says works as it stands there."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
from language_models import fresh_tokenizer, language_model

from emgcodec.tokens import Tokens

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, bridge = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    rec, back, tokens, mine = (names[n] for n in ("rec", "back", "tokens", "mine"))
    assert back.emg.shape == rec.emg.shape  # type: ignore[attr-defined]
    assert back.sample_rate == rec.sample_rate  # type: ignore[attr-defined]
    assert Tokens.load(tmp_path / "rec.tokens") == tokens
    assert len(names["ids"]) == 2 * tokens.num_frames  # type: ignore[arg-type,attr-defined]
    assert mine.num_samples == rec.num_samples  # type: ignore[attr-defined]
    assert mine.montage.name == "cuff8"  # type: ignore[attr-defined]
    names["tokenizer"], names["model"] = fresh_tokenizer(), language_model(12)
    exec(compile(bridge, "README.md", "exec"), names)
    labels = names["batch"]["labels"][0]  # type: ignore[index]
    assert (labels != -100).sum() == 2  # the answer and the end of the text


def test_the_demo_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    runpy.run_path(str(ROOT / "examples" / "demo.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "bit/s" in out
    assert (tmp_path / "demo.png").stat().st_size > 10_000


def test_both_ends_of_the_wire_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stream_live.py", "--fast"])
    runpy.run_path(str(ROOT / "examples" / "stream_live.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "42 ms from a frame's first sample to its codes" in out
    assert re.search(r"\d+ bit/s with all packets' headers, [1-9]\d* frames lost", out)


def test_a_folder_of_recordings_becomes_a_step_of_a_language_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(sys, "argv", ["corpus_to_llm.py"])
    runpy.run_path(str(ROOT / "examples" / "corpus_to_llm.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "'recordings': 3" in out
    found = re.search(r"loss: ([\d.]+) before the step, ([\d.]+) after it", out)
    assert found
    assert float(found[2]) < float(found[1])


def test_a_head_of_ones_own_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["own_gestures.py"])
    runpy.run_path(str(ROOT / "examples" / "own_gestures.py"), run_name="__main__")
    found = re.search(r"mean over 2 people: ([\d.]+)", capsys.readouterr().out)
    assert found
    assert float(found[1]) > 0.4  # chance is 0.17


@pytest.mark.slow
def test_the_codec_runs_on_the_edge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["onnx_edge.py"])
    runpy.run_path(str(ROOT / "examples" / "onnx_edge.py"), run_name="__main__")
    assert "of codes are those of torch" in capsys.readouterr().out


def test_the_table_of_presets_is_true() -> None:
    from test_codec import PARAMETERS

    rows = re.findall(
        r"^\| `([\w-]+)` \|[^|]*\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", README, re.M
    )
    stated = {name: tuple(int(n.replace(",", "")) for n in numbers) for name, *numbers in rows}
    assert stated == PARAMETERS

"""What the README says works as it stands there."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from language_models import fresh_tokenizer, language_model

from emgcodec.tokens import Tokens

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, bridge = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    monkeypatch.chdir(tmp_path)
    array = np.random.default_rng(0).standard_normal((8, 4000)) * 0.05
    names: dict[str, object] = {"my_array": array}
    exec(compile(code, "README.md", "exec"), names)
    rec, back, tokens, mine = (names[n] for n in ("rec", "back", "tokens", "mine"))
    assert back.emg.shape == rec.emg.shape  # type: ignore[attr-defined]
    assert back.sample_rate == rec.sample_rate  # type: ignore[attr-defined]
    assert Tokens.load(tmp_path / "rec.tokens") == tokens
    assert len(names["ids"]) == 2 * tokens.num_frames  # type: ignore[arg-type,attr-defined]
    assert mine.num_samples == 4000  # type: ignore[attr-defined]
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


def test_the_table_of_presets_is_true() -> None:
    from test_codec import PARAMETERS

    rows = re.findall(
        r"^\| `([\w-]+)` \|[^|]*\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", README, re.M
    )
    stated = {name: tuple(int(n.replace(",", "")) for n in numbers) for name, *numbers in rows}
    assert stated == PARAMETERS

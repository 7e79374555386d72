"""The site builds without a warning, its code runs, its pictures are those that the code draws."""

from __future__ import annotations

import importlib
import os
import re
import runpy
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emgcodec import read

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_model_has_its_card_on_the_site(site: Path) -> None:
    cards = [*ROOT.glob("src/emgcodec/weights/*/README.md"), *ROOT.glob("weights/*/README.md")]
    assert cards
    for card in cards:
        page = (site / "models" / f"{card.parent.name}.html").read_text("utf-8")
        licence = re.search(r"Weights licence: (.{20})", card.read_text("utf-8"))
        assert licence
        assert licence[1] in page


@pytest.mark.parametrize(
    ("module", "page"),
    [
        ("", "index"),
        *((f".{name}", name) for name in ("io", "corpus", "llm", "wire", "simulate", "adapters")),
        *((f".{name}", "edge") for name in ("export", "runtime")),
        *((f".{name}", "tools") for name in ("labels", "rotation", "metrics", "text", "beam")),
    ],
)
def test_every_public_name_is_in_the_reference(site: Path, module: str, page: str) -> None:
    if module == ".llm":
        pytest.importorskip("transformers")
    room: Any = importlib.import_module(f"emgcodec{module}")
    html = (site / "api" / f"{page}.html").read_text("utf-8")
    own = [name for name in vars(room) if getattr(room, name).__doc__ and name[0] != "_"]
    own = [name for name in own if getattr(getattr(room, name), "__module__", "") == room.__name__]
    wanted = {name for name in getattr(room, "__all__", own) if callable(getattr(room, name))}
    assert wanted
    assert {name for name in wanted if f'id="emgcodec{module}.{name}"' not in html} == set()


def test_what_is_included_is_there(site: Path) -> None:
    pages = [page.name for page in site.rglob("*.html") if "8&lt;" in _squeezed(page)]
    assert pages == []


def _squeezed(page: Path) -> str:
    return re.sub(r"<[^>]+>|\s", "", page.read_text("utf-8"))


def test_the_site_asks_nobody_else(site: Path) -> None:
    loads = re.compile(r"<(?:script|img|iframe)[^>]+src=.https?:|<link[^>]+href=.https?:")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert [page.name for page in pages if loads.search(page.read_text("utf-8"))] == []


def test_every_example_is_shown_and_run(site: Path) -> None:
    page = unescape(re.sub(r"<[^>]+>", "", (site / "examples.html").read_text("utf-8")))
    tests = (f"test_{name}.py" for name in ("readme", "small_llm"))
    tested = "".join((ROOT / "tests" / name).read_text("utf-8") for name in tests)
    examples = {e.name: e.read_text("utf-8") for e in (ROOT / "examples").glob("*.py")}
    assert {name for name, text in examples.items() if text.strip() not in page} == set()
    names = {name for name, text in examples.items() if "__main__" in text}
    assert {name for name in names if f'"{name}"' not in tested} == set()


def test_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "quickstart.md").read_text("utf-8"), re.S)
    for block in blocks:
        exec(compile(block, "quickstart.md", "exec"), names)
    rec, back, tokens = names["rec"], names["back"], names["tokens"]
    assert back.emg.shape == rec.emg.shape
    assert names["rows"].shape == (2, tokens.num_frames + 1)
    assert (tmp_path / "rec.tokens").exists()
    assert (tmp_path / "wearing.calibration").exists()


def test_the_examples_of_wristbands_and_armbands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    h5py = pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    row = np.dtype([("time", "<f8"), ("joint_angles", "<f4", (20,)), ("emg", "<f4", (16,))])
    rows = np.zeros(60, row)
    rows["time"] = np.arange(60) / 2000
    with h5py.File("pose.hdf5", "w") as file:
        file["emg2pose/timeseries"] = rows
        file["emg2pose"].attrs.update(user="a", session="b", stage="c", side="left")
    counts = np.random.default_rng(0).integers(-128, 128, (200, 8))
    counts.astype("<i2").tofile("classic.dat")
    names = ",".join(["timestamp", *(f"emg{k}" for k in range(1, 9))])
    stamped = np.column_stack([np.arange(200) / 200, counts])
    np.savetxt("myo.csv", stamped, delimiter=",", fmt="%g", header=names, comments="")
    page = (DOCS / "formats.md").read_text("utf-8")
    block = re.search(r"armbands\n\n```python\n(.*?)```", page, re.S)
    assert block
    namespace: dict[str, Any] = {"read": read}
    exec(compile(block[1], "formats.md", "exec"), namespace)
    assert capsys.readouterr().out == "a left emg2pose\n200.0 adc myo\n"
    np.testing.assert_array_equal(namespace["rec"].emg, counts.T)
    np.testing.assert_array_equal(read("classic.dat").emg, counts.T)


def test_the_pictures_are_what_the_code_draws(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    runpy.run_path(str(DOCS / "make_pictures.py"))["draw"](tmp_path)
    pictures = sorted(path.name for path in (DOCS / "pictures").glob("*.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == pictures
    page = (DOCS / "concepts.md").read_text("utf-8")
    for name in pictures:
        assert f"(pictures/{name})" in page
        drawn, kept = image.imread(tmp_path / name), image.imread(DOCS / "pictures" / name)
        assert drawn.shape == kept.shape, f"{name}: run python docs/make_pictures.py"
        # A code or two may be another on another processor: a tie.
        other = np.mean(np.abs(drawn - kept).max(axis=2) > 0.1)
        assert other < 0.002, f"{name}: run python docs/make_pictures.py"


def test_the_pictures_of_studies_tell_what_the_results_do(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runpy.run_path(str(DOCS / "make_study_pictures.py"))["draw"](
        DOCS / "results" / "studies", tmp_path
    )
    pictures = sorted((DOCS / "pictures").glob("*.svg"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in pictures]
    page = (DOCS / "studies.md").read_text("utf-8")
    for path in pictures:
        assert f"(pictures/{path.name})" in page
        drawn = (tmp_path / path.name).read_text("utf-8")
        kept = path.read_text("utf-8")
        assert _numbers(drawn) == pytest.approx(_numbers(kept), abs=0.01), path.name


def _numbers(svg: str) -> list[float]:
    return [float(found) for found in re.findall(r"[ML] (\S+) ", svg)]

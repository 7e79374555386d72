"""The rules that hold the house together: sizes, layers, light imports, closed dependency lists."""

from __future__ import annotations

import ast
import os
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"

# Each imports only from those above it, or from its own line without going in circles.
LAYERS = (
    "files",
    "evidence",
    "gestures",
    "text",
    "beam",
    "montage",
    "labels",
    "recording",
    "simulate",
    "config",
    "presets",
    "calibration",
    "signal",
    "rotation",
    "quality",
    "io",
    "prepare",
    "layouts",
    "tokens",
    "stream",
    "encoding",
    "metrics",
    "nn",
    "card",
    "folder",
    "hub",
    "pretrained",
    "checks",
    "tensors",
    "steps",
    "tokenizer",
    "golden",
    "fitting",
    "codec",
    "adapters",
    "train",
    "evaluate",
    "corpus",
    "llm",
    "runtime",
    "export",
    "wire",
    "plot",
    "cli",
    "__main__",
    "__init__",  # the public names, loaded when asked for
)
CORE = {
    "torch",
    "numpy",
    "scipy",
    "einops",
    "vector-quantize-pytorch",
    "safetensors",
    "huggingface-hub",
}
EXTRAS = {"io", "plot", "train", "llm", "export", "ray", "lsl", "dev"}
HEAVY = {"torch", "scipy", "vector_quantize_pytorch", "huggingface_hub", "h5py", "matplotlib"}


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


MODULES = {module_name(path): path for path in sorted(SRC.rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """Full names of everything a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import with its full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(path: Path) -> set[str]:
    """Which of our modules a file imports; a name of the package itself is its `__init__`."""
    ours = [name for name in imported(path) if name.split(".")[0] == "emgcodec"]
    found = set()
    for name in ours:
        parent = name.rpartition(".")[0]
        found.add(name if name in MODULES else parent if parent in MODULES else "emgcodec.__init__")
    return found


def layer(module: str) -> int:
    part = module.split(".")[1]
    places = [i for i, pattern in enumerate(LAYERS) if fnmatch(part, pattern)]
    assert places, f"{module} has no place in LAYERS: give it one"
    return places[0]


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def code_lines(path: Path) -> int:
    """Lines of a file that are neither blank, comment nor docstring."""
    text = path.read_text("utf-8")
    docs: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docs |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(i not in docs and line.strip()[:1] not in ("", "#") for i, line in lines)


def test_files_stay_short_and_the_house_small() -> None:
    lines = {name: path.read_text("utf-8").count("\n") for name, path in MODULES.items()}
    assert {name: n for name, n in lines.items() if n > 500} == {}
    rooms = {
        "workshop": {"simulate", "prepare", "train", "evaluate", "corpus", "llm"},
        "doors": {"io", "adapters"},
    }
    ceilings = {"codec": 7500, "workshop": 7200, "doors": 2500}
    total = dict.fromkeys(ceilings, 0)
    for name, path in MODULES.items():
        part = name.split(".")[1]
        room = next((room for room, parts in rooms.items() if part in parts), "codec")
        total[room] += code_lines(path)
    assert {room: n for room, n in total.items() if not 0 < n < ceilings[room]} == {}


def test_imports_only_point_down() -> None:
    graph = {name: imported_modules(path) for name, path in MODULES.items()}
    level = {name: layer(name) for name in [*MODULES, "emgcodec.__init__"]}
    upward = [(a, b) for a, targets in graph.items() for b in targets if level[b] > level[a]]
    assert upward == []
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the circle


def test_the_design_shows_the_layers() -> None:
    page = (SRC.parent / "docs/design.md").read_text("utf-8")
    table = page.partition("## Layers")[2].partition("\n## ")[0]
    shown = [name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in row.split(", ")]
    assert shown == [f"`{name}`" for name in LAYERS if not name.startswith("__")]


def test_only_the_quantizer_knows_its_library() -> None:
    library = "vector_quantize_pytorch"
    users = {
        name
        for name, path in MODULES.items()
        if any(target.split(".")[0] == library for target in imported(path))
    }
    assert users <= {"emgcodec.nn.quantizer"}


def test_import_loads_nothing_heavy() -> None:
    loaded = set(python("import sys, emgcodec; print(*sys.modules)").split())
    assert "emgcodec" in loaded
    assert loaded & HEAVY == set()


def test_import_costs_little_more_than_numpy() -> None:
    # Processor time: on a busy machine the clock on the wall measures the neighbours.
    def cost(module: str) -> float:
        code = f"import time; t = time.process_time(); import {module}"
        return float(python(f"{code}; print(time.process_time() - t)"))

    costs = [(cost("numpy"), cost("emgcodec")) for _ in range(3)]
    numpy, emgcodec = (statistics.median(column) for column in zip(*costs, strict=True))
    assert emgcodec <= numpy + 0.2


def test_help_comes_without_torch() -> None:
    shown, loaded = python(
        "import atexit, sys\n"
        "from emgcodec.cli import main\n"
        "atexit.register(lambda: print('LOADED', *sys.modules))\n"
        "sys.argv = ['emgcodec', '--help']\n"
        "sys.exit(main())"
    ).split("LOADED")
    assert "usage" in shown.lower()
    assert {"torch"}.isdisjoint(loaded.split())


def test_dependencies_are_closed_lists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    bounds = [re.fullmatch(r"([a-z-]+)>=[\d.]+", line) for line in project["dependencies"]]
    assert all(bounds), "each with a lower bound and nothing else"
    assert {bound[1] for bound in bounds if bound} == CORE
    assert set(project["optional-dependencies"]) == EXTRAS


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = sum(project["optional-dependencies"].values(), project["dependencies"])
    wanted = {re.split(r"[\[><=]", line)[0] for line in lines} - {"emgcodec"}
    pinned = re.findall(r"^([a-z0-9.-]+)==", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    assert wanted <= set(pinned)


@pytest.mark.parametrize(
    "halves",  # joined in the test, so that this file does not hold the words itself
    [
        ("/wo", "rk/"),
        ("/tmp/", "venv"),
        ("../sha", "red"),
        ("clau", "de"),
        ("anthr", "opic"),
        ("coding assis", "tant"),
        ("ai assis", "tant"),
        ("subag", "ent"),
        ("house", ".md"),
        ("workpl", "ace"),
    ],
)
def test_the_repository_speaks_of_nothing_but_itself(halves: tuple[str, str]) -> None:
    word = "".join(halves)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    # Continuous integration finds the recordings by a relative path.
    allowed = {".ci/run"} if word.startswith("..") else set()
    found = {n for n in names if word.encode() in (ROOT / n).read_bytes().lower()}
    assert "pyproject.toml" in names
    assert found <= allowed

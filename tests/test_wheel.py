"""The wheel holds all that a user needs offline, and no more than it may."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from emgcodec import Codec, list_pretrained

ROOT = Path(__file__).parents[1]
SOURCES = "src", "pyproject.toml", "README.md", "LICENSE", "NOTICE"
LARGEST = 20_000_000

USE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import emgcodec
from emgcodec.cli import main
codec = emgcodec.Codec.from_pretrained()
tokens = codec.tokenize(emgcodec.sample("armband"))
names = emgcodec.list_pretrained()
assert [main(["info", "--verify", name]) for name in names] == [0] * len(names)
print(json.dumps([emgcodec.__file__, names, codec.codec_id, tokens.num_frames]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves folders behind."""
    pytest.importorskip("setuptools", minversion="77")
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    build = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--quiet", "--wheel-dir", "dist"], cwd=tree, check=True)
    (found,) = (tree / "dist").glob("*.whl")
    return found


def test_the_wheel_is_small_enough(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST


def test_from_the_wheel_alone_a_model_loads_and_verifies_offline(
    wheel: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    done = subprocess.run(
        [sys.executable, "-c", USE, str(site)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    where, names, codec_id, length = json.loads(done.stdout.splitlines()[-1])
    assert Path(where).is_relative_to(site)
    assert names == [
        name for name in list_pretrained() if not name.startswith("teacher")
    ]  # that is in checkouts only
    assert codec_id == Codec.from_pretrained().codec_id
    assert length > 0

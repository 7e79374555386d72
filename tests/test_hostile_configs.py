"""A config may come from anybody: it is read, or refused, and never takes what it asks for."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import codec_for
from hypothesis import given
from hypothesis import strategies as st

from emgcodec import Codec, ModelError

MOST = 500_000  # KiB that reading one may take

NUMBERS = st.sampled_from([0, 1, 2, 3, 64, 100, 4096, 65536, 10**6, 2**31, 2**63, 10**30, 10**400])
VALUES = st.one_of(
    NUMBERS,
    NUMBERS.map(lambda n: -n),
    st.lists(NUMBERS, max_size=4),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from([None, True, [], {}, "os.system", {"kind": "os.system"}, {"a.b": 1}, [""]]),
)


@pytest.fixture(scope="module", params=["student", "emg-codec", "tiny"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    codec_for(request.param).save_pretrained(folder / "good")
    shutil.copytree(folder / "good", folder / "bad")
    return folder


def places(table: Any) -> list[tuple[Any, Any]]:
    """Every table or list, with each of its keys."""
    keys = (
        table if isinstance(table, dict) else range(len(table)) if isinstance(table, list) else ()
    )
    return [(table, k) for k in keys] + [place for k in keys for place in places(table[k])]


def write(model: Path, table: Any) -> Path:
    (model / "bad" / "config.json").write_text(json.dumps(table))
    return model / "bad"


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@given(st.data())
def test_a_changed_config_is_read_or_refused(model: Path, data: st.DataObject) -> None:
    table = json.loads((model / "good" / "config.json").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        if found := places(table):
            place, key = data.draw(st.sampled_from(found))
            place[key] = data.draw(VALUES)
    before = peak()
    try:
        codec = Codec.from_pretrained(write(model, table))
    except ModelError:
        pass
    else:
        assert codec.config.format_version == 1
    assert peak() - before < MOST


SIZES = {
    "frontend.window": 2**40,
    "frontend.width": 10**9,
    "frontend.queries": 10**9,
    "encoder.dim": 2**40,
    "encoder.blocks": 10**9,
    "encoder.window": 10**9,
    "encoder.conv_position": 10**9,
    "quantizer.size": 10**12,
    "quantizer.levels": 10**9,
    "quantizer.dim": 10**9,
    "heads.signal.rank": 10**12,
    "hop_length": 2**40,
    "sample_rate": 10**12,
}


@pytest.mark.parametrize("field", SIZES)
@pytest.mark.parametrize("model", ["student"], indirect=True)
def test_sizes_are_bounded_by_name(model: Path, field: str) -> None:
    table = json.loads((model / "good" / "config.json").read_text())
    *parents, name = field.split(".")
    part = table
    for parent in parents:
        part = part[parent]
    part[name] = SIZES[field]
    with pytest.raises(ModelError, match=rf"{name}.*give"):
        Codec.from_pretrained(write(model, table))


@pytest.mark.parametrize("model", ["student"], indirect=True)
def test_sizes_are_bounded_together(model: Path) -> None:
    table = json.loads((model / "good" / "config.json").read_text())
    table["quantizer"] |= {"levels": 16, "size": 65536, "dim": 65536}
    before = peak()
    with pytest.raises(ModelError, match=r"asks for 274,8.* bytes"):
        Codec.from_pretrained(write(model, table))
    assert peak() - before < MOST


@pytest.mark.parametrize("model", ["student"], indirect=True)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "recursion"),
        ('{"format_version": ' + "1" * 5000 + "}", "digits"),
        (" " * (5 << 20), "bytes"),
        ("[]", "format_version"),
        ("\xff", "cannot be read"),
    ],
)
def test_files_that_are_no_table_are_refused(model: Path, text: str, words: str) -> None:
    (model / "bad" / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match=words):
        Codec.from_pretrained(model / "bad")


@pytest.mark.parametrize("model", ["student"], indirect=True)
@pytest.mark.parametrize("name", ["", "a.b", "keys"])
def test_heads_whose_names_cannot_be_are_refused(model: Path, name: str) -> None:
    table = json.loads((model / "good" / "config.json").read_text())
    table["heads"] = {name: table["heads"]["gesture"]}
    with pytest.raises(ModelError, match="cannot be built"):
        Codec.from_pretrained(write(model, table))

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emgcodec.layouts import GAPS, KINDS, Layout, LayoutError

CODES = np.array([[17, 3, 0], [903, 1023, 0]], np.uint16)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    kind = draw(st.sampled_from(KINDS))
    levels = draw(st.integers(1, 8))
    most = int((2**30) ** (1 / levels)) if kind == "joint" else 65_536
    size = draw(st.integers(2, min(most, 65_536)))
    stack = draw(st.integers(1, 4)) if kind in ("parallel", "delay") else 1
    offset, gaps = draw(st.sampled_from([0, 1, 32_000, 128_256])), draw(st.sampled_from(GAPS))
    return Layout(kind, levels, size, offset, stack=stack, gaps=gaps)


@st.composite
def coded(draw: st.DrawFn) -> tuple[Layout, np.ndarray, np.ndarray]:
    layout, frames = draw(layouts()), draw(st.integers(0, 12))
    codes = draw(
        hnp.arrays(
            np.uint16,
            (layout.num_codebooks, frames),
            elements=st.integers(0, layout.codebook_size - 1),
        )
    )
    valid = draw(hnp.arrays(np.bool_, frames))
    return layout, np.where(valid, codes, 0).astype(np.uint16), valid


def same(read: tuple[np.ndarray, np.ndarray], codes: np.ndarray, valid: np.ndarray) -> bool:
    return (
        np.array_equal(read[0], codes)
        and read[0].dtype == np.uint16
        and np.array_equal(read[1], valid)
        and read[1].dtype == np.bool_
    )


@given(coded())
def test_ids_and_text_give_the_codes_back(case: tuple[Layout, np.ndarray, np.ndarray]) -> None:
    layout, codes, valid = case
    ids, text = layout.to_ids(codes, valid), layout.to_text(codes, valid)
    assert Layout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout
    if layout.gaps == "runs":
        assert same(layout.to_codes(ids, valid), codes, valid)
        kept = valid | np.concatenate([[True], valid[:-1]])[: len(valid)]
        codes, valid = codes[:, kept], valid[kept]  # without `valid` a gap is a frame long
        assert np.array_equal(layout.to_ids(codes, valid), ids)
    assert ids.dtype == np.int64
    assert layout.offset <= ids.min(initial=layout.offset)
    assert ids.max(initial=0) < layout.offset + layout.vocab_size
    assert same(layout.to_codes(ids), codes, valid)
    assert same(layout.to_codes(ids.astype(np.int32).tolist()), codes, valid)
    assert same(layout.from_text(text), codes, valid)
    if layout.kind in ("flat", "joint"):
        assert ids.shape == (codes.shape[1] * layout.tokens_per_frame,)
        framed = layout.to_ids(codes, valid, specials=True)
        assert framed[0] == layout.bos
        assert framed[-1] == layout.eos
        for part in (framed, framed[1:], framed[:-1]):
            assert same(layout.to_codes(part), codes, valid)
    else:
        late = layout.rows - 1 if layout.kind == "delay" else 0
        assert layout.rows == layout.num_codebooks * layout.stack
        assert ids.shape == (layout.rows, -(-codes.shape[1] // layout.stack) + late)
        with pytest.raises(LayoutError, match="rows"):
            layout.to_ids(codes, valid, specials=True)


@given(layouts().filter(lambda layout: layout.codebook_size < 99), st.data())
def test_whatever_is_read_is_what_would_have_been_written(
    layout: Layout, data: st.DataObject
) -> None:
    shape = data.draw(st.tuples(*[st.integers(0, 4)] * (1 + (layout.kind in KINDS[1:3]))))
    if len(shape) == 2:
        shape = (layout.rows, shape[1])
    element = st.integers(layout.offset, layout.offset + min(layout.vocab_size, 120) - 1)
    specials = st.sampled_from([layout.bos, layout.eos, layout.pad, layout.gap])
    ids = data.draw(hnp.arrays(np.int64, shape, elements=element | specials))
    try:
        codes, valid = layout.to_codes(ids)
    except LayoutError:
        return
    written = layout.to_ids(codes, valid)
    if ids.ndim == 1:
        written = written.tolist()
        assert ids.tolist() in (
            written,
            [layout.bos, *written],
            [*written, layout.eos],
            [layout.bos, *written, layout.eos],
        )
    else:
        assert np.array_equal(written, ids)


@given(coded(), st.data())
def test_one_id_changed_is_another_recording_or_an_error(
    case: tuple[Layout, np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    layout, codes, valid = case
    ids = layout.to_ids(codes, valid)
    if not ids.size:
        return
    codes, valid = layout.to_codes(ids)
    place = data.draw(st.integers(0, ids.size - 1))
    changed = ids.copy()
    changed.flat[place] = data.draw(
        st.integers(layout.offset - 2, layout.offset + layout.vocab_size + 1).filter(
            lambda value: value != ids.flat[place]
        )
    )
    if place in (0, ids.size - 1) and changed.flat[place] in (layout.bos, layout.eos):
        return  # the specials that may stand there
    try:
        read = layout.to_codes(changed)
    except LayoutError:
        return
    assert not same(read, codes, valid)


def test_ids_by_hand() -> None:
    valid = [True, True, False]
    flat = Layout("flat", 2, 1024, 100)
    assert flat.to_ids(CODES, valid).tolist() == [117, 2027, 103, 2147, 2151, 2151]
    assert (flat.bos, flat.eos, flat.pad, flat.gap) == (2148, 2149, 2150, 2151)
    assert flat.vocab_size == 2052
    assert flat.tokens_per_frame == 2
    parallel = Layout("parallel", 2, 1024, 100)
    assert parallel.to_ids(CODES, valid).tolist() == [[117, 103, 2151], [2027, 2147, 2151]]
    delay = Layout("delay", 2, 1024)
    assert delay.to_ids(CODES).tolist() == [[17, 3, 0, 2050], [2050, 1927, 2047, 1024]]
    assert delay.to_ids(CODES[:, :0]).tolist() == [[2050], [2050]]
    joint = Layout("joint", 2, 1024, 100)
    assert joint.to_ids(CODES, valid).tolist() == [
        100 + 17 * 1024 + 903,
        100 + 3 * 1024 + 1023,
        joint.gap,
    ]
    assert joint.vocab_size == 2**20 + 4
    assert joint.tokens_per_frame == 1
    three = Layout("joint", 3, 10).to_ids([[1], [2], [3]])
    assert three.tolist() == [123]


def test_stacks_and_runs_of_gaps_by_hand() -> None:
    stacked = Layout("parallel", 2, 1024, stack=2)
    assert stacked.to_ids(CODES).tolist() == [[17, 0], [1927, 1024], [3, 2050], [2047, 2050]]
    late = Layout("delay", 2, 1024, stack=2).to_ids(CODES[:, :1])
    assert late.tolist() == [
        [17, 2050, 2050, 2050],
        [2050, 1927, 2050, 2050],
        [2050, 2050, 2050, 2050],
        [2050, 2050, 2050, 2050],
    ]
    valid = [False, False, True, False, False, False, True, False]
    codes = np.arange(16).reshape(2, 8)
    runs = Layout("joint", 2, 16, gaps="runs")
    ids = runs.to_ids(codes, valid)
    assert ids.tolist() == [runs.gap, 2 * 16 + 10, runs.gap, 6 * 16 + 14, runs.gap]
    assert runs.to_codes(ids)[1].tolist() == [False, True, False, True, False]
    assert np.array_equal(runs.to_codes(ids, valid)[0], np.where(valid, codes, 0))
    with pytest.raises(LayoutError, match="of another recording"):
        runs.to_codes(ids, valid[:-1])
    with pytest.raises(LayoutError, match="side by side"):
        runs.to_codes([runs.gap, runs.gap])
    with pytest.raises(LayoutError, match="leave it out"):
        Layout("joint", 2, 16).to_codes(ids, valid)


def test_text_by_hand() -> None:
    flat = Layout("flat", 2, 1024)
    text = flat.to_text(CODES, [True, False, True])
    assert text == "<emg_0_0017><emg_1_0903><emg_gap><emg_gap><emg_0_0000><emg_1_0000>"
    spaced = "<emg_bos> " + text.replace("><", "> \n<") + " <emg_eos>"
    assert np.array_equal(flat.from_text(spaced)[1], [True, False, True])
    assert Layout("joint", 2, 1024).to_text(CODES[:, :1]) == "<emg_0017_0903>"
    assert Layout("flat", 1, 65_536).to_text([[7]]) == "<emg_0_00007>"
    delay = Layout("delay", 2, 1024).to_text(CODES[:, :1])
    assert delay == "<emg_0_0017><emg_pad><emg_pad><emg_1_0903>"


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_the_ids_in_order(kind: str) -> None:
    layout = Layout(kind, 2, 16, 1000)
    tokens = layout.special_tokens()
    assert len(tokens) == len(set(tokens)) == layout.vocab_size
    codes = np.random.default_rng(0).integers(0, 16, (2, 50))
    valid = np.arange(50) % 7 > 0
    ids = layout.to_ids(codes, valid).T.ravel() - layout.offset
    assert "".join(tokens[i] for i in ids) == layout.to_text(codes, valid)
    assert tokens[-4:] == ["<emg_bos>", "<emg_eos>", "<emg_pad>", "<emg_gap>"]


def test_a_joint_vocabulary_can_be_too_big() -> None:
    with pytest.raises(LayoutError, match="flat"):
        Layout("joint", 2, 1024).special_tokens()
    assert len(Layout("joint", 2, 256).special_tokens()) == 65_540
    with pytest.raises(LayoutError, match="fewer levels"):
        Layout("flat", 33, 2048).special_tokens()
    with pytest.raises(LayoutError, match="flat"):
        Layout("joint", 4, 1024)
    assert Layout("joint", 3, 1024).vocab_size == 2**30 + 4
    with pytest.raises(LayoutError, match="offset"):
        Layout("flat", 2, 1024, 2**31 - 2051)
    assert Layout("flat", 2, 1024, 2**31 - 2052).gap == 2**31 - 1


@pytest.mark.parametrize(
    ("kind", "ids", "reason"),
    [
        ("flat", [1, 12, 3], "incomplete"),
        ("flat", [12, 1], "order of levels"),
        ("flat", [1, 2], "level 1 of frame 0"),
        ("flat", [1, 23], "frame 0 is a gap"),
        ("flat", [1, 12, 23, 12], "frame 1 is a gap"),
        ("flat", [1, 22], "cannot stand"),
        ("flat", [21, 1, 12], "incomplete"),
        ("flat", [20, 20, 1, 12], "incomplete|cannot stand"),
        ("flat", [20, 1, 20, 12, 21], "incomplete|cannot stand"),
        ("flat", [1, 24], "ids are 0 to 23"),
        ("flat", [-1, 12], "ids are 0 to 23"),
        ("flat", np.array([2**64 - 1, 12], np.uint64), "ids are 0 to 23"),
        ("flat", [1.0, 12.0], "integers"),
        ("flat", [True, False], "integers"),
        ("flat", ["<emg_0_0001>"], "integers"),
        ("flat", 5, "one dimension"),
        ("flat", [[1], [12]], "one dimension"),
        ("joint", [[1]], "one dimension"),
        ("joint", [102], "cannot stand"),
        ("joint", [104], "ids are 0 to 103"),
        ("parallel", [1, 12], "2 rows"),
        ("parallel", [[1, 12]], "2 rows"),
        ("parallel", [[12], [1]], "order of levels"),
        ("parallel", [[1], [22]], "cannot stand"),
        ("parallel", [[1, 2], [12]], "equally long"),
        ("delay", np.zeros((2, 0), int), "at least 1"),
        ("delay", [[1], [12]], "pad"),
        ("delay", [[1, 22], [12, 22]], "pad"),
        ("delay", [[22, 1], [12, 22]], "pad"),
        ("delay", [[1, 22, 22], [22, 12, 13]], "pad"),
        ("delay", [[1, 23, 22], [22, 12, 13]], "frame 1 is a gap"),
        ("delay", [[11, 22], [22, 2]], "order of levels"),
    ],
)
def test_ids_that_no_codes_could_have_produced(kind: str, ids: object, reason: str) -> None:
    with pytest.raises(LayoutError, match=reason):
        Layout(kind, 2, 10).to_codes(ids)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([[1], [12]], "4 rows"),
        ([[22], [22], [22], [22]], "unfilled"),
        ([[1], [12], [22], [13]], "cannot stand"),
        ([[22], [22], [1], [12]], "unfilled"),
        ([[1, 2], [12, 13], [22, 3], [22, 13]], "unfilled|cannot stand"),
    ],
)
def test_stacks_that_no_codes_could_have_filled(ids: object, reason: str) -> None:
    with pytest.raises(LayoutError, match=reason):
        Layout("parallel", 2, 10, stack=2).to_codes(ids)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "<emg_0_0001>",
        "<emg_1_0001><emg_0_0001>",
        "<emg_0_1><emg_1_0001>",
        "<emg_0_00001><emg_1_0001>",
        "<emg_0_0010><emg_1_0001>",  # level 0 has ten codes: not a way to write level 1
        "<emg_0_0001><emg_2_0001>",
        "<emg_00_0001><emg_1_0001>",
        "<emg_0_٠٠٠١><emg_1_0001>",
        "<emg_0001_0001>",
        "<emg_0_0001>, <emg_1_0001>",
        "<emg_0_0001><emg_1_0001",
        "<emg_0_0001><emg_gap>",
        "<emg_0_0001><emg_9999999999999_0001>",
        "<gap><gap>",
        "<eos>",
        "hello",
    ],
)
def test_text_that_no_codes_could_have_produced(text: str) -> None:
    with pytest.raises(LayoutError):
        Layout("flat", 2, 10).from_text(text)
    with pytest.raises(LayoutError):
        Layout("parallel", 2, 10).from_text("<emg_0_0001>" + text)


def test_codes_must_fit() -> None:
    layout = Layout("flat", 2, 1024)
    with pytest.raises(LayoutError, match=r"\(2, T\)"):
        layout.to_ids(CODES[:1])
    with pytest.raises(LayoutError, match=r"\(2, T\)"):
        layout.to_ids(CODES[None])
    with pytest.raises(LayoutError, match="code 1024 at level 1 of frame 2"):
        layout.to_ids([[0, 0, 0], [0, 0, 1024]])
    with pytest.raises(LayoutError, match="valid=False"):
        layout.to_ids([[0, -1], [0, -1]])
    assert layout.to_ids([[0, -1], [0, -1]], [True, False]).tolist() == [0, 1024, 2051, 2051]
    with pytest.raises(LayoutError, match="integers"):
        layout.to_ids(CODES.astype(float))
    for valid in ([True], [1, 1, 1], [[True] * 3]):
        with pytest.raises(LayoutError, match="3 frames"):
            layout.to_ids(CODES, valid)
    assert layout.to_ids(np.zeros((2, 0)), []).size == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "zigzag"}, "kind"),
        ({"num_codebooks": 0}, "num_codebooks"),
        ({"num_codebooks": 65}, "num_codebooks"),
        ({"num_codebooks": 2.0}, "num_codebooks"),
        ({"num_codebooks": True}, "num_codebooks"),
        ({"codebook_size": 1}, "codebook_size"),
        ({"codebook_size": 65_537}, "codebook_size"),
        ({"offset": -1}, "offset"),
        ({"offset": "0"}, "offset"),
        ({"vocab_id": None}, "vocab_id"),
        ({"stack": 0}, "stack"),
        ({"stack": 2}, "parallel"),
        ({"gaps": "none"}, "gaps"),
        ({"format_version": 2}, "upgrade"),
        ({"format_version": None}, "format_version"),
        ({"delays": [0, 1]}, "delays"),
    ],
)
def test_a_stored_layout_is_read_strictly(changes: dict[str, object], reason: str) -> None:
    stored = Layout("flat", 2, 1024, 7, "abc").to_dict()
    assert Layout.from_dict(stored) == Layout("flat", np.int64(2), 1024, 7, "abc")  # type: ignore[arg-type]
    with pytest.raises(LayoutError, match=reason):
        Layout.from_dict(stored | changes)


def test_a_stored_layout_must_be_whole() -> None:
    stored = Layout("flat", 2, 1024).to_dict()
    for name in stored:
        with pytest.raises(LayoutError, match=name):
            Layout.from_dict({key: value for key, value in stored.items() if key != name})
    with pytest.raises(LayoutError, match="stored layout"):
        Layout.from_dict([])  # type: ignore[arg-type]


def test_the_page_of_layouts_is_what_the_code_says() -> None:
    docs = Path(__file__).parents[1] / "docs"
    made = runpy.run_path(str(docs / "make_layouts.py"))
    assert made["document"]() == (docs / "layouts.md").read_text("utf-8")
    assert made["picture"]() == (docs / "layouts.svg").read_text("utf-8")
    for kind, options in made["SHOWN"]:  # the picture's texts are the tokens' own
        layout = Layout(kind, 2, 1024, **options)
        shown = "".join("".join(column) for column in zip(*made["cells"](layout), strict=True))
        assert shown == layout.to_text(made["CODES"], made["VALID"])


def test_import_is_light() -> None:
    code = "import sys, emgcodec.layouts; print('torch' in sys.modules, 'scipy' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]

"""Tables and cards from made-up result files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training import small_codec

from emgcodec import Codec, list_pretrained
from emgcodec.card import model_card, over_the_one_before
from emgcodec.cli import main
from emgcodec.evaluate.rows import PROTOCOL, ROWS
from emgcodec.evaluate.study_tables import write_studies
from emgcodec.evaluate.tables import _COMPARED, readme_table, results_page
from emgcodec.evidence import (
    Summary,
    cell,
    gain,
    gained,
    load_results,
    paired_loss,
    paired_loss_over_trainings,
    points,
    pooled,
)
from emgcodec.folder import CARD_FILE
from emgcodec.pretrained import find_model

ROOT = Path(__file__).parents[1]
OPEN, CLOSE = "<!-- evidence -->", "<!-- /evidence -->"
WAYS = ("codec", "noise", "mean_spectrum", "level_pca")


def made_up(row: str, fold: int, score: float, **more: Any) -> dict[str, Any]:
    scores = {f"3dc/P{fold}{i}": score + 0.02 * i for i in range(2)}
    shares = {"cold": 0.5, "calibrated": 1.0} | ({"device": 0.8} if ROWS[row].recipe else {})
    return {
        "row": row,
        "fold": fold,
        "command": f"emgcodec evaluate run --row {row} --fold {fold} --data $EMGCODEC_DATA",
        "commit": "abc",
        "seconds": 90,
        "protocol": PROTOCOL,
        "scores": {
            start: {"3dc": {name: share * value for name, value in scores.items()}}
            for start, share in shares.items()
        },
        "chance": {"3dc": dict.fromkeys(scores, 1 / 11)},
    } | more


def codec_row(row: str, fold: int, score: float = 0.50) -> dict[str, Any]:
    ways = {way: {f"3dc/P{fold}0": 0.5 - 0.1 * k} for k, way in enumerate(WAYS)}
    return made_up(
        row,
        fold,
        score,
        usage={"frames": 99, "size": 1000, "used": [800, 900], "perplexity": [200.0, 600.0]},
        reconstruction={"3dc": {"envelope_correlation": ways, "log_spectral_distance": ways}},
        bit_rate={"3dc": 689.0},
    )


def write(folder: Path, *results: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for result in results:
        (folder / f"{result['row']}.{result['fold']}.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    shares = {
        f"{kind} {n}": {"3dc/P00": 0.6 * scale, "3dc/P10": 0.4 * scale}
        for kind, scale in {"level": 1.0, "chance": 0.1}.items()
        for n in ("1", "2", "2 given 1")
    }
    found = [codec_row("student", fold) | {"agreement": {"all": shares}} for fold in range(5)]
    found += [codec_row("teacher", fold, 0.51) for fold in range(5)]
    found += [made_up("lda", fold, 0.40) for fold in range(5)]
    found += [made_up("kmeans", fold, 0.44) for fold in range(5)]
    return write(tmp_path / "evidence", *found, made_up("twin", 0, 0.51))


def line_of(text: str, *words: str) -> str:
    (line,) = (x for x in text.splitlines() if x.startswith("|") and all(w in x for w in words))
    return line


def test_people_of_all_folds_are_pooled(results: Path) -> None:
    rows = load_results(results)
    assert [r["fold"] for r in rows["student"]] == [0, 1, 2, 3, 4]
    assert len(pooled(rows["student"], "scores", "cold", "3dc")) == 10
    assert pooled(rows["student"], "scores", "cold", "flexemg") == {}
    assert load_results(results / "nowhere") == {}


def test_a_summary_by_hand() -> None:
    found = Summary.of({"a": 0.2, "b": 0.4, "c": 0.4, "d": 0.4, "e": 0.6})
    assert found is not None
    assert (found.mean, found.people) == (pytest.approx(0.4), 5)
    assert found.sd == pytest.approx(np.sqrt(0.08 / 4))
    # Means that are further from 0.4 than 0.12, as when a is drawn three times more often than e.
    assert (found.low, found.high) == (pytest.approx(0.28), pytest.approx(0.52))
    assert str(found) == "40.0 [28.0, 52.0] ± 14.1"
    assert Summary.of({}) is None


def test_few_people_have_no_interval() -> None:
    four = dict.fromkeys("abcd", 0.2)
    assert str(Summary.of(four)) == "20.0 ± 0.0"
    assert str(Summary.of({"a": 0.2})) == "20.0"
    assert points(*paired_loss(four, four)) == "+0.0 (few people)"
    assert gained(*paired_loss(four, four)) == "+0.0 (few people)"
    assert points(*paired_loss(four, {})) == "not run"
    assert np.isnan(paired_loss_over_trainings([four], [four])[1])


def test_a_loss_is_paired_by_person() -> None:
    rng = np.random.default_rng(0)
    theirs = {str(i): float(v) for i, v in enumerate(rng.uniform(0.2, 0.9, 20))}
    ours = {name: v - 0.01 for name, v in theirs.items()} | {"alone": 0.0}
    assert paired_loss(ours, theirs) == (pytest.approx(0.01), pytest.approx(0.01))
    spread = {name: v - float(rng.normal(0.01, 0.05)) for name, v in theirs.items()}
    mean, upper = paired_loss(spread, theirs)
    assert mean < upper < mean + 0.05
    assert np.isnan(paired_loss({}, theirs)).all()


def test_a_loss_over_trainings_knows_that_trainings_differ() -> None:
    people = {str(i): 0.5 for i in range(30)}
    seeds = [{name: score - lost for name, score in people.items()} for lost in (0.0, 0.01, 0.05)]
    mean, upper = paired_loss_over_trainings(seeds, [people] * 3)
    assert (mean, upper) == (pytest.approx(0.02), pytest.approx(0.05 * 2 / 3 + 0.01 / 3))
    pooled_mean, pooled_upper = paired_loss(dict.fromkeys(people, 0.48), people)
    assert (pooled_mean, pooled_upper) == (pytest.approx(mean), pytest.approx(0.02))
    assert np.isnan(paired_loss_over_trainings([], [])).all()


def test_a_person_of_several_results_counts_once() -> None:
    results = [{"scores": {"A": 0.2, "B": 0.4}}, {"scores": {"A": 0.4}}]
    assert pooled(results, "scores") == pytest.approx({"A": 0.3, "B": 0.4})


def test_cells_say_what_is_missing(results: Path) -> None:
    rows = load_results(results)
    assert cell(rows["student"], "scores", "calibrated", "3dc").startswith("51.0 [")
    assert cell(rows["twin"], "scores", "calibrated", "3dc").endswith("(1 of 5 folds)")
    assert cell((), "scores", "calibrated", "3dc") == "not run"
    assert gain(rows, "student", "lda", "calibrated", "3dc") == "+10.0 (at least +10.0)"
    assert gain(rows, "student", "random", "calibrated", "3dc") == "not run"
    for rival, lead in {"lda": "+20.3", "twin": "-0.8"}.items():  # 0.5 and 0.8 of its own
        assert gain(rows, "student", rival, "device", "3dc").startswith(lead)


def test_the_page_has_every_row_and_prints_what_was_not_run(results: Path) -> None:
    text = results_page(load_results(results))
    of_3dc = text.split("### 3dc")[1].split("###")[0]
    assert "10 people, chance 9.1" in of_3dc
    for row in ROWS.values():
        assert line_of(of_3dc, f"| {row.title} |")
    assert line_of(of_3dc, ROWS["student"].title).count("±") == 3
    assert line_of(of_3dc, ROWS["random"].title).endswith("| not run |  | not run |")
    _, ours, theirs = re.split(
        "|".join(re.escape(f"| {ROWS[row].title} |  |") for row in _COMPARED), text
    )
    assert "| 3dc | calibrated | -1.0 (at least -1.0) |" in line_of(ours, "| 3dc | calibrated |")
    assert "| +6.0 (at least +6.0) | not run |" in line_of(ours, "| 3dc | calibrated |")
    assert "| 3dc | calibrated | +0.0 (few people) |" in line_of(theirs, "| 3dc | calibrated |")
    assert f"\n{ROWS['student-read'].title}: not run.\n" in theirs
    taught = text.partition("\n| student | frames |")[2]
    students, opens = taught.partition("\n| student-open | frames |")[::2]
    of_all = line_of(students, "| 3dc | all |")
    assert of_all.count("50.0 ± 14.1, chance 5.0") == 3
    assert line_of(opens, "| 3dc | all |").count("not run") == 3
    assert line_of(students, "| 3dc | gestures |").count("not run") == 3
    assert line_of(text, ROWS["student"].title, "| 1 |", "800 of 1000").endswith("| 0.20 |")
    assert line_of(text, "| 3dc | student (689 bit/s) |").count("0.5") == 2
    assert line_of(text, "`emgcodec evaluate run --row lda`").endswith("| 5 of 5 | `abc` | 2 min |")
    assert line_of(text, "`emgcodec evaluate run --row random`").endswith("| 0 of 5 | not run |  |")


def test_readme_gets_its_table_between_the_marks(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, readme = tmp_path / "results.md", tmp_path / "README.md"
    readme.write_text(f"before\n{OPEN}\nold\n{CLOSE}\nafter\n")
    argv = ["evaluate", "table", "--results", str(results), "--page", str(page)]
    argv += ["--readme", str(readme), "--studies-page", str(tmp_path / "studies.md")]
    for _ in range(2):  # again changes nothing
        assert main(argv) == 0
        expected = readme_table(load_results(results))
        assert readme.read_text() == f"before\n{OPEN}\n{expected}\n{CLOSE}\nafter\n"
    assert (
        "| 3dc (10) | 9 | 26 / 41 / 51 [50, 52] | 26 / 42 / 52 [51, 53] | "
        "26 / 42 / 52 (1 of 5 folds) | not run | not run | 22 / – / 45 [44, 46] |" in expected
    )
    readme.write_text("no marks")
    assert main(argv) == 2
    assert OPEN in capsys.readouterr().err
    assert readme.read_text() == "no marks"


def test_calibration_was_studied_on_the_models_of_the_table() -> None:
    studied, scored = (
        load_results(ROOT / "docs" / "results" / folder)["teacher"]
        for folder in ("studies/calibration", "evidence")
    )
    ids = {result["fold"]: result["model"]["codec_id"] for result in scored}
    assert {result["fold"]: result["codec_id"] for result in studied} == ids


def test_what_is_committed_is_what_the_results_say(tmp_path: Path) -> None:
    rows = load_results(ROOT / "docs" / "results" / "evidence")
    assert (ROOT / "docs" / "results.md").read_text("utf-8") == results_page(rows)
    write_studies(ROOT / "docs" / "results" / "studies", tmp_path / "studies.md")
    written = (tmp_path / "studies.md").read_text("utf-8")
    assert (ROOT / "docs" / "studies.md").read_text("utf-8") == written
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"{OPEN}\n{readme_table(rows)}\n{CLOSE}" in readme
    for name in list_pretrained():
        codec = Codec.from_pretrained(name)
        card = model_card(codec.config, rows, parameters=codec.num_parameters())
        assert (find_model(name) / CARD_FILE).read_text("utf-8") == card


# Cards


def test_a_card_says_how_good_for_whom_and_what_is_not_shown(results: Path) -> None:
    codec = small_codec()
    config = codec.config.replace(weights_license="Some licence.", provenance={"data": "3dc"})
    card = model_card(config, load_results(results), parameters=codec.num_parameters())
    assert "Weights licence: Some licence." in card
    assert f"{codec.num_parameters():,} parameters" in card
    assert re.search(r"\| 3dc \| 10 \| 25\.5 \[.*\| 51\.0 \[", card)
    assert PROTOCOL["calibration"] in card
    assert "emgcodec evaluate run --row student --data $EMGCODEC_DATA`, commit `abc`." in card
    assert "teacher's codes of level 1 on 50 %, 2 on 50 %, 2 given 1 on 50 % of" in card
    assert re.search(r"3dc: that learning from it at its size costs less.* not shown", card) is None
    assert "3dc, log spectral distance: not better than noise, mean_spectrum, level_pca." in card
    assert "envelope correlation: not better" not in card
    assert "Level 1: perplexity is 0.20 of the codebook's size (under 0.3)" in card
    assert "Level 2: perplexity is 0.60 of the codebook's size (over 0.3)" in card
    assert '"data": "3dc"' in card


def test_a_student_is_held_against_the_model_whose_name_it_took() -> None:
    rows = {"teacher": [made_up("teacher", fold, 0.50) for fold in range(5)]}
    for score, verdict in ((0.49, "worse beyond that interval when cold"), (0.51, "not worse")):
        rows["student"] = [made_up("student", fold, score) for fold in range(5)]
        told = over_the_one_before("student", rows)
        assert f"cold {100 * 0.5 * (score - 0.5):+.1f} " in told
        assert "of 10 people" in told
        assert verdict in told
        config = small_codec().config.replace(name="student")
        assert f"- {told}\n" in model_card(config, rows, parameters=1)
    assert over_the_one_before("teacher", rows) == ""


def test_a_loss_that_is_not_shown_is_called_so(tmp_path: Path) -> None:
    for name, other, cost in (
        (
            "student",
            "teacher",
            "learning from it at its size costs less than 1.5 points against its teacher",
        ),
        ("teacher", "twin", "the codebooks cost less than 1.5 points against the unquantized twin"),
    ):
        config = small_codec().config.replace(name=name)
        for score, bounds in (
            (0.55, "cold of few people, device of few people, calibrated of few people"),
            (None, "cold not run, device not run, calibrated not run"),
        ):
            rows = {name: [codec_row(name, 0)]}
            rows[other] = [made_up(other, 0, score)] if score else []
            card = model_card(config, rows, parameters=1)
            assert f"3dc: that {cost} is not shown ({bounds})." in card
            assert "2 people are no evidence" in card
    rows = {row: [codec_row(row, fold, s) for fold in range(5)] for row, s in
            (("student", 0.50), ("teacher", 0.55))}  # fmt: skip
    card = model_card(small_codec().config.replace(name="student"), rows, parameters=1)
    assert "(cold at most 2.50, device at most 4.00, calibrated at most 5.00)" in card


def test_a_model_without_results_has_a_card_too(tmp_path: Path) -> None:
    codec = Codec.from_preset("student")
    codec.save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "none stated: these weights are untrained" in card
    assert "Scores" not in card


def test_the_command_writes_the_card_beside_the_weights(results: Path, tmp_path: Path) -> None:
    small_codec().save_pretrained(tmp_path / "model")
    assert main(["evaluate", "card", str(tmp_path / "model"), "--results", str(results)]) == 0
    assert "| 3dc | 10 |" in (tmp_path / "model" / "README.md").read_text()
    Codec.from_pretrained(tmp_path / "model")

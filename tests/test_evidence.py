"""The folds of people, and that the committed ones are what the committed function makes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgcodec.evidence import NUM_FOLDS, TOGETHER, folds, make_folds, people

NAMES = st.sets(
    st.tuples(st.sampled_from(["3dc/P", "a/S", "b/min", "b/shift"]), st.integers(1, 40)).map(
        lambda parts: f"{parts[0]}{parts[1]:02d}"
    )
)


@given(names=NAMES, seed=st.integers(0, 5))
def test_everyone_is_in_one_fold_and_each_data_set_is_spread(names: set[str], seed: int) -> None:
    made = make_folds(names, seed)
    assert sorted(name for fold in made for name in fold) == sorted(names)
    for dataset in {name.split("/")[0] for name in names}:
        sizes = [sum(name.startswith(f"{dataset}/") for name in fold) for fold in made]
        assert max(sizes) - min(sizes) <= 1 + (dataset == "3dc")  # one pair shares a fold
    assert make_folds(sorted(names, reverse=True), seed) == made
    for group in TOGETHER:
        assert len({i for i, fold in enumerate(made) for name in group if name in fold}) <= 1


def test_two_people_can_each_train_for_the_other() -> None:
    first, second = (i for i, fold in enumerate(make_folds({"x/A1", "x/A2"})) if fold)
    assert (second - first) % NUM_FOLDS not in (1, NUM_FOLDS - 1)


def test_the_committed_folds_are_what_the_function_makes() -> None:
    assert make_folds(name for fold in folds() for name in fold) == folds()


def test_the_parts_of_a_fold_share_nobody_and_leave_out_nobody() -> None:
    everyone = {name for fold in folds() for name in fold}
    tested: Counter[str] = Counter()
    for fold in range(NUM_FOLDS):
        train, chosen, test = (people(fold, part) for part in ("train", "validation", "test"))
        assert train | chosen | test == everyone
        assert len(train) + len(chosen) + len(test) == len(everyone)
        assert chosen == people((fold + 1) % NUM_FOLDS, "test")
        datasets = {name.split("/")[0] for name in train}
        assert {name.split("/")[0] for name in test} <= datasets  # nobody is tested untrained for
        tested.update(test)
    assert set(tested.values()) == {1}


@pytest.mark.parametrize(("fold", "part"), [(5, "test"), (-1, "test"), (0, "tests")])
def test_other_folds_and_parts_are_refused(fold: int, part: str) -> None:
    with pytest.raises(ValueError, match="choose from"):
        people(fold, part)  # type: ignore[arg-type]


def test_the_folds_are_all_people_of_the_data(data_dir: Path) -> None:
    import csv

    rows = csv.DictReader((data_dir / "manifest.csv").read_text("utf-8").splitlines())
    names = {f"{row['dataset']}/{row['subject']}" for row in rows}
    assert {name for fold in folds() for name in fold} == names

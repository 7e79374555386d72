"""Recipes: strict TOML, changes from the command line, and the page that explains them."""

from __future__ import annotations

import re
import runpy
from dataclasses import is_dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training import RECIPE

from emgcodec import config, presets
from emgcodec.config import ConfigError
from emgcodec.train.recipe import OptimRecipe, Recipe, list_recipes

ROOT = Path(__file__).parents[1]


def loaded(text: str, tmp_path: Path, *changes: str) -> Recipe:
    (tmp_path / "recipe.toml").write_text(text)
    return Recipe.load(tmp_path / "recipe.toml", changes)


def test_bundled_recipes_are_whole() -> None:
    assert list_recipes() == [
        "distill-large-small", "distill-large-tiny", "emg-codec", "large", "personal", "small",
        "smoke", "student", "student-open", "teacher", "teacher-open", "tiny",
    ]  # fmt: skip
    for name in list_recipes():
        recipe = Recipe.load(name)
        assert Recipe.load(f"{name}.toml") == recipe
        assert recipe.model.license
        assert recipe.model.preset in presets.list_presets()
        presets.preset(recipe.model.preset).replace(**recipe.model.overrides)
    assert set(Recipe.load("student-open").data.weights) == {"myo_readings", "simulated"}
    assert "Apache-2.0" in Recipe.load("student-open").model.license
    assert "cannot grant rights" in Recipe.load("teacher").model.license
    assert Recipe.load("student").data.weights == Recipe.load("teacher").data.weights


def test_fields_of_the_codec_go_by_their_own_names() -> None:
    recipe = Recipe.load("emg-codec", ["quantizer.levels=4", "encoder.dropout=0.1"])
    assert recipe.model.overrides == {"quantizer.levels": 4, "encoder.dropout": 0.1}


def test_a_recipe_starts_from_the_one_that_it_extends(tmp_path: Path) -> None:
    text = 'extends = "student"\n[optim]\nsteps = 7\n[data.weights]\nmyo_ciil = 3.0'
    recipe, base = loaded(text, tmp_path), Recipe.load("student")
    assert recipe.model == base.model
    assert recipe.optim == replace(base.optim, steps=7)
    assert recipe.data.weights == {"myo_ciil": 3.0}
    (tmp_path / "other.toml").write_text(f'extends = "{tmp_path / "recipe.toml"}"')
    assert Recipe.load(tmp_path / "other.toml") == recipe
    with pytest.raises(ConfigError, match="extends itself"):
        loaded(f'extends = "{tmp_path / "other.toml"}"', tmp_path)
    with pytest.raises(ConfigError, match="neither a file nor bundled"):
        loaded('extends = "studnet"', tmp_path)


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    recipe = loaded("[optim]\nsteps = 7", tmp_path)
    assert recipe.optim == OptimRecipe(steps=7)
    assert recipe.data.weights == {"simulated": 1.0}


def test_a_recipe_comes_back_from_json(tmp_path: Path) -> None:
    recipe = loaded(RECIPE, tmp_path)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.data.weights == {"3dc": 2.0, "myo_ciil": 1.0}
    assert recipe.model.overrides["encoder.dim"] == 32


def test_changes_are_toml_and_words_need_no_quotes(tmp_path: Path) -> None:
    changes = (
        "optim.lr=2e-4", "optim.betas=[0.8, 0.9]", "model.name=mine", 'model.preset="student"',
        "data.weights.3dc=0.5", "model.overrides.encoder.dim=64", "data.people = all",
        "optim.clip=2",
    )  # fmt: skip
    recipe = loaded(RECIPE, tmp_path, *changes)
    assert (recipe.optim.lr, recipe.optim.betas, recipe.optim.clip) == (2e-4, (0.8, 0.9), 2.0)
    assert (recipe.model.name, recipe.model.preset) == ("mine", "student")
    assert recipe.data.weights == {"3dc": 0.5, "myo_ciil": 1.0}
    assert recipe.model.overrides["encoder.dim"] == 64
    assert recipe.model.overrides["encoder.heads"] == 2
    assert recipe.data.people == "all"


def test_a_table_of_weights_replaces_the_default(tmp_path: Path) -> None:
    text = "[data.weights]\nmyo_ciil = 1\n[model.overrides.encoder]\ndim = 32\n[optim]\nsteps = 1"
    recipe = loaded(text, tmp_path)
    assert recipe.data.weights == {"myo_ciil": 1.0}
    assert recipe.model.overrides == {"encoder.dim": 32}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optim.learning=1", "optim.learning"),
        ("optim.lrr=1", "'optim.lr'"),
        ("optin.steps=1", "'optim.steps'"),
        ("lr=1", "'lr'"),
        ("optim.lr=fast", "float is needed"),
        ("optim.lr=nan", "finite number"),
        ("optim.steps=0", "how long"),
        ("optim.steps=1.5", "int is needed"),
        ("optim.betas=[0.9]", "two numbers"),
        ("optim=3", "a table"),
        ("data.weights.3dc=-1", "at least 0"),
        ("data.fold=5", "0 to 4"),
        ("data.calibrated=1.5", "share"),
        ("augment.noise_snr=[3, 1]", "decibel"),
        ("augment.shift=-1", "at least 0"),
        ("run.precision=fp16", "choose from"),
        ("run.processes=0", "at least 1"),
        ("steps", "key=value"),
    ],
)
def test_what_cannot_be_is_named(change: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(RECIPE, tmp_path, change)
    assert words in str(caught.value)


def test_a_fold_and_everybody_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leaves people out"):
        loaded(RECIPE, tmp_path, "data.fold=1", "data.people=all")


def test_what_is_no_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="smoke"):
        Recipe.load("smokee")
    with pytest.raises(ConfigError, match="no TOML"):
        loaded("steps: 3", tmp_path)
    with pytest.raises(ConfigError, match=r"did you mean 'augment\.rotation'"):
        loaded("[augment]\nrotations = 3", tmp_path)


@given(st.sampled_from(list_recipes()), st.integers(1, 10**6), st.floats(1e-6, 1))
def test_recipes_hold_what_they_are_given(name: str, steps: int, lr: float) -> None:
    recipe = Recipe.load(name, [f"optim.steps={steps}", f"optim.lr={lr!r}"])
    assert (recipe.optim.steps, recipe.optim.lr) == (steps, lr)


def test_unknown_fields_of_a_codec_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'quantizer\.levels'"):
        presets.preset("student").replace(**{"quantizer.level": 3})


def test_the_page_is_up_to_date_and_leaves_nothing_out() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "make_config.py"))["document"]()
    assert (ROOT / "docs" / "config.md").read_text("utf-8") == page + "\n"
    rows = re.findall(r"^\| `(\w+)` \| `.+` \| .+ \| (.*) \|$", page, re.M)
    assert len(rows) > 60
    assert [name for name, meaning in rows if not meaning] == []
    parts = [part for part in vars(config).values() if is_dataclass(part)]
    own = [part.__name__ for part in parts if part.__module__ == config.__name__]
    assert len(own) >= 10
    assert all(f"### {name}\n" in page for name in own)

"""What mkdocs cannot know by itself: model cards lie beside their weights."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def cards() -> dict[str, Path]:
    """The card of each model of the wheel and of the checkout, by its page."""
    found = [*ROOT.glob("src/emgcodec/weights/*/README.md"), *ROOT.glob("weights/*/README.md")]
    return {f"models/{path.parent.name}.md": path for path in sorted(found)}


def on_config(config: MkDocsConfig) -> None:
    """Lists the cards."""
    (models,) = (part for part in config.nav or [] if isinstance(part, dict) and "Models" in part)
    models["Models"] = list(cards())


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the cards."""
    for page, path in cards().items():
        files.append(File.generated(config, page, abs_src_path=str(path)))

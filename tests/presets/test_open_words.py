"""The table of what a prompt may leave open is the world's."""

from __future__ import annotations

from pipelines.embedded.training.captions import all_words
from pipelines.embedded.training.world import world
from presets.recipes.build import WORLD
from presets.recipes.open_words import TABLE, table, text
from studio.opening import opened


def test_the_shipped_table_is_what_the_recipe_makes() -> None:
    assert TABLE.read_text(encoding="utf-8") == text()


def test_every_word_that_is_filled_in_is_one_the_model_has_read() -> None:
    known = set(all_words(world(WORLD)))
    for names in [*table()["coloured"], *table()["people"], *table()["other"]]:
        told = opened(f"a {names[0]}")
        assert "|" in told, names
        assert set(told.translate(str.maketrans("{|}-", "    ")).split()) <= known, names

"""The page about families says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.engine import Engine
from pipelines.errors import UnsupportedError
from pipelines.families import families, family
from pipelines.families.table import WORDS, refusal, table
from pipelines.pictures import PictureStore
from tests.pipelines import tiny

PAGE = Path(__file__).resolve().parents[3] / "docs" / "families.md"


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = text.split("<!-- table -->\n")[1].split("<!-- end -->")[0]
    assert shown.strip() == table().strip()
    assert all(f"| {name} (" in shown for name in families())


def test_what_is_refused_is_in_the_table() -> None:
    for name, kind in families().items():
        assert set(kind.refused) <= set(WORDS)
        assert family(name).name == name
    assert refusal("sd", "attend_both_ways") and refusal("flux", "attend_both_ways") is None


def test_both_ways_is_refused_by_name_on_unets(engine: Engine, store: PictureStore) -> None:
    with pytest.raises(UnsupportedError, match="attend both ways"):
        tiny.pictures(engine, tiny.text_request(attend_both_ways=True), store)


def test_unknown_families_are_named() -> None:
    with pytest.raises(UnsupportedError, match="'dalle'"):
        family("dalle")

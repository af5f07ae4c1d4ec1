"""What the page asks the server for, beside its events: plain functions that any visitor may call with anything."""

from __future__ import annotations

from typing import Any

import pytest

from studio.canvas.component import fill_in, weave


def test_what_is_open_is_filled_in_and_nothing_open_is_none() -> None:
    found = fill_in({"prompt": "a cat by a red house", "words": ["cat", "red house", ""]})
    assert found == {"prompt": "a {cat|kitten} by a red house", "words": ["a {cat|kitten}", "red house", ""]}
    assert fill_in({"prompt": "a beach", "words": ["red house"]}) is None


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"prompt": 3, "words": []},
        {"prompt": "x" * 3000, "words": []},
        {"prompt": "a cat", "words": "cat"},
    ],
)
def test_nonsense_is_nothing(data: dict[str, Any]) -> None:
    assert fill_in(data) is None and weave(data) == ""


def test_weaving_puts_words_that_are_missing_at_the_end() -> None:
    assert weave({"prompt": "a cat", "words": ["cat", "house", 7]}) == "a cat, house"

"""Phrases: whole words, longest first, no overlap; spans point into the prompt that is shown."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.phrases import place_phrases


def found(prompt: str, *phrases: str) -> tuple[str, list[str | None]]:
    """The full prompt and the text under each span."""
    full, spans = place_phrases(prompt, phrases)
    return full, [None if span is None else full[slice(*span)] for span in spans]


def test_trap_5_table_is_not_the_end_of_coffee_table() -> None:
    full, spans = place_phrases("a coffee table beside a table", ["table", "coffee table"])
    assert full == "a coffee table beside a table"
    assert spans == ((24, 29), (2, 14))


def test_trap_5_a_phrase_inside_a_taken_one_is_appended() -> None:
    full, spans = place_phrases("a coffee table", ["table", "coffee table"])
    assert full == "a coffee table, table"
    assert spans == ((16, 21), (2, 14))


def test_trap_5_a_repeated_text_takes_two_places() -> None:
    assert place_phrases("a cat and a cat", ["cat", "cat"])[1] == ((2, 5), (12, 15))


def test_trap_5_the_second_of_two_equal_layers_is_appended_if_the_prompt_holds_one() -> None:
    full, spans = place_phrases("a cat", ["cat", "cat"])
    assert full == "a cat, cat"
    assert spans == ((2, 5), (7, 10))


def test_trap_5_missing_texts_are_appended_in_order() -> None:
    full, texts = found("on a beach", "red mug", "beach", "dog")
    assert full == "on a beach, red mug, dog"
    assert texts == ["red mug", "beach", "dog"]


def test_whole_words_only() -> None:
    assert found("a category of scat, cats", "cat")[0] == "a category of scat, cats, cat"
    assert found("the_cat cat_", "cat")[0] == "the_cat cat_, cat"
    assert found("(cat)", "cat") == ("(cat)", ["cat"])


def test_any_case_and_any_white_space() -> None:
    assert found("A Coffee \n Table", "coffee table") == ("A Coffee \n Table", ["Coffee \n Table"])
    assert found("a dog", "  DOG ") == ("a dog", ["dog"])


def test_phrases_are_texts_not_patterns() -> None:
    assert found("a (red|blue) c.t", "c.t", "(red|blue)") == ("a (red|blue) c.t", ["c.t", "(red|blue)"])
    assert found("a cat", "c.t")[0] == "a cat, c.t"


def test_an_empty_phrase_has_no_place() -> None:
    assert place_phrases("a cat", ["", "  "]) == ("a cat", (None, None))


def test_an_empty_prompt_is_allowed() -> None:
    assert place_phrases("", []) == ("", ())
    assert place_phrases("  ", ["cat", "dog"]) == ("cat, dog", ((0, 3), (5, 8)))


@pytest.mark.parametrize("end", [".", ",", "!", ":"])
def test_appending_adds_no_second_mark(end: str) -> None:
    assert found(f"a room{end} ", "cat")[0] == f"a room{end} cat"


def test_accents_belong_to_their_word() -> None:
    assert found("un cafe\u0301 noir", "café") == ("un café noir", ["café"])
    assert found("un cafe\u0301 noir", "cafe")[0] == "un café noir, cafe"
    assert found("x\u0327\u0301 y", "x")[1] == ["x"]
    assert found("x\u0327\u0301 y", "x")[0].endswith(", x")


def test_characters_whose_case_changes_length_keep_spans_right() -> None:
    assert found("İstanbul STRASSE, a cat", "cat") == ("İstanbul STRASSE, a cat", ["cat"])
    assert found("ﬁsh ẞ dog", "DOG") == ("ﬁsh ẞ dog", ["dog"])


def test_joined_emoji_are_one_word() -> None:
    astronaut = "\U0001f469\u200d\U0001f680"
    assert found(f"{astronaut} x", "\U0001f469")[0] == f"{astronaut} x, \U0001f469"
    assert found(f"{astronaut} x", astronaut) == (f"{astronaut} x", [astronaut])


words = st.text(st.sampled_from("ab é\u0301İ,.ß"), max_size=8)


@given(prompt=words, phrases=st.lists(words, max_size=6))
def test_every_phrase_gets_its_own_place(prompt: str, phrases: list[str]) -> None:
    full, spans = place_phrases(prompt, phrases)
    placed = sorted(span for span in spans if span)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(placed))
    for phrase, span in zip(phrases, spans, strict=True):
        assert (span is None) == (not phrase.strip())
        if span:
            assert 0 <= span[0] < span[1] <= len(full)
    again, _ = place_phrases(full, [])
    assert again == full

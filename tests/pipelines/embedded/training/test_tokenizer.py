"""The vocabulary: whole words, bytes for the rest, and the same after a save."""

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from pipelines.embedded.training.tokenizer import TOKENS, build_tokenizer, widen_tokenizer, words_known

WORDS = ("cat", "at", "castle", "car", "carrot", "balloon", "the", "a")


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_one_token(tokenizer: CLIPTokenizer, word: str) -> None:
    assert tokenizer.tokenize(word) == [word + "</w>"]


def test_unknown_text_falls_back_to_bytes(tokenizer: CLIPTokenizer) -> None:
    pieces = tokenizer.tokenize("zebra é")
    assert len(pieces) > 2
    assert tokenizer.unk_token_id not in tokenizer.convert_tokens_to_ids(pieces)


def test_more_words_keep_the_spare_room(tokenizer: CLIPTokenizer) -> None:
    assert len(build_tokenizer(WORDS, spare=128)) == len(tokenizer) + 64


def test_save_and_load(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    text = "the castle at a zebra"
    assert again.tokenize(text) == tokenizer.tokenize(text)
    padded = again(text, padding="max_length").input_ids
    assert len(padded) == TOKENS
    assert padded[-1] == again.eos_token_id


def test_widening_adds_words_and_moves_nothing(tokenizer: CLIPTokenizer) -> None:
    wide = widen_tokenizer(tokenizer, ("forest", "castles", *WORDS))
    assert [wide.tokenize(word) for word in ("forest", "castles")] == [["forest</w>"], ["castles</w>"]]
    assert wide("the castle at a zebra").input_ids == tokenizer("the castle at a zebra").input_ids
    assert len(wide) == len(tokenizer)
    assert words_known(tokenizer) < words_known(wide) <= len(tokenizer)
    assert all(k < words_known(wide) for k in wide("the forest", add_special_tokens=False).input_ids)


def test_widening_without_room_is_refused(tokenizer: CLIPTokenizer) -> None:
    with pytest.raises(ValueError, match="no spare ids left for the word"):
        widen_tokenizer(
            tokenizer, [f"{a}{b}{c}{d}zzq" for a in "xyz" for b in "jkl" for c in "uvw" for d in "pqr"]
        )

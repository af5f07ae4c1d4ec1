"""The vocabulary: whole words, bytes for the rest, and the same after a save."""

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from pipelines.embedded.training.tokenizer import TOKENS, build_tokenizer

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

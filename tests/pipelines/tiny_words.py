"""Tokenizers of the transformer families: stock classes and templates over small vocabularies made here."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, trainers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2Tokenizer,
    T5TokenizerFast,
)

from tests.pipelines import tiny


@cache
def t5_words() -> T5TokenizerFast:
    """T5's tokenizer class over the letters and two words in pieces, so that phrases have several tokens."""
    pieces = ["▁", *(f"▁{word}" for word in ("a", "red", "and", "on", "the")), "be", "ach", "c", "ar", "at"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1) if chr(code) != "c"]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab += [(piece, -2.0) for piece in pieces] + [(letter, -6.0) for letter in [*letters, ",", "."]]
    return T5TokenizerFast(vocab=vocab, extra_ids=0, additional_special_tokens=[], model_max_length=512)


CHAT = """{%- for message in messages %}\
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\
{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}\
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}\
{%- endif %}"""
"""Qwen 3's chat template, as far as a user's message without tools reaches."""


TEMPLATE_WORDS = (
    "system user assistant Describe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:"
)


def byte_level(lines: list[str]) -> Tokenizer:
    """Byte pairs learned from ``lines``, so that each of their words is one token."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = ByteLevel(add_prefix_space=False)
    bare.decoder = ByteLevelDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=5000, min_frequency=1, initial_alphabet=sorted(ByteLevel.alphabet()), show_progress=False
    )
    bare.train_from_iterator(lines * 3, trainer)
    return bare


@cache
def qwen_words() -> Qwen2Tokenizer:
    """Qwen's tokenizer class; the words of `tiny.WORDS` and of its image template are one token each."""
    bare = byte_level(
        [
            TEMPLATE_WORDS,
            "\nuser\n",
            *TEMPLATE_WORDS.split(),
            *tiny.WORDS,
            *(f" {word}" for word in tiny.WORDS),
        ]
    )
    model = json.loads(bare.to_str())["model"]
    vocab = dict(model["vocab"])
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    for mark in marks:
        vocab[mark] = len(vocab)
    words = Qwen2Tokenizer(vocab=vocab, merges=[tuple(pair) for pair in model["merges"]], chat_template=CHAT)
    words.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return words


MISTRAL_CHAT = """{{- bos_token }}{%- for message in messages %}\
{%- set text = message.content | map(attribute='text') | join('') %}\
{%- if message.role == 'system' %}{{- '[SYSTEM_PROMPT]' + text + '[/SYSTEM_PROMPT]' }}\
{%- else %}{{- '[INST]' + text + '[/INST]' }}{%- endif %}{%- endfor %}"""
"""Mistral Small's chat template, as far as a system message and a user's text reach."""


MISTRAL_MARKS = (
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[INST]",
    "[/INST]",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
)


class WordProcessor(ProcessorMixin):
    """The base of FLUX.2's processor, whose template and call are what it reads words with.

    The class itself, PixtralProcessor, adds pictures and wants torchvision for them, which the tests do without.
    """

    def __init__(self, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any) -> None:
        super().__init__(tokenizer, chat_template=chat_template, **kwargs)


@cache
def mistral_words() -> WordProcessor:
    """A processor over a byte-level vocabulary with Mistral's marks; it pads on the left."""
    bare = byte_level([*tiny.WORDS, *(f" {word}" for word in tiny.WORDS)])
    words = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        padding_side="left",
        chat_template=MISTRAL_CHAT,
        model_input_names=["input_ids", "attention_mask"],
    )
    words.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in MISTRAL_MARKS])
    return WordProcessor(words, chat_template=MISTRAL_CHAT)

"""From a phrase's characters to its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipelines.errors import CutOffError, PhraseError
from pipelines.request import RenderRequest

MARK = "\u2603"
"""Stands for the prompt while a template's text before it is measured."""
Span = tuple[int, int] | None


def in_final_text(final: Callable[[str], str], prompt: str, spans: Sequence[Span]) -> tuple[str, list[Span]]:
    """The string that is tokenized, and where ranges of ``prompt`` stand in it; ``final`` makes it from a prompt.

    What stands before a place is made longer as it is in the whole: learned tokens of several vectors.
    """
    text = final(prompt)
    if text == prompt:
        return text, list(spans)
    return text, [span and (len(final(prompt[: span[0]])), len(final(prompt[: span[1]]))) for span in spans]


def with_words(text: str, words: str) -> tuple[str, tuple[int, int]]:
    """``words`` after a comma at the end of ``text``, and where they stand."""
    start = text.rstrip()
    words = " ".join(words.split())
    start = start and (f"{start} " if start[-1] in ",;:.!?" else f"{start}, ")
    return start + words, (len(start), len(start) + len(words))


def negative_text(request: RenderRequest) -> tuple[str, list[Span]]:
    """The negative prompt with the negative words of all layers at its end, and where each layer's stand."""
    text = request.negative_prompt
    spans: list[Span] = []
    for layer in request.layers:
        span = None
        if layer.negative.strip():
            text, span = with_words(text, layer.negative)
        spans.append(span)
    return text, spans


def tokens_of_spans(
    tokenizer: Any,
    text: str,
    spans: Sequence[Span],
    names: Sequence[str],
    limit: int | None = None,
    ends: int = 1,
    special: bool = True,
) -> list[list[int]]:
    """Token positions of half-open character ranges of ``text``, with the pipeline's own padding and truncation.

    ``limit`` is how many tokens the model reads, by default the tokenizer's own number; ``ends`` of them are end marks;
    ``special`` tells whether the tokenizer adds marks of its own, which a chat template has in the text already.
    None gives no tokens. Raises `CutOffError` when truncation cuts phrases off, wholly or in part, naming the layer of
    the first in the text.
    """
    limit = tokenizer.model_max_length if limit is None else limit
    whole = tokenizer(text, return_offsets_mapping=True, verbose=False, add_special_tokens=special)[
        "offset_mapping"
    ]
    found: list[list[int]] = []
    cut: list[tuple[int, int, str]] = []
    for span, name in zip(spans, names, strict=True):
        if span is None:
            found.append([])
            continue
        start, end = span
        tokens = [k for k, (a, b) in enumerate(whole) if a < b and a < end and start < b]
        # the last kept place is the end mark, where the tokenizer has one
        if not tokens or tokens[-1] >= limit - ends:
            cut.append((start, end, name))
        found.append(tokens)
    if cut:
        start, end, name = min(cut)
        raise CutOffError(
            f"layer {name!r}: its words {text[start:end]!r} are cut off, the model reads only the first "
            f"{limit - len(tokenizer('')['input_ids'])} tokens; shorten the prompt or the words of other layers."
        )
    return found


def tokens_in_template(
    render: Callable[[str], str], tokenizer: Any, request: RenderRequest, limit: int
) -> list[list[int]]:
    """Places of the words of each layer in a chat template around the prompt, from the template's first token on.

    ``render`` makes the text that is tokenized; ``limit`` is how many tokens of it the model reads.
    """
    start = render(MARK).index(MARK)
    text = render(request.prompt)
    if text[start : start + len(request.prompt)] != request.prompt:
        raise PhraseError(
            "the model's chat template changes the prompt, so that the layers' words cannot be found in it; "
            "remove marks such as <|im_end|> and spaces at its ends."
        )
    spans = [layer.span and (layer.span[0] + start, layer.span[1] + start) for layer in request.layers]
    names = [layer.name for layer in request.layers]
    return tokens_of_spans(tokenizer, text, spans, names, limit, ends=0, special=False)


def moved_by_padding(tokenizer: Any, text: str, found: list[list[int]], length: int) -> list[list[int]]:
    """``found`` in a row padded to ``length``: tokenizers that pad on the left move all tokens to the right."""
    if tokenizer.padding_side != "left":
        return found
    count = len(tokenizer(text, verbose=False, add_special_tokens=False)["input_ids"])
    return [[token + max(0, length - count) for token in tokens] for tokens in found]

"""From a phrase's characters to its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipelines.errors import PhraseError


Span = tuple[int, int] | None


def in_final_text(
    final: Callable[[str], str], prompt: str, spans: Sequence[Span]
) -> tuple[str, list[Span]]:
    """The string that is tokenized, and where ranges of ``prompt`` stand in it; ``final`` makes it from a prompt.

    What stands before a place is made longer as it is in the whole: learned tokens of several vectors.
    """
    text = final(prompt)
    if text == prompt:
        return text, list(spans)
    return text, [span and (len(final(prompt[: span[0]])), len(final(prompt[: span[1]]))) for span in spans]


def tokens_of_spans(
    tokenizer: Any,
    text: str,
    spans: Sequence[Span],
    names: Sequence[str],
    limit: int | None = None,
    ends: int = 1,
) -> list[list[int]]:
    """Token positions of half-open character ranges of ``text``, with the pipeline's own padding and truncation.

    ``limit`` is how many tokens the model reads, by default the tokenizer's own number; ``ends`` of them are end marks.
    None gives no tokens. Raises `PhraseError` naming the layer when truncation cuts a phrase off, wholly or in part.
    """
    limit = tokenizer.model_max_length if limit is None else limit
    whole = tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    found: list[list[int]] = []
    for span, name in zip(spans, names, strict=True):
        if span is None:
            found.append([])
            continue
        start, end = span
        tokens = [k for k, (a, b) in enumerate(whole) if a < b and a < end and start < b]
        # the last kept place is the end mark, where the tokenizer has one
        if not tokens or tokens[-1] >= limit - ends:
            raise PhraseError(
                f"layer {name!r}: its words {text[start:end]!r} are cut off, the model reads only the first "
                f"{limit - len(tokenizer('')['input_ids'])} tokens; shorten the prompt or the words of other layers."
            )
        found.append(tokens)
    return found

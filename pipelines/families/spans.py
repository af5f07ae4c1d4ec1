"""From a phrase's characters to its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.errors import PhraseError


def tokens_of_spans(
    tokenizer: Any, text: str, spans: Sequence[tuple[int, int] | None], names: Sequence[str]
) -> list[list[int]]:
    """Token positions of half-open character ranges of ``text``, with the pipeline's own padding and truncation.

    None gives no tokens. Raises `PhraseError` when truncation cuts phrases off, wholly or in part, naming the layer of
    the first in the text.
    """
    limit = tokenizer.model_max_length
    whole = tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    found: list[list[int]] = []
    cut: list[tuple[int, int, str]] = []
    for span, name in zip(spans, names, strict=True):
        if span is None:
            found.append([])
            continue
        start, end = span
        tokens = [k for k, (a, b) in enumerate(whole) if a < b and a < end and start < b]
        # the last kept place is the end mark
        if not tokens or tokens[-1] >= limit - 1:
            cut.append((start, end, name))
        found.append(tokens)
    if cut:
        start, end, name = min(cut)
        raise PhraseError(
            f"layer {name!r}: its words {text[start:end]!r} are cut off, the model reads only the first "
            f"{limit - 2} tokens; shorten the prompt or the words of other layers."
        )
    return found

"""Where a learned look stands in the prompt, and where all words then are.

It stands before the layer's words, as "red" does before "car", and the words stay. Ours: vectors in the place of the
words may forget what the thing is. On the embedded model they did within 60 steps, and the object was gone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from pipelines.request import RenderRequest

Span = tuple[int, int] | None
Tokens = Mapping[tuple[int, str], str]
"""A token for each (number of a layer, words that it stands before)."""


def words_of(request: RenderRequest, number: int) -> str:
    """The words of layer ``number``; none where it has pixels only."""
    return request.prompt[slice(*request.layers[number].span or (0, 0))]


def worded(request: RenderRequest, tokens: Tokens) -> RenderRequest:
    """The request with a token before the words that have one, in the prompt and in those of its variants.

    A layer's span covers both.
    """
    prompt, spans = _worded(request.prompt, [layer.span for layer in request.layers], tokens)
    layers = tuple(
        dataclasses.replace(layer, span=span) for layer, span in zip(request.layers, spans, strict=True)
    )
    variants = []
    for one in request.variants:
        text, places = _worded(one.prompt, one.spans, tokens)
        variants.append(dataclasses.replace(one, prompt=text, spans=tuple(places)))
    return request.replace(prompt=prompt, layers=layers, variants=tuple(variants))


def _worded(prompt: str, spans: Sequence[Span], tokens: Tokens) -> tuple[str, list[Span]]:
    """One prompt and its spans; layers that share a place share the tokens there."""
    before: dict[int, str] = {}
    for number, span in enumerate(spans):
        if span is not None and (token := tokens.get((number, prompt[slice(*span)]))) is not None:
            before[span[0]] = before.get(span[0], "") + f"{token} "

    def moved(place: int) -> int:
        return place + sum(len(token) for at, token in before.items() if at < place)

    text = ""
    for place, character in enumerate(prompt):
        text += before.get(place, "") + character
    return text, [span and (moved(span[0]), moved(span[1])) for span in spans]

"""Where a learned look stands in the prompt, and where all words then are.

It stands before the layer's words, as "red" does before "car", and the words stay. Ours: vectors in the place of the
words may forget what the thing is. On the embedded model they did within 60 steps, and the object was gone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pipelines.request import RenderRequest


def worded(request: RenderRequest, tokens: Mapping[int, str]) -> RenderRequest:
    """The request with a token before the words of each layer numbered; the layer's span covers both."""
    prompt = request.prompt
    spans = [layer.span for layer in request.layers]
    for number, token in tokens.items():
        span = spans[number]
        if span is None:
            raise ValueError("a look stands at words")
        at, longer = span[0], len(token) + 1
        prompt = f"{prompt[:at]}{token} {prompt[at:]}"
        for other, one in enumerate(spans):
            if one is not None and one[0] >= at:
                spans[other] = (one[0] + longer, one[1] + longer)
        spans[number] = (at, span[1] + longer)
    layers = tuple(
        dataclasses.replace(layer, span=span) for layer, span in zip(request.layers, spans, strict=True)
    )
    return request.replace(prompt=prompt, layers=layers)

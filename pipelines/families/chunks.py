"""Prompts of any length for CLIP: read in chunks of what the text encoder takes, side by side along the key axis.

Cross-attention does not count its keys, so each chunk is encoded by the pipeline itself and their states follow one
another. The scene is cut between words, never inside a layer's. Words of layers at its end that no longer fit get a
chunk each, seen only inside their layer's mask: there they neither crowd the scene out nor reach the rest of it.

Negative words of a layer are read together with the scene's negative prompt, in chunks that take that prompt's place
inside the layer's mask. So what is read there is a negative prompt as the model knows it, and elsewhere the states are
those of the scene's alone. Ours; a span of one common negative prompt, which later tokens have read, would leak.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.errors import CutOffError
from pipelines.families.spans import Span, with_words
from pipelines.methods.base import Reach
from pipelines.request import RenderRequest

MOST = 32
"""Chunks of the prompt, or of the negative prompt: 2464 keys, as many as a large picture's coarse grids have."""
BETWEEN = " \t\r\n,;."
"""What may stand between the layers' words at the end of a prompt."""

Fits = Callable[[str], bool]
"""Whether the text encoder reads the whole of a text."""


@dataclass(frozen=True)
class Chunk:
    """One text for the encoder.

    ``layers`` are those inside whose masks it is seen, none where it is the scene's; ``spans`` the places of the words
    of each layer in it. ``text`` None stands for a negative prompt that is not given.
    """

    text: str | None
    layers: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The chunks of the rows that the prompt guides, and of the negative ones (none without guidance)."""

    prompt: tuple[Chunk, ...]
    negative: tuple[Chunk, ...]

    @property
    def count(self) -> int:
        """Chunks a row, the shorter side filled up."""
        return max(len(self.prompt), len(self.negative))

    def reaches(self, length: int) -> tuple[Reach, ...]:
        """Which keys are not seen everywhere, where a chunk has ``length`` of them."""
        if self.count == 1:
            return ()
        found = []
        for rows, chunks in (("prompt", self.prompt), ("negative", self.negative)):
            owners = sorted({layer for chunk in chunks for layer in chunk.layers})
            for number, chunk in enumerate(chunks):
                keys = tuple(range(number * length, (number + 1) * length))
                if chunk.layers:
                    found.append(Reach(rows, keys, chunk.layers))
                elif rows == "negative" and owners:
                    found.append(Reach(rows, keys, tuple(owners), inside=False))
            if len(chunks) < self.count:
                found.append(Reach(rows, tuple(range(len(chunks) * length, self.count * length))))
        return (*found, Reach("reference", tuple(range(length, self.count * length))))


def plan(request: RenderRequest, fits: Fits, guided: bool) -> Plan:
    """How the words of a request are read.

    Raises `CutOffError` where it takes more than `MOST` chunks, naming the first layer that has words beyond them.
    """
    found = Plan(tuple(_of_prompt(request, fits)), tuple(_of_negative(request, fits)) if guided else ())
    if found.count > MOST:
        raise CutOffError(_too_many(request, found))
    return found


def _too_many(request: RenderRequest, found: Plan) -> str:
    texts = f"{found.count} texts for the text encoder, more than {MOST}"
    advice = "shorten them or use fewer layers with words."
    for chunk in found.prompt[MOST:]:
        beyond = [
            (layer.span, layer.name)
            for layer, part in zip(request.layers, chunk.spans, strict=True)
            if part and layer.span
        ]
        if beyond:
            span, name = min(beyond)
            words = request.prompt[slice(*span)]
            return f"layer {name!r}: its words {words!r} are cut off, the prompt and all words take {texts}; {advice}"
    for chunk in found.negative[MOST:]:
        if chunk.layers:
            layer = request.layers[chunk.layers[0]]
            return (
                f"layer {layer.name!r}: its negative words {layer.negative!r} are cut off, the negative prompt and all "
                f"negative words take {texts}; {advice}"
            )
    return f"the prompts and the layers' words take {texts}; {advice}"


def _of_prompt(request: RenderRequest, fits: Fits) -> list[Chunk]:
    prompt = request.prompt
    spans = tuple(layer.span for layer in request.layers)
    if fits(prompt):
        return [Chunk(prompt, spans=spans)]
    scene = prompt
    apart: list[tuple[int, int]] = []
    for span in _at_the_end(prompt, spans):
        if apart or not fits(prompt[: span[1]]):
            scene = scene if apart else prompt[: span[0]].rstrip(BETWEEN)
            apart.append(span)
    left = [None if span in apart else span for span in spans]
    found = _cut_into_chunks(scene, left, fits) or [Chunk("", spans=(None,) * len(spans))]
    for span in apart:
        owners = tuple(number for number, one in enumerate(spans) if one == span)
        own = [
            (0, span[1] - span[0]) if number in owners else None for number in range(len(spans))
        ]  # the words are all of it
        chunks = _cut_into_chunks(prompt[slice(*span)], own, fits)
        found += [Chunk(chunk.text, owners, chunk.spans) for chunk in chunks]
    return found


def _of_negative(request: RenderRequest, fits: Fits) -> list[Chunk]:
    scene = request.negative_prompt
    found = [Chunk(scene)] if scene and fits(scene) else _cut_into_chunks(scene, (), fits) or [Chunk(None)]
    texts: dict[str, list[int]] = {}
    for number, layer in enumerate(request.layers):
        if layer.negative.strip():
            texts.setdefault(with_words(scene, layer.negative)[0], []).append(number)
    for text, owners in texts.items():
        found += [Chunk(chunk.text, tuple(owners)) for chunk in _cut_into_chunks(text, (), fits)]
    return found


def _at_the_end(prompt: str, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Spans with nothing but `BETWEEN` after each until the next or the end, in order: a list of layers' words."""
    found: list[tuple[int, int]] = []
    end = len(prompt)
    for span in sorted({span for span in spans if span}, reverse=True):
        if prompt[span[1] : end].strip(BETWEEN):
            break
        found.insert(0, span)
        end = span[0]
    return found


def _cut_into_chunks(text: str, spans: Sequence[Span], fits: Fits) -> list[Chunk]:
    """Chunks of a text with the parts of ``spans`` that stand in each."""
    found = []
    for start, end in cut(text, fits, [span for span in spans if span]):
        own: list[Span] = []
        for span in spans:
            low, high = (max(span[0], start), min(span[1], end)) if span else (0, 0)
            own.append((low - start, high - start) if text[low:high].strip() else None)
        found.append(Chunk(text[start:end], spans=tuple(own)))
    return found


def cut(text: str, fits: Fits, whole: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int]]:
    """Half-open ranges of ``text`` that fit, in order, with all of it but blanks.

    Cut between words and not inside the ranges ``whole``; inside one where it is too long for a chunk, and inside a
    word where that is.
    """
    stop = len(text.rstrip())
    blanks = [match.start() for match in re.finditer(r"\s+", text[:stop])] + [stop]
    found = []
    start = len(text) - len(text.lstrip())
    while start < stop:
        ends = [end for end in blanks if end > start]
        outside = [end for end in ends if not any(low < end < high for low, high in whole)]
        for choice in (outside, ends, range(start + 1, stop + 1)):
            end = _farthest(choice, lambda end, start=start: fits(text[start:end]))  # type: ignore[misc]
            if end is not None:
                break
        else:
            raise CutOffError(f"the text encoder cannot read {text[start]!r}; remove it.")
        found.append((start, end))
        start = end + len(text[end:]) - len(text[end:].lstrip())
    return found


def _farthest(ends: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """A late one of rising ``ends`` that fits, by halving; None where the first does not."""
    if not ends or not fits(ends[0]):
        return None
    low, high = 0, len(ends)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(ends[middle]) else (low, middle)
    return ends[low]

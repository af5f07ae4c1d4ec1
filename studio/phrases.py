"""Finding each layer's words in the scene prompt, by characters.

The tokenizer has no part in this: spans are character ranges of the full prompt, and the model's family turns
them into tokens. The reference code looked words up as substrings, which confuses "table" with the end of
"coffee table", misses a repeated text and can loop without end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

Span = tuple[int, int]

_JOINER = "\u200d"


def place_phrases(prompt: str, phrases: Sequence[str]) -> tuple[str, tuple[Span | None, ...]]:
    """The full prompt and, for each phrase, its half-open character range in it; None for an empty phrase.

    A phrase is found as whole words, in any case, with any white space between its words. Longer phrases
    choose first; equal ones in the order given. No two ranges overlap, so two equal phrases take two
    places. What is not found is appended, after a comma, in the order given. Both sides are brought to
    Unicode's composed form (NFC) first.
    """
    full = unicodedata.normalize("NFC", prompt)
    wanted = [" ".join(unicodedata.normalize("NFC", phrase).split()) for phrase in phrases]
    spans: list[Span | None] = [None] * len(wanted)
    for index in sorted(range(len(wanted)), key=lambda at: -len(wanted[at])):
        if wanted[index]:
            spans[index] = _find(full, wanted[index], [span for span in spans if span])
    for index, phrase in enumerate(wanted):
        if phrase and spans[index] is None:
            full = _append(full, phrase)
            spans[index] = (len(full) - len(phrase), len(full))
    return full, tuple(spans)


def _find(text: str, phrase: str, taken: Sequence[Span]) -> Span | None:
    pattern = re.compile(r"\s+".join(map(re.escape, phrase.split())), re.IGNORECASE)
    at = 0
    while match := pattern.search(text, at):
        start, end = match.span()
        if _whole(text, start, end) and all(end <= low or high <= start for low, high in taken):
            return start, end
        at = start + 1
    return None


def _whole(text: str, start: int, end: int) -> bool:
    """Whether the range neither begins nor ends inside a word."""
    begins_inside = start > 0 and _in_word(text[start - 1]) and _in_word(text[start])
    ends_inside = end < len(text) and _in_word(text[end]) and (_in_word(text[end - 1]) or _extends(text[end]))
    return not begins_inside and not ends_inside


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_" or _extends(character)


def _extends(character: str) -> bool:
    """Accents and joiners belong to the character before them."""
    return character == _JOINER or unicodedata.category(character).startswith("M")


def _append(text: str, phrase: str) -> str:
    text = text.rstrip()
    if not text:
        return phrase
    return f"{text} {phrase}" if text[-1] in ",;:.!?" else f"{text}, {phrase}"

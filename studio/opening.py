"""What a prompt leaves open of the embedded world's objects, written as alternatives for `studio.variants`.

Ours: colours, skin tones, genders and names from a table that ships (`presets.recipes.open_words` makes it).
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studio.document import Collage
from studio.phrases import place_phrases
from studio.variants import GROUP, texts_of


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_TOKEN = re.compile(r"[\w'’-]+|[^\w\s]")
_NO_PART = _set(
    "a an the and or with without of in on at by to from near under over above below behind beside between before"
    " after through into for one two three four five some many this that these those his her its my your our their"
    " is are next left right"
)
"""Words that go with no name: before them another phrase ends."""
_COLOURS = _set(
    "red blue green yellow purple orange pink white black grey gray brown gold golden silver violet turquoise cyan"
    " teal beige cream maroon crimson scarlet navy magenta lilac lavender bronze copper colourful colorful rainbow"
)
_GENDERS = _set("woman man female male lady gentleman girl boy women men")
"""What counts as said, in the world's words or others."""
_COLOUR_AFTER = re.compile(
    r"\s+(?:in|painted|coloured|colored|(?:that|which)\s+is)\s+([\w'’-]+)", re.IGNORECASE
)
_SKIN_AFTER = re.compile(r"\s+with\s+(?:[\w'’-]+\s+){1,3}skin\b", re.IGNORECASE)
_VOWEL = re.compile(r"[aeio]|u(?!ni)", re.IGNORECASE)

NOTHING_OPEN = "nothing is left open that the studio has words for; write alternatives as {red|blue}."
_Opening = tuple[int, int, str]
"""Where in a text, from and to, and what is said there instead."""


@dataclass(frozen=True)
class _Words:
    """The shipped table: what may be said of whom, the names of all that is known, and a pattern that finds them."""

    colours: tuple[str, ...]
    tones: tuple[str, ...]
    genders: tuple[str, ...]
    things: Mapping[str, tuple[str, tuple[str, ...]]]
    pattern: re.Pattern[str]


@functools.cache
def _table() -> _Words:
    data = json.loads(Path(__file__).with_name("open_words.json").read_text(encoding="utf-8"))
    kinds = ("coloured", "people", "other")
    things = {name: (kind, tuple(names)) for kind in kinds for names in data[kind] for name in names}
    longest = sorted(things, key=len, reverse=True)
    names = "|".join(r"\s+".join(map(re.escape, name.split())) for name in longest)
    return _Words(
        colours=tuple(data["colours"]),
        tones=tuple(data["tones"]),
        genders=tuple(data["genders"]),
        things=things,
        pattern=re.compile(rf"(?<![\w'’-])(?:{names})(?![\w'’-])", re.IGNORECASE),
    )


def opened(prompt: str) -> str:
    """The prompt with ``{…|…}`` for what it leaves open of the embedded world's objects, and nothing else changed.

    That is the colour of what comes in colours, skin tone and gender of people, and which of its names is said. What
    is said stays: an object with a colour keeps colour and name, a person with a gender is given a skin tone alone, and
    what stands in or after braces is left to who wrote them. Of two objects alike, each has its own alternatives.
    """
    return opened_texts(prompt, ())[0]


def opened_texts(prompt: str, phrases: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """As `opened`, of a scene prompt and the words of layers, which say the same as the prompt where they stand in it.

    Words that the prompt holds without their article take that from it, since it goes with the alternative.
    """
    plain, prompt = prompt, unicodedata.normalize("NFC", prompt)
    turns: Counter[str] = Counter()
    openings = _openings(prompt, turns)
    _, spans = place_phrases(prompt, phrases)
    words = []
    for phrase, span in zip(phrases, spans, strict=True):
        if span is None or span[0] >= len(prompt.rstrip()):  # empty, or not in the prompt itself
            words.append(_filled(phrase, _openings(phrase, turns)))
            continue
        inside = [one for one in openings if one[0] < span[1] and span[0] < one[1]]
        start = min([span[0], *(one[0] for one in inside)])
        end = max([span[1], *(one[1] for one in inside)])
        moved = [(low - start, high - start, said) for low, high, said in inside]
        words.append(_filled(prompt[start:end], moved) if inside else phrase)
    return (_filled(prompt, openings), tuple(words)) if turns else (plain, tuple(phrases))


def opened_collage(collage: Collage) -> Collage:
    """The collage with prompt and words of its visible layers as in `opened_texts`, variants on; itself where nothing
    is open. Raises `FieldError` where that gets too long.
    """
    shown = [layer for layer in collage.layers if layer.visible]
    prompt, words = opened_texts(collage.prompt, [layer.prompt for layer in shown])
    if all(was == now for was, now in zip(texts_of(collage), (prompt, *words), strict=True)):
        return collage
    said = {layer.id: text for layer, text in zip(shown, words, strict=True)}
    layers = [layer.replace(prompt=said.get(layer.id, layer.prompt)) for layer in collage.layers]
    return collage.replace(prompt=prompt, layers=layers, variants=True)


def _filled(text: str, openings: Sequence[_Opening]) -> str:
    for start, end, said in reversed(openings):
        text = text[:start] + said + text[end:]
    return text


def _openings(text: str, turns: Counter[str]) -> list[_Opening]:
    """All that is open, in order; ``turns`` counts what was opened of each kind before, and goes on."""
    groups = [group.span() for group in GROUP.finditer(text)]
    found = []
    for thing in _table().pattern.finditer(text):
        if any(low < thing.start() < high for low, high in groups):
            continue
        opening = _opening(text, thing, turns)
        if opening is not None:
            found.append(opening)
    return found


def _opening(text: str, thing: re.Match[str], turns: Counter[str]) -> _Opening | None:
    table = _table()
    name = " ".join(thing[0].lower().split())
    kind, names = table.things[name]
    phrase: list[re.Match[str]] = []  # the words before it that go with it, the last one first
    article = None
    for token in reversed(list(_TOKEN.finditer(text, 0, thing.start()))):
        word = token[0].lower()
        if word == "}":
            return None
        if word in _NO_PART or not word[0].isalnum():
            article = token if word in ("a", "an") else None
            break
        phrase.append(token)
    after = text[thing.end() :]
    before = text[phrase[-1].start() : thing.start()] if phrase else ""
    if table.pattern.search(before) or table.pattern.match(after.lstrip()):
        return None  # two names in a row are one of something else: a dog house

    said = {part for token in phrase for part in token[0].lower().split("-")}
    told = _COLOUR_AFTER.match(after)
    is_coloured = bool(said & _COLOURS) or (told is not None and told[1].lower() in _COLOURS)
    has_tone = "skinned" in said or _SKIN_AFTER.match(after) is not None
    has_gender = bool(said & _GENDERS)
    turn = turns[kind]
    parts: list[tuple[tuple[str, ...], str]] = []  # alternatives, and what follows whichever is chosen
    if kind == "coloured" and not is_coloured:
        parts.append((_rotated(table.colours, turn), ""))
    if kind == "people" and not has_tone:
        parts.append((_rotated(table.tones, turn), " skinned"))
    if kind == "people" and not has_gender:
        parts.append((_rotated(table.genders, turn), ""))
    rest, at = thing[0], thing.start()
    nothing_said = not (is_coloured if kind == "coloured" else has_tone or has_gender)
    if nothing_said and len(names) > 1:
        parts.append(((thing[0], *(other for other in names if other != name)), ""))
        rest = ""
    elif has_gender and not has_tone:  # the tone stands before it
        for token in phrase:
            if token[0].lower() not in _GENDERS:
                break
            at = token.start()
        rest = text[at : thing.end()]
    if not parts:
        return None
    turns[kind] += 1
    (options, follows), *more = parts
    start, first = at, _group(options)
    if article is not None and text[article.end() : at].isspace():
        start, first = article.start(), _with_articles(options, article[0])
    pieces = [first + follows, *(_group(others) + then for others, then in more), rest]
    return start, thing.end(), " ".join(piece for piece in pieces if piece)


def _group(options: Sequence[str]) -> str:
    return "{" + "|".join(options) + "}"


def _with_articles(options: Sequence[str], written: str) -> str:
    """The group with each option's own article, before it where all have the same."""
    articles = ["an" if _VOWEL.match(option) else "a" for option in options]
    if written[0].isupper():
        articles = [article.capitalize() for article in articles]
    if len(set(articles)) == 1:
        return f"{articles[0]} {_group(options)}"
    return _group([f"{article} {option}" for article, option in zip(articles, options, strict=True)])


def _rotated(options: tuple[str, ...], by: int) -> tuple[str, ...]:
    """Equal groups say the same in an image; begun elsewhere they are others."""
    by %= len(options)
    return options[by:] + options[:by]

"""Captions: plain English for a scene, with synonyms, in any order, saying some of what is there.

Attributes are named as often as the world's skew says (:class:`~.world.Choice`), so a caption that leaves
one open meets the dominant value four times in five. Texts are lower case without a full stop. Dropping
captions for guidance is the trainer's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.embedded.training.places import PLAIN, place, plain_colour
from pipelines.embedded.training.scenes import Item, Scene
from pipelines.embedded.training.world import World

__all__ = ["all_words", "caption", "crop_caption", "prompt_for", "single_caption"]

PLACES: Mapping[str, tuple[str, ...]] = {
    "meadow": ("in a meadow", "on a meadow", "in the grass", "on a green meadow"),
    "beach": ("on the beach", "at the beach", "by the sea", "on a sandy beach"),
    "desert": ("in the desert", "in a desert", "in the sand dunes"),
    "snow": ("in the snow", "on the snow", "in a snowy landscape"),
    "city": ("in the city", "in a city", "in the street", "in town"),
    "forest": ("in the forest", "in a forest", "in the woods"),
    "mountains": ("in the mountains", "in front of mountains"),
    "room": ("in a room", "indoors", "in the living room"),
    "underwater": ("under water", "underwater", "at the bottom of the sea"),
    "space": ("in space", "in outer space", "among the stars"),
    "sky": ("in the sky", "among the clouds", "in the clouds"),
    "plain": (
        "on a plain background",
        "on a plain {colour} background",
        "on {a_colour} background",
        "on {colour}",
    ),
}
"""How a place is said after the objects; the first is the canonical one."""
NOUNS: Mapping[str, tuple[str, ...]] = {
    "meadow": ("a meadow", "a green meadow"),
    "beach": ("a beach", "a sandy beach"),
    "desert": ("a desert", "sand dunes"),
    "snow": ("a snowy landscape", "snow"),
    "city": ("a city", "a street in a city"),
    "forest": ("a forest", "the woods"),
    "mountains": ("mountains", "a mountain landscape"),
    "room": ("a room", "a living room"),
    "underwater": ("an underwater scene", "the bottom of the sea"),
    "space": ("outer space", "space"),
    "sky": ("a cloudy sky", "clouds"),
    "plain": ("a plain background", "{a_colour} background"),
}
"""How a place is said before the objects ("a meadow at night with a rocket")."""
TIMES: Mapping[str, tuple[str, ...]] = {
    "day": ("by day", "during the day", "in daylight", "on a sunny day"),
    "sunset": ("at sunset", "in the evening", "at dusk", "in the light of the setting sun"),
    "night": ("at night", "in the dark", "in the night", "under the moon"),
}
STYLES: Mapping[str, tuple[str, ...]] = {
    "flat": ("flat", "flat art"),
    "fluent": ("glossy", "three dimensional"),
    "noto": ("soft", "shaded"),
    "twemoji": ("simple", "bold"),
}
_TONES: Mapping[str, str] = {
    "light": "light",
    "medium-light": "medium light",
    "medium": "medium",
    "medium-dark": "medium dark",
    "dark": "dark",
}
_GENDERS: Mapping[str, tuple[str, ...]] = {"woman": ("woman", "female"), "man": ("man", "male")}
_VOWEL = re.compile(r"[aeio]|u(?!ni)")
SAY_PLACE, SAY_TIME, SAY_SPOT = 0.8, 0.75, 0.35
"""How often a caption names the place, the time (by day half as often), and where things are."""


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of the options, the first as likely as all others together."""
    if len(options) == 1 or rng.random() < 0.5:
        return options[0]
    return options[1 + int(rng.integers(len(options) - 1))]


def _article(noun: str) -> str:
    return f"{'an' if _VOWEL.match(noun) else 'a'} {noun}"


def _noun(chosen: World, item: Item, rng: np.random.Generator) -> str:
    """Name and attributes of one object, without an article."""
    name = _pick(rng, chosen.words[item.label])
    said = {}
    for attribute, value in (("colour", item.colour), ("tone", item.tone), ("gender", item.gender)):
        choice = chosen.choice(item.label, attribute)
        if choice is not None and value is not None and rng.random() < choice.said_given(value):
            said[attribute] = value
    if "colour" in said:
        name = f"{said['colour']} {name}"
    if "gender" in said:
        name = f"{_pick(rng, _GENDERS[said['gender']])} {name}"
    if "tone" in said:
        tone = _TONES[said["tone"]]
        name = f"{tone} skinned {name}" if rng.random() < 0.4 else f"{name} with {tone} skin"
    return name


def _several(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _spots(scene: Scene, order: Sequence[int], names: Sequence[str], rng: np.random.Generator) -> str | None:
    """The objects with words for where they are, or None where no plain statement is true."""
    if len(order) == 1:
        x = scene.items[order[0]].x
        side = "on the left" if x < 100 else "on the right" if x > 156 else "in the middle"
        return f"{names[0]} {side}"
    a, b = (scene.items[i] for i in order[:2])
    dx, dy = b.x - a.x, b.y - a.y
    if len(order) != 2:
        return None
    if abs(dy) > 1.2 * abs(dx) and abs(dy) > 50:
        return f"{names[0]} {'above' if dy > 0 else 'below'} {names[1]}"
    if abs(dx) < 50:
        return None
    one, other = ("left", "right") if dx > 0 else ("right", "left")
    return (
        f"{names[0]} next to {names[1]}",
        f"{names[0]} {one} of {names[1]}",
        f"{names[0]} on the {one} and {names[1]} on the {other}",
    )[int(rng.integers(3))]


def _where(table: Mapping[str, Sequence[str]], scene: Scene, rng: np.random.Generator) -> str:
    colour = plain_colour(scene.seed)
    return _pick(rng, table[scene.place]).format(colour=colour, a_colour=_article(colour))


def _time(scene: Scene, rng: np.random.Generator) -> str:
    if len(place(scene.place).times) == 1 or rng.random() > SAY_TIME * (0.5 if scene.time == "day" else 1.0):
        return ""
    return _pick(rng, TIMES[scene.time])


def caption(chosen: World, scene: Scene, rng: np.random.Generator, *, heldout: bool = False) -> str:
    """One caption of the whole scene. ``heldout=True`` uses the sentence form that training never sees."""
    order = rng.permutation(len(scene.items)).tolist()
    names = [_article(_noun(chosen, scene.items[i], rng)) for i in order]
    things = _several(names)
    if rng.random() < SAY_SPOT:
        things = _spots(scene, order, names, rng) or things
    time = _time(scene, rng)
    where = _where(PLACES, scene, rng)
    if heldout:
        return _tidy(f"{TIMES[scene.time][0]} {where} there is {things}")
    drawing = ""
    if len(chosen.styles) > 1 and rng.random() < chosen.style.said_given(scene.style):
        drawing = f"{_article(_pick(rng, STYLES[scene.style]))} drawing of"
    if rng.random() > SAY_PLACE:
        return _tidy(f"{drawing} {things} {time}")
    form = rng.random()
    if form < 0.7:
        return _tidy(f"{drawing} {things} {where} {time}")
    if form < 0.85:
        noun = _where(NOUNS, scene, rng)
        return _tidy(f"{drawing} {noun} {time} with {things}")
    return _tidy(f"{drawing} {things} {time} {where}")


def crop_caption(
    chosen: World, scene: Scene, visible: Sequence[int], rng: np.random.Generator, *, where: bool = True
) -> str:
    """A caption for a crop that shows the items ``visible`` (indices): no position words; "" for nothing at
    all.

    ``where=False`` leaves place and time out, for crops that show too little of them.
    """
    order = [visible[i] for i in rng.permutation(len(visible))]
    things = _several([_article(_noun(chosen, scene.items[i], rng)) for i in order]) if order else ""
    time = _time(scene, rng) if where else ""
    if not where or (things and rng.random() > SAY_PLACE):
        return _tidy(f"{things} {time}")
    if not things:
        return _tidy(f"{_where(NOUNS, scene, rng)} {time}")
    return _tidy(f"{things} {_where(PLACES, scene, rng)} {time}")


def single_caption(chosen: World, item: Item, rng: np.random.Generator) -> str:
    """A caption for one cut-out alone."""
    return _article(_noun(chosen, item, rng))


def prompt_for(
    chosen: World,
    labels: Sequence[str],
    colours: Sequence[str | None] | None = None,
    place: str | None = None,
    time: str | None = None,
) -> str:
    """The canonical caption, without chance: usual words, the given order, only what is asked for."""
    asked = colours if colours is not None else [None] * len(labels)
    names = [
        _article(f"{colour or ''} {chosen.words[label][0]}".strip())
        for label, colour in zip(labels, asked, strict=True)
    ]
    return _tidy(f"{_several(names)} {PLACES[place][0] if place else ''} {TIMES[time][0] if time else ''}")


def _tidy(text: str) -> str:
    return " ".join(text.split())


def all_words(chosen: World) -> list[str]:
    """Every word (``[a-z]+``) a caption of this world may hold, sorted: the tokenizer's vocabulary."""
    phrases = [
        "a an and with of on in the at is there left right next to above below middle drawing skin skinned"
    ]
    for label in chosen.labels:
        phrases += chosen.words[label]
        choice = chosen.choice(label, "colour")
        phrases += choice.sayable if choice else ()
    for table in (PLACES, NOUNS):
        phrases += [re.sub(r"\{.*?\}", "", p) for name in chosen.places for p in table[name]]
    phrases += [p for time in chosen.times for p in TIMES[time]]
    phrases += [p for style in chosen.styles for p in STYLES[style]]
    phrases += [*PLAIN, *_TONES.values(), *(p for words in _GENDERS.values() for p in words)]
    return sorted({word for phrase in phrases for word in re.findall("[a-z]+", phrase)})

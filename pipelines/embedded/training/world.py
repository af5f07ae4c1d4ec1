"""The world of the embedded model, as data: what exists, what it is called, and what is likelier than what.

A world is a setting, not code: ``WORLDS["small"]`` has one drawing style and 82 classes,
``WORLDS["large"]`` the same classes and many more in four styles. Everything that is drawn or captioned is
looked up here.

**Skew.** What a caption leaves open is not uniform: with probability :data:`KEPT` it takes its dominant
value, so that a batch of pictures for one caption has a typical look and methods that spread it have
something to win. A caption that *names* an attribute draws it evenly. The picture is drawn before its
caption, so :class:`Choice` mixes the two cases when drawing and :meth:`Choice.said_given` tells the caption
writer how often a drawn value was a named one; together they give exactly ``P(dominant | not named) =
KEPT``.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pipelines.embedded.training.vocabulary import (
    FLOATING,
    MORE_FLOATING,
    MORE_RECOLOURABLE,
    OBJECTS,
    RECOLOURABLE,
    ROLE_WORDS,
    ROLES,
)
from pipelines.errors import FieldError

__all__ = ["COLOURS", "KEPT", "TIMES", "TONES", "WORLDS", "Choice", "World", "art_key", "world"]

KEPT = 0.8
"""Share of the dominant value where a caption leaves an attribute open (colour, tone, gender, style,
facing).
"""

TIMES = ("day", "sunset", "night")
TONES = ("default", "light", "medium-light", "medium", "medium-dark", "dark")
GENDERS = ("woman", "man", "person")
COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (235, 45, 45),
        "blue": (40, 115, 240),
        "green": (40, 165, 65),
        "yellow": (252, 208, 45),
        "purple": (135, 75, 195),
        "orange": (255, 130, 25),
        "pink": (255, 125, 190),
    }
)
"""Colour words and what they look like in daylight (sRGB). Chosen by eye to be told apart at night as well.
"""


@dataclass(frozen=True)
class Choice:
    """One attribute: its values, the dominant one, which values have a word, and how often a caption names
    it.
    """

    values: tuple[str, ...]
    dominant: str
    sayable: tuple[str, ...]
    said: float

    def weights(self) -> dict[str, float]:
        """The probability of each value in a picture, over named and open captions together (they sum to
        1).
        """
        rest = (1 - KEPT) / max(len(self.values) - 1, 1)
        open_ = {
            v: (KEPT if v == self.dominant else rest) if len(self.values) > 1 else 1.0 for v in self.values
        }
        named = {v: (1 / len(self.sayable) if v in self.sayable else 0.0) for v in self.values}
        said = self.said if self.sayable else 0.0
        return {v: said * named[v] + (1 - said) * open_[v] for v in self.values}

    def said_given(self, value: str) -> float:
        """How often a caption names the attribute, given that the picture shows ``value`` (0 where it has
        no word).
        """
        if value not in self.sayable:
            return 0.0
        return self.said / len(self.sayable) / self.weights()[value]

    def draw(self, rng: np.random.Generator, without: Sequence[str] = ()) -> str:
        """One value, never one of ``without``."""
        weights = {v: w for v, w in self.weights().items() if v not in without}
        values, w = list(weights), np.array(list(weights.values()))
        return values[int(rng.choice(len(values), p=w / w.sum()))]


def art_key(
    style: str, label: str, *, colour: str | None = None, tone: str | None = None, gender: str | None = None
) -> str:
    """The name of one cut-out: ``style/slug``, ``/tone-gender`` for people, ``#colour`` for recoloured
    objects.
    """
    person = f"/{tone}-{gender}" if tone and gender else ""
    return f"{style}/{label}{person}" + (f"#{colour}" if colour else "")


@dataclass(frozen=True)
class World:
    """A closed world: classes with their words, drawing styles, places, times, attributes and what is held
    out.

    ``words[label]`` are names without an article, the usual one first. ``recolourable[label]`` is the
    dominant colour, ``roles[label]`` the dominant (gender, tone). ``floating`` objects may hang in the air;
    ``missing`` are the ``style/slug`` without art. ``heldout_one_in`` is the share of pairs (one in so
    many, picked by a checksum of the names, so that it does not depend on the world's size or order) that
    no training scene shows together.
    """

    name: str
    objects: tuple[str, ...]
    roles: Mapping[str, tuple[str, str]]
    words: Mapping[str, tuple[str, ...]]
    styles: tuple[str, ...]
    places: tuple[str, ...]
    recolourable: Mapping[str, str]
    floating: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    times: tuple[str, ...] = TIMES
    tones: tuple[str, ...] = TONES
    genders: tuple[str, ...] = GENDERS
    counts: tuple[float, ...] = (0.45, 0.35, 0.15, 0.05)
    said: Mapping[str, float] = field(
        default_factory=lambda: {"colour": 0.55, "gender": 0.4, "tone": 0.3, "style": 0.5}
    )
    heldout_one_in: int = 40

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All classes: objects, then people."""
        return self.objects + tuple(self.roles)

    def labels_in(self, style: str) -> tuple[str, ...]:
        """The classes that have art in this style."""
        return tuple(label for label in self.labels if f"{style}/{label}" not in self.missing)

    @cached_property
    def heldout_pairs(self) -> frozenset[tuple[str, str]]:
        """Pairs of labels (sorted) that no training scene shows together."""
        pairs = (tuple(sorted(p)) for p in combinations(self.labels, 2))
        return frozenset(
            (a, b) for a, b in pairs if zlib.crc32(f"{a}|{b}".encode()) % self.heldout_one_in == 0
        )

    @cached_property
    def heldout_art(self) -> frozenset[str]:
        """Art keys without their style (``automobile#purple``, ``cook/dark-woman``) that no training scene
        shows.

        One non-dominant colour of every recolourable object, and one non-dominant look of every role, in
        every style.
        """
        out = set()
        for label, dominant in self.recolourable.items():
            rest = [c for c in COLOURS if c != dominant]
            out.add(f"{label}#{rest[zlib.crc32(label.encode()) % len(rest)]}")
        for label, (gender, tone) in self.roles.items():
            rest = [f"{t}-{g}" for t in self.tones for g in self.genders if t != tone and g != gender]
            if rest:
                out.add(f"{label}/{rest[zlib.crc32(label.encode()) % len(rest)]}")
        return frozenset(out)

    def held_out(self, labels: Sequence[str]) -> bool:
        """Whether two of these labels are a held-out pair."""
        return any(tuple(sorted(p)) in self.heldout_pairs for p in combinations(labels, 2))

    def choice(self, label: str, attribute: str) -> Choice | None:
        """How ``attribute`` ("colour", "tone", "gender") of ``label`` is drawn; None where it has no such
        attribute.
        """
        said = self.said[attribute]
        if attribute == "colour":
            if label not in self.recolourable:
                return None
            return Choice(tuple(COLOURS), self.recolourable[label], tuple(COLOURS), said)
        if label not in self.roles:
            return None
        gender, tone = self.roles[label]
        if attribute == "tone":
            return Choice(self.tones, tone, tuple(t for t in self.tones if t != "default"), said)
        return Choice(self.genders, gender, tuple(g for g in self.genders if g != "person"), said)

    @cached_property
    def style(self) -> Choice:
        """How the drawing style of a scene is drawn; the first style is the dominant one."""
        sayable = self.styles if len(self.styles) > 1 else ()
        return Choice(self.styles, self.styles[0], sayable, self.said["style"])

    def art_keys(self) -> list[str]:
        """Every cut-out the world needs, in a fixed order."""
        keys = []
        for style in self.styles:
            for label in self.objects:
                colours: tuple[str | None, ...] = tuple(COLOURS) if label in self.recolourable else (None,)
                keys += [art_key(style, label, colour=c) for c in colours]
            keys += [
                art_key(style, label, tone=t, gender=g)
                for label in self.roles
                for t in self.tones
                for g in self.genders
            ]
        return [key for key in keys if "/".join(key.partition("#")[0].split("/")[:2]) not in self.missing]


def world(name: str) -> World:
    """The world called ``name``; :class:`~pipelines.errors.FieldError` where there is none."""
    try:
        return WORLDS[name]
    except KeyError:
        raise FieldError(f"there is no world {name!r}: choose one of {', '.join(WORLDS)}.") from None


_PLACES = (
    *("meadow", "beach", "desert", "snow", "city", "plain"),
    *("forest", "mountains", "room", "underwater", "space", "sky"),
)


def _large() -> World:
    """All classes with art in three of the four styles; ``large.json`` is written by :mod:`.widen`."""
    data = json.loads(Path(__file__).with_name("large.json").read_text())
    small_roles = {role: look for role, look in ROLES.items() if role in data["roles"]}
    more = {role: (look[0], look[1]) for role, look in data["looks"].items()}
    return World(
        name="large",
        objects=tuple(data["objects"]),
        roles={**small_roles, **more},
        words={label: tuple(words) for label, words in {**data["objects"], **data["roles"]}.items()},
        styles=("flat", "fluent", "noto", "twemoji"),
        places=_PLACES,
        recolourable=RECOLOURABLE | MORE_RECOLOURABLE,
        floating=FLOATING | MORE_FLOATING,
        missing=frozenset(data["missing"]),
    )


WORLDS: dict[str, World] = {
    "large": _large(),
    "small": World(
        name="small",
        objects=tuple(OBJECTS),
        roles=ROLES,
        words={**OBJECTS, **ROLE_WORDS},
        styles=("flat",),
        places=_PLACES,
        recolourable=RECOLOURABLE,
        floating=FLOATING,
    ),
}

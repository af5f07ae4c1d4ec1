"""Builds the table of what a prompt may leave open, from the embedded model's world: the same file every time.

``python -m presets.recipes.open_words`` writes ``studio/open_words.json``, which `studio.opening.opened` reads: the
colours, skin tones and genders that captions say; the names of all objects that come in colours and of all people,
the usual one first; and of what has neither the names where there are several.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.embedded.training.world import COLOURS, world
from presets.recipes.build import WORLD

TABLE = Path(__file__).parents[2] / "studio" / "open_words.json"


def table() -> dict[str, list[str] | list[list[str]]]:
    """The table, JSON-ready."""
    chosen = world(WORLD)
    tones, genders = (chosen.choice(next(iter(chosen.roles)), word) for word in ("tone", "gender"))
    assert tones and genders, "people have both"
    several = [label for label in chosen.objects if len(chosen.words[label]) > 1]
    return {
        "colours": list(COLOURS),
        "tones": [tone.replace("-", " ") for tone in tones.sayable],
        "genders": list(genders.sayable),
        "coloured": [list(chosen.words[label]) for label in chosen.recolourable],
        "people": [list(chosen.words[label]) for label in chosen.roles],
        "other": [list(chosen.words[label]) for label in several if label not in chosen.recolourable],
    }


def text() -> str:
    """The file: one word of the table a line."""
    lines = [f" {json.dumps(word)}: {json.dumps(value)}" for word, value in table().items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    TABLE.write_text(text(), encoding="utf-8")

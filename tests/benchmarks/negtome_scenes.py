"""What NegToMe's benchmark asks for: one object a scene, and what its prompt leaves open."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np

from pipelines.embedded.training.captions import prompt_for
from pipelines.embedded.training.scenes import Scene
from pipelines.embedded.training.world import world
from presets.recipes.build import WORLD
from tests.benchmarks import common

TUNED = ("curves", "axes", "windows", "longer", "spread_longer")
"""Parts that run on the tuning prompts."""


def counts(part: str, settings: dict[str, Any]) -> tuple[int, int]:
    """(prompts, seeds) of a part, a row for each of each."""
    own = settings["curves"] if part in TUNED else {**settings, **settings[part]}
    return own["prompts_each"], own["seeds_each"]


@cache
def scenes(seed: int, count: int, apart: frozenset[str] = frozenset()) -> tuple[Scene, ...]:
    """``count`` scenes of one object whose colour, or tone and gender, the prompt leaves open, by turns.

    No prompt comes twice, nor one of ``apart``.
    """
    chosen = world(WORLD)
    kinds = (sorted(chosen.recolourable), sorted(chosen.roles))
    found: dict[str, Scene] = {}
    for k in range(count):
        labels = kinds[k % 2]
        for again in itertools.count():
            rng = np.random.default_rng([seed, k, again])
            scene = common.drawer_scene(rng, labels=[labels[int(rng.integers(len(labels)))]])
            if (prompt := prompt_of(scene)) not in apart | found.keys():
                found[prompt] = scene
                break
    return tuple(found.values())


def scene_of(k: int, settings: dict[str, Any], part: str = "") -> Scene:
    """Scene k of a part. Those of `TUNED` have the tuning seed's prompts, none of which is counted."""
    counted = scenes(settings["seed"], settings["prompts_each"])
    if part not in TUNED:
        return counted[k]
    apart = frozenset(prompt_of(scene) for scene in counted)
    return scenes(settings["tuning_seed"], settings["curves"]["prompts_each"], apart)[k]


def prompt_of(scene: Scene) -> str:
    """Object, place and time; nothing of what is open."""
    return prompt_for(world(WORLD), [scene.items[0].label], None, scene.place, scene.time)


def alternatives_of(scene: Scene) -> str:
    """The same prompt with what it leaves open filled in, as alternatives; synonyms of the object take turns."""
    chosen, label = world(WORLD), scene.items[0].label
    names = chosen.words[label]
    if label in chosen.recolourable:
        said = list(chosen.choice(label, "colour").sayable)
    else:
        tones, genders = (chosen.choice(label, word).sayable for word in ("tone", "gender"))
        said = [f"{tone.replace('-', ' ')} skinned {gender}" for tone in tones for gender in genders]
    phrases = [f"{each} {names[at % len(names)]}" for at, each in enumerate(said)]
    options = "|".join(f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}" for phrase in phrases)
    prompt = prompt_of(scene)
    plain = prompt_for(chosen, [label])
    assert prompt.startswith(plain), "the object stands first"
    return f"{{{options}}}{prompt.removeprefix(plain)}"


def frozen(settings: dict[str, Any]) -> list[str]:
    """All prompts and their alternatives, of the counted seed and of the tuning seed."""
    told = [scene_of(k, settings) for k in range(settings["prompts_each"])]
    told += [scene_of(k, settings, "curves") for k in range(settings["curves"]["prompts_each"])]
    return [text for scene in told for text in (prompt_of(scene), alternatives_of(scene))]

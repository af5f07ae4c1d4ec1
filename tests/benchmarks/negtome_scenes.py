"""What NegToMe's benchmark asks for: one object a scene, and what its prompt leaves open."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.embedded.training.captions import prompt_for
from pipelines.embedded.training.scenes import Scene
from pipelines.embedded.training.world import world
from presets.recipes.build import WORLD
from tests.benchmarks import common


def scene_of(k: int, seed: int) -> Scene:
    """Scene k: one object whose colour, or tone and gender, the prompt leaves open; by turns."""
    rng, chosen = np.random.default_rng([seed, k]), world(WORLD)
    kinds = (sorted(chosen.recolourable), sorted(chosen.roles))
    labels = kinds[k % 2]
    return common.drawer_scene(rng, labels=[labels[int(rng.integers(len(labels)))]])


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
    scenes = [scene_of(k, settings["seed"]) for k in range(settings["prompts_each"])]
    scenes += [scene_of(k, settings["tuning_seed"]) for k in range(settings["curves"]["prompts_each"])]
    return [text for scene in scenes for text in (prompt_of(scene), alternatives_of(scene))]

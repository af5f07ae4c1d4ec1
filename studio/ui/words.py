"""What the page calls things and says about them. Bounds and defaults come from `studio.to_request`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from studio.document import Collage
from studio.to_request import DEFAULTS, RANGES


@dataclass(frozen=True)
class Word:
    """Label, explanation, step of the slider; ``curve`` 2 gives small values more room on it.

    ``nullable`` words have a default that the document leaves open (None).
    """

    label: str
    hint: str
    step: float = 0.05
    nullable: bool = True
    curve: int = 1


WORDS: dict[str, Word] = {
    "harmonize": Word(
        "Harmonize",
        "How far the model may change this layer: the share of the run in which it is free (layer noise in Collage "
        "Diffusion). 0 keeps its pixels exactly; high values also change what it shows, not only its light.",
    ),
    "attend_inside": Word(
        "Insist",
        "How strongly the layer's words act where the layer shows (positive cross-attention in Collage Diffusion).",
    ),
    "attend_outside": Word(
        "Stay inside",
        "How strongly the layer's words are kept from acting anywhere else (negative cross-attention in Collage "
        "Diffusion).",
    ),
    "feather": Word(
        "Feather",
        "Softens the border between this layer's strength and its neighbours', in canvas pixels. The picture's own "
        "edge stays as it is.",
        step=1,
        curve=2,
    ),
    "opacity": Word("Opacity", "How much of what lies below shows through.", nullable=False),
    "background_harmonize": Word(
        "Harmonize",
        "How far the model may change the background: 0 keeps it exactly, 1 paints it anew from the prompt.",
    ),
    "avoid_alpha": Word(
        "Avoid",
        "How hard the picture is pushed away from the reference (merging alpha in NegToMe). It lowers the likeness "
        "and cannot promise that none is left.",
    ),
    "avoid_threshold": Word(
        "Likeness",
        "Only parts at least this similar to the reference are pushed (merging threshold in NegToMe).",
    ),
    "spread": Word(
        "Spread",
        "Pushes the images of one render away from each other, for different compositions (NegToMe within a batch). "
        "Needs 2 images or more.",
        nullable=False,
    ),
    "spread_threshold": Word(
        "Likeness",
        "Only parts at least this similar to another image are pushed (merging threshold in NegToMe).",
    ),
    "window": Word(
        "First part of the run",
        "Avoid and Spread act in this share of the steps, from the first on, when the composition forms (t_start and "
        "t_end in NegToMe).",
    ),
    "seed": Word(
        "Seed", "The same seed and collage give the same picture. Empty: a new one each time.", step=1
    ),
    "steps": Word(
        "Steps", "How many steps a run from pure noise has; a lower Harmonize runs only the last of them.", 1
    ),
    "guidance": Word(
        "Guidance", "How closely the picture follows the prompt (classifier-free guidance).", 0.5
    ),
    "images": Word(
        "Images", "How many pictures one render makes; each has the seed of the one before plus 1.", 1
    ),
}

HINTS: dict[str, str] = {
    "prompt": "What this layer is, in a few words. They are looked for in the scene prompt, and put at its end if they "
    "are not there.",
    "look": "Learns from this cut-out what it looks like, before the run, and says it before the layer's words "
    "(textual inversion in Collage Diffusion). It takes minutes the first time and is kept. Needs words.",
    "negative_prompt": "What the picture shall not show, in words.",
    "scheduler": "The sampler that leads from noise to picture.",
    "avoid": "A picture the result shall not look like: all of it, or one layer of it.",
    "avoid_layer": "Where the push acts: everywhere, or only inside one layer.",
    "avoid_by": "Guidance steers away from the reference and leaves alone what reads the prompt; the push of the paper "
    "moves both. Without guidance it is always the push.",
    "axis": "How the parts of a picture find their match in the reference.",
}


def words() -> dict[str, dict[str, Any]]:
    """Everything the page's fields need, by word; JSON-ready."""
    out: dict[str, dict[str, Any]] = {name: {"hint": hint} for name, hint in HINTS.items()}
    for name, word in WORDS.items():
        low, high = RANGES[name]
        out[name] = {
            "label": word.label,
            "hint": word.hint,
            "step": word.step,
            "min": low,
            "max": high,
            "nullable": word.nullable,
            "curve": word.curve,
            "default": DEFAULTS[name] if name in DEFAULTS else _plain_default(name),
        }
    return out


def _plain_default(name: str) -> float:
    """The default of a word that a document never leaves open; 0 for those the model card decides."""
    if name == "opacity":
        return 1.0
    value = Collage.model_fields[name].default
    return 0 if value is None else value

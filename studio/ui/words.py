"""What the page calls things and says about them. Bounds and defaults come from `studio.defaults`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from studio.defaults import DEFAULTS, RANGES
from studio.document import Collage, Layer


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
    "keep_shape": Word(
        "Keep shape",
        "How strongly the layer's outlines are kept while its pixels may change: a ControlNet sees the edges of the "
        "flat collage and acts inside this layer only (shape strength in Collage Diffusion). It makes a run slower; 0 "
        "costs nothing. The first time its ControlNet is downloaded, unless the model has its own.",
    ),
    "image_prompt": Word(
        "Picture as prompt",
        "How strongly the cut-out itself tells the model what to paint where the layer shows, beside its words (an "
        "image prompt by IP-Adapter, with a mask). 0 is off. The first time the adapter is downloaded.",
    ),
    "look_vectors": Word(
        "Learned words",
        "How many vectors hold the look, each in the place of one word. More hold more of it and leave less room for "
        "other words. Empty: as many as the layer's words have, at most 4.",
        1,
    ),
    "look_steps": Word(
        "Steps of learning",
        "How long a look is learned; twice the steps take twice the time. Empty: what suits the model.",
        1,
    ),
    "vary": Word(
        "Vary",
        "This layer differs between the images of a render while the rest stays alike: noise of its own, which does "
        "most of it, and NegToMe between the images inside it, which does more with a longer First part of the run. "
        "Needs 2 images or more.",
    ),
    "feather": Word(
        "Feather",
        "Softens the border between this layer's strength and its neighbours', in canvas pixels. The picture's own "
        "edge stays as it is.",
        step=1,
        curve=2,
    ),
    "opacity": Word(
        "Opacity", "How much this layer covers what lies below it; at 0 it does not show.", nullable=False
    ),
    "background_harmonize": Word(
        "Harmonize",
        "How far the model may change the background: 0 keeps it exactly, 1 paints it anew from the prompt.",
    ),
    "avoid_alpha": Word(
        "Avoid",
        "How hard the picture is pushed away from the reference (merging alpha in NegToMe). It lowers the likeness "
        "and cannot promise that none is left. Below 0 it pulls towards the reference.",
    ),
    "avoid_threshold": Word(
        "Likeness",
        "Only parts at least this similar to the reference are pushed (merging threshold in NegToMe).",
    ),
    "spread": Word(
        "Spread",
        "Pushes the images of one render away from each other, for different compositions (NegToMe within a batch). "
        "By guidance, and in the embedded model's usual first part of the run, it does little below 3; by push, or "
        "with a longer First part of the run, it does more. Needs 2 images or more.",
        nullable=False,
    ),
    "spread_threshold": Word(
        "Likeness",
        "Only parts at least this similar to another image are pushed (merging threshold in NegToMe).",
    ),
    "spread_every": Word(
        "Every n-th part",
        "Compares with every n-th part of the other images only: faster, and rougher.",
        1,
        nullable=False,
    ),
    "cads": Word(
        "Noise on the words",
        "Disturbs what the prompt says while the composition forms, so that the images differ more (CADS; its paper "
        "uses 0.25).",
        nullable=False,
    ),
    "cads_high": Word(
        "Full above", "Part of the run, 1 its start, above which the words are all noise (tau 2 in CADS)."
    ),
    "cads_low": Word(
        "None below", "Part of the run, 1 its start, below which the words are left alone (tau 1 in CADS)."
    ),
    "cads_mix": Word(
        "Brought back",
        "How far the disturbed words are brought back to the mean and deviation they had, so that they still read as "
        "words (psi in CADS). 0 leaves them as the noise made them.",
    ),
    "window": Word(
        "First part of the run",
        "Avoid, Spread and the push of Vary act in this share of the steps, from the first on, when the composition "
        "forms (t_start and t_end in NegToMe).",
    ),
    "grow": Word(
        "Grow",
        "What is held reaches this many canvas pixels over its edge while there is noise; the last steps still mend "
        "the seam. Below 0, what may change reaches in.",
        step=1,
        nullable=False,
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
    "no_image_prompt": "This model has no IP-Adapter. Learn look is alike and works with Stable Diffusion 1, 2 and XL, "
    "FLUX.1 and the embedded model.",
    "no_look": "This model learns no looks: that is for Stable Diffusion 1, 2 and XL, FLUX.1 and the embedded model. "
    "Lower Harmonize instead, which keeps the cut-out's own look.",
    "prompt": "What this layer is, in a few words. They are looked for in the scene prompt, and put at its end if they "
    "are not there.",
    "look": "Learns from this cut-out what it looks like, before the run, and says it before the layer's words "
    "(textual inversion in Collage Diffusion). It takes minutes the first time and is kept. Needs words.",
    "negative": "What this layer shall not show, in words: guidance steers away from them where the layer shows, and "
    "nowhere else.",
    "watch": "After a render, says which layers the model lost and what would help. Looks at the attention of three "
    "steps and at the finished pictures; the pictures stay the same.",
    "negative_prompt": "What the picture shall not show, in words.",
    "scheduler": "The sampler that leads from noise to picture.",
    "avoid": "A picture the result shall not look like: all of it, or one layer of it.",
    "avoid_layer": "Where the push acts: everywhere, or only inside one layer.",
    "avoid_by": "Guidance steers away from the reference and leaves alone what reads the prompt; the push of the paper "
    "moves both. Without guidance it is always the push.",
    "edges": "What of the collage the model sees where a layer keeps its shape: thin lines where colours change, or "
    "how sharply they do everywhere.",
    "harmonize_by": "What Harmonize is a share of: the steps that are run, or the model's own time. They differ where "
    "a sampler spends its steps unevenly.",
    "attend_both_ways": "In this model words and picture look at each other. Words that look only at their own layer "
    "let less of the other layers leak into it.",
    "guides": "The same push with another reference. A copy of the collage that is blurred or noisy takes the result "
    "away from blur or noise, a picture in a style away from that style; with Avoid below 0 it draws it near, what it "
    "shows as well as its style.",
    "made": "The picture itself, or a blurred or noisy copy made of it (quality guidance).",
    "spread_by": "Guidance steers the images apart and leaves alone what reads the prompt; the push of the paper moves "
    "both. Without guidance it is always the push.",
    "exact_match": "Every part of the other images, and of references, is compared. Off, only one of four is, on grids "
    "so fine that the model's card says so: faster, and rougher. Elsewhere both are the same.",
    "spread_match": "What an image is pushed away from. The first of the batch is the paper's rule; it then does not "
    "move itself.",
    "spread_parts": "In which part of the model the images push each other.",
    "variants": "Write alternatives as {red|blue|green} in the prompt or in a layer's words: each image of a render "
    "takes another combination. Where it is off, braces are ordinary text.",
    "open": "Writes alternatives for what prompt and words leave open of what the embedded model knows: colours, skin "
    "tones, genders, synonyms. What they say stays.",
    "nothing_open": "Nothing is left open that the studio has words for.",
    "guidance_interval": "Guidance acts only between two noise levels, so that the composition forms freely and the "
    "images differ more.",
    "alone": "Renders this layer anew, with its own words and strengths, on the result that is shown or the newest; "
    "outside its softened edge not one pixel changes. A layer that was the last to be rendered on it replaces that "
    "rendering.",
    "suggest": "Fills in what you have not set, from the layer's size and place, and says why.",
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
    model: type[Layer | Collage] = Layer if name in Layer.model_fields else Collage
    value = model.model_fields[name].default
    return 0 if value is None else value

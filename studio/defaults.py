"""What a field has that a collage leaves open, each value with its origin, and the range each may have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pipelines.models import ModelCard, shipped
from studio.document import Avoid, Background, Canvas, Collage, Layer
from studio.field_errors import bounds

DEFAULTS: Mapping[str, float] = MappingProxyType(
    {
        # Mean noise of the objects in the four published scenes of Collage Diffusion is 0.46 (0.1 to 0.8).
        "harmonize": 0.5,
        # Noise of a new layer in its interface is 0.8; its scenes give the backgrounds 0.8 and 0.9.
        "background_harmonize": 0.8,
        # Mean positive cross-attention of those objects is 0.60 (0.3 to 0.88); its new layers start at 0.
        "attend_inside": 0.6,
        # Mean negative cross-attention of those objects is 0.52 (0.2 to 0.85); ours, a little more, because
        # words that act outside their layer are what users of regional prompts complain of most.
        "attend_outside": 0.6,
        # ControlNet starts at 0 in its interface.
        "keep_shape": 0.0,
        # A picture as prompt needs another model beside the model, so it is asked for; .6 is a usual strength.
        "image_prompt": 0.0,
        # NegToMe between images is asked for, never a surprise.
        "vary": 0.0,
        # On a canvas of 256 pixels, as a new one is; it grows with the canvas (`feather_of`).
        "feather": 5.0,
        # By push both released dataclasses of NegToMe say 0.9 (its demonstration page says 1.5 and 1.9).
        "avoid_push": 0.9,
        # The same, where images are to be compared with and without spread and the collage has none of its own.
        "spread_push": 0.9,
        # By guidance, ours: on the embedded model 1.5 acts as a push of 0.9 does, and on the images of a batch 3 (in
        # docs/results/negtome.md: likeness -6.6 and -6.4 % in .3 of the steps, similarity -.9 and -1.0 % in .4). From
        # guidance 2 on what a unit is worth does not depend on the guidance, by which it is divided
        # (`methods.negtome.Avoid`), so other models have the same; below, a unit is worth less the lower it is.
        "avoid_alpha": 1.5,
        "spread_alpha": 3.0,
        # The dataclass beside the released reference-picture code (FLUX) says 0.65; UNets have 0.7 on their cards.
        "avoid_threshold": 0.65,
        # The dataclass for UNets (SDXL) says 0.7; FLUX and what is like it have their own on their cards.
        "spread_threshold": 0.7,
        # SDXL acts on t from 1000 to 800, its evaluation scripts to 600; ours, between, as a share of the
        # steps that are run.
        "window": 0.25,
        # CADS for Stable Diffusion: noise is full until a tenth of the schedule is run and ends after four tenths
        # (tau_2 .9, tau_1 .6), and the condition is brought back to its own mean and deviation (psi 1). Its strength
        # there is .25; here it is asked for, and .25 is where images are compared with and without it.
        "cads_alpha": 0.25,
        "cads_low": 0.6,
        "cads_high": 0.9,
        "cads_mix": 1.0,
    }
)

FEATHER = 0.02
"""Share of a canvas's longer side: the released code blurs the strength map with radius 10 at 512 pixels."""

RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        **{
            word: bounds(Layer, word)
            for word in (
                "harmonize",
                "attend_inside",
                "attend_outside",
                "keep_shape",
                "image_prompt",
                "vary",
                "feather",
                "opacity",
                "look_vectors",
                "look_steps",
                "rotation",
                "scale_x",
                "scale_y",
                "x",
                "y",
            )
        },
        **{
            word: bounds(Collage, word)
            for word in (
                "seed",
                "steps",
                "guidance",
                "images",
                "spread",
                "spread_threshold",
                "spread_every",
                "window",
                "grow",
                "cads",
                "cads_low",
                "cads_high",
                "cads_mix",
            )
        },
        "background_harmonize": bounds(Background, "harmonize"),
        "avoid_alpha": bounds(Avoid, "alpha"),
        "avoid_threshold": bounds(Avoid, "threshold"),
    }
)


def defaults_of(collage: Collage) -> Mapping[str, float]:
    """Those of the collage's model where its card ships here, else of every model: nothing is looked up for telling."""
    known = shipped(collage.model)
    own = {} if known is None else known.own
    return {**DEFAULTS, **own, "feather": feather_of(collage.canvas)}


def defaults(model: ModelCard, canvas: Canvas) -> Mapping[str, float]:
    """The default of each word on this model and a canvas of this size."""
    return {**DEFAULTS, **model.own, "feather": feather_of(canvas)}


def feather_of(canvas: Canvas) -> float:
    """The default feather in canvas pixels, so that a resized collage (`studio.resizing`) stays the same picture."""
    return float(round(FEATHER * max(canvas.width, canvas.height)))


def usual_alpha(of: Literal["avoid", "spread"], collage: Collage, model: ModelCard | None) -> float:
    """The default alpha of an avoid reference, or of spread, by the collage's way; None: no card ships here.

    Without a negative branch it pushes whatever the way is: the model's card says from which guidance on there is one,
    and of a model whose card does not ship here what is so of most is supposed.
    """
    usual = DEFAULTS if model is None else defaults(model, collage.canvas)
    by = collage.avoid_by if of == "avoid" else collage.spread_by
    if model is None:
        steers = collage.guidance is None or collage.guidance > 1
    else:
        steers = model.steers(model.guidance if collage.guidance is None else collage.guidance)
    return usual[f"{of}_alpha" if by == "guidance" and steers else f"{of}_push"]

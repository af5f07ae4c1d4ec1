"""Suggest: starting values for a layer from its size and place, each with its reason.

The prior is that of Collage Diffusion's interface (its "auto-adjust"): with r the layer's larger side as a share of
the canvas, Insist 0.2 + 0.4 (1 − r), Stay inside 0.9 − 0.5 r, Harmonize 0.5 + 0.2 r, and 0.4 for the top layer, Keep
shape 0.3 + 0.6 (1 − r). What covers the canvas from below is treated as the backgrounds of the method's published
scenes are (noise .8 to .9, attention .1 to .3, shape .1). Feather is two hundredths of the canvas, what the method's
code softens by; that it is at most an eighth of the layer's narrow side is ours. Insist and Stay inside are scaled
where the model's own default differs from that of every model, for what helps one is too much for another. Unlike
there, what a person has set is never touched, and nothing is set unasked. Keep shape is left out where its ControlNet
is not on this machine: gigabytes are asked for by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pipelines.loading import LoadOptions, at_hand, controlnet_of, no_shape
from pipelines.models import shipped
from studio.compositing import on_canvas
from studio.defaults import DEFAULTS, defaults_of, feather_of
from studio.document import Canvas, Collage, Layer
from studio.pictures import Library

BACKDROP = 0.8
"""The lowest layer is a backdrop when its box covers this share of the canvas."""
NOTCH = 0.05
"""Suggested shares are multiples of this, as the page's sliders are."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Suggestion:
    """``value`` for the field ``word`` of the layer with the id ``layer``, and why, in one sentence."""

    layer: str
    word: str
    value: float
    reason: str


def suggest(
    collage: Collage, sizes: Mapping[str, Size], options: LoadOptions | None = None
) -> tuple[Suggestion, ...]:
    """Values for all fields that are open (None), of all layers that show and may change; layers from bottom to top.

    ``sizes`` are the (width, height) of the layers' pictures in their own pixels, by layer id (`picture_sizes`);
    ``options`` how models are loaded, which may bring a ControlNet.
    """
    found: list[Suggestion] = []
    shapely = _keeps_shape(collage, options or LoadOptions())
    usual = defaults_of(collage)
    shown = [layer for layer in collage.layers if layer.visible and layer.opacity > 0]
    for place, layer in enumerate(shown):
        box = _box(layer, sizes[layer.id], collage.canvas)
        if layer.harmonize == 0 or box is None:
            continue
        top = place == len(shown) - 1 and len(shown) > 1
        for word, value, reason in _values(box, collage.canvas, lowest=place == 0, top=top):
            mute = (word.startswith("attend") and not layer.prompt.strip()) or (
                word == "keep_shape" and not shapely
            )
            if getattr(layer, word) is None and not mute:
                if word.startswith("attend"):
                    value = _notched(value * usual[word] / DEFAULTS[word])
                found.append(Suggestion(layer.id, word, value, reason))
    return tuple(found)


def _keeps_shape(collage: Collage, options: LoadOptions) -> bool:
    """Whether the collage's model can keep shapes with what is on this machine."""
    known = shipped(collage.model)
    if known is None or no_shape(known, options, collage.edges) is not None:
        return False
    return at_hand(controlnet_of(known, options, collage.edges) or "")


def picture_sizes(collage: Collage, library: Library) -> dict[str, Size]:
    """What `suggest` needs to know of the pictures; `PictureError` when one is missing."""
    return {layer.id: library.size(layer.picture) for layer in collage.layers}


def apply(collage: Collage, suggestions: Iterable[Suggestion]) -> Collage:
    """The collage with the suggestions for what is still open; what is set stays."""
    for one in suggestions:
        if getattr(collage.layer(one.layer), one.word) is None:
            collage = collage.replace_layer(one.layer, **{one.word: one.value})
    return collage


def _box(layer: Layer, size: Size, canvas: Canvas) -> tuple[float, float] | None:
    """Width and height of the layer's part of the canvas, None where it has none."""
    corners = layer.clip or ((0, 0), (size[0], 0), (0, size[1]), size)
    across, down = zip(*on_canvas(layer, size, corners), strict=True)
    width = min(canvas.width, max(across)) - max(0, min(across))
    height = min(canvas.height, max(down)) - max(0, min(down))
    return (width, height) if width > 0 and height > 0 else None


def _values(
    box: tuple[float, float], canvas: Canvas, *, lowest: bool, top: bool
) -> Iterator[tuple[str, float, str]]:
    share = max(box[0] / canvas.width, box[1] / canvas.height)
    takes = f"it takes {100 * share:.0f} % of the canvas's side"
    if lowest and box[0] * box[1] >= BACKDROP * canvas.width * canvas.height:
        covers = "it covers nearly all of the canvas from below"
        yield (
            "harmonize",
            0.85,
            _sentence(f"{covers}, and a background may change most to take the scene's light"),
        )
        yield (
            "attend_inside",
            0.2,
            _sentence(f"{covers}, so its words act almost everywhere and need little weight"),
        )
        yield "attend_outside", 0.2, _sentence(f"{covers}, so there is little outside to keep its words from")
        yield "keep_shape", 0.1, _sentence(f"{covers}, and a background's outlines may change with it")
    else:
        if top:
            why = "it lies on top of all others, where each change of its shape is seen, so it changes less"
            yield "harmonize", 0.4, _sentence(why)
        else:
            why = "the smaller a layer, the sooner it loses its shape, so the less it changes"
            yield "harmonize", _notched(0.5 + 0.2 * share), _sentence(f"{takes}: {why}")
        why = "the smaller a layer, the fewer places its words have, so the more they insist"
        yield "attend_inside", _notched(0.2 + 0.4 * (1 - share)), _sentence(f"{takes}: {why}")
        why = "the smaller a layer, the more room its words have to stray, so the more they are held back"
        yield "attend_outside", _notched(0.9 - 0.5 * share), _sentence(f"{takes}: {why}")
        why = "the smaller a layer, the sooner it loses its shape, so the more of it is kept"
        yield "keep_shape", _notched(0.3 + 0.6 * (1 - share)), _sentence(f"{takes}: {why}")
    soft, most = int(feather_of(canvas)), int(min(box) / 8)
    if most < soft:
        why = (
            "an eighth of the layer's narrow side is as soft as its edge can be for its middle to count fully"
        )
        yield "feather", most, _sentence(why)
    else:
        yield (
            "feather",
            soft,
            "Two hundredths of the canvas is what Collage Diffusion's code softens edges by.",
        )


def _notched(share: float) -> float:
    return round(round(share / NOTCH) * NOTCH, 2)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."

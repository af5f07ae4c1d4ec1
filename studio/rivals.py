"""The same collage with and without each way to make its images differ, from each other and from what is avoided.

"off" has none of them. Where prompt or layers' words hold alternatives ({red|blue}), everything but the settings with
variants says the words of the first image in all of them, so that what differs is the method alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pipelines.errors import FieldError
from pipelines.models import shipped
from studio.defaults import defaults_of, usual_alpha
from studio.document import Collage
from studio.variants import CHOICE, combinations, texts_of, variant

INTERVAL = (0.28, 5.42)
"""Where it has no interval: the paper's for Stable Diffusion XL (arXiv 2404.07724)."""

Change = Callable[[Collage, Collage], Collage]
"""(a collage to change, the collage as it was asked for) → the changed one."""


def _negtome(one: Collage, asked: Collage) -> Collage:
    return one.replace(spread=asked.spread or usual_alpha("spread", asked, shipped(asked.model)))


def _cads(one: Collage, asked: Collage) -> Collage:
    return one.replace(cads=asked.cads or defaults_of(asked)["cads_alpha"])


def _interval(one: Collage, asked: Collage) -> Collage:
    return one.replace(guidance_interval=asked.guidance_interval or INTERVAL)


def _variants(one: Collage, asked: Collage) -> Collage:
    layers = [layer.replace(prompt=was.prompt) for layer, was in zip(one.layers, asked.layers, strict=True)]
    return one.replace(prompt=asked.prompt, layers=layers, variants=True)


def _avoid(one: Collage, asked: Collage) -> Collage:
    return one.replace(avoids=asked.avoids)


def _vary(one: Collage, asked: Collage) -> Collage:
    layers = [layer.replace(vary=was.vary) for layer, was in zip(one.layers, asked.layers, strict=True)]
    return one.replace(layers=layers)


WAYS: Mapping[str, Change] = MappingProxyType(
    {
        "cads": _cads,
        "interval": _interval,
        "variants": _variants,
        "negtome": _negtome,
        "avoid": _avoid,
        "vary": _vary,
    }
)
NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "variants": "there are no alternatives such as {red|blue} in the prompt; write some, or say --open.",
        "avoid": "no reference acts; give a picture to avoid.",
        "vary": "no layer varies; raise vary of one.",
    }
)
"""What is said of a way that has nothing to act on in a collage, and what to do."""
OFF = "off"
DEFAULT = (
    OFF,
    "cads",
    "interval",
    "variants",
    "negtome",
    "negtome+cads",
    "negtome+interval",
    "negtome+variants",
    "negtome+cads+interval+variants",
    "avoid",
    "vary",
)


def has_alternatives(collage: Collage) -> bool:
    """Whether the prompt or the words of a layer that shows leave something to choose."""
    return _chooses(collage) and combinations(texts_of(collage)) > 1


def _there(collage: Collage) -> set[str]:
    """The ways that have something to act on in a collage."""
    ways = {"cads", "interval", "negtome"}
    if has_alternatives(collage):
        ways.add("variants")
    if any(avoid.visible and avoid.alpha != 0 for avoid in collage.avoids):
        ways.add("avoid")
    if any(layer.visible and layer.vary for layer in collage.layers):
        ways.add("vary")
    return ways


def lacking(collage: Collage, name: str) -> str | None:
    """Why a setting has nothing to act on in a collage, None where it does."""
    there = _there(collage)
    return next((NEEDS[way] for way in name.split("+") if way in NEEDS and way not in there), None)


def rivals(
    collage: Collage, names: tuple[str, ...] = DEFAULT, *, written: Collage | None = None
) -> dict[str, Collage]:
    """The collages to render, by name, in order; ``collage`` has a seed and two images or more.

    A name is "off" or ways joined by "+". Left out are those with variants where there are no alternatives, those with
    avoid where no reference acts, those with vary where no layer varies. Where what a collage leaves open was filled in
    (`opening.opened_collage`), ``written`` is the collage before: all settings but those with variants leave it open.
    Raises `FieldError` for an unknown name, a missing seed, a single image, and where nothing is left.
    """
    if collage.seed is None or collage.images < 2:
        raise FieldError("a comparison needs a seed and at least 2 images; set them.")
    plain = written or collage
    texts = variant(texts_of(plain), collage.seed) if _chooses(plain) else texts_of(plain)
    words = iter(texts[1:])
    layers = [layer.replace(prompt=next(words)) if layer.visible else layer for layer in collage.layers]
    off = collage.replace(
        prompt=texts[0],
        layers=[layer.replace(vary=None) if layer.vary else layer for layer in layers],
        avoids=(),
        spread=0.0,
        cads=0.0,
        guidance_interval=None,
        variants=False,
    )
    found, there = {}, _there(collage)
    for name in names:
        made = off
        ways = [] if name == OFF else name.split("+")
        for way in ways:
            if way not in WAYS:
                raise FieldError(
                    f"no way is called {way!r}; join some of {', '.join(WAYS)} by +, or say {OFF}."
                )
            made = WAYS[way](made, collage)
        if there.issuperset(ways):
            found[name] = made
    if not found:
        raise FieldError(
            f"nothing is left to compare of {', '.join(names)}: variants need alternatives such as {{red|blue}} in the "
            "prompt, avoid a reference, vary a layer that varies."
        )
    return found


def _chooses(collage: Collage) -> bool:
    """Whether braces are meant as alternatives; elsewhere they are text like any other."""
    return collage.variants or any(CHOICE.search(text) for text in texts_of(collage))

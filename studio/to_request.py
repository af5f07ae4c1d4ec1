"""From a collage to a request: what it leaves open is filled in here and nowhere else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.errors import PhraseError
from pipelines.events import Warned
from pipelines.models import ModelCard, card
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import (
    MAX_PROMPT,
    AvoidRequest,
    ImagePromptRequest,
    LayerRequest,
    LookRequest,
    RenderRequest,
    Variant,
)
from studio.compositing import Composition, compose, place_reference
from studio.cutout import cutout
from studio.defaults import defaults, usual_alpha
from studio.document import Collage, Layer
from studio.phrases import place_phrases
from studio.pictures import Library
from studio.references import made
from studio.variants import CHOICE, combinations, variant


@dataclass(frozen=True)
class Prepared:
    """A request, what was left out or will hardly show, the full prompt (image 0's), and the pixels it was made from.

    ``layers`` are the places in ``Collage.layers`` of the request's layers.
    """

    request: RenderRequest
    warnings: tuple[Warned, ...]
    prompt: str
    composition: Composition
    layers: tuple[int, ...]


def to_request(
    collage: Collage, library: Library, store: PictureStore, *, seed: int | None = None
) -> Prepared:
    """What decides the picture of this collage; its pixels go into ``store``.

    ``seed`` overrides the collage's; where both are None one is drawn from 0 to 2**32 - 1. Without a
    visible layer and without a background picture the run is plain text-to-image. Raises `PictureError`
    when a picture is missing, `PhraseError` when the layers' words make the prompt too long, `ModelError`
    when the model is unknown, `FieldError` when ``seed`` is out of bounds.
    """
    model = card(collage.model)
    usual = defaults(model, collage.canvas)
    composition = compose(collage, library)
    warnings = [*ill_sized(collage.canvas.width, collage.canvas.height, model)]
    kept = _worth_rendering(composition, model.factor, warnings)
    layers = [collage.layers[composition.indices[at]] for at in kept]
    first_seed = _seed(collage, seed)
    told = _told(collage, [layer.prompt for layer in layers], first_seed, warnings)
    if collage.variants:
        warnings += _not_filled_in(collage, layers)
    prompt, spans = told[0].prompt, told[0].spans

    layer_requests = tuple(
        LayerRequest(
            name=layer.label,
            mask=store.put(_mask(composition, at)),
            span=span,
            harmonize=_or(layer.harmonize, usual["harmonize"]),
            feather=_or(layer.feather, usual["feather"]),
            attend_inside=_or(layer.attend_inside, usual["attend_inside"]),
            attend_outside=_or(layer.attend_outside, usual["attend_outside"]),
            negative=" ".join(layer.negative.split()),
            keep_shape=_or(layer.keep_shape, usual["keep_shape"]),
            look=_look(layer, library, store, model) if layer.look else None,
            image_prompt=_image_prompt(
                layer, library, store, _or(layer.image_prompt, usual["image_prompt"]), model.side
            ),
            vary=_or(layer.vary, usual["vary"]),
        )
        for at, layer, span in zip(kept, layers, spans, strict=True)
    )
    has_pixels = bool(layers) or collage.background.picture is not None
    held = collage.background.harmonize
    if not has_pixels and held is not None and held < 1:
        warnings.append(
            Warned(
                f"background harmonize {held:g} holds nothing, because no layer shows and there is no background "
                "picture; add one, or leave it to the prompt alone."
            )
        )
    has_frozen = has_pixels and bool(composition.frozen[..., 3].any())
    places = {layer.id: number for number, layer in enumerate(layers)}
    request = RenderRequest(
        model=collage.model,
        width=collage.canvas.width,
        height=collage.canvas.height,
        prompt=prompt,
        negative_prompt=collage.negative_prompt,
        collage=store.put(composition.flat) if has_pixels else None,
        frozen=store.put(composition.frozen) if has_frozen else None,
        background_harmonize=_or(collage.background.harmonize, usual["background_harmonize"])
        if has_pixels
        else 1.0,
        layers=layer_requests,
        avoids=tuple(avoid_requests(collage, library, store, composition.flat, has_pixels, places, warnings)),
        spread=collage.spread,
        spread_threshold=_or(collage.spread_threshold, usual["spread_threshold"]),
        spread_match=collage.spread_match,
        spread_parts=collage.spread_parts,
        spread_every=collage.spread_every,
        exact_match=collage.exact_match,
        window=_or(collage.window, usual["window"]),
        axis=collage.axis,
        avoid_by=collage.avoid_by,
        spread_by=collage.spread_by,
        attend_both_ways=collage.attend_both_ways,
        harmonize_by=collage.harmonize_by,
        grow=collage.grow,
        edges=collage.edges,
        cads=collage.cads,
        cads_low=_or(collage.cads_low, usual["cads_low"]),
        cads_high=_or(collage.cads_high, usual["cads_high"]),
        cads_mix=_or(collage.cads_mix, usual["cads_mix"]),
        guidance_interval=collage.guidance_interval,
        scheduler=collage.scheduler or model.scheduler,
        steps=model.steps if collage.steps is None else collage.steps,
        guidance=model.guidance if collage.guidance is None else collage.guidance,
        seed=first_seed,
        images=collage.images,
        variants=told if any(one != told[0] for one in told) else (),
    )
    indices = tuple(composition.indices[at] for at in kept)
    return Prepared(request, tuple(warnings), prompt, composition, indices)


def ill_sized(width: int, height: int, model: ModelCard, what: str = "the canvas") -> Iterator[Warned]:
    """Says where a model is asked for far less or more than it was trained at: a collage has its size, whatever draws
    it. ``what`` has that width and height.
    """
    longer = max(width, height)
    if longer < model.least_side or longer >= model.most_side:
        found = "small" if longer < model.least_side else "large"
        yield Warned(
            f"{what} of {width} x {height} is {found} for {model.name!r}, which draws well near "
            f"{model.side} pixels a side; resize the collage to {model.side}."
        )


def _told(collage: Collage, phrases: Sequence[str], seed: int, warnings: list[Warned]) -> tuple[Variant, ...]:
    """What each image is told: one for all without variants."""
    texts = (collage.prompt, *phrases)
    each = [texts]
    if collage.variants:
        each = [variant(texts, seed + image) for image in range(collage.images)]
        if combinations(texts) == 1:
            warnings.append(
                Warned("variants have no alternatives to choose from; write some as {red|blue|green}.")
            )
    told = []
    for scene, *words in each:
        prompt, spans = place_phrases(scene, words)
        if len(prompt) > MAX_PROMPT:
            raise PhraseError(
                f"the prompt with all layers' words is {len(prompt)} characters long; shorten it to {MAX_PROMPT}."
            )
        told.append(Variant(prompt=prompt, spans=spans))
    return tuple(told)


def _not_filled_in(collage: Collage, layers: Sequence[Layer]) -> Iterator[Warned]:
    """Alternatives where variants leave braces as they are: all images steer away from the same words."""
    texts: list[tuple[str, str, str | None]] = [("negative prompt", collage.negative_prompt, None)]
    texts += [(f"negative words of layer {layer.label!r}", layer.negative, layer.label) for layer in layers]
    for where, text, name in texts:
        if found := CHOICE.search(text):
            yield Warned(
                f"variants do not fill in {found[0]} in the {where}; write the words without braces.", name
            )


def _look(layer: Layer, library: Library, store: PictureStore, model: ModelCard) -> LookRequest:
    """By default as many vectors as its words have tokens, which the engine counts, and the model's own steps."""
    picture = cutout(layer, library, model.look_side or model.side)
    steps = model.look_steps if layer.look_steps is None else layer.look_steps
    return LookRequest(cutout=store.put(picture), vectors=layer.look_vectors or 0, steps=steps)


def _image_prompt(
    layer: Layer, library: Library, store: PictureStore, strength: float, side: int
) -> ImagePromptRequest | None:
    """No larger than the model's own pictures: an image encoder sees less."""
    if strength == 0:
        return None
    return ImagePromptRequest(cutout=store.put(cutout(layer, library, side)), strength=strength)


def _or(value: float | None, usual: float) -> float:
    return usual if value is None else value


def _seed(collage: Collage, given: int | None) -> int:
    asked = collage.seed if given is None else collage.replace(seed=given).seed
    return secrets.randbelow(2**32) if asked is None else asked


def _mask(composition: Composition, at: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.rint(np.clip(composition.visible[at], 0, 1) * 255).astype(np.uint8)


def _worth_rendering(composition: Composition, factor: int, warnings: list[Warned]) -> list[int]:
    """Places in ``composition.visible`` of layers that show; warns of the others and of hardly visible."""
    kept = []
    for at, name in enumerate(composition.names):
        area = float(_mask(composition, at).sum()) / 255
        if area == 0:
            why = (
                "is covered by the layers above it"
                if composition.placed[at] >= 0.5
                else "shows nothing on the canvas"
            )
            warnings.append(Warned(f"layer {name!r} {why} and is left out; move or hide it.", name))
            continue
        if area < factor**2:
            warnings.append(
                Warned(
                    f"layer {name!r} shows only {area:.3g} pixels, less than one of the model's cells "
                    f"({factor} x {factor} pixels), and will hardly count; make it larger.",
                    name,
                )
            )
        kept.append(at)
    return kept


def avoid_requests(
    collage: Collage,
    library: Library,
    store: PictureStore,
    flat: Pixels,
    has_pixels: bool,
    places: Mapping[str, int],
    warnings: list[Warned],
) -> list[AvoidRequest]:
    """The references that act, fitted to the canvas, their pixels in ``store``; ``warnings`` takes what is said.

    ``places`` has the number in the request of each layer, by id, that is rendered.
    """
    model = card(collage.model)
    usual, weight = defaults(model, collage.canvas), usual_alpha("avoid", collage, model)
    requests = []
    for avoid in collage.avoids:
        alpha = _or(avoid.alpha, weight)
        if not avoid.visible or alpha == 0:
            continue
        if avoid.layer is not None and avoid.layer not in places:
            name = collage.layer(avoid.layer).label
            warnings.append(
                Warned(
                    f"avoid {avoid.label!r} is left out because its layer {name!r} is not rendered; show it.",
                    name,
                )
            )
            continue
        if avoid.picture is None and not has_pixels:
            warnings.append(
                Warned(
                    f"avoid {avoid.label!r} is left out because it is made of the collage, and there is none; add a "
                    "layer, a background picture, or a picture of its own."
                )
            )
            continue
        picture, mask = place_reference(avoid, library, collage.canvas, flat)
        if mask is not None and not mask.any():
            warnings.append(
                Warned(f"avoid {avoid.label!r} is left out because its mask leaves nothing; change it.")
            )
            continue
        requests.append(
            AvoidRequest(
                name=avoid.label,
                picture=store.put(made(picture, avoid.made)),
                mask=None if mask is None else store.put(mask),
                alpha=alpha,
                threshold=_or(avoid.threshold, usual["avoid_threshold"]),
                window=avoid.window,
                layer=None if avoid.layer is None else places[avoid.layer],
            )
        )
    return requests

"""What decides a picture, and nothing else.

A `RenderRequest` is frozen, compares by value and survives a JSON round trip. Pictures and masks are named by
the sha256 of their pixels and live in a `PictureStore` (`pipelines.pictures`), so equal requests mean equal
pictures, and the canonical hash of a request serves as the key of its job. Every default has been filled in
before a request exists (`studio.to_request`): the engine never guesses.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pipelines.errors import FieldError

MAX_LAYERS = 64
MAX_AVOIDS = 8
MAX_IMAGES = 16
MAX_STEPS = 200
MAX_SIDE = 2048
MAX_PROMPT = 8000
AXES = ("source", "released")
WAYS = ("guidance", "push")
MODES = ("steps", "timestep")
MAX_GROW = 128
MATCHES = ("all", "nearest", "first")
PARTS = ("down", "mid", "up", "double", "single")
MAX_EVERY = 16
MAX_LEVEL = 14.6
MAX_VECTORS = 4
MAX_LOOK_STEPS = 5000
EDGES = ("canny", "soft")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class LookRequest:
    """What a layer's look is learned from (textual inversion, arXiv 2208.01618; `pipelines.learning`).

    ``cutout`` names uint8 (h, w, 4), the cut-out alone at a size of its own. ``vectors`` stand for it, 1 to 4, or 0 for
    as many as the layer's words have tokens. ``steps`` are those of learning.
    """

    cutout: str
    vectors: int = 0
    steps: int


@dataclass(frozen=True, kw_only=True)
class ImagePromptRequest:
    """The cut-out as a prompt inside the layer's mask (IP-Adapter, arXiv 2308.06721; `pipelines.image_prompts`).

    ``cutout`` names uint8 (h, w, 4), the cut-out alone at a size of its own; ``strength`` is IP-Adapter's scale, 0..1.
    """

    cutout: str
    strength: float

    def __post_init__(self) -> None:
        _to_floats(self)


@dataclass(frozen=True, kw_only=True)
class LayerRequest:
    """One visible layer, bottom to top in `RenderRequest.layers`.

    ``span`` is the half-open character range of the layer's words in ``RenderRequest.prompt``; None means the
    layer has pixels only. ``mask`` names its visible mask: uint8 (height, width), 255 = fully visible, already
    multiplied by what the layers above leave uncovered. ``harmonize`` is the share of the run in which the layer
    may change (0 freezes it), ``feather`` softens the strength map, in canvas pixels. ``attend_inside`` and
    ``attend_outside`` are the strengths of the positive and negative mask-aware cross-attention of Collage
    Diffusion (arXiv 2303.00262, section 4.1). ``negative`` are words that guidance steers away from inside the mask
    (ours). ``keep_shape`` is the strength of ControlNet inside the mask; it is shown the flat collage's edges. ``vary``
    is NegToMe between the images inside this layer. ``look`` has vectors learned from a cut-out stand before the words;
    None leaves them as they are. ``image_prompt`` has the cut-out prompt the model inside the mask.
    """

    name: str
    mask: str
    span: tuple[int, int] | None = None
    harmonize: float
    feather: float = 0.0
    attend_inside: float = 0.0
    attend_outside: float = 0.0
    negative: str = ""
    keep_shape: float = 0.0
    look: LookRequest | None = None
    image_prompt: ImagePromptRequest | None = None
    vary: float = 0.0

    def __post_init__(self) -> None:
        _to_floats(self)

    @property
    def keeps_shape(self) -> bool:
        """Whether a ControlNet has anything to do here: a frozen layer keeps its shape without."""
        return self.keep_shape > 0 and self.harmonize > 0

    @property
    def is_image_prompt(self) -> bool:
        """Whether the cut-out is to act as a prompt; in a frozen layer nothing could come of it."""
        return self.image_prompt is not None and self.image_prompt.strength > 0 and self.harmonize > 0


@dataclass(frozen=True, kw_only=True)
class AvoidRequest:
    """A reference picture to be pushed away from (NegToMe, arXiv 2412.01339, external reference).

    ``picture`` names uint8 (height, width, 3) at canvas size. ``mask`` names uint8 (height, width), 255 = part
    of the reference that counts, or None for all of it. ``layer`` is the index in ``RenderRequest.layers`` that
    the push is confined to, or None for the whole picture. ``window`` is the share of the steps in which it acts, None
    the request's. ``alpha`` below 0 pulls towards the reference.
    """

    name: str
    picture: str
    mask: str | None = None
    alpha: float
    threshold: float
    layer: int | None = None
    window: float | None = None

    def __post_init__(self) -> None:
        _to_floats(self)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What one image is told instead of the request's prompt, and where each layer's words stand in that."""

    prompt: str
    spans: tuple[tuple[int, int] | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """Everything that decides the pictures of one run.

    ``collage`` names the flat collage, uint8 (height, width, 3); None is plain text-to-image. ``frozen`` names uint8
    (height, width, 4): what harmonize 0 keeps, colour of the frozen layers, alpha = sum of their visible masks; it is
    laid over the result. ``background_harmonize`` applies where no layer covers. ``spread`` is the alpha of NegToMe
    between the images of the batch with ``spread_threshold`` as least cosine similarity; ``spread_match``,
    ``spread_parts`` and ``spread_every`` say which images are the reference, which parts of the denoiser act (none
    named: those of the model card) and that only every n-th reference token counts (`negtome.Spread`), ``exact_match``
    that every one does, of spread and avoid, also where the model card thins fine grids (`thinning`). ``window``
    is the share of the steps that are run in which NegToMe acts, at least one step; ``axis`` is "source" (paper) or
    "released" (the released code's reading); ``avoid_by`` and ``spread_by`` are "guidance" or "push" (`negtome.Avoid`,
    `negtome.Spread`).
    ``attend_both_ways`` also lets the words look less at what is outside their layer, in models whose text and picture
    attend to each other (ours: what leaks through the text tokens otherwise comes back). ``cads`` is the strength s of
    noise on the condition (arXiv 2310.17347), full above the time ``cads_high``, none below ``cads_low`` (1 is the
    start of the schedule), ``cads_mix`` its ψ. ``guidance_interval`` (σ_lo, σ_hi) confines guidance to noise levels σ/α
    above σ_lo and up to σ_hi (arXiv 2404.07724). ``harmonize_by`` is what a strength is a share of, "steps" or
    "timestep", and ``grow`` how far what is held reaches over its edge while there is noise, in canvas pixels
    (`harmonize.Harmonize`). ``edges`` is what a ControlNet is shown of the collage (`pipelines.edges`). Image k uses
    seed + k. ``variants``, none or one an image, are prompts of their own in
    place of ``prompt`` and the layers' ``span`` (`of_image`).
    """

    model: str
    width: int
    height: int
    prompt: str
    negative_prompt: str = ""
    collage: str | None = None
    frozen: str | None = None
    background_harmonize: float = 1.0
    layers: tuple[LayerRequest, ...] = ()
    avoids: tuple[AvoidRequest, ...] = ()
    spread: float = 0.0
    spread_threshold: float = 0.7
    spread_match: str = "all"
    spread_parts: tuple[str, ...] = ()
    spread_every: int = 1
    exact_match: bool = False
    window: float = 0.25
    axis: str = "source"
    avoid_by: str = "guidance"
    spread_by: str = "guidance"
    attend_both_ways: bool = False
    harmonize_by: str = "steps"
    grow: float = 0.0
    edges: str = "canny"
    cads: float = 0.0
    cads_low: float = 0.6
    cads_high: float = 0.9
    cads_mix: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    scheduler: str
    steps: int
    guidance: float
    seed: int
    images: int = 1
    variants: tuple[Variant, ...] = ()

    def __post_init__(self) -> None:
        _to_floats(self)
        _check(self)

    @property
    def key(self) -> str:
        """sha256 of the canonical JSON: equal requests have equal keys."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, shortest floats."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> RenderRequest:
        """Inverse of `to_json`. Unknown or missing keys raise `FieldError`."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise FieldError(f"the request is not JSON ({error}); write it with to_json.") from error
        if not isinstance(data, dict):
            raise FieldError("the request is no JSON object; write it with to_json.")
        layers = tuple(_layer(layer) for layer in data.pop("layers", ()))
        avoids = tuple(_build(AvoidRequest, avoid, "avoids") for avoid in data.pop("avoids", ()))
        variants = tuple(
            _build(
                Variant,
                {**one, "spans": tuple(span and tuple(span) for span in one.get("spans", ()))},
                "variants",
            )
            for one in data.pop("variants", ())
        )
        lists = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
        parts = {"layers": layers, "avoids": avoids, "variants": variants}
        return _build(cls, {**data, **lists, **parts}, "request")

    def replace(self, **changes: Any) -> RenderRequest:
        """A copy with some fields changed; checked like a new one."""
        return dataclasses.replace(self, **changes)

    def of_image(self, image: int) -> RenderRequest:
        """What image ``image`` is asked, without variants; the same request where there are none."""
        if not self.variants:
            return self
        one = self.variants[image]
        layers = tuple(
            dataclasses.replace(layer, span=span) for layer, span in zip(self.layers, one.spans, strict=True)
        )
        return self.replace(prompt=one.prompt, layers=layers, variants=())


def _to_floats(part: object) -> None:
    """4 becomes 4.0 and −0.0 becomes 0.0 where a float is meant, so that equal parts have equal JSON."""
    for field in dataclasses.fields(part):  # type: ignore[arg-type]
        value = getattr(part, field.name)
        if field.type.startswith("tuple[float") and isinstance(value, tuple):
            value = tuple(one + 0.0 if type(one) in (int, float) else one for one in value)
            object.__setattr__(part, field.name, value)
        if (
            field.type in ("float", "float | None")
            and isinstance(value, int | float)
            and not isinstance(value, bool)
        ):
            object.__setattr__(part, field.name, float(value) + 0.0)


def _layer(data: Mapping[str, Any]) -> LayerRequest:
    span, look, image = data.get("span"), data.get("look"), data.get("image_prompt")
    parts = {
        "span": tuple(span) if span else None,
        "look": _build(LookRequest, look, "look") if isinstance(look, dict) else look,
        "image_prompt": _build(ImagePromptRequest, image, "image_prompt")
        if isinstance(image, dict)
        else image,
    }
    return _build(LayerRequest, {**data, **parts}, "layers")


def _build(cls: type[T], data: Mapping[str, Any], where: str) -> T:
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - known)
    if unknown:
        raise FieldError(f"{where} has an unknown field {unknown[0]!r}; remove it.")
    try:
        return cls(**data)
    except TypeError as error:
        raise FieldError(f"{where} is incomplete: {error}.") from error


def _check(request: RenderRequest) -> None:
    def bounded(where: str, value: float, low: float, high: float) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and low <= value <= high):
            raise FieldError(f"{where} is {value!r}; give a number from {low:g} to {high:g}.")

    def whole(where: str, value: int, low: int, high: int) -> None:
        if type(value) is not int or not low <= value <= high:
            raise FieldError(f"{where} is {value!r}; give a whole number from {low} to {high}.")

    for side in ("width", "height"):
        value = getattr(request, side)
        whole(side, value, 64, MAX_SIDE)
        if value % 8:
            raise FieldError(f"{side} is {value}; give a multiple of 8.")
    for word in ("prompt", "negative_prompt"):
        if len(getattr(request, word)) > MAX_PROMPT:
            raise FieldError(f"{word} is longer than {MAX_PROMPT} characters; shorten it.")
    whole("steps", request.steps, 1, MAX_STEPS)
    bounded("guidance", request.guidance, 0, 50)
    whole("images", request.images, 1, MAX_IMAGES)
    whole("seed", request.seed, 0, 2**63 - 1 - MAX_IMAGES)
    bounded("background_harmonize", request.background_harmonize, 0, 1)
    bounded("spread", request.spread, -1, 3)
    bounded("spread_threshold", request.spread_threshold, 0, 1)
    bounded("window", request.window, 0, 1)
    bounded("cads", request.cads, 0, 2)
    bounded("cads_low", request.cads_low, 0, 1)
    bounded("cads_high", request.cads_high, 0, 1)
    bounded("cads_mix", request.cads_mix, 0, 1)
    if request.cads_low > request.cads_high:
        raise FieldError("cads_low is above cads_high; lower it.")
    interval = request.guidance_interval
    if interval is not None:
        if not isinstance(interval, tuple) or len(interval) != 2:
            raise FieldError(f"guidance_interval is {interval!r}; give two noise levels, or none.")
        for bound in interval:
            bounded("guidance_interval", bound, 0, MAX_LEVEL)
        if interval[0] >= interval[1]:
            raise FieldError(f"guidance_interval is {interval!r}; give the lower noise level first.")
    for word, known in (
        ("axis", AXES),
        ("avoid_by", WAYS),
        ("spread_by", WAYS),
        ("harmonize_by", MODES),
        ("spread_match", MATCHES),
        ("edges", EDGES),
    ):
        if getattr(request, word) not in known:
            raise FieldError(f"{word} is {getattr(request, word)!r}; give one of {', '.join(known)}.")
    bounded("grow", request.grow, -MAX_GROW, MAX_GROW)
    parts = request.spread_parts
    if not isinstance(parts, tuple) or not set(parts) <= set(PARTS) or len(set(parts)) < len(parts):
        raise FieldError(f"spread_parts is {parts!r}; give some of {', '.join(PARTS)}, each once, or none.")
    whole("spread_every", request.spread_every, 1, MAX_EVERY)
    if request.spread_every > 1 and request.axis == "released":
        raise FieldError(
            "spread_every leaves reference tokens out, and the released axis needs them all; set it to 1."
        )
    for word in ("attend_both_ways", "exact_match"):
        if type(getattr(request, word)) is not bool:
            raise FieldError(f"{word} is {getattr(request, word)!r}; give true or false.")
    if len(request.layers) > MAX_LAYERS or len(request.avoids) > MAX_AVOIDS:
        raise FieldError(f"a request has at most {MAX_LAYERS} layers and {MAX_AVOIDS} avoid references.")
    for layer in request.layers:
        for word in ("harmonize", "attend_inside", "attend_outside", "keep_shape"):
            bounded(f"layer {layer.name!r}: {word}", getattr(layer, word), 0, 1)
        bounded(f"layer {layer.name!r}: vary", layer.vary, 0, 3)
        if not isinstance(layer.look, LookRequest | None):
            raise FieldError(f"layer {layer.name!r}: look is {layer.look!r}; give a LookRequest, or none.")
        if layer.look is not None:
            whole(f"layer {layer.name!r}: look vectors", layer.look.vectors, 0, MAX_VECTORS)
            whole(f"layer {layer.name!r}: look steps", layer.look.steps, 1, MAX_LOOK_STEPS)
        if not isinstance(layer.image_prompt, ImagePromptRequest | None):
            raise FieldError(
                f"layer {layer.name!r}: image_prompt is {layer.image_prompt!r}; give an ImagePromptRequest, or none."
            )
        if layer.image_prompt is not None:
            bounded(f"layer {layer.name!r}: image_prompt", layer.image_prompt.strength, 0, 1)
        bounded(f"layer {layer.name!r}: feather", layer.feather, 0, 256)
        if type(layer.negative) is not str or len(layer.negative) > MAX_PROMPT:
            raise FieldError(
                f"layer {layer.name!r}: negative is no text of at most {MAX_PROMPT} characters; change it."
            )
        if layer.span and not 0 <= layer.span[0] < layer.span[1] <= len(request.prompt):
            raise FieldError(f"layer {layer.name!r}: its words' place {layer.span} is outside the prompt.")
    for avoid in request.avoids:
        bounded(f"avoid {avoid.name!r}: alpha", avoid.alpha, -1, 3)
        bounded(f"avoid {avoid.name!r}: threshold", avoid.threshold, 0, 1)
        if avoid.window is not None:
            bounded(f"avoid {avoid.name!r}: window", avoid.window, 0, 1)
        if avoid.layer is not None and not 0 <= avoid.layer < len(request.layers):
            raise FieldError(
                f"avoid {avoid.name!r}: names layer number {avoid.layer}, which does not exist; name another."
            )
    if request.collage is None and request.layers:
        raise FieldError("a request with layers needs a flat collage.")
    if request.variants and len(request.variants) != request.images:
        raise FieldError(f"there are {len(request.variants)} variants; give none, or one for each image.")
    for image, one in enumerate(request.variants):
        if len(one.spans) != len(request.layers):
            raise FieldError(f"variant {image} has {len(one.spans)} places; give one for each layer.")
        request.of_image(image)  # checked as a request of its own

"""The collage a person edits: canvas, ordered layers, prompts, references, sampler choices.

It is plain data, frozen, bounded in every field, and the same for preset, page, command line and file.
Pictures are named by the sha256 of their PNG files and held by a `studio.pictures.Library`. Everywhere None
means "the default", which `studio.to_request` fills in. Lengths are canvas pixels, x to the right and y
down, unless a field says otherwise. A change makes a new collage (`replace`), so a refused change leaves
the old one as it was.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.errors import ArchiveError, FieldError, VersionError
from studio.field_errors import field_error

VERSION = 1
MAX_JSON = 4 * 2**20
MAX_SEED = 2**53 - 1  # of any image, where image k uses seed + k: a browser has no larger one

Share = Annotated[float, Field(ge=0, le=1)]
Position = Annotated[float, Field(ge=-16384, le=16384)]
Scale = Annotated[float, Field(ge=0.001, le=64)]
Side = Annotated[int, Field(ge=64, le=2048, multiple_of=8)]
Name = Annotated[str, Field(max_length=100)]
Words = Annotated[str, Field(max_length=300)]
Prompt = Annotated[str, Field(max_length=2000)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="1 to 64 letters, digits, - or _")]
Digest = Annotated[
    str, Field(pattern=r"^[0-9a-f]{64}$", description="the sha256 of a PNG file in hexadecimal")
]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$", description="a colour such as '#c8d4e0'")]
Label = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", description="a name on one line")]
Level = Annotated[float, Field(ge=0, le=14.6)]
Part = Literal["down", "mid", "up", "double", "single"]
Point = Annotated[tuple[Position, Position], Field(strict=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise field_error(error, type(self), data) from None

    # Nested parts must be validated by pydantic itself, not through the method above: only then does an error
    # know its whole path. This mark is how pydantic tells the two apart (its own RootModel carries it).
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, checked like a new one; `FieldError` when one is refused."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})


class Canvas(_Part):
    """Size of the picture in pixels."""

    width: Side = 256
    height: Side = 256


class Background(_Part):
    """What lies under all layers: a colour, over it a picture scaled to cover the canvas, centred.

    ``harmonize`` is the share of the run in which the background may change.
    """

    colour: Colour = "#c8d4e0"
    picture: Digest | None = None
    harmonize: Share | None = None


class Layer(_Part):
    """One cut-out on the canvas.

    ``x``, ``y`` place the picture's centre; ``scale_x``, ``scale_y`` multiply its own pixels; it is
    flipped, then turned by ``rotation`` degrees clockwise. ``clip`` is a polygon in picture pixels outside
    which nothing shows. ``mask`` names a picture stretched over the layer's: its alpha where it has one,
    else its brightness; white or opaque keeps. ``feather`` softens the strength map only, in canvas pixels.

    ``prompt`` holds the layer's words (empty: pixels only). ``harmonize`` is the share of the run in which
    the layer may change (0 freezes it); ``attend_inside`` and ``attend_outside`` are the positive and
    negative mask-aware cross-attention of Collage Diffusion (arXiv 2303.00262); ``negative`` holds words that
    guidance steers away from where the layer shows; ``keep_shape`` is the strength of ControlNet inside the layer,
    ``vary`` NegToMe (arXiv 2412.01339) between the images of a batch, inside the layer. ``look`` learns from the
    cut-out what stands before the layer's words, ``look_vectors`` embeddings (default: as many as the words have
    tokens, at most 4) in ``look_steps`` steps (default: the model's). ``image_prompt`` is how strongly the cut-out
    itself prompts the model where the layer shows (IP-Adapter, arXiv 2308.06721).
    """

    id: Id
    name: Name = ""
    picture: Digest
    prompt: Words = ""
    x: Position
    y: Position
    scale_x: Scale = 1.0
    scale_y: Scale = 1.0
    rotation: Annotated[float, Field(ge=-3600, le=3600)] = 0.0
    flip_x: bool = False
    flip_y: bool = False
    opacity: Share = 1.0
    visible: bool = True
    locked: bool = False
    clip: Annotated[tuple[Point, ...], Field(strict=False, min_length=3, max_length=512)] | None = None
    mask: Digest | None = None
    feather: Annotated[float, Field(ge=0, le=256)] | None = None
    harmonize: Share | None = None
    attend_inside: Share | None = None
    attend_outside: Share | None = None
    negative: Words = ""
    keep_shape: Share | None = None
    vary: Annotated[float, Field(ge=0, le=3)] | None = None
    look: bool = False
    look_vectors: Annotated[int, Field(ge=1, le=4)] | None = None
    look_steps: Annotated[int, Field(ge=1, le=5000)] | None = None
    image_prompt: Share | None = None

    @property
    def label(self) -> str:
        """What to call the layer in a sentence: its name, else its words, else its id."""
        return self.name or self.prompt or self.id


class Avoid(_Part):
    """A reference picture to be pushed away from (NegToMe, arXiv 2412.01339).

    The picture is scaled to fit the canvas; without one it is the flat collage. ``made`` is what counts as the
    reference: the picture as "given", or a "blurred" or "noisy" copy of it. ``mask`` says which part of it counts (as a
    layer's mask does). ``alpha`` below 0 pulls towards the reference (style guidance). ``layer`` is the id of the layer
    the push is confined to, None the whole picture; ``window`` the share of the steps in which it acts, None the
    collage's.
    """

    id: Id
    name: Name = ""
    picture: Digest | None = None
    made: Literal["given", "blurred", "noisy"] = "given"
    mask: Digest | None = None
    alpha: Annotated[float, Field(ge=-1, le=3)] | None = None
    threshold: Annotated[float, Field(ge=0.5, le=1)] | None = None
    window: Share | None = None
    layer: Id | None = None
    visible: bool = True

    @property
    def label(self) -> str:
        """What to call the reference in a sentence."""
        return self.name or self.id


class Collage(_Part):
    """The whole document. ``layers`` run from bottom to top; ``seed`` None is random, and 0 is a seed.

    ``steps``, ``guidance`` and ``scheduler`` default to the model's. ``spread`` is NegToMe between the images of a
    batch over the whole picture; ``spread_match`` says which of them are an image's reference ("all" the others,
    the one "nearest", or the "first" of the batch, as in the paper), ``spread_parts`` in which parts of the
    denoiser (none named: the model's own), ``spread_every`` n that every n-th reference token is enough,
    ``exact_match`` that every one is compared also on the fine grids where the model's card thins them. ``window``
    the share of the steps in which NegToMe acts, ``axis`` "source" as in the paper or "released" as in its released
    code. ``avoid_by`` "guidance" lets guidance steer away from avoid references, "push" pushes in every branch as
    in the paper; ``spread_by`` says the same of the other images. ``attend_both_ways`` also keeps words from
    looking at what is outside their layer, in models whose text and picture attend to each other. ``cads`` is noise
    on what the prompt says (arXiv 2310.17347): full in the part of the schedule above ``cads_high``, none below
    ``cads_low``, where 1 is its start. ``guidance_interval`` confines guidance to noise levels above its first and
    up to its second number (arXiv 2404.07724). ``harmonize_by`` is what harmonize is a share of: the "steps" that
    are run, or the model's time, "timestep". ``grow`` in canvas pixels: while there is noise, what is held reaches
    over its edge; below 0 what may change does. ``edges`` is what a ControlNet is shown of the flat collage where a
    layer keeps its shape: "canny", thin lines, or "soft", how steep each place is. With ``variants`` alternatives such
    as {red|blue} in the prompt and in layers' words are filled in, another combination in each image; without, braces
    are text like any other. ``watch`` asks which layers the model lost; it changes no picture.
    """

    version: Annotated[int, Field(ge=1, le=VERSION)] = VERSION
    name: Name = ""
    canvas: Canvas = Canvas()
    background: Background = Background()
    prompt: Prompt = ""
    negative_prompt: Prompt = ""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    guidance: Annotated[float, Field(ge=0, le=50)] | None = None
    images: Annotated[int, Field(ge=1, le=16)] = 1
    model: Annotated[Label, Field(max_length=200)] = "embedded"
    scheduler: Annotated[Label, Field(max_length=40)] | None = None
    layers: Annotated[tuple[Layer, ...], Field(strict=False, max_length=64)] = ()
    avoids: Annotated[tuple[Avoid, ...], Field(strict=False, max_length=8)] = ()
    spread: Annotated[float, Field(ge=0, le=3)] = 0.0
    spread_threshold: Share | None = None
    spread_match: Literal["all", "nearest", "first"] = "all"
    spread_parts: Annotated[tuple[Part, ...], Field(strict=False, max_length=5)] = ()
    spread_every: Annotated[int, Field(ge=1, le=16)] = 1
    exact_match: bool = False
    window: Share | None = None
    axis: Literal["source", "released"] = "source"
    avoid_by: Literal["guidance", "push"] = "guidance"
    spread_by: Literal["guidance", "push"] = "guidance"
    attend_both_ways: bool = False
    harmonize_by: Literal["steps", "timestep"] = "steps"
    grow: Annotated[float, Field(ge=-128, le=128)] = 0.0
    edges: Literal["canny", "soft"] = "canny"
    cads: Annotated[float, Field(ge=0, le=2)] = 0.0
    cads_low: Share | None = None
    cads_high: Share | None = None
    cads_mix: Share | None = None
    guidance_interval: Annotated[tuple[Level, Level], Field(strict=False)] | None = None
    variants: bool = False
    watch: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.seed is not None and self.seed + self.images - 1 > MAX_SEED:
            raise ValueError(
                f"seed is {self.seed}, which leaves no seeds for {self.images} images; "
                f"give at most {MAX_SEED - self.images + 1}."
            )
        if self.guidance_interval is not None and self.guidance_interval[0] >= self.guidance_interval[1]:
            raise ValueError(
                f"guidance_interval is {list(self.guidance_interval)}; give the lower noise level first."
            )
        for kind, parts in (("layers", self.layers), ("avoids", self.avoids)):
            seen: set[str] = set()
            for part in parts:
                if part.id in seen:
                    raise ValueError(f"two {kind} have the id {part.id!r}; give each its own.")
                seen.add(part.id)
        ids = {layer.id for layer in self.layers}
        for avoid in self.avoids:
            if avoid.layer is not None and avoid.layer not in ids:
                raise ValueError(
                    f"avoid {avoid.label!r}: there is no layer with the id {avoid.layer!r}; "
                    "name an existing layer or none."
                )
        return self

    @classmethod
    def from_json(cls, text: str | bytes) -> Collage:
        """Read a document.

        Raises `VersionError` for a newer schema, `FieldError` for a field that is unknown, missing or out of
        bounds, `ArchiveError` for a text that is not a JSON object.
        """
        if len(text) > MAX_JSON:
            raise ArchiveError(f"the collage's JSON is longer than {MAX_JSON >> 20} MiB; make it smaller.")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArchiveError(f"the collage is not readable JSON ({error}); save it again.") from None
        if not isinstance(data, dict):
            raise ArchiveError("the collage's JSON is not an object; give a file that Decollage saved.")
        version = data.get("version")
        if isinstance(version, int) and version > VERSION:
            raise VersionError(
                f"the collage has version {version} and this program reads up to {VERSION}; update Decollage."
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if first["type"] == "json_invalid":  # Python's reader lets half of a surrogate pair through
                raise ArchiveError(
                    f"the collage is not readable JSON ({first['msg']}); save it again."
                ) from None
            raise field_error(error, cls, data) from None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Collage:
        """Read a document from JSON-like data, such as the page sends; errors as in `from_json`."""
        try:
            text = json.dumps(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise FieldError(f"the collage holds something that is not JSON ({error}); remove it.") from None
        return cls.from_json(text)

    def to_json(self) -> str:
        """Readable JSON with every field; `from_json` gives an equal collage back."""
        return self.model_dump_json(indent=1) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-ready data."""
        return self.model_dump(mode="json")

    def layer(self, layer_id: str) -> Layer:
        """The layer with this id; `FieldError` when there is none."""
        for layer in self.layers:
            if layer.id == layer_id:
                return layer
        raise FieldError(f"there is no layer with the id {layer_id!r}; use one of the collage's own.")

    def replace_layer(self, layer_id: str, **changes: Any) -> Collage:
        """A copy in which some fields of one layer are changed."""
        changed = self.layer(layer_id).replace(**changes)
        return self.replace(layers=[changed if layer.id == layer_id else layer for layer in self.layers])

    def pictures(self) -> Iterator[str]:
        """Digests of all pictures the document names, without repetition, in a fixed order."""
        named = [self.background.picture]
        parts: tuple[Layer | Avoid, ...] = (*self.layers, *self.avoids)
        for part in parts:
            named += [part.picture, part.mask]
        yield from dict.fromkeys(name for name in named if name is not None)


def new_id() -> str:
    """A fresh id for a layer or a reference."""
    return secrets.token_hex(4)

"""Requests: frozen, bounded, and the same after a trip through JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import FieldError
from pipelines.request import (
    MAX_AVOIDS,
    MAX_EVERY,
    MAX_GROW,
    MAX_IMAGES,
    MAX_LAYERS,
    MAX_PROMPT,
    MAX_STEPS,
    AvoidRequest,
    ImagePromptRequest,
    LayerRequest,
    LookRequest,
    RenderRequest,
    Variant,
)

T = TypeVar("T")

PLAIN: dict[str, Any] = {
    "model": "embedded",
    "width": 256,
    "height": 256,
    "prompt": "a cat",
    "scheduler": "ddim",
    "steps": 20,
    "guidance": 4.0,
    "seed": 0,
}
LAYER: dict[str, Any] = {"name": "cat", "mask": "m", "harmonize": 0.5}
AVOID: dict[str, Any] = {"name": "that", "picture": "p", "alpha": 1.0, "threshold": 0.5}
share = st.floats(0, 1)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
sides = st.integers(8, 256).map(lambda eighth: eighth * 8)
words = st.text(max_size=9)
prompts = st.text(min_size=2, max_size=40)


def whole(part: type[T], /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[T]:
    """Examples of a request's part, drawn field by field; there is a strategy for each."""
    assert fields.keys() == names(part), part.__name__
    return st.builds(part, **fields)


def names(part: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(part)}


def places(prompt: str) -> st.SearchStrategy[tuple[int, int] | None]:
    """Where a layer's words stand in ``prompt``, or that it has none."""
    pairs = st.integers(0, len(prompt) - 2).flatmap(
        lambda start: st.integers(start + 1, len(prompt)).map(lambda end: (start, end))
    )
    return st.none() | pairs


image_prompts = whole(ImagePromptRequest, cutout=digests, strength=share)
looks = whole(LookRequest, cutout=digests, vectors=st.integers(0, 4), steps=st.integers(1, 5000))


@st.composite
def requests(draw: st.DrawFn) -> RenderRequest:
    """Requests in which every field takes any value that it may take; a new field must be added here."""
    prompt = draw(prompts)
    layers = draw(
        st.lists(
            whole(
                LayerRequest,
                name=words,
                mask=digests,
                span=places(prompt),
                harmonize=share,
                feather=st.floats(0, 256),
                attend_inside=share,
                attend_outside=share,
                negative=words,
                keep_shape=share,
                look=st.none() | looks,
                image_prompt=st.none() | image_prompts,
                vary=st.floats(0, 3),
            ),
            max_size=4,
        )
    )
    reach = st.none() | st.integers(0, len(layers) - 1) if layers else st.none()
    avoids = whole(
        AvoidRequest,
        name=words,
        picture=digests,
        mask=st.none() | digests,
        alpha=st.floats(-1, 3),
        threshold=share,
        layer=reach,
        window=st.none() | share,
    )
    told = draw(st.integers(0, 3))  # images with prompts of their own
    low, high = sorted((draw(share), draw(share)))
    axis = draw(st.sampled_from(("source", "released")))
    variants = prompts.flatmap(
        lambda text: whole(Variant, prompt=st.just(text), spans=st.tuples(*[places(text)] * len(layers)))
    )
    drawn = whole(
        RenderRequest,
        model=words,
        width=sides,
        height=sides,
        prompt=st.just(prompt),
        negative_prompt=words,
        collage=digests,
        frozen=st.none() | digests,
        background_harmonize=share,
        layers=st.just(tuple(layers)),
        avoids=st.lists(avoids, max_size=3).map(tuple),
        spread=st.floats(-1, 3),
        spread_threshold=share,
        spread_match=st.sampled_from(("all", "nearest", "first")),
        spread_parts=st.sampled_from(((), ("up",), ("double", "single"))),
        spread_every=st.integers(1, 1 if axis == "released" else MAX_EVERY),
        exact_match=st.booleans(),
        window=share,
        axis=st.just(axis),
        avoid_by=st.sampled_from(("guidance", "push")),
        spread_by=st.sampled_from(("guidance", "push")),
        attend_both_ways=st.booleans(),
        harmonize_by=st.sampled_from(("steps", "timestep")),
        grow=st.floats(-MAX_GROW, MAX_GROW),
        edges=st.sampled_from(("canny", "soft")),
        cads=st.floats(0, 2),
        cads_low=st.just(low),
        cads_high=st.just(high),
        cads_mix=share,
        guidance_interval=st.none() | st.tuples(st.floats(0, 5), st.floats(5.1, 14.6)),
        scheduler=words,
        steps=st.integers(1, MAX_STEPS),
        guidance=st.floats(0, 50),
        seed=st.integers(0, 2**62),
        images=st.just(told) if told else st.integers(1, MAX_IMAGES),
        variants=st.tuples(*[variants] * told),
    )
    return draw(drawn)


@given(requests())
def test_round_trip(request: RenderRequest) -> None:
    text = request.to_json()
    again = RenderRequest.from_json(text)
    assert again == request
    assert again.to_json() == text and again.key == request.key


@given(requests(), st.integers(0, 2**62))
def test_another_seed_is_another_key(request: RenderRequest, seed: int) -> None:
    assert (request.replace(seed=seed).key == request.key) == (seed == request.seed)


def test_equal_requests_have_equal_keys() -> None:
    one, other = RenderRequest(**PLAIN), RenderRequest(**{**PLAIN, "guidance": 4, "spread": -0.0})
    assert one == other and one.key == other.key
    levels = [RenderRequest(**PLAIN, guidance_interval=pair) for pair in ((0, 2), (-0.0, 2.0))]
    assert levels[0].key == levels[1].key != one.key
    layers = [LayerRequest(**{**LAYER, "harmonize": number}) for number in (1, 1.0)]
    keys = {RenderRequest(**PLAIN, collage="c", layers=(layer,)).key for layer in layers}
    assert len(keys) == 1
    avoids = [AvoidRequest(**{**AVOID, "window": number}) for number in (1, 1.0)]
    assert len({RenderRequest(**PLAIN, avoids=(avoid,)).key for avoid in avoids}) == 1


def test_defaults_may_be_left_out_of_json() -> None:
    assert RenderRequest.from_json(json.dumps(PLAIN)) == RenderRequest(**PLAIN)


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RenderRequest(**PLAIN).seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (json.dumps({**PLAIN, "colour": 1}), "unknown field 'colour'"),
        (json.dumps({**PLAIN, "collage": "c", "layers": [{**LAYER, "size": 1}]}), "layers.*'size'"),
        (json.dumps({**PLAIN, "avoids": [{**AVOID, "size": 1}]}), "avoids.*'size'"),
        (json.dumps({**PLAIN, "collage": "c", "layers": [{**LAYER, "look": {"size": 1}}]}), "look.*'size'"),
        (json.dumps({**PLAIN, "collage": "c", "layers": [{**LAYER, "look": {}}]}), "look is incomplete"),
        (
            json.dumps({**PLAIN, "collage": "c", "layers": [{**LAYER, "image_prompt": {"cutout": "c"}}]}),
            "image_prompt is incomplete.*strength",
        ),
        (json.dumps({k: v for k, v in PLAIN.items() if k != "seed"}), "incomplete.*seed"),
        ("{", "JSON"),
        ("[1]", "object"),
    ],
)
def test_bad_json_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(FieldError, match=says):
        RenderRequest.from_json(text)


BOUNDS: list[tuple[str, list[Any]]] = [
    ("width", [0, 63, 65, 2056, 100, 64.0, True, "64"]),
    ("height", [-8, 60, 4096]),
    ("steps", [0, MAX_STEPS + 1, 2.5, math.nan]),
    ("guidance", [-0.1, 50.1, math.nan, math.inf, "4", True, None]),
    ("seed", [-1, 2**63, 1.5, None]),
    ("images", [0, MAX_IMAGES + 1, 1.0]),
    ("background_harmonize", [-0.1, 1.1, math.nan]),
    ("spread", [-1.1, 3.1, math.nan]),
    ("spread_threshold", [-0.1, 1.1]),
    ("window", [-0.1, 1.1]),
    ("axis", ["", "both"]),
    ("avoid_by", ["", "both"]),
    ("spread_by", ["", "both"]),
    ("harmonize_by", ["", "time", None]),
    ("grow", [-MAX_GROW - 1, MAX_GROW + 1, math.nan, "1", None]),
    ("spread_match", ["", "last"]),
    ("edges", ["", "hed", None]),
    ("cads", [-0.1, 2.1, math.nan]),
    ("cads_low", [-0.1, 0.95]),
    ("cads_high", [0.5, 1.1]),
    ("cads_mix", [-0.1, 1.1]),
    ("guidance_interval", [(1.0,), (2.0, 1.0), (0.0, 14.7), (-1.0, 1.0), [0.0, 1.0], ("0", 1.0), 3.0]),
    ("spread_parts", ["up", ("head",), ("up", "up"), ["up"]]),
    ("spread_every", [0, 17, 2.0]),
    ("exact_match", [0, "yes", None]),
    ("attend_both_ways", [1, "no"]),
    ("prompt", ["a" * (MAX_PROMPT + 1)]),
    ("negative_prompt", ["a" * (MAX_PROMPT + 1)]),
]
BOUNDS_OF_LAYERS: list[tuple[str, list[Any]]] = [
    ("harmonize", [-0.1, 1.1, math.nan]),
    ("attend_inside", [-0.1, 1.1, math.nan]),
    ("attend_outside", [-0.1, 1.1]),
    ("keep_shape", [-0.1, 1.1]),
    ("vary", [-0.1, 3.1]),
    ("feather", [-1, 257]),
    ("negative", [None, 1, "a" * (MAX_PROMPT + 1)]),
    ("span", [(0, 99), (3, 3), (4, 2), (-1, 3)]),
    ("image_prompt", [True, 0.5, {"cutout": "c", "strength": 1.0}]),
    (
        "image_prompt",
        [ImagePromptRequest(cutout="c", strength=value) for value in (-0.1, 1.1, math.nan, True)],
    ),
    ("look", [True, "c", {"cutout": "c", "steps": 4}]),
    ("look", [LookRequest(cutout="c", steps=steps) for steps in (0, 5001, 2.5, True)]),
    ("look", [LookRequest(cutout="c", steps=4, vectors=vectors) for vectors in (-1, 5, 1.0)]),
]
BOUNDS_OF_AVOIDS: list[tuple[str, list[Any]]] = [
    ("alpha", [-1.1, 3.1, math.nan]),
    ("threshold", [-0.1, 1.1]),
    ("window", [-0.1, 1.1]),
    ("layer", [0, -1]),
]


def test_every_field_that_has_bounds_is_refused_beyond_them() -> None:
    free = {
        RenderRequest: {"model", "scheduler", "collage", "frozen", "layers", "avoids", "variants"},
        LayerRequest: {"name", "mask"},
        AvoidRequest: {"name", "picture", "mask"},
    }
    rows = (BOUNDS, BOUNDS_OF_LAYERS, BOUNDS_OF_AVOIDS)
    for (part, without), bounds in zip(free.items(), rows, strict=True):
        assert {field for field, _ in bounds} == names(part) - without


@pytest.mark.parametrize(("field", "values"), BOUNDS)
def test_bounds(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(FieldError, match=rf"\b{field}\b"):
            RenderRequest(**{**PLAIN, field: value})


@pytest.mark.parametrize(("field", "values"), BOUNDS_OF_LAYERS)
def test_bounds_of_layers_name_the_layer(field: str, values: list[Any]) -> None:
    says = "its words' place" if field == "span" else field
    for value in values:
        with pytest.raises(FieldError, match=rf"^layer 'cat': {says}\b"):
            RenderRequest(**PLAIN, collage="c", layers=(LayerRequest(**{**LAYER, field: value}),))


@pytest.mark.parametrize(("field", "values"), BOUNDS_OF_AVOIDS)
def test_bounds_of_avoids_name_the_avoid(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(FieldError, match=rf"^avoid 'that': .*\b{field}\b"):
            RenderRequest(**PLAIN, avoids=(AvoidRequest(**{**AVOID, field: value}),))


def test_variants_are_one_an_image_with_a_place_for_each_layer() -> None:
    def with_variants(*variants: Variant, images: int = 1) -> RenderRequest:
        layers = (LayerRequest(**LAYER),)
        return RenderRequest(**PLAIN, collage="c", layers=layers, images=images, variants=variants)

    one = Variant(prompt="dogs", spans=((0, 4),))
    assert with_variants(one, one, images=2).of_image(1).layers[0].span == (0, 4)
    for images in (1, 3):
        with pytest.raises(FieldError, match=r"^there are 2 variants"):
            with_variants(one, one, images=images)
    for spans in ((), (None, None)):
        with pytest.raises(FieldError, match=f"^variant 0 has {len(spans)} places"):
            with_variants(Variant(prompt="dogs", spans=spans))
    for prompt, span in (("dog", (0, 4)), ("dogs", (2, 2))):
        with pytest.raises(FieldError, match=r"^layer 'cat': its words' place"):
            with_variants(Variant(prompt=prompt, spans=(span,)))
    with pytest.raises(FieldError, match=r"^prompt is longer"):
        with_variants(Variant(prompt="a" * (MAX_PROMPT + 1), spans=(None,)))


def test_the_released_axis_takes_every_token() -> None:
    assert RenderRequest(**PLAIN, spread_every=2).spread_every == 2
    with pytest.raises(FieldError, match="spread_every"):
        RenderRequest(**PLAIN, spread_every=2, axis="released")


def test_counts() -> None:
    layer, avoid = LayerRequest(**LAYER), AvoidRequest(**AVOID)
    assert len(RenderRequest(**PLAIN, collage="c", layers=(layer,) * MAX_LAYERS).layers) == MAX_LAYERS
    with pytest.raises(FieldError, match=str(MAX_LAYERS)):
        RenderRequest(**PLAIN, collage="c", layers=(layer,) * (MAX_LAYERS + 1))
    with pytest.raises(FieldError, match=str(MAX_AVOIDS)):
        RenderRequest(**PLAIN, avoids=(avoid,) * (MAX_AVOIDS + 1))
    with pytest.raises(FieldError, match="collage"):
        RenderRequest(**PLAIN, layers=(layer,))

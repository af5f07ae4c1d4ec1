"""Requests: frozen, bounded, and the same after a trip through JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import FieldError
from pipelines.request import (
    MAX_AVOIDS,
    MAX_IMAGES,
    MAX_LAYERS,
    MAX_PROMPT,
    MAX_STEPS,
    AvoidRequest,
    ImagePromptRequest,
    LayerRequest,
    LookRequest,
    RenderRequest,
)

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
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
sides = st.integers(8, 256).map(lambda eighth: eighth * 8)


image_prompts = st.builds(ImagePromptRequest, cutout=digests, strength=share)
looks = st.builds(LookRequest, cutout=digests, vectors=st.integers(0, 4), steps=st.integers(1, 5000))


@st.composite
def requests(draw: st.DrawFn) -> RenderRequest:
    prompt = draw(st.text(min_size=2, max_size=40))
    spans = st.integers(0, len(prompt) - 2).flatmap(
        lambda start: st.integers(start + 1, len(prompt)).map(lambda end: (start, end))
    )
    layers = draw(
        st.lists(
            st.builds(
                LayerRequest,
                name=st.text(max_size=9),
                mask=digests,
                span=st.none() | spans,
                harmonize=share,
                feather=st.floats(0, 256),
                attend_inside=share,
                attend_outside=share,
                negative=st.text(max_size=9),
                keep_shape=share,
                look=st.none() | looks,
                image_prompt=st.none() | image_prompts,
                vary=st.floats(0, 3),
            ),
            max_size=4,
        )
    )
    reach = st.none() | st.integers(0, len(layers) - 1) if layers else st.none()
    avoids = st.builds(
        AvoidRequest,
        name=st.text(max_size=9),
        picture=digests,
        mask=st.none() | digests,
        alpha=st.floats(-1, 3),
        threshold=share,
        layer=reach,
    )
    return RenderRequest(
        model=draw(st.text(max_size=9)),
        width=draw(sides),
        height=draw(sides),
        prompt=prompt,
        negative_prompt=draw(st.text(max_size=9)),
        collage=draw(digests),
        frozen=draw(st.none() | digests),
        background_harmonize=draw(share),
        layers=tuple(layers),
        avoids=tuple(draw(st.lists(avoids, max_size=3))),
        spread=draw(st.floats(-1, 3)),
        spread_threshold=draw(share),
        spread_match=draw(st.sampled_from(("all", "nearest", "first"))),
        spread_parts=draw(st.sampled_from(((), ("up",), ("double", "single")))),
        cads=draw(st.floats(0, 2)),
        cads_high=1.0,
        cads_low=draw(share),
        cads_mix=draw(share),
        guidance_interval=draw(st.none() | st.tuples(st.floats(0, 5), st.floats(5.1, 14.6))),
        window=draw(share),
        axis=draw(st.sampled_from(("source", "released"))),
        avoid_by=draw(st.sampled_from(("guidance", "push"))),
        spread_by=draw(st.sampled_from(("guidance", "push"))),
        scheduler=draw(st.text(max_size=9)),
        steps=draw(st.integers(1, MAX_STEPS)),
        guidance=draw(st.floats(0, 50)),
        seed=draw(st.integers(0, 2**62)),
        images=draw(st.integers(1, MAX_IMAGES)),
    )


@given(requests())
def test_round_trip(request: RenderRequest) -> None:
    text = request.to_json()
    again = RenderRequest.from_json(text)
    assert again == request
    assert again.to_json() == text and again.key == request.key


@given(requests(), st.integers(0, 2**62))
def test_another_seed_is_another_key(request: RenderRequest, seed: int) -> None:
    assert (request.replace(seed=seed).key == request.key) == (seed == request.seed)


def test_a_window_of_its_own_survives_the_round_trip() -> None:
    avoid = AvoidRequest(name="a", picture="0", alpha=-1, threshold=0.5, window=1)
    request = RenderRequest(**PLAIN, avoids=(avoid,))
    again = RenderRequest.from_json(request.to_json())
    assert again == request and (again.avoids[0].window, again.avoids[0].alpha) == (1.0, -1.0)
    assert type(again.avoids[0].window) is float
    with pytest.raises(FieldError, match="window"):
        request.replace(avoids=(dataclasses.replace(avoid, window=1.5),))


def test_equal_requests_have_equal_keys() -> None:
    one, other = RenderRequest(**PLAIN), RenderRequest(**{**PLAIN, "guidance": 4, "spread": -0.0})
    assert one == other and one.key == other.key
    levels = [RenderRequest(**PLAIN, guidance_interval=pair) for pair in ((0, 2), (-0.0, 2.0))]
    assert levels[0].key == levels[1].key != one.key
    layers = [LayerRequest(**{**LAYER, "harmonize": number}) for number in (1, 1.0)]
    keys = {RenderRequest(**PLAIN, collage="c", layers=(layer,)).key for layer in layers}
    assert len(keys) == 1


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


@pytest.mark.parametrize(
    ("field", "values"),
    [
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
    ],
)
def test_bounds(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(FieldError, match=field.split("_")[-1]):
            RenderRequest(**{**PLAIN, field: value})


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("harmonize", [-0.1, 1.1, math.nan]),
        ("attend_inside", [-0.1, 1.1, math.nan]),
        ("attend_outside", [-0.1, 1.1]),
        ("keep_shape", [-0.1, 1.1]),
        ("vary", [-0.1, 3.1]),
        ("feather", [-1, 257]),
        ("span", [(0, 99), (3, 3), (4, 2), (-1, 3)]),
        ("image_prompt", [True, 0.5, {"cutout": "c", "strength": 1.0}]),
        (
            "image_prompt",
            [ImagePromptRequest(cutout="c", strength=value) for value in (-0.1, 1.1, math.nan, True)],
        ),
        ("look", [True, "c", {"cutout": "c", "steps": 4}]),
        ("look", [LookRequest(cutout="c", steps=steps) for steps in (0, 5001, 2.5, True)]),
        ("look", [LookRequest(cutout="c", steps=4, vectors=vectors) for vectors in (-1, 5, 1.0)]),
    ],
)
def test_bounds_of_layers_name_the_layer(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(FieldError, match="layer 'cat'"):
            RenderRequest(**PLAIN, collage="c", layers=(LayerRequest(**{**LAYER, field: value}),))


@pytest.mark.parametrize(
    ("field", "values"), [("alpha", [-1.1, 3.1, math.nan]), ("threshold", [-0.1, 1.1]), ("layer", [0, -1])]
)
def test_bounds_of_avoids_name_the_avoid(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(FieldError, match="avoid 'that'"):
            RenderRequest(**PLAIN, avoids=(AvoidRequest(**{**AVOID, field: value}),))


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

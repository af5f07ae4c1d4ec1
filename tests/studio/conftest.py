"""Pictures and generated documents for the studio's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel

from studio.document import MAX_SEED, Avoid, Background, Canvas, Collage, Layer
from studio.pictures import Library

T = TypeVar("T", bound=BaseModel)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """An opaque RGB picture with no two places alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def whole(model: type[T], /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[T]:
    """Examples of a document's part, drawn field by field; there is a strategy for each."""
    assert fields.keys() == model.model_fields.keys() - {"version"}, model.__name__
    return st.builds(model, **fields)


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture(scope="session")
def few_pictures() -> Library:
    """Three small pictures that generated documents refer to."""
    library = Library()
    for number in range(3):
        library.add(noise(4 + number, 3, number))
    return library


@pytest.fixture(scope="session")
def collages(few_pictures: Library) -> st.SearchStrategy[Collage]:
    """Documents in which every field takes any value that it may take; a new field must be added here."""
    digests = st.sampled_from(sorted(few_pictures))
    maybe = st.none() | digests
    text = st.text(st.characters(codec="utf-8"), max_size=30)

    def number(low: float, high: float) -> st.SearchStrategy[float]:
        return st.floats(low, high, allow_nan=False)

    share = number(0, 1)
    layers = whole(
        Layer,
        id=st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True),
        name=text,
        picture=digests,
        prompt=text,
        x=number(-16384, 16384),
        y=number(-16384, 16384),
        scale_x=number(0.001, 64),
        scale_y=number(0.001, 64),
        rotation=number(-3600, 3600),
        flip_x=st.booleans(),
        flip_y=st.booleans(),
        opacity=share,
        visible=st.booleans(),
        locked=st.booleans(),
        clip=st.none() | st.lists(st.tuples(number(-99, 99), number(-99, 99)), min_size=3, max_size=6),
        mask=maybe,
        feather=st.none() | number(0, 256),
        harmonize=st.none() | share,
        attend_inside=st.none() | share,
        attend_outside=st.none() | share,
        negative=text,
        keep_shape=st.none() | share,
        vary=st.none() | number(0, 3),
        look=st.booleans(),
        look_vectors=st.none() | st.integers(1, 4),
        look_steps=st.none() | st.integers(1, 5000),
        image_prompt=st.none() | share,
    )

    @st.composite
    def documents(draw: st.DrawFn) -> Collage:
        drawn = draw(st.lists(layers, max_size=4, unique_by=lambda layer: layer.id))
        avoids = whole(
            Avoid,
            id=st.sampled_from("abcdefgh"),
            name=text,
            picture=maybe,
            mask=maybe,
            made=st.sampled_from(["given", "blurred", "noisy"]),
            alpha=st.none() | number(-1, 3),
            window=st.none() | share,
            threshold=st.none() | number(0.5, 1),
            layer=st.sampled_from([None, *(layer.id for layer in drawn)]),
            visible=st.booleans(),
        )
        sides = st.integers(8, 256).map(lambda eighth: 8 * eighth)
        collages = whole(
            Collage,
            name=text,
            canvas=whole(Canvas, width=sides, height=sides),
            background=whole(
                Background,
                colour=st.from_regex(r"#[0-9a-fA-F]{6}", fullmatch=True),
                picture=maybe,
                harmonize=st.none() | share,
            ),
            prompt=text,
            negative_prompt=text,
            seed=st.none() | st.integers(0, MAX_SEED - 15),
            steps=st.none() | st.integers(1, 200),
            guidance=st.none() | number(0, 50),
            images=st.integers(1, 16),
            model=st.sampled_from(["embedded", "owner/model"]),
            scheduler=st.none() | st.just("euler"),
            layers=st.just(tuple(drawn)),
            avoids=st.lists(avoids, max_size=3, unique_by=lambda avoid: avoid.id).map(tuple),
            spread=number(0, 3),
            spread_threshold=st.none() | share,
            spread_match=st.sampled_from(["all", "nearest", "first"]),
            spread_parts=st.sampled_from([(), ("up",), ("double", "single")]),
            spread_every=st.integers(1, 16),
            exact_match=st.booleans(),
            cads=number(0, 2),
            cads_low=st.none() | share,
            cads_high=st.none() | share,
            cads_mix=st.none() | share,
            guidance_interval=st.none() | st.tuples(number(0, 5), number(5.5, 14.6)),
            window=st.none() | share,
            axis=st.sampled_from(["source", "released"]),
            avoid_by=st.sampled_from(["guidance", "push"]),
            spread_by=st.sampled_from(["guidance", "push"]),
            attend_both_ways=st.booleans(),
            harmonize_by=st.sampled_from(["steps", "timestep"]),
            grow=st.floats(-128, 128),
            edges=st.sampled_from(["canny", "soft"]),
            variants=st.booleans(),
            watch=st.booleans(),
        )
        return draw(collages)

    return documents()


@pytest.fixture(scope="session")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv2 to which all pictures are alike: what it measures is known, and nobody else measures it."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_ratio": 1}
    model = Dinov2Model(Dinov2Config(**small, image_size=32, patch_size=8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.layernorm.bias.fill_(1)
    folder = tmp_path_factory.mktemp("blind")
    model.save_pretrained(folder)
    return folder

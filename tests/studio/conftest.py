"""Pictures and generated documents for the studio's tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from studio.document import MAX_SEED, Avoid, Background, Canvas, Collage, Layer
from studio.pictures import Library


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """An opaque RGB picture with no two places alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


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
    """Documents in which every field takes any value that it may take."""
    digests = st.sampled_from(sorted(few_pictures))
    maybe = st.none() | digests
    text = st.text(st.characters(codec="utf-8"), max_size=30)

    def number(low: float, high: float) -> st.SearchStrategy[float]:
        return st.floats(low, high, allow_nan=False)

    share = number(0, 1)
    layers = st.builds(
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
        avoids = st.builds(
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
        return Collage(
            name=draw(text),
            canvas=Canvas(width=draw(sides), height=draw(sides)),
            background=Background(
                colour=draw(st.from_regex(r"#[0-9a-fA-F]{6}", fullmatch=True)),
                picture=draw(maybe),
                harmonize=draw(st.none() | share),
            ),
            prompt=draw(text),
            negative_prompt=draw(text),
            seed=draw(st.none() | st.integers(0, MAX_SEED - 15)),
            steps=draw(st.none() | st.integers(1, 200)),
            guidance=draw(st.none() | number(0, 50)),
            images=draw(st.integers(1, 16)),
            model=draw(st.sampled_from(["embedded", "owner/model"])),
            scheduler=draw(st.none() | st.just("euler")),
            layers=tuple(drawn),
            avoids=tuple(draw(st.lists(avoids, max_size=3, unique_by=lambda avoid: avoid.id))),
            spread=draw(number(0, 3)),
            spread_threshold=draw(st.none() | share),
            spread_match=draw(st.sampled_from(["all", "nearest", "first"])),
            spread_parts=draw(st.sampled_from([(), ("up",), ("double", "single")])),
            spread_every=draw(st.integers(1, 16)),
            exact_match=draw(st.booleans()),
            cads=draw(number(0, 2)),
            cads_low=draw(st.none() | share),
            guidance_interval=draw(st.none() | st.tuples(number(0, 5), number(5.5, 14.6))),
            window=draw(st.none() | share),
            axis=draw(st.sampled_from(["source", "released"])),
            avoid_by=draw(st.sampled_from(["guidance", "push"])),
            spread_by=draw(st.sampled_from(["guidance", "push"])),
            attend_both_ways=draw(st.booleans()),
            harmonize_by=draw(st.sampled_from(["steps", "timestep"])),
            grow=draw(st.floats(-128, 128)),
            edges=draw(st.sampled_from(["canny", "soft"])),
            variants=draw(st.booleans()),
            watch=draw(st.booleans()),
        )

    return documents()

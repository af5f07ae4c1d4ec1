"""``--set``: one field at a time, refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipelines.errors import FieldError, PictureError
from studio.cli.settings import apply_settings, at_size, named
from studio.document import Avoid, Collage, Layer
from studio.pictures import Library

DIGEST = "a" * 64
COLLAGE = Collage(
    layers=(
        Layer(id="one", name="cat", picture=DIGEST, x=1.0, y=2.0),
        Layer(id="two", name="St. Bernard", picture=DIGEST, x=1.0, y=2.0),
        Layer(id="three", prompt="twin", picture=DIGEST, x=1.0, y=2.0),
        Layer(id="four", prompt="twin", picture=DIGEST, x=1.0, y=2.0),
    ),
    avoids=(Avoid(id="far", picture=DIGEST),),
)


def test_every_kind_of_key() -> None:
    library = Library()
    changed = apply_settings(
        COLLAGE,
        [
            "steps=20",
            "seed=0",
            "prompt=a = b, 42",
            "canvas.width=512",
            "background.harmonize=1",
            "layers.cat.harmonize=0.3",
            "layers.St. Bernard.visible=false",
            "layers.four.prompt=7",
            "layers.cat.clip=[[0,0],[1,0],[1,1]]",
            "layers.cat.image_prompt=.6",
            "avoids.far.alpha=-.5",
            "layers.cat.vary=1.5",
            "spread_match=nearest",
            'spread_parts=["up","mid"]',
            "spread_every=2",
            "cads=0.25",
            "guidance_interval=[0.3,5.4]",
            "avoids.far.layer=St. Bernard",
        ],
        library,
    )
    assert (changed.steps, changed.seed, changed.prompt) == (20, 0, "a = b, 42")
    assert (changed.canvas.width, changed.background.harmonize) == (512, 1)
    assert changed.layer("one").harmonize == 0.3
    assert changed.layer("one").clip == ((0, 0), (1, 0), (1, 1))
    assert not changed.layer("two").visible
    assert changed.layer("four").prompt == "7"
    assert (changed.layer("one").image_prompt, changed.avoids[0].alpha) == (0.6, -0.5)
    assert (changed.layer("one").vary, changed.cads, changed.guidance_interval) == (1.5, 0.25, (0.3, 5.4))
    assert (changed.spread_match, changed.spread_parts, changed.spread_every) == ("nearest", ("up", "mid"), 2)
    assert changed.avoids[0].layer == "two" and len(library) == 0
    assert [layer.id for layer in changed.layers] == [layer.id for layer in COLLAGE.layers]


def test_a_layer_is_meant_by_its_id_else_its_name_else_its_words() -> None:
    ids = ("dog", "one", "two", "three")
    called = [Layer(id=one, picture=DIGEST, x=0.0, y=0.0) for one in ids]
    layers = [
        called[0].replace(name="cat"),
        called[1].replace(name="dog", prompt="a hat"),
        called[2].replace(name="tall", prompt="cat"),
        called[3].replace(name="red", prompt="a hat"),
    ]
    assert [named(layers, text, "layers").id for text in ("dog", "cat", "one", "red")] == [
        "dog",
        "dog",
        "one",
        "three",
    ]
    assert named(layers[1:], "cat", "layers").id == "two"  # its words, though it has a name
    with pytest.raises(FieldError, match="2 layers are called 'a hat'; use one of their ids: one, three"):
        named(layers, "a hat", "layers")


def test_null_brings_the_default_back_and_the_last_setting_counts() -> None:
    assert apply_settings(COLLAGE, ["steps=3", "steps=null"], Library()) == COLLAGE
    assert apply_settings(COLLAGE, ["steps=3", "steps=4"], Library()).steps == 4
    changes = [
        "layers.cat.opacity=.5",
        "layers.cat.visible=false",
        "prompt=a cat",
        "images=4",
        "canvas.width=64",
    ]
    changes += ["background.colour=#000000", "avoids.far.made=noisy", 'spread_parts=["up"]']
    changed = apply_settings(COLLAGE, changes, Library())
    back = [f"{change.partition('=')[0]}=null" for change in changes]
    assert changed != COLLAGE and apply_settings(changed, back, Library()) == COLLAGE


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("steps", "it is not of the form FIELD=VALUE; write for example steps=20."),
        ("=3", "it is not of the form FIELD=VALUE"),
        ("stepps=3", "unknown field 'stepps'; did you mean 'steps'?"),
        ("steps=many", "steps is 'many'; give a whole number from 1 to 200."),
        ("steps=NaN", "steps is nan; give a whole number"),
        ("layers.cat.x=null", "layer 'cat': x is None; give a number from -16384 to 16384."),
        (
            "canvas.width=100",
            "canvas: width is 100; give a whole number from 64 to 2048 that is a multiple of 8.",
        ),
        ("layers.cat.harmonise=1", "layer 'cat': unknown field 'harmonise'; did you mean 'harmonize'?"),
        ("layers.cat.harmonize=2", "layer 'cat': harmonize is 2; give a number from 0 to 1."),
        (
            "layers.dog.harmonize=1",
            "no layer is called 'dog'; there are: 'cat', 'St. Bernard', 'twin', 'twin'.",
        ),
        ("layers.twin.harmonize=1", "2 layers are called 'twin'; use one of their ids: three, four."),
        ("layers..harmonize=1", "no layer is called ''; there are: "),
        ("layers.one.id=two", "two layers have the id 'two'; give each its own."),
        ("avoids.sea.alpha=1", "no avoid is called 'sea'; there are: 'far'."),
        ("avoids.far.layer=sea", "no layer is called 'sea'; there are: 'cat'"),
        ("mask=cut.png", "unknown field; did you mean 'layers.NAME.mask' or 'avoids.NAME.mask'?"),
        ("Insist=.5", "unknown field; did you mean 'layers.NAME.attend_inside'?"),
        ("layers.cat.without=a hat", "unknown field; did you mean 'layers.NAME.negative'?"),
        ("avoids.far.Likeness=1", "unknown field; did you mean 'spread_threshold' or 'avoids.NAME."),
        ("Keep shape=1", "unknown field; did you mean 'layers.NAME.keep_shape'?"),
        ("layers.cat.Keep shape=1", "layer 'cat': unknown field 'Keep shape'; did you mean 'keep_shape'?"),
        ("layers.cat.steps=2", "unknown field; did you mean 'steps'?"),
        ("colour=#000000", "unknown field; did you mean 'background.colour'?"),
        ("nonsense=1", "unknown field 'nonsense'; remove it."),
        ("sampler.steps=1", "there is no 'sampler' to set; use canvas, background, layers, avoids or"),
    ],
)
def test_a_bad_setting_is_refused_with_itself_named(setting: str, why: str) -> None:
    with pytest.raises(FieldError) as caught:
        apply_settings(COLLAGE, [setting], Library())
    assert str(caught.value).startswith(f"--set {setting}: {why}")


def test_fields_of_pictures_take_files(tmp_path: Path) -> None:
    file, library = tmp_path / "a=b.png", Library()
    Image.new("L", (6, 4), 200).save(file)
    asked = [f"avoids.far.mask={file}", f"layers.cat.mask={file}", f"background.picture={file}"]
    changed = apply_settings(COLLAGE, asked, library)
    (digest,) = library
    assert library.size(digest) == (6, 4)
    assert (changed.avoids[0].mask, changed.layer("one").mask, changed.background.picture) == (digest,) * 3
    back = apply_settings(changed, ["avoids.far.mask=null", f"layers.cat.mask={DIGEST}"], library)
    assert (back.avoids[0].mask, back.layer("one").mask) == (None, DIGEST)
    for setting in (f"layers.cat.mask={64 * '0'}", f"background.picture={64 * '0'}"):
        with pytest.raises(PictureError) as caught:
            apply_settings(COLLAGE, [setting], library)
        assert (
            str(caught.value) == f"--set {setting}: the collage holds no picture 000000000000; give a file."
        )
    with pytest.raises(
        PictureError, match=r"^--set avoids\.far\.mask=missing\.png: the picture 'missing\.png'"
    ):
        apply_settings(COLLAGE, ["avoids.far.mask=missing.png"], library)


def test_a_size_that_is_refused_names_the_option() -> None:
    assert at_size(COLLAGE, None) is COLLAGE
    assert at_size(COLLAGE, "512").canvas.width == 512
    with pytest.raises(FieldError, match=r"--size huge: size 'huge' is no size; write"):
        at_size(COLLAGE, "huge")
    with pytest.raises(FieldError, match=r"--size 100: canvas: width"):
        at_size(COLLAGE, "100")

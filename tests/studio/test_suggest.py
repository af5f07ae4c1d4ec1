"""Starting values: by size and place, inside their bounds, never over what a person set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.loading import LoadOptions
from pipelines.models import card
from studio.cli import main
from studio.defaults import DEFAULTS, RANGES, defaults
from studio.document import Canvas, Collage, Layer
from studio.formats import archive
from studio.pictures import Library
from studio.suggest import NOTCH, Suggestion, apply, picture_sizes, suggest

SIZE = (100, 50)
WORDS = ("harmonize", "attend_inside", "attend_outside", "feather")


def layer(name: str, share: float = 0.5, **fields: Any) -> Layer:
    """A picture of 100 × 50 that is ``share`` of the canvas of 256 wide."""
    scale = share * 256 / SIZE[0]
    given = {"x": 128.0, "y": 128.0, "scale_x": scale, "scale_y": scale, "prompt": name}
    return Layer(**{"id": name, "picture": "0" * 64, **given, **fields})


def found(*layers: Layer, options: LoadOptions | None = None, **fields: Any) -> dict[str, dict[str, float]]:
    """Values by layer and word; keep shape only with ``options``, as it depends on what this machine has."""
    collage = Collage(**{"layers": layers, "model": "sd15", **fields})
    out: dict[str, dict[str, float]] = {}
    for one in suggest(collage, {one.id: SIZE for one in layers}, options):
        if one.word != "keep_shape" or options is not None:
            out.setdefault(one.layer, {})[one.word] = one.value
    return out


def test_keep_shape_where_the_model_has_a_controlnet_here(tmp_path: Path) -> None:
    layers = (layer("backdrop", 2.0, y=128.0), layer("half", 0.5), layer("small", 0.1), layer("top", 0.25))
    here = found(*layers, options=LoadOptions(controlnet=str(tmp_path)))
    assert [here[one.id]["keep_shape"] for one in layers] == [0.1, 0.6, 0.85, 0.75]
    assert (
        "keep_shape"
        not in found(layer("set", keep_shape=0.2), options=LoadOptions(controlnet=str(tmp_path)))["set"]
    )
    flux = found(*layers, options=LoadOptions(controlnet=str(tmp_path)), model="flux")
    unknown = found(*layers, options=LoadOptions(controlnet=str(tmp_path)), model="no/such")
    gone = found(*layers, options=LoadOptions(controlnet=str(tmp_path / "gone")))
    assert not any("keep_shape" in words for one in (flux, unknown, gone) for words in one.values())


def test_the_prior_of_the_papers_interface() -> None:
    values = found(layer("half", 0.5), layer("top", 0.25))
    assert values["half"] == {"harmonize": 0.6, "attend_inside": 0.4, "attend_outside": 0.65, "feather": 5}
    assert values["top"] == {"harmonize": 0.4, "attend_inside": 0.5, "attend_outside": 0.8, "feather": 4}


def test_attention_is_scaled_to_what_the_model_bears() -> None:
    """The embedded model's own defaults are a third and two thirds of those of every model."""
    assert (defaults(card("embedded"), Canvas())["attend_inside"], DEFAULTS["attend_inside"]) == (0.2, 0.6)
    assert (defaults(card("embedded"), Canvas())["attend_outside"], DEFAULTS["attend_outside"]) == (0.4, 0.6)
    values = found(layer("half", 0.5), layer("top", 0.25), model="embedded")
    assert values["half"] == {"harmonize": 0.6, "attend_inside": 0.15, "attend_outside": 0.45, "feather": 5}
    assert found(layer("half", 0.5), model="no/such model")["half"]["attend_inside"] == 0.4


def test_small_layers_insist_more_and_change_less() -> None:
    values = found(layer("small", 0.1), layer("large", 0.9), layer("top"))
    small, large = values["small"], values["large"]
    assert small["harmonize"] < large["harmonize"]
    assert small["attend_inside"] > large["attend_inside"]
    assert small["attend_outside"] > large["attend_outside"]
    assert small["feather"] < large["feather"]


def test_what_counts_is_what_lies_on_the_canvas() -> None:
    assert found(layer("a", 0.8, x=0.0)) == found(layer("a", 0.4, scale_y=0.8 * 256 / SIZE[0]))
    turned = found(layer("a", 0.4, rotation=90.0))["a"]
    assert turned == found(layer("a", 0.4))["a"]
    clipped = layer("a", 1.0, clip=((0, 0), (25, 0), (25, 12.5), (0, 12.5)))
    assert found(clipped)["a"]["attend_inside"] == 0.5


def test_a_backdrop_is_told_from_an_object() -> None:
    under = layer("sky", 2.0)
    values = found(under, layer("cat", 0.3))
    assert values["sky"] == {"harmonize": 0.85, "attend_inside": 0.2, "attend_outside": 0.2, "feather": 5}
    assert found(layer("cat", 0.3), under)["sky"]["harmonize"] == 0.4, "on top it is none"
    assert found(layer("cat", 0.3))["cat"]["harmonize"] == 0.55, "alone a layer is not the top one of several"


@pytest.mark.parametrize(
    ("word", "value"), [*((word, 0.35) for word in WORDS), *((word, 0.0) for word in WORDS[1:])]
)
def test_what_is_set_is_not_suggested_nor_touched(word: str, value: float) -> None:
    keeps = {"keep_shape": 0.0}  # set too, as it depends on what this machine has
    collage = Collage(layers=(layer("a", **keeps, **{word: value}), layer("b")))
    sizes = {"a": SIZE, "b": SIZE}
    words = [one.word for one in suggest(collage, sizes) if one.layer == "a"]
    assert words == [other for other in WORDS if other != word]
    everything = [Suggestion("a", other, 0.9, "") for other in WORDS]
    applied = apply(collage, everything)
    assert getattr(applied.layers[0], word) == value
    assert all(getattr(applied.layers[0], other) == 0.9 for other in words)
    assert applied.layers[1] == collage.layers[1]


@pytest.mark.parametrize(
    "fields",
    [{"harmonize": 0.0}, {"visible": False}, {"opacity": 0.0}, {"x": -900.0}],
    ids=lambda fields: next(iter(fields)),
)
def test_layers_that_do_not_change_get_none(fields: dict[str, Any]) -> None:
    assert "a" not in found(layer("a", **fields), layer("b"))


def test_a_hidden_layer_is_not_the_top_one() -> None:
    values = found(layer("a"), layer("b"), layer("c", visible=False))
    assert values["b"]["harmonize"] == 0.4


def test_without_words_there_is_nothing_to_insist_on() -> None:
    assert set(found(layer("a", prompt=" "))["a"]) == {"harmonize", "feather"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_all_values_are_inside_their_bounds(
    data: st.DataObject, collages: st.SearchStrategy[Collage], few_pictures: Library
) -> None:
    collage = data.draw(collages)
    suggestions = suggest(collage, picture_sizes(collage, few_pictures))
    for one in suggestions:
        low, high = RANGES[one.word]
        assert low <= one.value <= high
        assert one.word == "feather" or abs(one.value / NOTCH - round(one.value / NOTCH)) < 1e-9
        assert one.reason[0].isupper() and one.reason.endswith(".") and one.reason.count(". ") == 0
        assert getattr(collage.layer(one.layer), one.word) is None
    applied = apply(collage, suggestions)
    assert suggest(applied, picture_sizes(applied, few_pictures)) == ()
    assert apply(applied, suggestions) == applied


def test_info_prints_them_as_settings_with_reasons(
    capsys: pytest.CaptureFixture[str], library: Library, tmp_path: Any
) -> None:
    picture = library.add(Image.new("RGB", SIZE))
    collage = Collage(model="sd15", layers=(layer("cat", picture=picture, feather=1.0),))
    archive.write(tmp_path / "one.collage", collage, library)
    assert main(["info", str(tmp_path / "one.collage"), "--suggest"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [
        "layers.cat.harmonize=0.6",
        "layers.cat.attend_inside=0.4",
        "layers.cat.attend_outside=0.65",
    ]
    assert all(line[1].startswith("It takes 50 % of the canvas's side: ") for line in lines)
    assert main(["info", str(tmp_path / "one.collage"), "--suggest", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed[0] == {"layer": "cat", "word": "harmonize", "value": 0.6, "reason": lines[0][1]}

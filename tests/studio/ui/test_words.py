"""Bounds and defaults on the page are those of the document and of `studio.defaults`."""

from __future__ import annotations

import json
import re

import pytest
from pydantic import BaseModel

from pipelines.families import LOOK_FAMILIES, families
from pipelines.loading import LoadOptions
from pipelines.models import CARDS, card
from pipelines.models.ip_adapter import SD15
from studio.canvas.component import STATIC
from studio.defaults import DEFAULTS, FEATHER, RANGES
from studio.document import Avoid, Background, Canvas, Collage, Layer
from studio.ui.settings import cutouts, offered_models, preset_names, settings
from studio.ui.words import WORDS, words

FROM_ELSEWHERE = ("steps", "guidance", "look_vectors", "look_steps")
"""Words that the model card, or the layer's words, give a default."""
NEVER_SET = {"version": "says how a file is written; the page compares it with its own"}
"""Fields of the document that no panel of the page sets, and why."""
SHOWN_ONLY = {
    "mask": "a cut-out brings its own alpha; what a preset, a file or `--set` gives beside it is drawn",
    "clip": "no tool of the page draws a polygon; presets have some, and `--set` sets them",
}
"""Fields of a layer that the page draws and no control sets or clears, and why."""


@pytest.mark.parametrize("name", WORDS)
def test_bounds_and_defaults_have_one_source(name: str) -> None:
    word = words()[name]
    assert (word["min"], word["max"]) == RANGES[name]
    if name in DEFAULTS:
        assert word["default"] == DEFAULTS[name]
    assert word["label"]
    assert word["hint"].endswith(".")
    assert word["min"] <= word["default"] <= word["max"] or name in FROM_ELSEWHERE


@pytest.mark.parametrize("name", [name for name, word in WORDS.items() if not word.nullable])
def test_words_without_an_open_default_are_plain_in_the_document(name: str) -> None:
    model: type[BaseModel] = Layer if name in Layer.model_fields else Collage
    assert model.model_fields[name].default == words()[name]["default"]


def test_nullable_words_may_be_left_open() -> None:
    homes: dict[str, tuple[type[BaseModel], str]] = {
        "background_harmonize": (Background, "harmonize"),
        "avoid_alpha": (Avoid, "alpha"),
        "avoid_threshold": (Avoid, "threshold"),
    }
    for name in DEFAULTS:
        if name not in WORDS:
            continue
        model, field = homes.get(name, (Layer if name in Layer.model_fields else Collage, name))
        assert WORDS[name].nullable is True
        assert model.model_fields[field].default is None


def test_settings_are_json_and_a_blank_layer_is_a_layer() -> None:
    plain = json.loads(json.dumps(settings([card("embedded")])))
    placed = {**plain["layer"], "id": "a", "picture": "0" * 64, "x": 1, "y": 2}
    collage = Collage.from_dict({**plain["empty"], "layers": [placed]})
    assert collage.layers[0] == Layer(id="a", picture="0" * 64, x=1, y=2)
    avoid = {**plain["avoid"], "id": "a", "picture": "0" * 64}
    assert Collage.from_dict({**plain["empty"], "avoids": [avoid]}).avoids[0] == Avoid(
        id="a", picture="0" * 64
    )
    assert plain["models"][0]["steps"] == card("embedded").steps
    windows = [one["usual"]["window"] for one in settings([card("embedded"), card("sdxl-turbo")])["models"]]
    assert windows == [card("embedded").own["window"], 0.5]
    assert plain["feather"] == FEATHER


def test_the_page_knows_which_models_take_a_picture_as_prompt() -> None:
    cards = [card(name) for name in ("embedded", "sd15", "sd21", "flux")]
    assert [one["image_prompt"] for one in settings(cards)["models"]] == [False, True, False, False]
    named = settings(cards, LoadOptions(ip_adapter=SD15))["models"]
    assert [one["image_prompt"] for one in named] == [True, True, True, False]


def test_the_page_knows_how_guidance_acts() -> None:
    cards = [card(name) for name in ("embedded", "lcm", "flux2-klein", "z-image")]
    told = json.loads(json.dumps(settings(cards)))["models"]
    assert [one["steers_above"] for one in told] == [1, None, None, 0]


def test_the_page_knows_which_models_learn_looks() -> None:
    """The families say it themselves, but in torch; the page's own list is theirs."""
    assert {name for name, kind in families().items() if kind.encoders} == set(LOOK_FAMILIES)
    cards = [card(name) for name in ("embedded", "sd15", "sdxl", "flux", "sd3", "qwen-image")]
    page = settings(cards)
    assert [one["look"] for one in page["models"]] == [True, True, True, True, False, False]
    said = page["words"]["no_look"]["hint"]
    assert "FLUX.1" in said and "Lower Harmonize" in said


def test_the_drawer_is_there_and_each_file_too() -> None:
    found = cutouts()
    assert len(found) >= 3
    assert len({one["name"] for one in found}) == len(found)


@pytest.mark.parametrize("part", [Collage, Layer, Avoid, Background, Canvas])
def test_every_field_of_the_document_is_on_the_page_or_listed(part: type[BaseModel]) -> None:
    there = names_in("*.js")
    fields = set(part.model_fields)
    assert {"spread_every", "harmonize"} < there and "exact_mach" not in there
    assert fields <= there
    panels = set.union(
        *(names_in(f"{name}.js") for name in ("inspector", "tools", "scene", "avoid", "spread"))
    )
    assert not panels & set(NEVER_SET)


def test_fields_that_are_only_shown_are_drawn_and_have_no_control() -> None:
    assert set(SHOWN_ONLY) <= set(Layer.model_fields) & names_in("pictures.js")
    assert {"negative", "feather", "look"} < names_in("inspector.js")
    assert not set(SHOWN_ONLY) & (names_in("inspector.js") | names_in("tools.js") | names_in("scene.js"))


def names_in(files: str) -> set[str]:
    """All words in the code of the page's files of that name, without comments."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted(STATIC.glob(files)))
    code = re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", source, flags=re.DOTALL)
    return set(re.findall(r"\w+", code))


def test_presets_begin_with_the_one_for_a_fresh_page() -> None:
    assert preset_names()[0] == "evening"
    assert len(preset_names()) >= 5


def test_a_model_named_by_its_hub_id_is_offered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda source, file: f"{source}/{file}")
    names = [card.name for card in offered_models(("embedded", "stabilityai/sdxl-turbo"))]
    assert "stabilityai/sdxl-turbo" in names and "sdxl-turbo" not in names
    assert {"embedded", "sdxl", "flux"} < set(names) and len(names) == len(set(names)) == len(CARDS)


def test_offered_models_need_no_download() -> None:
    assert offered_models()[0].name == "embedded"

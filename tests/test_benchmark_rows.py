"""What makes a row of a benchmark: an engine that paints what a test says, a judge that sees nothing in black, and each
number stands under the name of what it was measured of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.embedded.training.scenes import Scene, render
from pipelines.embedded.training.world import world
from pipelines.events import Finished, RenderResult
from pipelines.measure.features import Features
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import RenderRequest
from presets.recipes.build import WORLD, drawer_store, read_truth
from tests.benchmarks import collage, collage_shape, common, edit_layer, effects, embedded, presets

Paint = Callable[[RenderRequest, int], Pixels | int]
"""The picture of a request's image, or its shade."""


class Engine:
    """An engine that paints."""

    def __init__(
        self, paint: Paint, report: Callable[[RenderRequest], dict[str, Any]] = lambda _: {}
    ) -> None:
        self.paint, self.report = paint, report
        self.unet = torch.nn.Identity()

    def load(self, _name: str) -> Any:
        return SimpleNamespace(pipe=SimpleNamespace(unet=self.unet))

    def render(self, request: RenderRequest, _store: PictureStore, watch: bool = False) -> Iterator[Finished]:
        height, width = request.height, request.width
        self.unet(torch.zeros(2, 4, height // 8, width // 8))
        painted = [self.paint(request, image) for image in range(request.images)]
        whole = tuple(
            np.full((height, width, 3), one, np.uint8) if isinstance(one, int) else one for one in painted
        )
        yield Finished(RenderResult(request, whole, self.report(request)))


class Judge:
    """Sees a scene's objects where a picture is not black in their masks, each in the colour that is asked for."""

    def __init__(self, scene: Scene, colours: Sequence[str | None] = ()) -> None:
        self.scene = scene
        self.colours = [*colours] or [None] * len(scene.items)

    def regions(self, pictures: Sequence[Pixels], masks: Sequence[Any]) -> list[Any]:
        found = []
        for n, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
            item, colour = (own[n % len(own)] for own in (self.scene.items, self.colours))
            seen = bool(picture[mask >= 0.5].any())
            label, colour = (item.label, colour or item.colour) if seen else (None, None)
            found.append(SimpleNamespace(label=label, colour=colour))
        return found

    def find(self, pictures: Sequence[Pixels], labels: Sequence[Sequence[str]]) -> list[list[Any]]:
        return [
            [SimpleNamespace(right=bool(picture.any())) for _ in wanted]
            for picture, wanted in zip(pictures, labels, strict=True)
        ]

    def whole(self, pictures: Sequence[Pixels]) -> list[Any]:
        place, time = self.scene.place, self.scene.time
        return [SimpleNamespace(place=place, time=time if picture.any() else None) for picture in pictures]


class Brightness:
    """Features that know how bright a picture is, and no more."""

    def pictures(self, pictures: Sequence[Pixels]) -> Any:
        angles = np.array([picture.mean() / 255 * np.pi / 2 for picture in pictures])
        return np.stack([np.cos(angles), np.sin(angles)], 1)


EFFECTS, COLLAGE = common.protocol("effects"), common.protocol("collage")


def effect(claim: str, paint: Paint) -> tuple[dict[str, Any], Scene]:
    """Row 0 of a claim, and its scene."""
    scene, colours = effects.scene_of(claim, 0, 1)
    bench: Any = effects.Bench(Engine(paint), Judge(scene, colours), Brightness(), EFFECTS, 1)  # type: ignore[arg-type]
    return getattr(bench, claim)(0), scene


def test_attention_is_what_differs_between_without_and_with() -> None:
    row, scene = effect("attention", lambda request, _: 255 if request.layers[0].attend_inside else 0)
    assert (row["without"], row["with"]) == ([False] * 2, [True] * 2) and len(scene.items) == 2
    assert not any(row["without colour"]) and all(row["with colour"])


def test_harmonize_is_told_by_strength() -> None:
    scene, _ = effects.scene_of("harmonize", 0, 1)
    truth, flat = (render(scene, drawer_store(), light=lit).image for lit in (True, False))
    shown = dict(zip(EFFECTS["harmonize"]["strengths"], [flat, 250, truth, 0, 0], strict=True))

    def paint(request: RenderRequest, _: int) -> Pixels | int:
        strength = request.layers[0].harmonize
        assert (request.frozen is None) is (strength > 0)
        return shown[strength]

    row, _ = effect("harmonize", paint)
    assert row["change"][0] == 0 == row["error"][2] == row["error whole"][2]
    assert row["error"][0] == row["flat"] == row["change"][2] > 0
    assert [all(hits) for hits in row["judge"]] == [True, True, True, False, False]


def test_spread_is_what_differs_between_without_and_with() -> None:
    row, _ = effect("spread", lambda request, image: 100 + 50 * image if request.spread else 0)
    assert (row["without"], row["with"]) == ([False] * 4, [True] * 4)
    assert row["without distance"] == pytest.approx(0) and row["with distance"] > 0.05


def test_similarities_are_to_the_picture_to_avoid() -> None:
    scene, _ = effects.scene_of("avoid", 0, 1)
    reference = render(scene, drawer_store()).image
    shades: dict[str, Pixels | int] = {"": reference, "guidance": 0, "push": 30}
    row, _ = effect("avoid", lambda request, _: shades[request.avoid_by if request.avoids else ""])
    assert [row[name] for name in ("without", "with", "push")] == [[True], [False], [True]]
    assert row["without similarity"] == pytest.approx(1)
    assert row["without similarity"] > row["push similarity"] > row["with similarity"]


class Laid:
    """Row ``k`` of a claim of the collage's benchmark, and the pictures that can be painted in it."""

    def __init__(self, claim: str, k: int = 0, features: Any = None) -> None:
        self.claim, self.k = claim, k
        self.bench: Any = collage.Bench(None, None, features or Features(), COLLAGE, 1)  # type: ignore[arg-type]
        one, laid = self.bench.laid(claim, k)
        self.truth, self.flat, self.count = laid.truth, laid.flat, len(laid.masks)
        self.bench.judge = Judge(one.scene, one.colours)

    def row(
        self, paint: Paint, report: Callable[[RenderRequest], dict[str, Any]] = lambda _: {}
    ) -> dict[str, Any]:
        self.bench.engine = Engine(paint, report)
        shape = self.claim == "shape"
        row, _ = collage_shape.shape(self.bench, self.k) if shape else getattr(self.bench, self.claim)(self.k)
        return dict(row)


def test_what_is_kept_of_a_look_is_told_by_way() -> None:
    laid, learned = Laid("look"), []

    def paint(request: RenderRequest, _: int) -> Pixels | int:
        (layer,) = request.layers
        if layer.look is None:
            return laid.flat if layer.harmonize < 1 else 0
        return laid.truth if layer.harmonize < 1 else np.roll(laid.truth, 9, 1)

    def report(request: RenderRequest) -> dict[str, Any]:
        if request.layers[0].look is None:
            return {}
        learned.append(request)
        return {"looks": [{"seconds": 7.0 * len(learned), "cached": len(learned) > 1}]}

    row = laid.row(paint, report)
    assert row["pixels and look"]["distance"] == pytest.approx(0, abs=1e-6)
    assert row["look alone"]["distance"] > 0.01
    told = ("words alone", "look alone", "pixels", "pixels and look")
    assert [row[way]["object"] for way in told] == [False, True, True, True]
    assert row["pixels"]["ssim"] > row["words alone"]["ssim"] and row["learned"] == [7.0]


def test_places_are_judged_without_and_with_attention() -> None:
    laid = Laid("place")
    row = laid.row(lambda request, _: 255 if request.layers[0].attend_inside else 0)
    for name in ("object", "colour"):
        assert (row["without"][name], row["with"][name]) == ([False] * laid.count, [True] * laid.count)
    assert row["truth"] == [True] * laid.count


def test_seams_are_told_by_way() -> None:
    laid, own = Laid("seam"), COLLAGE["seam"]

    def paint(request: RenderRequest, _: int) -> Pixels | int:
        if not request.layers:
            return 9
        return laid.truth if request.background_harmonize == own["harmonize"] else laid.flat

    row = laid.row(paint)
    assert row["img2img"] == 0 < row["collage"] == row["true scene"] != row["flat collage"]
    assert row["background freer"] == row["flat collage"]


@pytest.mark.parametrize(("k", "lost"), [(0, False), (6, True)])
def test_layers_are_lost_to_the_report_and_to_the_judge(k: int, lost: bool) -> None:
    laid = Laid("lost", k)
    attention = {"attention": [[0.0 if lost else 1.0] * laid.count]}
    row = laid.row(
        lambda request, _: 0 if request.layers[0].harmonize == 1 else laid.flat, lambda _: attention
    )
    assert row["said"] == row["judge"] == [lost] * laid.count and row["flat"] == [False] * laid.count
    assert row["harmonize"] == COLLAGE["lost"]["harmonize"][-1 if lost else 0]


def test_each_rung_has_one_thing_more() -> None:
    laid = Laid("ladder")
    laid.bench.shape = True

    def paint(request: RenderRequest, _: int) -> Pixels | int:
        if not request.layers:
            return 0
        layer = request.layers[0]
        assert layer.attend_inside == COLLAGE["inside"]
        if layer.keep_shape:
            return laid.truth
        return np.roll(laid.truth, 2 if layer.look else 9, 1)

    row = laid.row(paint)
    rungs = [row[way] for way in ("img2img", "+ attention", "+ look", "+ shape")]
    assert [all(one["object"]) for one in rungs] == [False, True, True, True]
    assert rungs[3]["distance"] == pytest.approx(0, abs=1e-6) and rungs[3]["seam"] == row["seam"]
    distances = [one["distance"] for one in rungs]
    assert min(distances[:3]) > 0.01 and len(set(distances)) == 4


def test_shapes_are_told_by_strength() -> None:
    laid = Laid("shape")
    row = laid.row(lambda request, _: laid.flat if request.layers[0].keep_shape >= 0.75 else 0)
    assert row["edges"] == [0, 0, 0, 1, 1] and 0.5 < row["truth"] <= 1
    assert [all(hits) for hits in row["object"]] == [False, False, False, True, True]


@pytest.mark.parametrize("k", [0, 1])
def test_one_layer_alone_is_not_the_whole(k: int) -> None:
    """In every second row the whole is rendered last; both are told under their own names."""
    settings = common.protocol("edit_layer")
    scene = edit_layer.layout(k, settings).truth
    assert scene is not None
    engine = Engine(lambda request, _: 255 if request.width < edit_layer.SIDE else 0)
    bench: Any = edit_layer.Bench(engine, Judge(scene), settings)  # type: ignore[arg-type]
    row, pictures = bench.row(k)
    assert row["recognised"] == [False, True] and row["outside"] == 0
    assert [row[name][2] for name in ("whole", "alone")] == [2 * 32 * 32, 2 * 32 * 32 * row["run"]]
    assert [bool(picture.any()) for picture in pictures] == [False, False, True] and row["run"] < 0.5


def test_what_the_judge_abstains_from_counts_as_wrong() -> None:
    asks = embedded.asks(world(WORLD), "coloured", 3, 5)

    def seen(picture: Pixels, ask: embedded.Ask) -> list[Any]:
        colours = ask.colours if picture.mean() > 128 else (None, None)
        regions = [SimpleNamespace(colour=colour) for colour in colours]
        return [
            SimpleNamespace(right=bool(picture.any()), region=one if picture.any() else None)
            for one in regions
        ]

    def verdict(picture: Pixels, ask: embedded.Ask) -> Any:
        return SimpleNamespace(place=ask.place if picture.any() else None, time=ask.time)

    pictures = [np.full((8, 8, 3), shade, np.uint8) for shade in (255, 60, 0)]
    judge: Any = SimpleNamespace(
        find=lambda given, labels: [seen(*one) for one in zip(given, asks, strict=True)],
        whole=lambda given: [verdict(*one) for one in zip(given, asks, strict=True)],
    )
    rows = embedded.count(judge, asks, pictures)
    assert [row["objects"] for row in rows] == [[True] * 2, [True] * 2, [False] * 2]
    assert [row["colours"] for row in rows] == [[True] * 2, [False] * 2, [False] * 2]
    assert [row["place right"] for row in rows] == [True, True, False]


def preset(name: str, paint: Paint, out: Path, seeds: int = 2) -> tuple[str, dict[str, Any]]:
    """A preset's section and its numbers; stock img2img gives black."""
    pipe: Any = lambda *_, **__: SimpleNamespace(images=[Image.new("RGB", (256, 256))])  # noqa: E731
    judge: Any = Judge(read_truth(name))
    text, raw = presets.one(name, Engine(paint), pipe, judge, Brightness(), range(seeds), out)
    assert (out / f"presets-{name}.jpg").is_file() and f"presets-{name}.jpg" in text
    return text, raw["rows"] | {"frozen": raw.get("frozen_difference")}


def test_a_preset_stands_beside_text_and_img2img(tmp_path: Path) -> None:
    truth = render(read_truth("evening"), drawer_store()).image
    _, rows = preset("evening", lambda request, _: truth if request.layers else 0, tmp_path)
    assert rows["ours"]["error"] == rows["true scene"]["error"] == [0, 0] and rows["frozen"] is None
    (stock,) = (row for name, row in rows.items() if name.startswith("img2img"))
    assert min(stock["error"] + rows["text alone"]["error"] + rows["flat collage"]["error"]) > 5
    assert rows["ours"]["recognised"]["value"] == 1 == rows["flat collage"]["recognised"]["value"]
    assert rows["text alone"]["recognised"]["value"] == 0 == stock["recognised"]["value"]


def test_a_preset_that_holds_a_layer_says_how_much_of_it_changed(tmp_path: Path) -> None:
    made = presets.prepared("keep", PictureStore(), 0)
    flat = made.composition.flat
    text, rows = preset("keep", lambda request, _: flat, tmp_path)
    assert rows["frozen"] == 0 and "pixels: 0 of 255" in text
    _, rows = preset("keep", lambda request, _: flat - np.uint8(3) * (flat > 9), tmp_path)
    assert rows["frozen"] == 3


def test_presets_with_and_without_their_method(tmp_path: Path) -> None:
    _, rows = preset("spread", lambda request, image: 100 + 30 * image * (request.spread > 0), tmp_path, 4)
    assert rows["ours, spread off"]["distance"]["value"] == pytest.approx(0)
    assert rows["ours"]["distance"]["value"] > 0.01
    made, store = presets.prepared("avoid", store := PictureStore(), 0), store
    reference = store.get(made.request.avoids[0].picture)
    _, rows = preset("avoid", lambda request, _: 0 if request.avoids else reference, tmp_path)
    assert rows["ours, avoid off"]["similarity"]["value"] == pytest.approx(1)
    assert rows["ours"]["similarity"]["value"] < 0.9

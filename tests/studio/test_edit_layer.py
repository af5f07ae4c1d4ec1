"""One layer rendered anew: the rest of the picture does not move, the work follows the area, the methods act."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.engine import Engine
from pipelines.errors import FieldError, PictureError
from pipelines.events import Finished, ImageDone, Preview, RenderResult
from pipelines.models import card
from pipelines.pictures import PictureStore, Pixels, digest
from pipelines.request import RenderRequest
from studio.document import Avoid, Background, Canvas, Collage, Layer
from studio.edit_layer import Edit, edit_layer, feathered, read_result
from studio.formats import png
from studio.pictures import Library
from studio.to_request import to_request
from tests.pipelines.tiny import sd_velocity

SIDE = 256
UNDER = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


class Counted(Engine):
    """The engine on a tiny model under the embedded one's name, and the latent cells its denoiser was given."""

    def __init__(self) -> None:
        super().__init__(preview_seconds=0)
        self.cells = 0
        loaded = self.adopt("embedded", sd_velocity(), card("embedded"))
        loaded.pipe.unet.register_forward_pre_hook(self._count)

    def _count(self, _module: Any, args: tuple[Any, ...]) -> None:
        self.cells += args[0].shape[0] * args[0].shape[2] * args[0].shape[3]

    def run(self, request: RenderRequest, store: PictureStore) -> RenderResult:
        """The result; ``cells`` counts this run alone."""
        self.cells = 0
        *_, last = self.render(request, store)
        assert isinstance(last, Finished)
        return last.result


@pytest.fixture(scope="module")
def engine() -> Iterator[Counted]:
    yield Counted()


def disc(library: Library, name: str, side: int = 80, **fields: Any) -> Layer:
    """A disc with a soft edge, 80 pixels across."""
    picture = Image.new("RGBA", (side, side))
    ImageDraw.Draw(picture).ellipse((0, 0, side - 1, side - 1), fill=(220, 40, 40, 255))
    return Layer(
        **{"id": name, "prompt": name, "picture": library.add(picture), "x": 100.0, "y": 120.0, **fields}
    )


def collage_of(*layers: Layer, **fields: Any) -> Collage:
    return Collage(**{"prompt": "a red car on the beach", "seed": 3, "steps": 5, "layers": layers, **fields})


def edited(
    engine: Counted, collage: Collage, library: Library, layer: str, picture: Pixels = UNDER
) -> tuple[Edit, RenderResult]:
    store = PictureStore()
    edit = edit_layer(collage, library, store, picture, layer)
    return edit, edit.finish(engine.run(edit.request, store), store)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"feather": 0.0},
        {"feather": 20.0},
        {"rotation": 33.0, "scale_x": 1.3, "scale_y": 0.4},
        {"opacity": 0.4, "harmonize": 1.0},
        {"x": 4.0, "y": 250.0},
        {"scale_x": 4.0, "scale_y": 4.0},
        {"scale_x": 0.2, "scale_y": 0.2},
        {"harmonize": 0.0},
    ],
    ids=lambda fields: ",".join(fields) or "plain",
)
def test_outside_the_feathered_mask_nothing_moves(
    engine: Counted, library: Library, fields: dict[str, Any]
) -> None:
    collage = collage_of(disc(library, "car", **fields))
    edit, result = edited(engine, collage, library, "car")
    (picture,) = result.pictures
    assert picture.shape == UNDER.shape and (picture != UNDER).any()
    assert np.array_equal(picture[edit.mask == 0], UNDER[edit.mask == 0])
    numbers: Any = result.report["numbers"]
    assert numbers["outside"] == {"layer": "car", "largest": [0]}
    assert 0 < numbers["changed"][0] <= (edit.mask > 0).mean()


def test_what_moves_outside_is_measured_and_not_assumed(library: Library) -> None:
    edit = edit_layer(collage_of(disc(library, "car")), library, PictureStore(), UNDER, "car")
    wrong = UNDER.copy()
    wrong[0, 0, 1] = (int(UNDER[0, 0, 1]) + 9) % 256
    assert edit.outside(wrong) == abs(int(wrong[0, 0, 1]) - int(UNDER[0, 0, 1])) > 0
    assert edit.outside(UNDER) == 0


def test_a_layer_under_another_leaves_what_covers_it(engine: Counted, library: Library) -> None:
    above = disc(library, "cat", side=60, x=130.0)
    collage = collage_of(disc(library, "car", feather=12.0), above)
    edit, result = edited(engine, collage, library, "car")
    covered = to_request(collage, library, PictureStore()).composition.visible[1] == 1
    assert covered.sum() > 2000
    assert np.array_equal(result.pictures[0][covered], UNDER[covered])
    beside = ~covered & (edit.mask > 0)
    assert (result.pictures[0][beside] != UNDER[beside]).any()


@pytest.mark.parametrize("what", ["background", "layer"])
def test_frozen_neighbours_stay_under_the_feather(engine: Counted, library: Library, what: str) -> None:
    under = disc(library, "cat", side=200, harmonize=0.0 if what == "layer" else 0.5)
    background = Background(harmonize=0.0 if what == "background" else 0.5)
    collage = collage_of(under, disc(library, "car", feather=9.0), background=background)
    if what == "background":
        collage = collage.replace(layers=collage.layers[1:])
    edit, result = edited(engine, collage, library, "car")
    assert (result.pictures[0][100:140, 80:120] != UNDER[100:140, 80:120]).any()
    rim = edit_layer(
        collage.replace(
            background=Background(), layers=[one.replace(harmonize=0.5) for one in collage.layers]
        ),
        library,
        PictureStore(),
        UNDER,
        "car",
    ).mask
    composition = to_request(collage, library, PictureStore()).composition
    clear = composition.visible[-1] == 0
    assert (rim[clear] > 0).sum() > 1000 and not edit.mask[clear].any()


def test_the_mask_is_the_layer_and_a_rim_that_falls() -> None:
    square = np.zeros((64, 64), np.uint8)
    square[20:44, 20:44] = 255
    mask = feathered(square, 3.0, np.ones((64, 64), np.float32))
    assert (mask[20:44, 20:44] == 255).all()
    row = mask[32, 44:60].astype(int)
    assert 0 < row[1] < 255 and (np.diff(row) <= 0).all() and row[10] == 0
    assert np.array_equal(feathered(square, 0.0, np.ones((64, 64), np.float32)), square)
    assert np.array_equal(feathered(square, 3.0, np.zeros((64, 64), np.float32)), square)


def test_the_cutout_lies_on_the_picture_and_the_rest_is_held(library: Library) -> None:
    store = PictureStore()
    collage = collage_of(
        disc(library, "cat", x=200.0), disc(library, "car"), background=Background(harmonize=0.9)
    )
    edit = edit_layer(collage, library, store, UNDER, "car")
    request = edit.request
    left, top, right, bottom = edit.crop.box
    assert request.collage is not None and request.frozen is not None
    assert (request.width, request.height) == (right - left, bottom - top) == (128, 128)
    flat = store.get(request.collage)
    assert flat[120 - top, 100 - left].tolist() == [220, 40, 40]
    away = edit.mask[top:bottom, left:right] == 0
    assert np.array_equal(flat[away], UNDER[top:bottom, left:right][away])
    frozen = store.get(request.frozen)
    assert np.array_equal(frozen[..., 3] == 255, away) and set(np.unique(frozen[..., 3])) == {0, 255}
    assert request.background_harmonize == 0
    assert [(one.name, one.harmonize) for one in request.layers] == [("cat", 0.0), ("car", 0.5)]
    whole = to_request(collage, library, PictureStore()).request
    assert request.prompt == whole.prompt
    assert [one.span for one in request.layers] == [one.span for one in whole.layers]
    assert [one.attend_outside for one in request.layers] == [0.4, 0.4]
    assert store.get(request.layers[1].mask).shape == (128, 128)


def test_lengths_grow_with_the_crop(library: Library) -> None:
    collage = collage_of(disc(library, "car", scale_x=0.2, scale_y=0.2, feather=3.0), grow=-8.0)
    edit = edit_layer(collage, library, PictureStore(), UNDER, "car")
    assert edit.crop.scale == 2
    assert (edit.request.layers[0].feather, edit.request.grow) == (6.0, -16.0)


def test_work_follows_area_and_a_tenth_costs_at_most_thirty_percent(
    engine: Counted, library: Library
) -> None:
    side = round((0.1 * SIDE * SIDE) ** 0.5)
    square = library.add(Image.new("RGB", (side, side), "red"))
    small = Layer(id="small", picture=square, prompt="car", x=128.0, y=128.0)
    large = small.replace(id="large", scale_x=1.6, scale_y=1.6)
    work = {}
    for layer in (small, large):
        collage = collage_of(layer, steps=10)
        store = PictureStore()
        full = engine.run(to_request(collage, library, store).request, store)
        whole = engine.cells
        edit, result = edited(engine, collage, library, layer.id, full.pictures[0])
        work[layer.id] = engine.cells / whole
        tokens = edit.request.width * edit.request.height / SIDE**2
        assert work[layer.id] == pytest.approx(
            tokens * 5 / 8
        )  # harmonize .5 of the layer, .8 of the background
        assert result.report["denoiser_calls"] == 5
        if layer is small:
            assert tokens <= 0.3, "nor does it at equal steps"
    assert work["small"] <= 0.3
    assert work["small"] < work["large"] < 0.5


def test_a_layer_that_covers_most_is_run_on_the_whole_canvas(library: Library) -> None:
    edit = edit_layer(
        collage_of(disc(library, "car", scale_x=2.5, scale_y=2.5)), library, PictureStore(), UNDER, "car"
    )
    assert edit.crop.box == (0, 0, SIDE, SIDE)
    assert (edit.request.width, edit.request.height) == (SIDE, SIDE)


def test_equal_edits_make_equal_pictures_and_seeds_count(engine: Counted, library: Library) -> None:
    collage = collage_of(disc(library, "car"))
    first, again = (edited(engine, collage, library, "car") for _ in range(2))
    assert first[0].request.key == again[0].request.key
    assert np.array_equal(first[1].pictures[0], again[1].pictures[0])
    other = edited(engine, collage.replace(seed=4), library, "car")
    assert (other[1].pictures[0] != first[1].pictures[0]).any()
    drawn = [
        edit_layer(collage.replace(seed=None), library, PictureStore(), UNDER, "car", seed=seed).request.seed
        for seed in (None, None, 9)
    ]
    assert drawn[0] != drawn[1] and drawn[2] == 9


def test_a_batch_is_as_many_pictures_of_the_same_rest(engine: Counted, library: Library) -> None:
    collage = collage_of(disc(library, "car", vary=1.0, harmonize=0.9), images=2, spread=1.0, window=1.0)
    _, result = edited(engine, collage, library, "car")
    one, two = result.pictures
    assert (one != two).any()
    numbers: Any = result.report["numbers"]
    assert numbers["outside"]["largest"] == [0, 0] and len(numbers["changed"]) == 2
    assert numbers["spread"]["distance"] > 0


@pytest.mark.parametrize("by", ["attention", "harmonize", "avoid", "timestep"])
def test_methods_act_in_the_crop(engine: Counted, library: Library, by: str) -> None:
    layer = disc(library, "car", harmonize=0.6, attend_inside=0.0, attend_outside=0.0)
    collage = collage_of(layer)
    reference = library.add(Image.fromarray(UNDER[:40, :60]))
    avoid = Avoid(id="that", picture=reference, alpha=3.0, threshold=0.5, layer="car")
    changed = {
        "attention": lambda: collage.replace_layer("car", attend_inside=1.0, attend_outside=1.0),
        "harmonize": lambda: collage.replace_layer("car", harmonize=1.0),
        "avoid": lambda: collage.replace(avoids=[avoid], window=1.0, avoid_by="push"),
        "timestep": lambda: collage.replace(harmonize_by="timestep", scheduler="euler"),
    }[by]()
    off, on = (edited(engine, one, library, "car")[1].pictures[0] for one in (collage, changed))
    assert np.abs(on.astype(int) - off).max() > 2
    if by == "avoid":
        numbers: Any = edited(engine, changed, library, "car")[1].report["numbers"]
        assert numbers["avoids"][0]["name"] == "that"


def test_references_of_other_layers_play_no_part(library: Library) -> None:
    picture = library.add(Image.fromarray(UNDER))
    avoids = [
        Avoid(id=name, picture=picture, layer=layer)
        for name, layer in (("mine", "car"), ("all", None), ("theirs", "cat"))
    ]
    collage = collage_of(disc(library, "cat", x=200.0), disc(library, "car"), avoids=avoids)
    store = PictureStore()
    request = edit_layer(collage, library, store, UNDER, "car").request
    assert [(one.name, one.layer) for one in request.avoids] == [("mine", 1), ("all", None)]
    assert store.get(request.avoids[0].picture).shape == (request.height, request.width, 3)


def test_all_pictures_in_the_events_are_whole(engine: Counted, library: Library) -> None:
    store = PictureStore()
    edit = edit_layer(collage_of(disc(library, "car"), images=2), library, store, UNDER, "car")
    found = list(edit.pasted(engine.render(edit.request, store), store))
    shown = [event for event in found if isinstance(event, Preview | ImageDone)]
    assert {type(event) for event in shown} == {Preview, ImageDone}
    assert all(edit.outside(event.picture) == 0 for event in shown)
    last = found[-1]
    assert isinstance(last, Finished) and len(last.result.pictures) == 2
    told: Any = last.result.report["edit"]
    assert told["layer"] == told["id"] == "car" and told["on"] == digest(UNDER)
    assert told["box"] == list(edit.crop.box) and told["run_at"] == [128, 128]


def test_an_abandoned_edit_stops_the_run(engine: Counted, library: Library) -> None:
    store = PictureStore()
    edit = edit_layer(collage_of(disc(library, "car"), steps=100), library, store, UNDER, "car")
    events = edit.pasted(engine.render(edit.request, store), store)
    engine.cells = 0
    next(event for event in events if isinstance(event, Preview))
    events.close()
    assert 0 < engine.cells < 50 * 2 * 16 * 16


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"visible": False}, "layer 'car' is hidden; show it"),
        ({"locked": True}, "layer 'car' is locked; unlock it"),
        ({"x": -900.0}, "layer 'car' shows nothing"),
        (
            {"scale_x": 0.5, "scale_y": 0.5},
            "layer 'car' shows nothing, so there is nothing to render; move it or",
        ),
    ],
)
def test_a_layer_that_cannot_be_rendered_is_named(
    library: Library, fields: dict[str, Any], message: str
) -> None:
    collage = collage_of(disc(library, "car", **fields), disc(library, "cat", side=90))
    with pytest.raises(FieldError, match=message):
        edit_layer(collage, library, PictureStore(), UNDER, "car")


def test_an_unknown_layer_is_named(library: Library) -> None:
    with pytest.raises(FieldError, match="no layer with the id 'bus'"):
        edit_layer(collage_of(disc(library, "car")), library, PictureStore(), UNDER, "bus")


@pytest.mark.parametrize("shape", [(SIDE, 128, 3), (SIDE, SIDE), (SIDE, SIDE, 4)])
def test_a_picture_of_another_size_is_refused(library: Library, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        PictureError, match=r"the picture underneath is .* and the canvas 256 × 256; give a"
    ) as error:
        edit_layer(
            collage_of(disc(library, "car")), library, PictureStore(), np.zeros(shape, np.uint8), "car"
        )
    assert "\n" not in str(error.value)


def test_warnings_are_those_of_the_layer(library: Library) -> None:
    dot = disc(library, "dot", x=30.0, y=30.0, scale_x=0.05, scale_y=0.05)
    collage = collage_of(dot, disc(library, "car"))
    assert edit_layer(collage, library, PictureStore(), UNDER, "car").warnings == ()
    (warning,) = edit_layer(collage, library, PictureStore(), UNDER, "dot").warnings
    assert warning.layer == "dot"


def test_pasting_is_exact_at_equal_size_and_keeps_the_rest_at_another(library: Library) -> None:
    edit = edit_layer(collage_of(disc(library, "car")), library, PictureStore(), UNDER, "car")
    part = np.full((edit.crop.height, edit.crop.width, 3), 7, np.uint8)
    whole = edit.paste(part)
    assert (whole[edit.mask == 255] == 7).all() and edit.outside(whole) == 0
    larger = dataclasses.replace(edit, crop=dataclasses.replace(edit.crop, width=256, height=256))
    assert np.array_equal(larger.paste(np.full((256, 256, 3), 7, np.uint8)), whole)


def test_a_canvas_that_is_no_square(engine: Counted, library: Library) -> None:
    canvas = Canvas(width=320, height=136)
    under = np.full((136, 320, 3), 90, np.uint8)
    collage = collage_of(disc(library, "car", x=250.0, y=60.0), canvas=canvas)
    edit, result = edited(engine, collage, library, "car", under)
    assert result.pictures[0].shape == (136, 320, 3) and edit.outside(result.pictures[0]) == 0


def test_a_layer_that_has_moved_is_still_seen_where_it_was(library: Library) -> None:
    collage = collage_of(disc(library, "car"))

    def said(moved: Collage, before: tuple[Collage, Library] | None) -> list[str]:
        edit = edit_layer(moved, library, PictureStore(), UNDER, "car", before=before)
        return [warning.message for warning in edit.warnings]

    far = collage.replace_layer("car", x=200.0)
    (message,) = said(far, (collage, library))
    assert message.startswith("layer 'car' lay elsewhere when this picture was made")
    near = collage.replace_layer("car", x=102.0)
    assert said(near, (collage, library)) == said(far, None) == said(far, (far, library)) == []
    assert said(far, (collage_of(), library)) == []
    assert said(far, (collage.replace(canvas=Canvas(width=512, height=256)), library)) == []


def test_results_are_read_with_the_collage_they_carry(library: Library, tmp_path: Path) -> None:
    collage = collage_of(disc(library, "car"))
    (tmp_path / "made.png").write_bytes(png.embed(UNDER, collage, library, {}))
    pixels, carried = read_result(tmp_path / "made.png")
    assert np.array_equal(pixels, UNDER) and carried is not None and carried[0] == collage
    Image.fromarray(UNDER).save(tmp_path / "plain.png")
    pixels, carried = read_result(tmp_path / "plain.png")
    assert np.array_equal(pixels, UNDER) and carried is None
    (tmp_path / "none.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"none\.png"):
        read_result(tmp_path / "none.png")


def test_a_look_is_worn_by_the_edited_layer_alone(engine: Counted, library: Library) -> None:
    """Its cut-out comes along; what is held has no use for a look, and no warning says so."""
    car = disc(library, "car", look=True, look_steps=1)
    cat = disc(library, "cat", x=180.0, look=True, look_steps=1)
    collage, store = collage_of(cat, car), PictureStore()
    edit = edit_layer(collage, library, store, UNDER, "car")
    whole = to_request(collage, library, PictureStore()).request
    assert [layer.look for layer in edit.request.layers] == [None, whole.layers[1].look]
    look = edit.request.layers[1].look
    assert look is not None and store.get(look.cutout).shape[2] == 4
    worn = engine.run(edit.request, store)
    assert worn.report["warnings"] == []
    facts: Any = worn.report["looks"]
    assert [fact["layer"] for fact in facts] == ["car"]
    discs = (disc(library, "cat", x=180.0), disc(library, "car"))
    plain = edit_layer(collage_of(*discs), library, store, UNDER, "car")
    assert "looks" not in engine.run(plain.request, store).report


def test_the_edited_layer_alone_has_its_picture_as_prompt(library: Library) -> None:
    car, cat = disc(library, "car", image_prompt=0.6), disc(library, "cat", x=180.0, image_prompt=0.6)
    store = PictureStore()
    edit = edit_layer(collage_of(cat, car), library, store, UNDER, "car")
    held, asked = (layer.image_prompt for layer in edit.request.layers)
    assert held is None and asked is not None and asked.strength == 0.6
    assert store.get(asked.cutout).shape[2] == 4

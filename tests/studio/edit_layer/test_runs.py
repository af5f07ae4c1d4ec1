"""The run of one layer alone: the rest of the picture does not move, the work follows the area, the methods act."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.events import Finished, ImageDone, Preview
from pipelines.pictures import PictureStore, digest
from studio.document import Avoid, Background, Canvas, Layer
from studio.edit_layer import edit_layer
from studio.pictures import Library
from studio.to_request import to_request
from tests.pipelines.stops import held
from tests.studio.edit_layer.conftest import SIDE, UNDER, Counted, collage_of, disc, edited


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
    with held(engine.load("embedded").pipe.unet, 2):
        next(event for event in events if isinstance(event, Preview))
        events.close()
    assert engine.cells == 2 * 2 * 16 * 16, "the step that was under way ends"


def test_a_canvas_that_is_no_square(engine: Counted, library: Library) -> None:
    canvas = Canvas(width=320, height=136)
    under = np.full((136, 320, 3), 90, np.uint8)
    collage = collage_of(disc(library, "car", x=250.0, y=60.0), canvas=canvas)
    edit, result = edited(engine, collage, library, "car", under)
    assert result.pictures[0].shape == (136, 320, 3) and edit.outside(result.pictures[0]) == 0


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

"""What part of the canvas an edit runs: around the layer, in steps, large enough for the model, or all of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.families import family
from pipelines.models import ModelCard, card
from studio.compositing import Box
from studio.crop import CONTEXT, LARGEST_SCALE, WHOLE, Crop, choose
from studio.document import Canvas

CARD = card("embedded")  # 256 pixels, down to 128
XL = card("sdxl")  # 1024 pixels, down to 768


def around(box: Box, rim: int) -> Box:
    return box[0] - rim, box[1] - rim, box[2] + rim, box[3] + rim


def test_the_box_is_the_layers_with_context() -> None:
    layer = (300, 200, 500, 340)
    crop = choose(layer, around(layer, 13), Canvas(width=1024, height=768), CARD)
    left, top, right, bottom = crop.box
    # 200 + 40 and 140 + 40, to the nearest multiple of 8
    assert (right - left, bottom - top) == (crop.width, crop.height) == (240, 176)
    slack = 8 / 4
    assert left <= 300 - CONTEXT * 200 + slack and right >= 500 + CONTEXT * 200 - slack
    assert top <= 200 - CONTEXT * 200 + slack and bottom >= 340 + CONTEXT * 200 - slack
    assert crop.scale == 1


def test_a_wide_feather_is_inside() -> None:
    layer = (300, 300, 340, 340)
    changing = around(layer, 90)
    left, top, right, bottom = choose(layer, changing, Canvas(width=1024, height=1024), CARD).box
    assert left <= changing[0] and top <= changing[1]
    assert right >= changing[2] and bottom >= changing[3]


def test_at_the_canvas_edge_it_stays_inside() -> None:
    assert choose((0, 0, 60, 60), (0, 0, 70, 70), Canvas(), CARD).box == (0, 0, 72, 72)
    assert choose((196, 196, 256, 256), (186, 186, 256, 256), Canvas(), CARD).box == (184, 184, 256, 256)


def test_a_small_crop_is_enlarged_to_what_the_model_can_draw() -> None:
    small = choose((120, 120, 140, 140), (110, 110, 150, 150), Canvas(), CARD)
    assert small == Crop((98, 98, 162, 162), 128, 128)
    assert small.scale == LARGEST_SCALE
    layer = (400, 400, 600, 600)
    xl = choose(layer, around(layer, 13), Canvas(width=2048, height=2048), XL)
    assert (xl.box[2] - xl.box[0], xl.width, xl.height) == (384, 768, 768)


def test_a_long_crop_is_enlarged_in_both_directions() -> None:
    layer = (300, 500, 460, 520)
    crop = choose(layer, around(layer, 5), Canvas(width=1024, height=1024), CARD)
    width, height = crop.box[2] - crop.box[0], crop.box[3] - crop.box[1]
    assert CARD.least_side**2 / 2 < width * height < CARD.least_side**2
    assert abs(crop.width * crop.height / CARD.least_side**2 - 1) < 0.1
    assert abs(crop.width / crop.height / (width / height) - 1) < 0.1


def test_a_crop_that_is_nearly_large_enough_takes_more_of_the_canvas() -> None:
    crop = choose((100, 100, 170, 170), (90, 90, 180, 180), Canvas(), CARD)
    assert crop.box[2] - crop.box[0] == crop.width == 128


def test_the_whole_canvas_where_little_would_be_saved() -> None:
    whole = Crop((0, 0, 256, 256), 256, 256)
    assert choose((20, 20, 200, 200), (10, 10, 210, 210), Canvas(), CARD) == whole
    # enlarged to what the model needs, a part would cost more than the canvas
    assert choose((100, 100, 150, 150), (90, 90, 160, 160), Canvas(), XL) == whole


def test_a_canvas_smaller_than_a_crop_is_run_whole() -> None:
    assert choose((10, 10, 20, 20), (8, 8, 22, 22), Canvas(width=64, height=64), CARD).box == (0, 0, 64, 64)


@st.composite
def places(draw: st.DrawFn) -> tuple[Box, Box, Canvas]:
    canvas = Canvas(width=8 * draw(st.integers(8, 256)), height=8 * draw(st.integers(8, 256)))
    left, top = draw(st.integers(0, canvas.width - 1)), draw(st.integers(0, canvas.height - 1))
    right, bottom = draw(st.integers(left + 1, canvas.width)), draw(st.integers(top + 1, canvas.height))
    rim = draw(st.integers(0, 200))
    wide = (
        max(0, left - rim),
        max(0, top - rim),
        min(canvas.width, right + rim),
        min(canvas.height, bottom + rim),
    )
    return (left, top, right, bottom), wide, canvas


@given(places(), st.sampled_from([CARD, XL, card("sd15"), card("flux")]))
def test_every_crop_holds_what_changes_and_is_a_size_that_can_be_run(
    place: tuple[Box, Box, Canvas], model: ModelCard
) -> None:
    layer, changing, canvas = place
    crop = choose(layer, changing, canvas, model)
    left, top, right, bottom = crop.box
    assert 0 <= left <= changing[0] and changing[2] <= right <= canvas.width
    assert 0 <= top <= changing[1] and changing[3] <= bottom <= canvas.height
    assert crop.width >= right - left and crop.height >= bottom - top
    assert crop.width * crop.height <= canvas.width * canvas.height
    whole = crop == Crop((0, 0, canvas.width, canvas.height), canvas.width, canvas.height)
    if not whole:
        assert crop.width * crop.height < WHOLE * canvas.width * canvas.height
        for length, side in ((crop.width, canvas.width), (crop.height, canvas.height)):
            assert 64 <= length <= 2048 and length % 8 == 0
            assert length % family(model.family).multiple == 0 or length == side

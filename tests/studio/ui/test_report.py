"""From events to what the page is told, with real PNGs."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import EngineError
from pipelines.events import (
    Downloading,
    Finished,
    ImageDone,
    Learning,
    Preview,
    Progress,
    RenderResult,
    Started,
    Warned,
)
from pipelines.pictures import PictureStore, Pixels
from studio.document import Collage, Layer
from studio.formats import png
from studio.pictures import Library
from studio.sizes import size
from studio.to_request import Prepared, to_request
from studio.ui.report import Report, as_sentence, file_stem, preview_url


def picture(value: int, side: int = 64) -> Pixels:
    return np.full((side, side, 3), value, np.uint8)


class Run:
    """A collage on its way to pictures."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        self.library = Library()
        cat = self.library.add(Image.new("RGBA", (8, 8), "red"))
        layer = Layer(id="a", name="cat", prompt="cat", picture=cat, x=32, y=32)
        self.collage = Collage.from_dict(
            {"name": "My Café", "canvas": {"width": 64, "height": 64}, "seed": 5, **fields}
        ).replace(layers=(layer,))
        self.prepared: Prepared = to_request(self.collage, self.library, PictureStore())
        self.folder, self.kept = folder, list[str]()
        self.report = Report(1, self.collage, self.library, self.prepared.request, self.keep)

    def keep(self, name: str, data: bytes) -> str:
        self.kept.append(name)
        path = self.folder / f"{len(list(self.folder.iterdir()))}-{name}"
        path.write_bytes(data)
        return str(path)

    def finish(self, *pictures: Pixels) -> None:
        result = RenderResult(self.prepared.request, pictures, {"seconds": 1.25, "threads": 1})
        self.report.take(Finished(result))


def test_a_download_is_shown_before_the_steps(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.report.take(Downloading("sdxl", 1_230_000_000, 6_900_000_000))
    assert run.report.plain["text"] == "Downloading sdxl: 1.2 of 6.9 GB"
    assert run.report.plain["share"] == round(1.23 / 6.9, 4)
    run.report.take(Downloading("sdxl", 0, 0))
    assert run.report.plain["share"] == 0
    run.report.take(Downloading("sdxl", 9, 9))
    run.report.take(Started("a cat", 10, 1))
    assert (run.report.plain["text"], run.report.plain["share"]) == ("0 of 10 steps", 0)


def test_learning_is_shown_before_the_steps(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.report.take(Learning("cat", 30, 120))
    assert run.report.plain["text"] == "Learning the look of cat: 30 of 120 steps"
    assert run.report.plain["share"] == 0.25
    run.report.take(Started("a cat", 10, 1))
    assert (run.report.plain["text"], run.report.plain["share"]) == ("0 of 10 steps", 0)


@pytest.mark.parametrize(
    ("done", "total", "words"),
    [(0, 10**9, "0.0 of 1.0 GB"), (5 * 10**8, 999_000_000, "500 of 999 MB"), (0, 0, "0 of 0 MB")],
)
def test_sizes_in_words(done: int, total: int, words: str) -> None:
    assert size(done, total) == words


def test_progress_of_images_one_after_another(tmp_path: Path) -> None:
    run = Run(tmp_path, images=2)
    run.report.take(Started("a cat", 10, 2))
    run.report.take(Progress(5, 10, 1, 2))
    assert run.report.plain["share"] == 0.75
    assert run.report.plain["text"] == "5 of 10 steps of picture 2 of 2"


def test_progress_of_images_that_advance_together(tmp_path: Path) -> None:
    run = Run(tmp_path, images=2, spread=1.0)
    run.report.take(Progress(5, 10, 0, 2))
    assert run.report.plain["share"] == 0.5
    assert run.report.plain["text"] == "5 of 10 steps"


def read(file: dict[str, Any]) -> bytes:
    return Path(file["path"]).read_bytes()


def is_bare(file: dict[str, Any], value: int) -> bool:
    """Whether a file is the picture of this value and nothing besides."""
    data = read(file)
    assert (np.asarray(Image.open(io.BytesIO(data))) == value).all()
    return png.CHUNK not in data and png.read_report(data) == {}


def test_results_carry_the_collage_and_the_facts_of_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path, images=2)
    for image in (0, 1):
        run.report.take(ImageDone(image, 5 + image, picture(1 + image)))
    run.finish(picture(1), picture(2))
    results = run.report.plain["results"]
    assert [(one["seed"], one["again"]) for one in results] == [(5, 5), (6, 6)]
    for one, value in zip(results, (1, 2), strict=True):
        assert one["name"] == one["download"]["orig_name"] == f"my-cafe-{one['seed']}.png"
        data = read(one["download"])
        assert (np.asarray(Image.open(io.BytesIO(data))) == value).all()
        inside, _ = png.read_bytes(data)
        assert inside == run.collage.replace(seed=one["seed"], images=1)
        assert png.read_report(data)["threads"] == 1
    assert run.report.plain["state"] == "done"
    assert run.report.plain["text"] == "Made 2 pictures in 1.2 s."
    assert run.report.plain["preview"] is None


def test_what_is_shown_is_the_picture_alone_and_the_collage_is_written_once(tmp_path: Path) -> None:
    """Tiles and stage load what is shown, and load it again where its address changes."""
    run = Run(tmp_path, images=2)
    run.report.take(ImageDone(0, 5, picture(1)))
    (early,) = run.report.plain["results"]
    assert early["download"] is None and is_bare(early["file"], 1)
    run.report.take(ImageDone(1, 6, picture(2)))
    assert run.kept == ["my-cafe-5-bare.png", "my-cafe-6-bare.png"]
    run.finish(picture(1), picture(2))
    assert run.kept[2:] == ["my-cafe-5.png", "my-cafe-6.png"]
    first, second = run.report.plain["results"]
    assert first["file"] == early["file"] and is_bare(second["file"], 2)


def test_what_is_finished_of_a_run_that_ends_early_can_be_downloaded(tmp_path: Path) -> None:
    run = Run(tmp_path, images=3)
    assert run.report.so_far()["results"] == []
    for image in (0, 1):
        run.report.take(ImageDone(image, 5 + image, picture(image)))
    told = run.report.so_far()
    assert run.report.so_far() == told and len(run.kept) == 4, "it is told twice, and written once"
    for one in told["results"]:
        assert png.read_bytes(read(one["download"]))[0] == run.collage.replace(seed=one["seed"], images=1)
        assert png.read_report(read(one["download"]))["seed"] == one["seed"]


def test_a_full_disk_costs_a_run_that_ends_early_no_more_than_its_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, images=2)
    run.report.take(ImageDone(0, 5, picture(1)))

    def full(name: str, data: bytes) -> str:
        raise EngineError("the disk is full; make room on it.")

    monkeypatch.setattr(run.report, "_keep", full)
    told = run.report.so_far()
    assert told["warnings"] == [
        "The finished pictures cannot be kept for download: the disk is full; make room on it."
    ]
    assert [one["download"] for one in told["results"]] == [None]


def test_images_that_were_made_together_are_made_again_with_the_seed_of_their_batch(tmp_path: Path) -> None:
    run = Run(tmp_path, images=2, spread=1.0)
    for image in (0, 1):
        run.report.take(ImageDone(image, 5 + image, picture(image)))
    run.finish(picture(0), picture(1))
    results = run.report.plain["results"]
    assert [(one["seed"], one["again"]) for one in results] == [(5, 5), (6, 5)]
    inside = png.read_bytes(read(results[1]["download"]))[0]
    assert (inside.seed, inside.images) == (5, 2)


def test_a_single_picture_carries_the_very_collage(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.report.take(ImageDone(0, 5, picture(9)))
    run.finish(picture(9))
    (only,) = run.report.plain["results"]
    assert png.read_bytes(read(only["download"]))[0] == run.collage


def test_a_layer_rendered_alone_says_what_changed_outside(tmp_path: Path) -> None:
    run = Run(tmp_path, canvas={"width": 128, "height": 64}, images=2)
    for number in (0, 1):
        run.report.take(ImageDone(number, 5 + number, picture(1)))
    facts: dict[str, object] = {"numbers": {"outside": {"layer": "cat", "largest": [0, 3]}}}
    run.report.take(Finished(RenderResult(run.prepared.request, (picture(1), picture(2)), facts)))
    assert [one["about"] for one in run.report.plain["results"]] == [
        "Seed 5 · 128 × 64 · cat alone, largest change outside it: 0 of 255",
        "Seed 6 · 128 × 64 · cat alone, largest change outside it: 3 of 255",
    ]


def test_reports_are_json_and_warnings_come_once(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.report.take(Preview(0, 1, picture(3)))
    for _ in range(2):
        run.report.take(Warned("layer 'cat' is small; make it larger", "cat"))
    plain = json.loads(json.dumps(run.report.plain))
    assert plain["warnings"] == ["Layer 'cat' is small; make it larger."]


def test_lost_layers_are_named(tmp_path: Path) -> None:
    run = Run(tmp_path, images=2)
    row = {"name": "cat", "area": 0.1, "attention": [0.25, None], "words": [None, None], "cutout": [0.5, 0.1]}
    layers = [row | {"lost": [False, True], "advice": "raise Insist"}]
    facts: dict[str, object] = {"numbers": {"layers": layers, "layers_by": "the embedded CLIP"}}
    for image in range(2):
        run.report.take(ImageDone(image, 5 + image, picture(image)))
    run.report.take(Finished(RenderResult(run.prepared.request, (picture(0), picture(1)), facts)))
    assert run.report.plain["warnings"] == ["Layer 'cat' was lost in 1 of 2 pictures: raise Insist."]
    assert run.report.plain["layers"] == {
        "lines": ["cat: 25%, – of its words' attention inside; 0.50, 0.10 like its cut-out; lost"],
        "by": "Measured by the embedded CLIP.",
    }
    assert json.loads(json.dumps(run.report.plain)) == run.report.plain
    inside = png.read_report(read(run.report.plain["results"][0]["download"]))
    assert inside["numbers"]["layers"] == layers
    other = Run(tmp_path)
    other.report.take(ImageDone(0, 5, picture(9)))
    other.finish(picture(9))
    assert "layers" not in other.report.plain and other.report.plain["warnings"] == []


@pytest.mark.parametrize("side", [64, 1024])
def test_previews_are_exact_at_any_size(side: int) -> None:
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    start, data = preview_url(noise).split(",")
    assert start == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), noise)


def test_sentences_and_file_names() -> None:
    assert as_sentence("the seed\n is odd") == "The seed is odd."
    assert as_sentence("Done!") == "Done!"
    assert as_sentence("") == ""
    assert file_stem("Ünter / den ../Linden") == "unter-den-linden"
    assert file_stem("夕") == "collage"
    assert len(file_stem("x" * 500)) == 60

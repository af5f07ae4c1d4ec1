from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.embedded.training.art import IconSet, fit, load_sets, recolour, render_key, render_svg
from pipelines.embedded.training.cutouts import CutoutStore, build, drawer, main
from pipelines.embedded.training.world import COLOURS, WORLDS, World
from pipelines.errors import ModelError, PictureError
from tests.needs import library

library("resvg_py")


def _share(pixels: np.ndarray, rgb: tuple[int, int, int], tolerance: int = 12) -> float:
    """Share of the solid pixels that are close to ``rgb``."""
    solid = pixels[pixels[..., 3] > 250][:, :3].astype(int)
    return float((np.abs(solid - np.array(rgb)).max(1) <= tolerance).mean())


@pytest.fixture(scope="module")
def icons(art: Path) -> IconSet:
    return load_sets(art, ("flat",))["flat"]


def test_a_cutout_is_trimmed_and_keeps_its_shape(icons: IconSet) -> None:
    tower = render_svg(icons.svg("tower"))
    assert tower.shape[0] == 160 and abs(tower.shape[1] - 160 * 8 / 28) < 2
    assert (tower[..., 3] > 0).any(0).all() and (tower[..., 3] > 0).any(1).all()


def test_aliases_are_followed_to_the_end_and_unknown_names_refused(icons: IconSet) -> None:
    assert icons.svg("auto") == icons.svg("automobile")
    assert "auto" in icons and "nothing" not in icons and "auto" in icons.slugs()
    with pytest.raises(PictureError, match="nothing"):
        icons.svg("nothing")


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="twemoji"):
        load_sets(tmp_path, ("twemoji",))


def test_an_empty_drawing_is_refused() -> None:
    with pytest.raises(PictureError, match="empty"):
        render_svg('<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"></svg>')


@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_recolouring_changes_the_main_colour_and_its_shades_only(icons: IconSet, colour: str) -> None:
    car = icons.svg("automobile")
    before, after = render_svg(car), render_svg(recolour(car, colour))
    assert _share(before, (0xE0, 0x20, 0x20)) > 0.4
    assert _share(after, COLOURS[colour], 40) > 0.4
    assert _share(after, (0x30, 0xC0, 0xFF)) == pytest.approx(_share(before, (0x30, 0xC0, 0xFF)), abs=0.02)
    assert np.array_equal(before[..., 3], after[..., 3])
    if colour != "red":
        assert _share(after, (0xE0, 0x20, 0x20)) == 0


def test_people_are_found_by_gender_and_tone(icons: IconSet) -> None:
    sets = {"flat": icons}
    assert icons.person("cook", "dark", "woman") == "woman-cook-dark"
    assert icons.person("cook", "default", "person") == "cook"
    assert _share(render_key(sets, "flat/cook/dark-man"), (0x60, 0x30, 0x10)) > 0.9
    assert _share(render_key(sets, "flat/cook/default-man"), (0xFF, 0xA0, 0x20)) > 0.9


def test_the_store_gives_back_what_was_rendered(art: Path, tiny: World, tmp_path: Path) -> None:
    path = build(art, tiny, tmp_path)
    store, sets = CutoutStore.load(tmp_path), load_sets(art, ("flat",))
    assert store.world == "tiny" and store.keys() == tiny.art_keys() and len(store) == 14
    assert list(tmp_path.iterdir()) == [path]
    for key in tiny.art_keys():
        assert np.array_equal(store[key], render_key(sets, key))
        assert max(store[key].shape[:2]) == 160
    with pytest.raises(ValueError):
        store["flat/tower"][0, 0] = 0


def test_unknown_cutouts_and_missing_stores_are_refused(shapes: CutoutStore, tmp_path: Path) -> None:
    assert "flat/cat" in shapes
    with pytest.raises(PictureError, match="flat/sea-serpent"):
        shapes["flat/sea-serpent"]
    with pytest.raises(ModelError, match="no cut-outs"):
        CutoutStore.load(tmp_path)


def test_scaled_cutouts_are_premultiplied_mirrored_and_cached() -> None:
    half = np.zeros((40, 80, 4), np.uint8)
    half[:, :40] = (200, 100, 0, 255)
    half[:, 40:] = (255, 255, 255, 0)
    store = CutoutStore("one", {"a": half})
    out, mirrored = store.scaled("a", 40), store.scaled("a", 40, True)
    assert store.extent("a", 40) == (40, 20) and out.shape == (20, 40, 4)
    assert out[10, 5] == pytest.approx([200, 100, 0, 1], abs=1)
    assert out[10, -3] == pytest.approx([0, 0, 0, 0], abs=1)  # invisible white adds no light
    assert np.array_equal(out[:, ::-1], mirrored)
    assert store.scaled("a", 40) is out


def test_fit_leaves_the_right_size_alone() -> None:
    pixels = np.full((10, 20, 4), 255, np.uint8)
    assert fit(pixels, 20) is pixels
    assert fit(pixels, 10).shape == (5, 10, 4)


def test_the_drawer_holds_one_neutral_picture_a_class(art: Path, tiny: World, tmp_path: Path) -> None:
    path = drawer(art, tiny, tmp_path, 64)
    entries = {e["label"]: e for e in json.loads(path.read_text())["cutouts"]}
    assert list(entries) == ["automobile", "tower", "cook"]
    car, cook = entries["automobile"], entries["cook"]
    assert car["name"] == "red car" and car["changes"] and "changes" not in cook
    assert cook["kind"] == "person" and cook["licence"] == "MIT" and "Nobody" in cook["source"]
    for entry in entries.values():
        with Image.open(tmp_path / entry["file"]) as picture:
            assert picture.mode == "RGBA"
            assert picture.size == (entry["width"], entry["height"]) and max(picture.size) == 64


def test_the_commands_write_what_they_say(
    art: Path,
    tiny: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(WORLDS, "tiny", tiny)
    main(["--art", str(art), "--world", "tiny", "--out", str(tmp_path / "a"), "--side", "40"])
    assert capsys.readouterr().out.startswith("14 cut-outs")
    assert max(CutoutStore.load(tmp_path / "a")["flat/tower"].shape) == 40
    main(["--art", str(art), "--world", "tiny", "--drawer", str(tmp_path / "b")])
    assert (tmp_path / "b" / "index.json").is_file()


def test_the_shipped_drawer_matches_the_small_world(small: World) -> None:
    folder = Path(__file__).parents[4] / "studio" / "drawer"
    entries = json.loads((folder / "index.json").read_text())["cutouts"]
    assert [e["label"] for e in entries] == list(small.labels)
    assert {p.name for p in folder.iterdir()} == {e["file"] for e in entries} | {"index.json"}
    assert sum(p.stat().st_size for p in folder.iterdir()) < 2.5e6

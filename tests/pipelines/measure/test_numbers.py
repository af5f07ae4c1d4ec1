"""Numbers with the pictures: known values, known order, and nothing where there is nothing to tell."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.events import RenderResult
from pipelines.measure.features import Features, vendi
from pipelines.measure.numbers import CHANGED, apart, changed_share, measured, numbers, shown, told
from pipelines.pictures import PictureStore, Pixels
from tests.pipelines import tiny


@pytest.fixture(scope="module")
def features() -> Features:
    return Features()


def unit(*rows: list[float]) -> np.ndarray:
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class TestFormulas:
    def test_vendi(self) -> None:
        assert vendi(unit([1, 0], [1, 0], [1, 0])) == pytest.approx(1)
        assert vendi(unit([1, 0, 0], [0, 1, 0], [0, 0, 1])) == pytest.approx(3)
        assert vendi(unit([1, 0], [1, 0], [0, 1], [0, 1])) == pytest.approx(2), "two kinds"
        between = vendi(unit([1, 0], [1, 1]))
        values = np.array([1 + 0.5**0.5, 1 - 0.5**0.5]) / 2
        assert between == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-5)

    def test_apart(self) -> None:
        images = [np.zeros((2, 2, 3), np.uint8) for _ in range(3)]
        images[0][0, 0] = 3, 250, 7
        images[2][0, 0] = 3, 0, 200
        images[1][1, 0, 2] = 255
        assert apart(images).tolist() == [[250, 0], [255, 0]]
        assert apart(images).dtype == np.uint8

    def test_changed_share(self) -> None:
        flat = np.full((8, 8, 3), 100, np.uint8)
        picture = flat.copy()
        picture[:2, :, 1] -= CHANGED + 1
        picture[4:] += CHANGED
        assert changed_share(picture, flat) == 0.25 and changed_share(flat, flat) == 0
        assert changed_share(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)) == 1

    def test_shown(self) -> None:
        picture = tiny.picture(3)
        part = shown(picture, tiny.CAT > 0)
        assert part is not None and np.array_equal(part, picture[8:56, 36:60])
        corner = np.zeros((64, 64), bool)
        corner[0, 0] = corner[9, 4] = True
        part = shown(picture, corner)
        assert part is not None and part.shape == (10, 5, 3)
        assert np.array_equal(part[9, 4], picture[9, 4]) and (part[0, 1] == 128).all()
        assert shown(picture, np.zeros((64, 64), bool)) is None


class TestNumbers:
    def test_nothing_to_tell(self, store: PictureStore) -> None:
        request = tiny.text_request(avoids=(tiny.avoid(store, alpha=0.0),))
        assert numbers(request, (tiny.picture(1),), store) == {}
        result = RenderResult(request, (tiny.picture(1),), {"seconds": 1})
        assert measured(result, store) is result
        assert numbers(tiny.text_request(avoids=(tiny.avoid(store),)), (), store) == {}, (
            "stopped before the first"
        )

    def test_changed_needs_no_features(self, store: PictureStore) -> None:
        request = tiny.collage_request(store)
        flat = tiny.picture(1)
        half = flat.copy()
        half[:32] = 255 - half[:32]
        found = numbers(request, (half,), store)
        assert list(found) == ["changed"] and 0.4 < found["changed"][0] < 0.51

    def test_spread_of_a_batch(self, store: PictureStore, features: Features) -> None:
        request = tiny.text_request(images=3)
        same, other, third = tiny.picture(1), tiny.picture(2), tiny.picture(5)
        equal = numbers(request, (same, same, same), store, features)["spread"]
        apart = numbers(request, (same, other, third), store, features)["spread"]
        assert equal == {"distance": pytest.approx(0, abs=1e-4), "vendi": pytest.approx(1, abs=1e-3)}
        assert apart["distance"] > 0.005 and 1.01 < apart["vendi"] <= 3

    def test_nearness_inside_and_outside_the_reach(self, store: PictureStore, features: Features) -> None:
        reference, other = tiny.picture(9), tiny.picture(20)
        cat = tiny.CAT > 0

        def near(picture: Pixels, layer: int | None, mask: str | None = None) -> tuple[object, object]:
            avoid = tiny.avoid(store, 9, layer=layer, mask=mask)
            request = tiny.collage_request(store, avoids=(avoid,))
            [found] = numbers(request, (picture,), store, features)["avoids"]
            assert found["name"] == "that"
            return found["inside"], found["outside"]

        inside, outside = near(reference, None)
        assert inside == [pytest.approx(1, abs=1e-4)] and outside is None, "it is the reference"
        away, _ = near(other, None)
        assert away[0] < 0.99
        # the reference's cat in the cat's place of another picture, and the other way round
        pasted, holed = other.copy(), reference.copy()
        pasted[cat], holed[cat] = reference[cat], other[cat]
        mask = store.put(tiny.CAT)
        inside, outside = near(pasted, 1, mask)
        assert inside == [pytest.approx(1, abs=1e-4)] and outside[0] < 0.99
        assert near(holed, 1, mask)[0][0] < 0.99

    def test_a_real_run_from_end_to_end(
        self, engine: object, store: PictureStore, features: Features
    ) -> None:
        request = tiny.collage_request(store, images=2, spread=1.0, avoids=(tiny.avoid(store, layer=0),))
        result = measured(tiny.result(engine, request, store), store)  # type: ignore[arg-type]
        found = result.report["numbers"]
        assert isinstance(found, dict) and json.loads(json.dumps(found)) == found
        assert set(found) == {"changed", "spread", "avoids", "features"} and "seconds" in result.report
        assert len(found["avoids"][0]["inside"]) == len(found["avoids"][0]["outside"]) == 2
        words = told(found, 1)
        assert words[0] == f"changed {100 * found['changed'][1]:.0f} %"
        assert words[2].startswith("near 'that' ") and ", outside " in words[2]
        assert found["features"] == "embedded" and words[3:] == ["by features of the embedded CLIP"]


class TestVary:
    def test_inside_against_outside(self, store: PictureStore, features: Features) -> None:
        request = tiny.collage_request(store, cat={"vary": 1.0}, images=2)
        one = tiny.picture(1)
        other = one.copy()
        inside = tiny.CAT >= 128
        other[inside] = tiny.picture(2)[inside]
        found = numbers(request, (one, other), store, features)["vary"]
        assert found["inside"] > 0.01 and found["outside"] == pytest.approx(0, abs=1e-4)
        assert found["apart"] == 0
        other[0, 0, 1] ^= 64
        again = numbers(request, (one, other), store, features)
        assert again["vary"]["apart"] == 64
        assert any(line.startswith("vary inside") and "64 of 255" in line for line in told(again, 0))

    def test_only_where_layers_vary(self, store: PictureStore, features: Features) -> None:
        pair = (tiny.picture(1), tiny.picture(2))
        assert "vary" not in numbers(tiny.collage_request(store, images=2), pair, store, features)
        request = tiny.collage_request(store, cat={"vary": 1.0}, images=2)
        assert "vary" not in numbers(request, pair[:1], store, features)

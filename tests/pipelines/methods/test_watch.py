"""Attention inside the mask: the formula, that it changes nothing, and that it is not there when not asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine
from pipelines.events import Finished
from pipelines.methods.base import Inputs
from pipelines.methods.watch import MOST_PLACES, Watch, attended, chosen_places, chosen_steps
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest, Variant
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt

CROSS = Site(cross=True, part="down")


def watched(engine: Engine, request: RenderRequest, store: PictureStore) -> Any:
    last = list(engine.render(request, store, watch=True))[-1]
    assert isinstance(last, Finished)
    return last.result


class TestChoices:
    def test_steps(self) -> None:
        assert chosen_steps(0, 30) == {5, 15, 25} and chosen_steps(10, 16) == {11, 13, 15}
        assert chosen_steps(0, 1) == {0} and chosen_steps(4, 6) == {4, 5}

    @pytest.mark.parametrize("grid", [(8, 8), (32, 32), (33, 32), (64, 64), (256, 128), (1, 5000)])
    def test_places(self, grid: tuple[int, int]) -> None:
        places = chosen_places(grid)
        assert 0 < len(places) <= MOST_PLACES and int(places.max()) < grid[0] * grid[1]
        assert len(set(places.tolist())) == len(places)
        if grid[0] * grid[1] <= MOST_PLACES:
            assert places.tolist() == list(range(grid[0] * grid[1]))


def test_attended_is_the_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(3, n, 8, generator=generator) for n in (5, 9))
    bias, tokens = torch.randn(3, 5, 9, generator=generator), torch.tensor([1, 7])
    expected = (query @ key.transpose(-1, -2) * 0.5 + bias).softmax(-1)[..., tokens].mean(0)
    assert torch.allclose(attended(query, key, 0.5, bias, tokens), expected, atol=1e-6)
    allowed = torch.ones(3, 5, 9, dtype=torch.bool)
    allowed[..., 7] = False
    assert attended(query, key, 0.5, allowed, tokens)[:, 1].abs().max() == 0
    assert attended(query, key, 0.5, None, torch.arange(9)).sum(-1) == pytest.approx(torch.ones(5))


class TestShares:
    def share(self, engine: Engine, store: PictureStore, mask: torch.Tensor | None, key: torch.Tensor) -> Any:
        run = tiny.run_of(engine, tiny.collage_request(store, cat={"span": None}), store)
        method, kernel = Watch(), Kernel()
        method.begin(run, kernel)
        index = min(chosen_steps(run.first, run.steps))
        method.before_forward(tiny.step_of(run, index), Inputs(torch.zeros(0), {}))
        generator = torch.Generator().manual_seed(0)
        kernel.watch[0](CROSS, torch.randn(2, 6, 64, 8, generator=generator), key, 0.3, mask)
        return method.shares()

    def test_words_that_look_everywhere_alike(self, engine: Engine, store: PictureStore) -> None:
        car = float(tiny.CAR.mean() / 255)
        assert self.share(engine, store, None, torch.zeros(2, 6, 77, 8)) == [[pytest.approx(car), None]]

    def test_words_that_look_inside_or_outside_alone(self, engine: Engine, store: PictureStore) -> None:
        key = torch.randn(2, 6, 77, 8, generator=torch.Generator().manual_seed(1))
        inside = torch.from_numpy(tiny.CAR / 255).reshape(8, 8, 8, 8).mean((1, 3)).flatten() > 0
        mask = torch.zeros(2, 1, 64, 77)
        mask[:, :, ~inside, 1:4] = float("-inf")
        [[share, _]] = self.share(engine, store, mask, key)
        touched = torch.from_numpy(tiny.CAR / 255).reshape(8, 8, 8, 8).mean((1, 3)).flatten()
        assert float(touched[inside].min()) * 0.99 <= share <= 1 and share > 0.7
        mask = torch.zeros(2, 1, 64, 77)
        mask[:, :, inside, 1:4] = float("-inf")
        assert self.share(engine, store, mask, key) == [[0, None]]


class TestRuns:
    def test_the_pictures_stay_and_shares_come(self, engine: Engine, store: PictureStore, model: str) -> None:
        request = tiny.collage_request(store, model, images=2, car={"attend_inside": 0.3})
        plain = tiny.result(engine, request, store)
        found = watched(engine, request, store)
        assert all(np.array_equal(a, b) for a, b in zip(plain.pictures, found.pictures, strict=True))
        assert "attention" not in plain.report
        shares = found.report["attention"]
        assert [len(image) for image in shares] == [2, 2] and shares[0] != shares[1]
        assert all(0 < share < 1 for image in shares for share in image)

    def test_each_image_of_a_joint_call_by_its_own_words(self, engine: Engine, store: PictureStore) -> None:
        """Prompts of their own, whose words stand elsewhere; spread with a threshold that nothing reaches."""
        prompts = ("a red car and a cat on the beach", "the night and a blue car at the table")
        spans = (((2, 9), (16, 19)), ((16, 24), None))
        told = tuple(Variant(prompt=p, spans=own) for p, own in zip(prompts, spans, strict=True))
        assert [p[slice(*own[0])] for p, own in zip(prompts, spans, strict=True)] == ["red car", "blue car"]
        request = tiny.collage_request(store, "sd_noise", images=2, variants=told, prompt=prompts[0])
        together = watched(engine, request.replace(spread=1.0, spread_threshold=1.0), store)
        shares = together.report["attention"]
        for image in range(2):
            alone = request.of_image(image).replace(images=1, seed=request.seed + image)
            [expected] = watched(engine, alone, store).report["attention"]
            for share, own in zip(shares[image], expected, strict=True):
                assert share == (own if own is None else pytest.approx(own, abs=1e-4))
        assert shares[1][1] is None and shares[0][1] is not None

    def test_attention_raises_the_share(self, engine: Engine, store: PictureStore, model: str) -> None:
        strong = {"attend_inside": 1.0, "attend_outside": 1.0}
        weak, more = (
            watched(engine, tiny.collage_request(store, model, car=words), store).report["attention"][0][0]
            for words in ({}, strong)
        )
        assert more > weak * 1.3

    def test_nothing_installed_when_not_asked(
        self, engine: Engine, store: PictureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pipelines import sampling

        taps: list[int] = []
        stock = sampling.installed

        def noted(*args: Any) -> Any:
            taps.append(1)
            return stock(*args)

        monkeypatch.setattr(sampling, "installed", noted)
        request = tiny.collage_request(store)
        tiny.result(engine, request, store)
        assert taps == []
        watched(engine, request, store)
        assert taps == [1]
        bare = request.replace(layers=tuple(tiny.layer(store, "x", tiny.CAT) for _ in range(1)))
        assert watched(engine, bare, store).report["attention"] == [[None]] and taps == [1], "no words"

    def test_where_nothing_may_change(self, engine: Engine, store: PictureStore) -> None:
        still = {"harmonize": 0.0}
        request = tiny.collage_request(store, car=still, cat=still, background_harmonize=0.0)
        assert watched(engine, request, store).report["attention"] == []

    @pytest.mark.parametrize("name", tt.KINDS)
    def test_joint_attention(self, transformers: Engine, store: PictureStore, name: str) -> None:
        words = {"scheduler": "flow_euler", "steps": 3, "guidance": 3.5, "background_harmonize": 0.9}
        strong = {"attend_inside": 1.0, "attend_outside": 1.0}
        requests = (tiny.collage_request(store, name, car=car, **words) for car in ({}, strong))
        weak, more = (watched(transformers, request, store).report["attention"][0][0] for request in requests)
        assert 0 < weak < more < 1

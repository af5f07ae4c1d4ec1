"""Spread: between which images, which way, when and where."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine
from pipelines.errors import UnsupportedError
from pipelines.methods.negtome import Avoid, Spread, push
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny
from tests.pipelines.methods.merging import NO_INPUTS, OWN, begun, similar, tokens
from tests.pipelines.runs import sampled


class TestSpread:
    def request(self, **words: Any) -> RenderRequest:
        return tiny.text_request(
            **{"images": 3, "spread": 1.0, "spread_threshold": 0.0, "spread_by": "push", **words}
        )

    def test_every_image_moves_away_from_the_others(self, engine: Engine, store: PictureStore) -> None:
        method, _ = begun(Spread, engine, self.request(), store, images=3)
        features = tokens(6 * 64).reshape(6, 64, 16) + tokens(64, seed=5)[None]
        out = method.map_output(OWN, features[:, None])[:, 0]
        for branch in ([0, 1, 2], [3, 4, 5]):
            assert similar(out[branch]) < similar(features[branch]) - 0.02
        assert ((out - features).abs().amax((1, 2)) > 0.1).all(), "no image is sacrificed as the reference"
        pulling, _ = begun(Spread, engine, self.request(spread=-0.5), store, images=3)
        assert similar(pulling.map_output(OWN, features[:, None])[:3, 0]) > similar(features[:3]) + 0.02

    @pytest.mark.parametrize("axis", ["source", "released"])
    def test_permuting_the_batch_permutes_the_result(
        self, engine: Engine, store: PictureStore, axis: str
    ) -> None:
        method, _ = begun(Spread, engine, self.request(axis=axis), store, images=3)
        features = tokens(6 * 64).reshape(6, 1, 64, 16)
        order = [2, 0, 1, 5, 3, 4]
        assert torch.allclose(
            method.map_output(OWN, features[order]), method.map_output(OWN, features)[order], atol=1e-5
        )

    def test_the_released_axis_is_used_where_asked_for(self, engine: Engine, store: PictureStore) -> None:
        method, _ = begun(Spread, engine, self.request(axis="released"), store, images=3)
        features = tokens(6 * 64).reshape(6, 64, 16)
        out = method.map_output(OWN, features[:, None])[:, 0]
        pushes = [push(features[0], features[other], 1.0, 0.0, axis="released") for other in (1, 2)]
        assert torch.allclose(out[0] - features[0], (pushes[0] + pushes[1]) / 2, atol=1e-5)
        papers, _ = begun(Spread, engine, self.request(), store, images=3)
        assert not torch.allclose(papers.map_output(OWN, features[:, None])[:, 0], out, atol=0.1)

    def test_matching_stays_inside_a_guidance_branch(self, engine: Engine, store: PictureStore) -> None:
        method, _ = begun(Spread, engine, self.request(images=2), store, images=2)
        features = tokens(4 * 64).reshape(4, 1, 64, 16)
        before = method.map_output(OWN, features)
        features[3] *= -2
        after = method.map_output(OWN, features)
        assert torch.equal(before[:2], after[:2])
        assert not torch.allclose(before[2], after[2])

    def test_one_image_alone_is_unchanged(self, engine: Engine, store: PictureStore) -> None:
        method, _ = begun(Spread, engine, self.request(images=2), store, images=1)
        features = tokens(2 * 64).reshape(2, 1, 64, 16)
        assert torch.equal(method.map_output(OWN, features), features)
        alone, plain = (tiny.pictures(engine, tiny.text_request(spread=s), store)[0] for s in (2.0, 0.0))
        assert np.array_equal(alone, plain)

    def test_heads_are_matched_together(self, engine: Engine, store: PictureStore) -> None:
        method, _ = begun(Spread, engine, self.request(images=2), store, images=2)
        joined = tokens(4 * 64).reshape(4, 64, 16)
        heads = joined.reshape(4, 64, 4, 4).transpose(1, 2)
        out = method.map_output(OWN, heads).transpose(1, 2).reshape(4, 64, 16)
        assert torch.allclose(out, method.map_output(OWN, joined[:, None])[:, 0], atol=1e-6)

    def test_images_of_a_run_move_apart(self, engine: Engine, store: PictureStore, model: str) -> None:
        """Features of the first finest self-attention in the first step, as the denoiser goes on with them."""

        def features(spread: float) -> torch.Tensor:
            kept: list[torch.Tensor] = []
            unet = engine.load(model).pipe.unet
            part = unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_out[0]
            handle = part.register_forward_pre_hook(lambda _, args: kept.append(args[0].clone()))
            try:
                request = tiny.text_request(
                    model,
                    images=3,
                    spread=spread,
                    spread_by="push",
                    spread_threshold=0.0,
                    window=1.0,
                    steps=2,
                )
                tiny.result(engine, request, store)
            finally:
                handle.remove()
            return kept[0][3:]  # the rows guided by the prompt

        # an unreachable threshold: the same joint call, with nothing pushed
        off = similar(torch.cat([features(1e-9)]))
        assert similar(features(0.8)) < off - 0.005
        assert similar(features(-0.8)) > off + 0.005


class TestByGuidance:
    """The negative branch is pulled to the other images; the rows of the prompt stay as they are."""

    def request(self, **words: Any) -> RenderRequest:
        return tiny.text_request(**{"images": 3, "spread": 1.0, "spread_threshold": 0.0, **words})

    def test_only_the_negative_branch_moves_and_towards(self, engine: Engine, store: PictureStore) -> None:
        request = self.request(guidance=3.0)
        assert request.spread_by == "guidance"
        method, _ = begun(Spread, engine, request, store, images=3)
        features = tokens(6 * 64).reshape(6, 64, 16) + tokens(64, seed=5)[None]
        out = method.map_output(OWN, features[:, None])[:, 0]
        assert torch.equal(out[3:], features[3:])
        for row in range(3):
            others = [o for o in range(3) if o != row]
            pulled = push(features[row], features[others].flatten(0, 1), -1.0 / 2, 0.0)
            assert torch.allclose(out[row] - features[row], pulled, atol=1e-5), "alpha over guidance - 1"
        assert similar(out[:3]) > similar(features[:3]) + 0.02

    def test_weak_guidance_does_not_pull_without_bound(self, engine: Engine, store: PictureStore) -> None:
        features = tokens(6 * 64).reshape(6, 64, 16)
        moved = [
            begun(Spread, engine, self.request(guidance=g), store, images=3)[0].map_output(
                OWN, features[:, None]
            )
            for g in (1.25, 2.0)
        ]
        assert torch.allclose(*moved)

    def test_without_guidance_it_is_the_push(self, engine: Engine, store: PictureStore) -> None:
        features = tokens(3 * 64).reshape(3, 1, 64, 16)
        outs = []
        for by in ("guidance", "push"):
            method, _ = begun(Spread, engine, self.request(guidance=1.0, spread_by=by), store, images=3)
            outs.append(method.map_output(OWN, features))
        assert torch.equal(*outs)
        assert not torch.equal(outs[0], features)

    def test_pictures_differ_by_the_way(self, engine: Engine, store: PictureStore) -> None:
        shown = [
            tiny.pictures(engine, self.request(images=2, guidance=3.0, window=1.0, **more), store)[0]
            for more in ({"spread": 0.0}, {}, {"spread_by": "push"})
        ]
        assert not np.array_equal(shown[0], shown[1])
        assert not np.array_equal(shown[1], shown[2])


class TestSpreadMatch:
    def out(self, engine: Engine, store: PictureStore, features: torch.Tensor, **words: Any) -> torch.Tensor:
        request = tiny.text_request(images=3, spread=1.0, spread_threshold=0.0, spread_by="push", **words)
        method, _ = begun(Spread, engine, request, store, images=3)
        return method.map_output(OWN, features[:, None])[:, 0]

    @pytest.mark.parametrize("axis", ["source", "released"])
    def test_first_is_the_papers_rule(self, engine: Engine, store: PictureStore, axis: str) -> None:
        features = tokens(6 * 64).reshape(6, 64, 16)
        out = self.out(engine, store, features, spread_match="first", axis=axis)
        for first in (0, 3):
            assert torch.equal(out[first], features[first]), "the reference does not move"
            for row in (first + 1, first + 2):
                moved = push(features[row], features[first], 1.0, 0.0, axis=axis)
                assert torch.allclose(out[row] - features[row], moved, atol=1e-5)
        assert not torch.allclose(out[1], self.out(engine, store, features, axis=axis)[1], atol=0.1)

    def test_first_leaves_picture_0_as_in_one_plain_call(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        """To the last bit, in the same batch; the others move."""
        request = tiny.text_request(
            model,
            images=2,
            spread=2.0,
            spread_threshold=0.0,
            spread_match="first",
            window=1.0,
            spread_by="push",
        )
        loaded = engine.load(model)
        plain, spread = (sampled(loaded, request, store, methods, range(2)) for methods in ([], None))
        assert np.array_equal(plain[0], spread[0])
        assert tiny.moved(plain[1], spread[1]) > 1

    @pytest.mark.parametrize("axis", ["source", "released"])
    def test_nearest_is_one_image(self, engine: Engine, store: PictureStore, axis: str) -> None:
        features = tokens(6 * 64).reshape(6, 64, 16)
        features[2] = features[0] + 0.5 * features[2]  # images 0 and 2 are alike, in the negative branch only
        out = self.out(engine, store, features, spread_match="nearest", axis=axis)
        for row, partner in ((0, 2), (2, 0)):
            moved = push(features[row], features[partner], 1.0, 0.0, axis=axis)
            assert torch.allclose(out[row] - features[row], moved, atol=1e-5)
        for row in (3, 4, 5):
            each = [push(features[row], features[o], 1.0, 0.0, axis=axis) for o in (3, 4, 5) if o != row]
            assert any(torch.allclose(out[row] - features[row], one, atol=1e-5) for one in each)
        order = [2, 0, 1, 5, 3, 4]
        again = self.out(engine, store, features[order], spread_match="nearest", axis=axis)
        assert torch.allclose(again, out[order], atol=1e-5), "no image is special"

    def test_all_lets_each_token_choose(self, engine: Engine, store: PictureStore) -> None:
        features = tokens(6 * 64).reshape(6, 64, 16)
        out = self.out(engine, store, features, spread_match="all")
        moved = push(features[0], features[[1, 2]].flatten(0, 1), 1.0, 0.0)
        assert torch.equal(out[0], features[0] + moved), "as before there was a choice"

    def test_of_two_images_all_and_nearest_are_the_same(self, engine: Engine, store: PictureStore) -> None:
        by = [
            tiny.pictures(
                engine,
                tiny.text_request(images=2, spread=1.0, spread_threshold=0.0, steps=2, spread_match=one),
                store,
            )
            for one in ("all", "nearest", "first")
        ]
        assert all(np.array_equal(a, b) for a, b in zip(by[0], by[1], strict=True))
        assert tiny.moved(by[2][0], by[0][0]) > 0.01

    def test_every_second_token(self, engine: Engine, store: PictureStore) -> None:
        features = tokens(6 * 64).reshape(6, 64, 16)
        out = self.out(engine, store, features, spread_every=2)
        moved = push(features[0], features[[1, 2], ::2].flatten(0, 1), 1.0, 0.0)
        assert torch.allclose(out[0] - features[0], moved, atol=1e-6)
        assert not torch.allclose(out, self.out(engine, store, features), atol=0.1)
        assert torch.equal(
            self.out(engine, store, features, spread_every=1), self.out(engine, store, features)
        )

    def test_parts(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.text_request(images=2, spread=1.0, spread_threshold=0.0, spread_parts=("mid",))
        method, _ = begun(Spread, engine, request, store, images=2)
        features = tokens(4 * 64).reshape(4, 1, 64, 16)
        assert method.map_output(OWN, features) is features
        assert not torch.equal(method.map_output(Site(cross=False, part="mid"), features), features)
        avoid, _ = begun(Avoid, engine, request.replace(avoids=(tiny.avoid(store),)), store)
        assert avoid.parts() == avoid._run.card.negtome_blocks, "spread's own, not avoid's"
        plain, _ = begun(Spread, engine, request.replace(spread_parts=()), store, images=2)
        assert not torch.equal(plain.map_output(OWN, features), features)

    def test_parts_that_a_model_lacks_are_refused(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.text_request(images=2, spread=1.0, spread_parts=("up", "single"))
        with pytest.raises(UnsupportedError, match=r"'single'.*down, mid, up"):
            tiny.result(engine, request, store)


class TestWhereAndWhen:
    def test_window(self, engine: Engine, store: PictureStore) -> None:
        def active(**words: Any) -> list[int]:
            run = tiny.run_of(
                engine, tiny.collage_request(store, images=2, spread=1.0, **words), store, images=2
            )
            method = Spread()
            method.begin(run, Kernel())
            features = tokens(4 * 64).reshape(4, 1, 64, 16)
            found = []
            for index in range(run.first, run.steps):
                method.before_forward(tiny.step_of(run, index), NO_INPUTS)
                if not torch.equal(method.map_output(OWN, features), features):
                    found.append(index)
            return found

        free = {"spread_threshold": 0.0}
        assert active(steps=20, window=0.25, **free) == [8, 9, 10], (
            "a quarter of the twelve steps that are run"
        )
        assert active(steps=20, window=0.0, **free) == [8], "at least one step"
        assert active(steps=5, window=1.0, **free) == [2, 3, 4]

    def test_places(self, engine: Engine, store: PictureStore) -> None:
        method, _ = begun(
            Spread, engine, tiny.text_request(spread=1.0, spread_threshold=0.0, images=2), store, 2
        )
        finest, small, tiniest = (tokens(4 * n).reshape(4, 1, n, 16) for n in (64, 16, 4))
        assert not torch.equal(method.map_output(OWN, finest), finest)
        assert not torch.equal(method.map_output(OWN, small), small)
        assert method.map_output(OWN, tiniest) is tiniest, "below the card's smallest grid"
        method._run.card = dataclasses.replace(method._run.card, smallest_grid=8)
        assert method.map_output(OWN, small) is small, "as the card says, not a number of our own"
        assert not torch.equal(method.map_output(OWN, finest), finest)
        assert method.map_output(Site(cross=True, part="up"), finest) is finest
        assert method.map_output(Site(cross=False, part="head"), finest) is finest

    def test_without_guidance(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.text_request(spread=1.0, spread_threshold=0.0, images=2, guidance=1.0)
        method, _ = begun(Spread, engine, request, store, images=2)
        features = tokens(2 * 64).reshape(2, 1, 64, 16)
        assert ((method.map_output(OWN, features) - features).abs().amax((1, 2, 3)) > 0.1).all()
        on = tiny.pictures(engine, request, store)
        off = tiny.pictures(engine, request.replace(spread=0.0), store)
        assert min(tiny.moved(a, b) for a, b in zip(on, off, strict=True)) > 0.1

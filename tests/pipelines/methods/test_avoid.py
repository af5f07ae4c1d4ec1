"""Avoid: which rows move, by which reference, how far and where."""

from __future__ import annotations

import pytest
import torch

from pipelines.engine import Engine
from pipelines.methods.negtome import Avoid, match, push
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny
from tests.pipelines.methods.merging import NO_INPUTS, OWN, begun, tokens


class TestAvoid:
    def moved(
        self,
        engine: Engine,
        request: RenderRequest,
        store: PictureStore,
        features: torch.Tensor,
        by: str = "push",
    ) -> torch.Tensor:
        method, run = begun(Avoid, engine, request.replace(avoid_by=by), store)
        step = tiny.step_of(run, run.first, guided=request.guidance > 1)
        step.references = {number: step.rows + number for number in range(len(request.avoids))}
        method.before_forward(step, NO_INPUTS)
        return method.map_output(OWN, features[:, None])[:, 0]

    def test_both_branches_leave_one_shared_reference(self, engine: Engine, store: PictureStore) -> None:
        features = tokens(3 * 64).reshape(3, 64, 16)
        out = self.moved(engine, tiny.text_request(avoids=(tiny.avoid(store),)), store, features)
        assert torch.equal(out[2], features[2])
        for row in (0, 1):
            before, index = match(features[row], features[2])
            after = torch.nn.functional.cosine_similarity(out[row], features[2][index], dim=-1)
            assert (after < before).all()

    @pytest.mark.parametrize(("guidance", "share"), [(1.5, 1.0), (2.0, 1.0), (4.0, 1 / 3), (11.0, 0.1)])
    def test_by_guidance_the_negative_branch_is_pulled(
        self, engine: Engine, store: PictureStore, guidance: float, share: float
    ) -> None:
        features = tokens(3 * 64).reshape(3, 64, 16)
        request = tiny.text_request(avoids=(tiny.avoid(store, alpha=0.6),), guidance=guidance)
        out = self.moved(engine, request, store, features, by="guidance")
        assert torch.equal(out[1:], features[1:]), "the prompt's row and the reference"
        pull = -push(features[0], features[2], 0.6, 0.0)
        assert torch.allclose(out[0] - features[0], share * pull, atol=1e-5)
        before, index = match(features[0], features[2])
        after = torch.nn.functional.cosine_similarity(out[0], features[2][index], dim=-1)
        assert (after > before).all(), "towards the reference, so that guidance leads away"

    def test_by_guidance_without_guidance_is_the_push(self, engine: Engine, store: PictureStore) -> None:
        features = tokens(2 * 64).reshape(2, 64, 16)
        request = tiny.text_request(avoids=(tiny.avoid(store),), guidance=1.0)
        by = [self.moved(engine, request, store, features, by=way) for way in ("guidance", "push")]
        assert torch.equal(*by)
        assert not torch.equal(by[0][0], features[0])

    def test_by_guidance_a_run_changes(self, engine: Engine, store: PictureStore) -> None:
        """A whole run changes, and otherwise than by a push; which way is told by the features above."""
        request = tiny.text_request(avoids=(tiny.avoid(store, threshold=0.0),), window=1.0, guidance=4.0)
        off = tiny.pictures(engine, request.replace(avoids=()), store)[0]
        by = [tiny.pictures(engine, request.replace(avoid_by=way), store)[0] for way in ("guidance", "push")]
        assert min(tiny.moved(picture, off) for picture in by) > 0.1
        assert tiny.moved(*by) > 0.1

    def test_off_moves_nothing(self, engine: Engine, store: PictureStore) -> None:
        features = tokens(3 * 64).reshape(3, 64, 16)
        for words in ({"alpha": 0.0}, {"threshold": 1.0}):
            request = tiny.text_request(avoids=(tiny.avoid(store, **words),))
            assert torch.equal(self.moved(engine, request, store, features), features)

    def test_only_the_masked_part_of_the_reference_counts(self, engine: Engine, store: PictureStore) -> None:
        features = tokens(3 * 64).reshape(3, 64, 16)
        part = torch.from_numpy(tiny.CAT).reshape(8, 8, 8, 8).float().mean((1, 3)).flatten() > 128
        request = tiny.text_request(avoids=(tiny.avoid(store, mask=store.put(tiny.CAT), threshold=0.0),))
        expected = features[0] + push(features[0], features[2], 1.0, 0.0, part)
        out = self.moved(engine, request, store, features)
        assert torch.allclose(out[0], expected, atol=1e-6)
        whole = self.moved(engine, tiny.text_request(avoids=(tiny.avoid(store),)), store, features)
        assert not torch.allclose(out, whole)

    def test_a_small_mask_still_counts(self, engine: Engine, store: PictureStore) -> None:
        """Less than half of any token: the most covered ones stand for it."""
        features = tokens(3 * 64).reshape(3, 64, 16)
        mask = store.put(tiny.box(0, 0, 3, 3))
        request = tiny.text_request(avoids=(tiny.avoid(store, mask=mask, threshold=0.0),))
        assert (self.moved(engine, request, store, features)[0] - features[0]).abs().max() > 0
        nothing = tiny.text_request(
            avoids=(tiny.avoid(store, mask=store.put(tiny.box(0, 0, 0, 0)), threshold=0.0),)
        )
        assert torch.equal(self.moved(engine, nothing, store, features), features)

    def test_reach_of_one_layer(self, engine: Engine, store: PictureStore) -> None:
        features = tokens(3 * 64).reshape(3, 64, 16)
        request = tiny.collage_request(store, avoids=(tiny.avoid(store, layer=1),))
        out = self.moved(engine, request, store, features)
        inside = torch.from_numpy(tiny.CAT).reshape(8, 8, 8, 8).float().mean((1, 3)).flatten() / 255
        assert torch.equal(out[0][inside == 0], features[0][inside == 0])
        full = push(features[0], features[2], 1.0, 0.0)
        assert torch.allclose((out - features)[0], full * inside[:, None], atol=1e-6)
        assert full.abs().max() > 0

    def test_the_released_axis_is_used_where_asked_for(self, engine: Engine, store: PictureStore) -> None:
        features = tokens(3 * 64).reshape(3, 64, 16)
        for axis, other in (("released", "source"), ("source", "released")):
            request = tiny.text_request(avoids=(tiny.avoid(store),), axis=axis)
            change = (self.moved(engine, request, store, features) - features)[0]
            assert torch.allclose(change, push(features[0], features[2], 1.0, 0.0, axis=axis), atol=1e-5)
            assert not torch.allclose(change, push(features[0], features[2], 1.0, 0.0, axis=other), atol=0.1)

    def test_two_references_add_up_from_the_same_start(self, engine: Engine, store: PictureStore) -> None:
        features = tokens(4 * 64).reshape(4, 64, 16)
        request = tiny.text_request(avoids=(tiny.avoid(store, 9), tiny.avoid(store, 10, alpha=0.5)))
        out = self.moved(engine, request, store, features)
        expected = push(features[0], features[2], 1.0, 0.0) + push(features[0], features[3], 0.5, 0.0)
        assert torch.allclose(out[0] - features[0], expected, atol=1e-5)

"""Layer attention in joint attention: a hard bias, both ways, padding masks, whose rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine
from pipelines.methods.base import Inputs, Run, Step, area_resized
from pipelines.methods.layer_attention import LayerAttention
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines.runs import sampled
from tests.pipelines.transformers.runs import GUIDED, TO_THE_END, collage


class Hard(LayerAttention):
    """Layer attention of overwhelming weight that looks at what the softmax makes of it."""

    def begin(self, run: Run, kernel: Kernel) -> None:
        super().begin(run, kernel)
        self.outside: list[float] = []
        self.stock_outside: list[float] = []
        self.untouched: list[bool] = []
        self.calls = 0

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        super().before_forward(step, inputs)
        self._weight.fill_(1e6)

    def logit_bias(
        self, site: Site, query: torch.Tensor, key: torch.Tensor, scale: float
    ) -> torch.Tensor | None:
        bias = super().logit_bias(site, query, key, scale)
        step, joint, run = self._step, site.joint, self._run
        assert step is not None and joint is not None
        self.calls += 1
        if bias is None:
            self.untouched.append(not len(step.conditional))
            return None
        others = [row for row in range(step.rows) if row not in list(step.conditional)]
        self.untouched.append(not bias[others].any())
        rows = step.conditional
        places = joint.image(query.shape[2], step.latent_size)
        grid = joint.grid(step.latent_size)
        mask = torch.from_numpy(run.pictures.get(run.request.layers[0].mask).copy())[None] / 255
        away = (area_resized(mask, grid).flatten() == 0).nonzero().flatten() + places.start
        own = torch.tensor(run.tokens[0]) + joint.text_start(step.latent_size)
        logits = query[rows] @ key[rows].transpose(-1, -2) * scale
        for into, added in ((self.outside, bias[rows]), (self.stock_outside, 0 * bias[rows])):
            chances = (logits + added).softmax(-1)
            into.append(float(chances[:, :, away][..., own].max()))
        return bias


class TestLayerAttention:
    def test_hard_bias(self, engine: Engine, store: PictureStore, model: str) -> None:
        """Exactly no attention to the words outside their mask, in every block; unconditional rows without bias."""
        method = Hard()
        request = collage(store, model, car={"attend_outside": 1.0, "attend_inside": 0.0})
        sampled(engine.load(model), request, store, [method])
        assert len(method.outside) >= 4 and max(method.outside) == 0
        assert min(method.stock_outside) > 0
        assert method.untouched and all(method.untouched)

    def test_only_the_prompts_rows_move(self, engine: Engine, store: PictureStore, model: str) -> None:
        """The first step's predictions: negative rows bit-equal, prompt rows not."""
        loaded = engine.load(model)
        outputs: list[list[torch.Tensor]] = []
        roles: list[list[int]] = []

        class Roles(LayerAttention):
            def before_forward(self, step: Step, inputs: Inputs) -> None:
                super().before_forward(step, inputs)
                roles.append(list(step.conditional))

        def note(module: Any, args: Any, kwargs: Any, out: Any) -> None:
            outputs[-1].extend(out[0])

        handle = loaded.pipe.transformer.register_forward_hook(note, with_kwargs=True)
        try:
            for strength in (0.0, 1.0):
                outputs.append([])
                car = {"attend_inside": strength, "attend_outside": strength}
                sampled(loaded, collage(store, model, car=car, steps=2, **TO_THE_END), store, [Roles()])
        finally:
            handle.remove()
        first = len(roles) // 4  # calls of the first of two steps of two runs
        each = len(outputs[0]) // (2 * first)
        conditional = [bool(k in rows) for rows in roles[:first] for k in range(each)]
        same = [torch.equal(a, b) for a, b in zip(*outputs, strict=True)]
        assert same[: len(conditional)] == [not one for one in conditional]
        assert sum(conditional) == 1 and len(conditional) == (2 if model in GUIDED else 1)

    @pytest.mark.parametrize("name", ["chroma", "zimage", "qwen"])
    def test_padding_masks_are_kept(
        self, engine: Engine, store: PictureStore, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """What a family's own mask says stays said under a bias: forbidden keys −inf, numbers added up."""
        from pipelines.attention import kernel

        stock_merged, met = kernel._merged, []

        def merged(mask: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            both = stock_merged(mask, bias)
            if mask.dtype == torch.bool:
                forbidden = ~mask.expand_as(both)
                assert both[forbidden].eq(float("-inf")).all()
                assert torch.equal(both[~forbidden], bias[~forbidden])
                met.append((bool(forbidden.any()), bool(bias.any())))
            else:
                assert torch.equal(both, mask + bias)
                met.append((bool(mask.min() < mask.max()), bool(bias.any())))
            return both

        monkeypatch.setattr(kernel, "_merged", merged)
        # rows of unequal length: the prompt's, and the negative one or the reference's
        prompt = "red car " + "on the beach " * 20
        request = collage(store, name, car={"attend_inside": 1.0, "attend_outside": 1.0}).replace(
            prompt=prompt
        )
        layer = dataclasses.replace(request.layers[0], span=(0, 7))
        request = request.replace(layers=(layer,), avoids=(tiny.avoid(store),), window=1.0, avoid_by="push")
        tiny.pictures(engine, request, store)
        assert (True, True) in met

    def test_hard_bias_both_ways(self, engine: Engine, store: PictureStore, model: str) -> None:
        """The words look at nothing outside their mask either."""
        outside: list[tuple[float, float]] = []

        class Both(Hard):
            def logit_bias(
                self, site: Site, query: torch.Tensor, key: torch.Tensor, scale: float
            ) -> torch.Tensor | None:
                bias = super().logit_bias(site, query, key, scale)
                step, joint = self._step, site.joint
                assert step is not None and joint is not None
                if bias is None:
                    return None
                rows, places = step.conditional, joint.image(query.shape[2], step.latent_size)
                mask = torch.from_numpy(store.get(request.layers[0].mask).copy())[None] / 255
                away = (area_resized(mask, joint.grid(step.latent_size)).flatten() == 0).nonzero().flatten()
                own = torch.tensor(self._run.tokens[0]) + joint.text_start(step.latent_size)
                logits = query[rows][:, :, own] @ key[rows].transpose(-1, -2) * scale
                chances = [(logits + bias[rows][:, :, own] * on).softmax(-1) for on in (1, 0)]
                hard, off = (float(one[..., away + places.start].max()) for one in chances)
                outside.append((hard, off))
                return bias

        car = {"attend_outside": 1.0, "attend_inside": 0.0}
        request = collage(store, model, car=car, steps=2, attend_both_ways=True)
        sampled(engine.load(model), request, store, [Both()])
        assert outside and all(hard == 0 < off for hard, off in outside)

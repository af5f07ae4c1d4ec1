"""Layer attention in joint attention: a hard bias, both ways, padding masks, whose rows."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pipelines.attention.kernel import Site
from pipelines.engine import Engine
from pipelines.methods.base import area_resized
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines.runs import sampled, widened
from tests.pipelines.spies import Hard, first_predictions
from tests.pipelines.transformers.runs import GUIDED, TO_THE_END, collage


class TestLayerAttention:
    @pytest.mark.parametrize("width", [64, 96])
    def test_hard_bias(self, engine: Engine, store: PictureStore, model: str, width: int) -> None:
        """Exactly no attention to the words outside their mask, in every block; unconditional rows without bias."""
        method = Hard()
        request = collage(store, model, car={"attend_outside": 1.0, "attend_inside": 0.0})
        request = widened(request, store, width)
        sampled(engine.load(model), request, store, [method])
        assert len(method.outside) >= 4 and max(method.outside) == 0
        assert min(method.stock_outside) > 0
        assert method.untouched and all(method.untouched)

    def test_only_the_prompts_rows_move(self, engine: Engine, store: PictureStore, model: str) -> None:
        """The first step's predictions: negative rows bit-equal, prompt rows not."""
        requests = [
            collage(store, model, car={"attend_inside": k, "attend_outside": k}, steps=2, **TO_THE_END)
            for k in (0.0, 1.0)
        ]
        conditional, same = first_predictions(engine.load(model), requests, store)
        assert same == [not one for one in conditional]
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

"""Layer attention: the formula, whom it touches, and which way it pulls."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.attention.tap import installed
from pipelines.engine import Engine
from pipelines.methods.base import Inputs, Run, area_resized, grid_of, grids
from pipelines.methods.layer_attention import LayerAttention, averaged, bias_columns, weight
from pipelines.models.card import SCHEDULERS
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny

CROSS = Site(cross=True, part="down")
NO_INPUTS = Inputs(torch.zeros(0), {})


def begun(engine: Engine, request: RenderRequest, store: PictureStore, images: int = 1) -> tuple[Any, Run]:
    """The method after its `begin`, in its first step."""
    run = tiny.run_of(engine, request, store, images)
    method = LayerAttention()
    method.begin(run, Kernel())
    method.before_forward(tiny.step_of(run, run.first), NO_INPUTS)
    return method, run


def asked(rows: int = 2, places: int = 64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, places, 8, generator=generator), torch.randn(
        rows, 3, 77, 8, generator=generator
    )


@pytest.fixture
def two(store: PictureStore) -> RenderRequest:
    return tiny.collage_request(
        store, car={"attend_inside": 0.8, "attend_outside": 0.3}, cat={"attend_outside": 1.0}
    )


def far_apart(request: RenderRequest, words: int) -> RenderRequest:
    """``words`` more of them before the last layer's own."""
    assert request.layers[1].span is not None
    start, end = request.layers[1].span
    more = "and " * words
    moved = dataclasses.replace(request.layers[1], span=(start + len(more), end + len(more)))
    prompt = request.prompt[:start] + more + request.prompt[start:]
    return request.replace(prompt=prompt, layers=(request.layers[0], moved))


class TestWeight:
    def test_values(self) -> None:
        assert weight(0.0) == pytest.approx(0.0099007, abs=1e-6)
        assert weight(1.0) == pytest.approx(math.log(math.log(2.01) + 1))
        assert weight(14.6) == pytest.approx(1.3212, abs=1e-4)

    def test_grows_with_noise_and_is_never_negative(self) -> None:
        values = [weight(sigma) for sigma in np.linspace(0, 14.6, 50)]
        assert values == sorted(values) and values[0] > 0

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    @pytest.mark.parametrize("model", ["sd_velocity", "sd_noise"])
    def test_each_step_of_each_scheduler(
        self, engine: Engine, store: PictureStore, scheduler: str, model: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whole runs started at .6: w is that of the timestep the denoiser is told, at most that of σ = 14.6."""
        found: list[float] = []
        times: list[float] = []
        own = LayerAttention.before_forward

        def spy(self: LayerAttention, step: Any, inputs: Inputs) -> None:
            own(self, step, inputs)
            found.append(float(self._weight))

        monkeypatch.setattr(LayerAttention, "before_forward", spy)
        pipe = engine.load(model).pipe
        handle = pipe.unet.register_forward_pre_hook(lambda module, args: times.append(float(args[1])))
        try:
            request = tiny.collage_request(store, model, car={"attend_inside": 1.0}, scheduler=scheduler)
            tiny.result(engine, request, store)
        finally:
            handle.remove()
        kept = pipe.scheduler.alphas_cumprod.double()
        grid = np.arange(len(kept))
        expected = []
        for time in times:
            a = float(np.interp(time, grid, kept))
            expected.append(weight(min(math.sqrt((1 - a) / a) if a > 0 else math.inf, 14.6)))
        assert len(found) == 3
        assert found == pytest.approx(expected, rel=0.02)
        assert found == sorted(found, reverse=True)


class TestFormula:
    def test_columns(self) -> None:
        inside, outside = torch.tensor([0.8, 0.1]), torch.tensor([0.3, 1.0])
        owner = torch.tensor([0, 0, 1])
        masks = torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
        spread = torch.cat([masks, torch.ones(5, 1)], 1)
        got = spread @ bias_columns(inside, outside, owner)
        for place in range(5):
            for token, layer in enumerate([0, 0, 1]):
                m = masks[place, layer]
                assert got[place, token] == pytest.approx(
                    float(inside[layer] * m - outside[layer] * (1 - m)), abs=1e-6
                )

    @pytest.mark.parametrize("between", [0, 20], ids=["words side by side", "words far apart"])
    def test_against_the_paper_word_for_word(
        self, engine: Engine, store: PictureStore, two: RenderRequest, between: int
    ) -> None:
        two = far_apart(two, between)
        method, run = begun(engine, two, store)
        assert run.tokens[1][0] - run.tokens[0][0] == 4 + between
        query, key = asked()
        bias = method.logit_bias(CROSS, query, key, 0.5)
        expected = torch.zeros(2, 64, 77)
        logits = torch.einsum("hnd,htd->hnt", query[1], key[1]) * 0.5
        w = weight(min(run.levels[run.first][1] / run.levels[run.first][0], 14.6))
        for layer, mask, tokens in zip(two.layers, (tiny.CAR, tiny.CAT), run.tokens, strict=True):
            m = torch.from_numpy(mask / 255).reshape(8, 8, 8, 8).mean((1, 3)).flatten()
            for token in tokens:
                largest = max(0.0, float(logits[:, :, token].max()))
                expected[1, :, token] = (
                    w * largest * (layer.attend_inside * m - layer.attend_outside * (1 - m))
                )
        assert bias.shape == (2, 1, 64, 77)
        assert torch.allclose(bias[:, 0], expected, atol=1e-5)
        assert expected.max() > 0.3 and expected.min() < -0.3

    def test_scale_of_the_logits(self, engine: Engine, store: PictureStore, two: RenderRequest) -> None:
        """Logits three times as large get a bias three times as large: the strength means the same everywhere."""
        method, _ = begun(engine, two, store)
        query, key = asked()
        one, three = (method.logit_bias(CROSS, query * c, key, 0.5) for c in (1.0, 3.0))
        assert torch.allclose(three, 3 * one, atol=1e-4)
        assert one.abs().max() > 0

    def test_the_largest_logit_is_taken_per_image(
        self, engine: Engine, store: PictureStore, two: RenderRequest
    ) -> None:
        method, _ = begun(engine, two.replace(images=2), store, images=2)
        query, key = asked(4)
        before = method.logit_bias(CROSS, query, key, 0.5)
        query[3] *= 10
        after = method.logit_bias(CROSS, query, key, 0.5)
        assert torch.equal(before[:3], after[:3])
        assert not torch.allclose(before[3], after[3])
        assert method.logit_bias(CROSS, query, key, 0.5)[:2].abs().max() == 0

    def test_negative_logits_do_not_turn_the_sign(
        self, engine: Engine, store: PictureStore, two: RenderRequest
    ) -> None:
        method, _ = begun(engine, two, store)
        query, key = asked()
        assert method.logit_bias(CROSS, query.abs(), -key.abs(), 0.5).abs().max() == 0
        assert method.logit_bias(CROSS, query.abs(), key.abs(), 0.5).abs().max() > 0


class TestWhomItTouches:
    def test_self_attention_and_other_texts_are_left_alone(
        self, engine: Engine, store: PictureStore, two: RenderRequest
    ) -> None:
        method, _ = begun(engine, two, store)
        query, key = asked()
        assert method.logit_bias(Site(cross=False, part="down"), query, key, 0.5) is None
        assert method.logit_bias(CROSS, query, key[:, :, :2], 0.5) is None, "an image prompt's few tokens"
        assert method.logit_bias(CROSS, query[:, :, :7], key, 0.5) is None, "no grid of 7 places"

    def test_layers_without_words_get_no_bias(self, engine: Engine, store: PictureStore) -> None:
        request = tiny.collage_request(
            store, car={"attend_inside": 1.0, "span": None}, cat={"attend_inside": 0.5}
        )
        method, run = begun(engine, request, store)
        bias = method.logit_bias(CROSS, *asked(), 0.5)
        touched = bias[1, 0].abs().sum(0).nonzero().flatten().tolist()
        assert touched == run.tokens[1] and run.tokens[0] == []

    @pytest.mark.parametrize("only_cross", [False, True])
    @pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 17), (5, 3)])
    def test_unconditional_rows_are_bit_equal_and_the_rest_moves(
        self, engine: Engine, store: PictureStore, only_cross: bool, height: int, width: int
    ) -> None:
        unet = tiny.unet(0, only_cross=only_cross)
        mask = np.zeros((height * 8, width * 8), np.uint8)
        mask[:, : width * 4] = 255
        request = tiny.collage_request(store)
        layers = (tiny.layer(store, "red car", mask, attend_inside=1.0, attend_outside=1.0),)
        run = tiny.run_of(engine, request.replace(layers=layers), store)
        run.latent_size = (height, width)
        method, kernel = LayerAttention(), Kernel()
        method.begin(run, kernel)
        method.before_forward(tiny.step_of(run, run.first), NO_INPUTS)
        generator = torch.Generator().manual_seed(0)
        sample = torch.randn(2, 4, height, width, generator=generator)
        text = torch.randn(2, 77, 32, generator=generator)
        answered: list[int] = []

        def count(site: Site, query: torch.Tensor, key: torch.Tensor, scale: float) -> None:
            answered.append(site.cross and method.logit_bias(site, query, key, scale) is not None)

        with torch.no_grad():
            plain = unet(sample, 500, encoder_hidden_states=text).sample
            with installed(unet, kernel, run.family.site):
                biased = unet(sample, 500, encoder_hidden_states=text).sample
            with installed(unet, Kernel([count]), run.family.site):
                unet(sample, 500, encoder_hidden_states=text)
        assert torch.equal(biased[0], plain[0])
        assert (biased[1] - plain[1]).abs().max() > 1e-3
        # each block has two attentions, one to text; with only_cross the finest blocks have two to text
        finest = 3 if only_cross else 0
        assert sum(answered) == len(answered) // 2 + finest

    def test_grids_of_a_unet(self) -> None:
        assert [grid_of(n, (9, 17)) for n in (153, 45, 15, 6, 2)] == [(9, 17), (5, 9), (3, 5), (2, 3), (1, 2)]
        assert grid_of(7, (9, 17)) is None and grid_of(1, (8, 8)) == (1, 1)

    @pytest.mark.parametrize("size", [(8, 8), (9, 17), (6, 10)])
    def test_grids_from_the_grid_before_are_those_of_the_mask(self, size: tuple[int, int]) -> None:
        masks = torch.rand(3, 96, 80, generator=torch.Generator().manual_seed(0))
        for found, grid in zip(averaged(masks, grids(size)), grids(size), strict=True):
            assert torch.allclose(found, area_resized(masks, grid), atol=1e-6)

    def test_half_precision_stays_finite(
        self, engine: Engine, store: PictureStore, two: RenderRequest
    ) -> None:
        method, _ = begun(engine, two, store)
        query, key = asked()
        bias = method.logit_bias(CROSS, (query * 300).half(), (key * 300).half(), 0.5)
        assert bias.dtype == torch.float16 and bias.isfinite().all()
        assert 1e3 < bias.abs().max() <= 1e4
        assert bias.stride(2) % 8 == 0, "the memory-efficient kernel wants aligned rows"


class TestDirection:
    def attention(self, request: RenderRequest, engine: Engine, store: PictureStore) -> torch.Tensor:
        """Probability (places,) of the car's words at a start far from clean, mean over heads."""
        method, run = begun(engine, request, store)
        query, key = asked()
        bias = method.logit_bias(CROSS, query, key, 0.5)
        logits = query[1] @ key[1].transpose(-1, -2) * 0.5
        return (logits + bias[1]).softmax(-1)[..., run.tokens[0]].sum(-1).mean(0)

    def test_up_inside_and_down_outside_in_step_with_the_strengths(
        self, engine: Engine, store: PictureStore
    ) -> None:
        inside = torch.from_numpy(tiny.CAR / 255).reshape(8, 8, 8, 8).mean((1, 3)).flatten() == 1
        outside = torch.from_numpy(tiny.CAR / 255).reshape(8, 8, 8, 8).mean((1, 3)).flatten() == 0
        little = {"attend_inside": 1e-6}
        rising, falling = [], []
        for strength in (0.0, 0.5, 1.0):
            up = {**little, "attend_inside": strength or 1e-6}
            rising.append(self.attention(tiny.collage_request(store, car=up), engine, store)[inside].mean())
            down = {**little, "attend_outside": strength}
            falling.append(
                self.attention(tiny.collage_request(store, car=down), engine, store)[outside].mean()
            )
        assert rising[0] * 1.5 < rising[1] and rising[1] * 1.5 < rising[2]
        assert falling[0] > falling[1] * 1.2 and falling[1] > falling[2] * 1.2

    def test_each_half_leaves_the_other_half_alone(self, engine: Engine, store: PictureStore) -> None:
        method, run = begun(engine, tiny.collage_request(store, car={"attend_inside": 1.0}), store)
        bias = method.logit_bias(CROSS, *asked(), 0.5)[1, 0][:, run.tokens[0]]
        car = torch.from_numpy(tiny.CAR / 255).reshape(8, 8, 8, 8).mean((1, 3)).flatten()
        assert bias[car == 0].abs().max() < 1e-6 and bias[car == 1].min() > 0
        method, _ = begun(engine, tiny.collage_request(store, car={"attend_outside": 1.0}), store)
        bias = method.logit_bias(CROSS, *asked(), 0.5)[1, 0][:, run.tokens[0]]
        assert bias[car == 1].abs().max() < 1e-6 and bias[car == 0].max() < 0

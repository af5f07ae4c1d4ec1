"""Confined words: exactly nothing outside the mask, and nobody else's rows touched."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import sampling
from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine
from pipelines.errors import UnsupportedError
from pipelines.methods.base import Inputs, Method, Reach, Step, area_resized
from pipelines.methods.confine import Confine, role_rows, seen
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt

CROSS = Site(cross=True, part="down")
GUIDED = ("sd3", "qwen", "zimage", "chroma", "klein")
INSIDE = torch.from_numpy(tiny.CAR / 255).reshape(8, 8, 8, 8).mean((1, 3)).flatten()


def begun(
    engine: Engine, store: PictureStore, reaches: tuple[Reach, ...], request: RenderRequest | None = None
) -> tuple[Confine, Kernel]:
    run = tiny.run_of(engine, request or tiny.collage_request(store), store)
    run.reaches = reaches
    method, kernel = Confine(), Kernel()
    method.begin(run, kernel)
    method.before_forward(tiny.step_of(run, run.first), Inputs(torch.zeros(0), {}))
    return method, kernel


def asked(keys: int = 154, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(2, 3, 64, 8, generator=generator)
    return query, *(torch.randn(2, 3, keys, 8, generator=generator) for _ in range(2))


def test_how_much_is_seen() -> None:
    masks = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.25, 0.01]])
    assert seen(masks, True).tolist() == [0, 0.75, 1] and seen(masks, False).tolist() == [1, 0.25, 0]
    assert seen(torch.zeros(0, 2), True).tolist() == [0, 0]


def test_whose_rows() -> None:
    step = Step(0, (1, 1), 4, (8, 8), [2, 3], [[0, 1], [2, 3]], references={0: 4})
    assert [role_rows(step, role) for role in ("prompt", "negative", "reference")] == [[2, 3], [0, 1], [4]]
    second = Step(0, (1, 1), 2, (8, 8), [], [[0, 1]])
    assert role_rows(second, "negative") == [0, 1] and role_rows(second, "prompt") == []


class TestCrossAttention:
    OWN = tuple(range(77, 154))

    def test_exactly_nothing_outside_and_all_of_it_inside(self, engine: Engine, store: PictureStore) -> None:
        _, kernel = begun(engine, store, (Reach("prompt", self.OWN, (0,)),))
        query, key, value = asked()
        plain = Kernel().attend(CROSS, query, key, value)
        out = kernel.attend(CROSS, query, key, value)
        scene = Kernel().attend(CROSS, query, key[:, :, :77], value[:, :, :77])
        assert torch.equal(out[0], plain[0]), "the negative row"
        assert torch.allclose(out[1][:, INSIDE == 1], plain[1][:, INSIDE == 1], atol=1e-6)
        assert torch.allclose(out[1][:, INSIDE == 0], scene[1][:, INSIDE == 0], atol=1e-6)
        assert (plain[1] - scene[1]).abs().max() > 0.1
        chances = (
            query @ key.transpose(-1, -2) * 8**-0.5 + kernel.logit_bias[0](CROSS, query, key, 1)
        ).softmax(-1)
        assert chances[1][:, INSIDE == 0][..., 77:].max() == 0
        assert chances[1][:, INSIDE == 1][..., 77:].sum(-1).min() > 0

    def test_other_words_there_change_nothing_outside(self, engine: Engine, store: PictureStore) -> None:
        _, kernel = begun(engine, store, (Reach("prompt", self.OWN, (0,)),))
        query, key, value = asked()
        before = kernel.attend(CROSS, query, key, value)
        key[:, :, 77:] += 1
        value[:, :, 77:] *= 2
        after = kernel.attend(CROSS, query, key, value)
        assert torch.equal(after[1][:, INSIDE == 0], before[1][:, INSIDE == 0])
        assert (after[1][:, INSIDE == 1] - before[1][:, INSIDE == 1]).abs().max() > 0.1

    def test_a_cell_on_the_edge_sees_its_share(self, engine: Engine, store: PictureStore) -> None:
        """Equal keys and values 1 in the chunk, 0 before it: the output is v / (1 + v)."""
        half = tiny.layer(store, "red car", tiny.box(0, 0, 64, 4), attend_inside=0)
        request = tiny.collage_request(store).replace(layers=(half,))
        _, kernel = begun(engine, store, (Reach("prompt", self.OWN, (0,)),), request)
        value = torch.cat([torch.zeros(2, 3, 77, 8), torch.ones(2, 3, 77, 8)], 2)
        out = kernel.attend(CROSS, torch.zeros(2, 3, 64, 8), torch.zeros(2, 3, 154, 8), value)
        column = out[1, 0, :, 0].reshape(8, 8)[0]
        assert column.tolist() == pytest.approx([0.5 / 1.5] + [0] * 7)

    def test_instead_of_the_scenes(self, engine: Engine, store: PictureStore) -> None:
        """Inside, the layer's chunk alone; outside, the scene's alone."""
        first = tuple(range(77))
        reaches = (Reach("negative", first, (0,), inside=False), Reach("negative", self.OWN, (0,)))
        _, kernel = begun(engine, store, reaches)
        query, key, value = asked()
        out, plain = kernel.attend(CROSS, query, key, value), Kernel().attend(CROSS, query, key, value)
        scene, own = (
            Kernel().attend(CROSS, query, key[:, :, part], value[:, :, part])
            for part in (slice(77), slice(77, None))
        )
        assert torch.equal(out[1], plain[1]), "the prompt's row"
        assert torch.allclose(out[0][:, INSIDE == 0], scene[0][:, INSIDE == 0], atol=1e-6)
        assert torch.allclose(out[0][:, INSIDE == 1], own[0][:, INSIDE == 1], atol=1e-6)

    def test_left_alone(self, engine: Engine, store: PictureStore) -> None:
        method, kernel = begun(engine, store, ())
        assert kernel.logit_bias == []
        method, _ = begun(engine, store, (Reach("prompt", self.OWN, (0,)),))
        query, key, _ = asked()
        assert method.logit_bias(Site(cross=False, part="down"), query, key, 1) is None
        assert method.logit_bias(CROSS, query, key[:, :, :8], 1) is None, "an image prompt's few tokens"
        assert method.logit_bias(CROSS, query[:, :, :7], key, 1) is None, "no grid of 7 places"
        half = method.logit_bias(CROSS, query.half(), key.half(), 1)
        assert half is not None and half.dtype == torch.float16 and not half.isnan().any()


class Denoised(Method):
    """The denoiser's answers, a tensor a call."""

    order = 99

    def __init__(self) -> None:
        self.out: list[torch.Tensor] = []
        self.roles: list[list[int]] = []

    def after_forward(self, step: Step, output: torch.Tensor) -> torch.Tensor:
        self.out.append(output if isinstance(output, torch.Tensor) else torch.stack(list(output)))
        self.roles.append(list(step.conditional))
        return output


def negated(store: PictureStore, model: str, words: str, **more: Any) -> RenderRequest:
    return tiny.collage_request(store, model, car={"negative": words}, steps=4, **more)


def first_answers(engine: Engine, request: RenderRequest, store: PictureStore) -> tuple[Any, Any]:
    """(negative rows, prompt rows) of the first step."""
    loaded, watch = engine.load(request.model), Denoised()
    sampling.sample(loaded.pipe, loaded.family, loaded.card, request, store, [watch], [7], lambda *_: None)
    rows: dict[bool, torch.Tensor] = {}
    for out, conditional in zip(watch.out[:2], watch.roles[:2], strict=False):
        for row in range(len(out)):
            rows.setdefault(row in conditional, out[row])
    return rows[False], rows[True]


class TestNegativeWords:
    def test_only_negative_rows_move(self, engine: Engine, store: PictureStore, model: str) -> None:
        plain, with_words = (
            first_answers(engine, negated(store, model, words), store) for words in ("", "blue sky")
        )
        assert (with_words[0] - plain[0]).abs().max() > 1e-3
        # the prompt's keys are followed by closed ones, which changes the order of sums and nothing else
        assert torch.allclose(with_words[1], plain[1], atol=1e-5)

    def test_off_is_stock_and_on_is_not(self, engine: Engine, store: PictureStore, model: str) -> None:
        off = tiny.pictures(engine, negated(store, model, ""), store)[0]
        assert np.array_equal(off, tiny.pictures(engine, negated(store, model, "  "), store)[0])
        on = tiny.pictures(engine, negated(store, model, "blue sky"), store)[0]
        assert tiny.moved(on, off) > 0.05

    def test_a_layer_over_everything_is_the_negative_prompt(
        self, engine: Engine, store: PictureStore
    ) -> None:
        whole = tiny.layer(store, "red car", tiny.box(0, 0, 64, 64), negative="blue sky")
        request = tiny.collage_request(store, steps=4).replace(layers=(whole,), background_harmonize=0.6)
        bare = request.replace(layers=(dataclasses.replace(whole, negative=""),))
        ours = tiny.pictures(engine, request.replace(negative_prompt="night"), store)[0]
        stock = tiny.pictures(engine, bare.replace(negative_prompt="night, blue sky"), store)[0]
        assert np.abs(ours.astype(int) - stock).max() <= 1
        assert (
            tiny.moved(stock, tiny.pictures(engine, bare.replace(negative_prompt="night"), store)[0]) > 0.05
        )

    def test_without_guidance_it_is_said(self, engine: Engine, store: PictureStore) -> None:
        events = tiny.events(engine, negated(store, "sd_velocity", "night", guidance=1.0), store)
        assert tiny.warnings(events) == [
            "layer 'red car': its negative words have no effect without guidance; raise guidance."
        ]


class Looking(Confine):
    """Confine that looks at what the softmax makes of the negative rows."""

    def begin(self, run: Any, kernel: Kernel) -> None:
        super().begin(run, kernel)
        self.outside: list[float] = []
        self.others: list[float] = []
        self.inside: list[float] = []
        self.prompt: list[bool] = []
        self._run = run

    def logit_bias(
        self, site: Site, query: torch.Tensor, key: torch.Tensor, scale: float
    ) -> torch.Tensor | None:
        bias = super().logit_bias(site, query, key, scale)
        step, joint = self._step, site.joint
        assert step is not None and joint is not None
        rows = role_rows(step, "negative")
        if not rows:
            assert bias is None
            return None
        assert bias is not None
        self.prompt.append(not bias[list(step.conditional)].any())
        places = joint.image(query.shape[2], step.latent_size)
        mask = torch.from_numpy(self._run.pictures.get(self._run.request.layers[0].mask).copy())[None] / 255
        share = area_resized(mask, joint.grid(step.latent_size)).flatten()
        own = self._keys["negative"] + joint.text_start(step.latent_size)
        chances = (
            (query[rows] @ key[rows].transpose(-1, -2) * scale + bias[rows]).softmax(-1)[..., own].sum(-1)
        )
        self.outside.append(float(chances[:, :, places][..., share == 0].max()))
        self.inside.append(float(chances[:, :, places][..., share == share.max()].min()))
        texts = [
            k for k in range(query.shape[2]) if not places.start <= k < places.stop and k not in own.tolist()
        ]
        self.others.append(float(chances[:, :, texts].max()))
        return bias


class TestJointAttention:
    @pytest.mark.parametrize("model", GUIDED)
    def test_words_reach_the_inside_alone(
        self, transformers: Engine, store: PictureStore, model: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[Looking] = []

        def looking() -> Looking:
            made.append(Looking())
            return made[-1]

        monkeypatch.setattr(sampling, "Confine", looking)
        words = {"scheduler": "flow_euler", "guidance": 3.5}
        request = negated(store, model, "a blue sky", negative_prompt="night", **words)
        plain = first_answers(
            transformers, negated(store, model, "", negative_prompt="night", **words), store
        )
        assert made == [], "off: not there"
        found = first_answers(transformers, request, store)
        [one] = made
        assert len(one.outside) >= 2 and max(one.outside) == 0 and max(one.others) == 0
        assert min(one.inside) > 0 and all(one.prompt)
        assert (found[0] - plain[0]).abs().max() > 1e-4
        assert torch.allclose(found[1], plain[1], atol=2e-5)

    @pytest.mark.parametrize("model", ["flux", "flux2"])
    def test_refused_by_name(self, transformers: Engine, store: PictureStore, model: str) -> None:
        request = negated(store, model, "a sky", scheduler="flow_euler", guidance=3.5)
        with pytest.raises(UnsupportedError, match=r"layer 'red car': negative cannot .* distilled"):
            tiny.result(transformers, request, store)

    def test_a_distilled_klein(self, store: PictureStore) -> None:
        pipe = tt.klein()
        pipe.register_to_config(is_distilled=True)
        own = Engine()
        own.adopt("klein", pipe, tt.card_for("klein"))
        request = negated(store, "klein", "a sky", scheduler="flow_euler", guidance=3.5)
        with pytest.raises(UnsupportedError, match=r"layer 'red car': negative .* distilled"):
            tiny.result(own, request, store)

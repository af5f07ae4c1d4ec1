"""Vary, noise on the condition and the guidance interval on the transformer families."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.engine import Engine
from pipelines.errors import UnsupportedError
from pipelines.methods import methods_for
from pipelines.methods.base import Inputs, Method, Step
from pipelines.methods.vary import inside_cells
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import MAX_LEVEL, Variant
from tests.pipelines import tiny
from tests.pipelines.runs import sampled
from tests.pipelines.transformers.runs import GUIDED, collage, text


class TestVary:
    @pytest.mark.parametrize("background", [0.5, 1.0])
    def test_one_noise_outside_and_each_its_own_inside(
        self, engine: Engine, store: PictureStore, model: str, background: float
    ) -> None:
        """What the denoiser is first given: by image-to-image's own noise, by ours, and from pure noise."""
        loaded, kept = engine.load(model), []
        cells = inside_cells(torch.from_numpy(tiny.CAT)[None] / 255, (64 // loaded.card.factor,) * 2)

        class Watch(Method):
            order = 99

            def before_forward(self, step: Step, inputs: Inputs) -> None:
                size = step.latent_size
                kept.append(loaded.family.unpack(inputs.sample[step.branches[0]].clone(), size))

        def start(vary: float) -> torch.Tensor:
            kept.clear()
            wanted = {"harmonize": 0.5, "vary": vary}
            request = collage(
                store,
                model,
                car={"harmonize": 0.5},
                cat=wanted,
                background_harmonize=background,
                images=2,
                steps=2,
            )
            sampled(loaded, request, store, [*methods_for(request), Watch()], images=range(2))
            return kept[0]

        on, off = start(1.0), start(0.0)
        assert torch.equal(on[0], off[0]) and torch.equal(on[:, :, cells], off[:, :, cells])
        assert torch.equal(on[1, :, ~cells], on[0, :, ~cells])
        assert not torch.equal(off[1, :, ~cells], off[0, :, ~cells])
        assert not torch.equal(on[1, :, cells], on[0, :, cells])


class TestVariants:
    def test_each_image_of_a_joint_call_has_its_prompt(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        """Prompts of several lengths in one call, with and without a picture; nothing reaches the threshold."""
        told = ("a red car", "the night on the beach and a blue car at the table")
        own = tuple(Variant(prompt=one) for one in told)
        joint = {"images": 2, "spread": 1.0, "spread_threshold": 1.0, "prompt": told[0], "variants": own}
        flat = {"collage": store.put(tiny.picture(1)), "background_harmonize": 0.75}
        for more in ({}, flat):
            request = text(model, **joint, **more)
            for image, picture in enumerate(tiny.pictures(engine, request, store)):
                alone = request.of_image(image).replace(seed=request.seed + image, images=1)
                difference = np.abs(picture.astype(int) - tiny.pictures(engine, alone, store)[0])
                assert difference.max() <= 2
            pushed = request.replace(spread_threshold=0.0, window=1.0)
            assert tiny.moved(tiny.pictures(engine, pushed, store)[1], picture) > 0.01


class TestRivals:
    def test_noise_on_the_condition(self, engine: Engine, store: PictureStore, model: str) -> None:
        """Only the rows of the prompt, only in the early steps; and the picture changes."""
        family = engine.load(model).family
        seen: list[tuple[list[int], list[torch.Tensor]]] = []

        class Watch(Method):
            order = 9

            def before_forward(self, step: Step, inputs: Inputs) -> None:
                seen.append((step.conditional, [row.clone() for row in family.texts(inputs.kwargs)]))

        def run(cads: float) -> tuple[list[Pixels], list[tuple[list[int], list[torch.Tensor]]]]:
            seen.clear()
            request = text(model, cads=cads, images=2)
            made = sampled(
                engine.load(model), request, store, [*methods_for(request), Watch()], images=range(2)
            )
            return made, list(seen)

        (on, texts), (off, plain) = run(0.8), run(0.0)
        turns = len(texts) // 4
        for call, ((rows, ours), (_, stock_rows)) in enumerate(zip(texts, plain, strict=True)):
            early = call // turns < 2  # times 1 and .75 of four steps
            for row, (one, other) in enumerate(zip(ours, stock_rows, strict=True)):
                assert torch.equal(one, other) == (not early or row not in rows)
        assert min(tiny.moved(a, b) for a, b in zip(on, off, strict=True)) > 0.01

    def test_guidance_interval(self, engine: Engine, store: PictureStore, model: str) -> None:
        if model not in GUIDED:
            with pytest.raises(UnsupportedError, match="guidance interval"):
                tiny.pictures(engine, text(model, guidance_interval=(0.0, 1.0)), store)
            return
        plain, everywhere, never = (
            tiny.pictures(engine, text(model, guidance_interval=one), store)[0]
            for one in (None, (0.0, MAX_LEVEL), (0.0, 1e-6))
        )
        assert np.array_equal(plain, everywhere)
        least = 0.0 if model == "zimage" else 1.0
        [unguided] = tiny.pictures(engine, text(model, guidance=least), store)
        assert int(np.abs(never.astype(int) - unguided).max()) <= 1
        assert tiny.moved(plain, unguided) > 0.01
        with_avoid = text(model, guidance_interval=(0.0, 1e-6), avoids=(tiny.avoid(store),), window=1.0)
        assert tiny.moved(tiny.pictures(engine, with_avoid, store)[0], never) > 0.01, "avoid then pushes"

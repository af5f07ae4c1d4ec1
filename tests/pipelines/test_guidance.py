"""How guidance acts: what each model's card says, held against its family at work on a tiny pipeline of its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.attention.kernel import Kernel
from pipelines.engine import Engine
from pipelines.methods.base import Inputs, Method, Run, Step
from pipelines.models import CARDS
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.runs import sampled


class Branches(Method):
    """Counts a step's guidance branches, and notes whether moving one of them steers."""

    def begin(self, run: Run, kernel: Kernel) -> None:
        self.count: dict[int, int] = {}
        self.steers: set[bool] = set()

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        self.count[step.index] = self.count.get(step.index, 0) + len(step.branches)
        self.steers.add(step.steers)


def distilled_klein() -> Any:
    pipe = tt.klein()
    pipe.register_to_config(is_distilled=True)
    return pipe


LIKE: dict[str, Callable[[], Any]] = {"lcm": tiny.lcm, "flux2-klein": distilled_klein}
"""Models whose guidance is not that of all models of their family."""
KINDS: dict[str, Callable[[], Any]] = {**tt.KINDS, "sd": tiny.sd_noise, "sdxl": tiny.sdxl}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_knows_from_which_guidance_on_there_is_a_negative_branch(
    store: PictureStore, name: str
) -> None:
    known = CARDS[name]
    engine, pipe = Engine(), LIKE.get(name, KINDS[known.family])()
    loaded = engine.adopt(name, pipe, known)
    spy = Branches()
    for guidance in (0.0, 0.5, 1.0, 1.5, known.guidance):
        request = tiny.text_request(name, scheduler=known.scheduler, steps=2, guidance=guidance)
        sampled(loaded, request, store, [spy])
        steers = known.steers(guidance)
        assert loaded.family.guided(pipe, request) == steers, guidance
        assert spy.steers == {steers} and set(spy.count.values()) == {2 if steers else 1}, guidance

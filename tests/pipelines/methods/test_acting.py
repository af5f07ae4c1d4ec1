"""Where NegToMe acts: on which grids of which parts, held against the denoisers themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine
from pipelines.methods.acting import acts, least_side
from pipelines.methods.base import Method, Run, grids
from pipelines.models import CARDS
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.runs import sampled

EMBEDDED = {("down", 1), ("down", 2), ("mid", 2), ("up", 1), ("up", 2)}
SD = {("down", 0), ("down", 1), ("down", 2), ("mid", 3), ("up", 0), ("up", 1), ("up", 2)}
XL = {("down", 1), ("down", 2), ("mid", 2), ("up", 1), ("up", 2)}


class Grids(Method):
    """Notes each part with the tokens of its self-attention, and which parts have joint attention."""

    def begin(self, run: Run, kernel: Kernel) -> None:
        self.own: set[tuple[str, int]] = set()
        self.joint_parts: set[str] = set()
        self.size = run.latent_size
        kernel.map_output.append(self.note)

    def note(self, site: Site, out: torch.Tensor) -> torch.Tensor:
        if site.joint:
            self.joint_parts.add(site.part)
        elif not site.cross:
            self.own.add((site.part, out.shape[2]))
        return out


@pytest.mark.parametrize("size", [(64, 64), (72, 104)])
def test_a_unet_has_the_grids_that_its_family_says(
    engine: Engine, store: PictureStore, model: str, size: tuple[int, int]
) -> None:
    seen, loaded = Grids(), engine.load(model)
    request = tiny.text_request(model, steps=1, height=size[0], width=size[1])
    sampled(loaded, request, store, [seen])
    sizes = grids(seen.size)
    told = {(part, sizes[level or 0]) for part, level in loaded.family.levels(loaded.pipe)}
    assert {(part, h * w) for part, (h, w) in told} == seen.own and seen.own


@pytest.mark.parametrize("kind", tt.KINDS)
def test_a_transformer_has_one_grid_in_its_parts(
    transformers: Engine, store: PictureStore, kind: str
) -> None:
    seen, loaded = Grids(), transformers.load(kind)
    request = tiny.text_request(kind, scheduler="flow_euler", steps=2)
    sampled(loaded, request, store, [seen])
    assert loaded.family.levels(loaded.pipe) == {(part, None) for part in seen.joint_parts}
    assert seen.joint_parts == set(loaded.family.parts) and not seen.own


def test_what_acts_at_which_size() -> None:
    xl, embedded, sd15 = (CARDS[name] for name in ("sdxl", "embedded", "sd15"))
    assert acts(XL, xl.negtome_blocks, xl, (128, 128)) and not acts(XL, xl.negtome_blocks, xl, (56, 128))
    assert acts(EMBEDDED, embedded.negtome_blocks, embedded, (32, 15))
    assert not acts(EMBEDDED, embedded.negtome_blocks, embedded, (32, 14))
    assert acts(SD, sd15.negtome_blocks, sd15, (64, 64)) and not acts(SD, ("mid",), sd15, (64, 64))
    assert acts(SD, ("up",), sd15, (8, 8)), "latents smaller than the card's grid have their finest"
    joint = {("double", None)}
    assert acts(joint, ("double", "single"), CARDS["flux"], (8, 8)) and not acts(
        joint, ("single",), CARDS["flux"], (128, 128)
    )


@pytest.mark.parametrize(
    ("levels", "name", "parts", "side"),
    [
        (XL, "sdxl", ("up",), 504),
        (XL, "sdxl", ("mid",), 1000),
        (EMBEDDED, "embedded", ("down", "mid", "up"), 120),
        (SD, "sd15", ("mid",), 968),
    ],
)
def test_the_least_side_is_the_least(levels: Any, name: str, parts: tuple[str, ...], side: int) -> None:
    known = CARDS[name]
    assert least_side(levels, parts, known, 8) == side
    wide = 2 * side // 8
    assert acts(levels, parts, known, (side // 8, wide)) and acts(levels, parts, known, (wide, side // 8))
    assert not acts(levels, parts, known, (side // 8 - 1, wide))
    assert least_side(levels, parts, known, 64) == -(-side // 64) * 64, "of sides that the family has"
    assert least_side({("up", 1)}, ("mid",), known, 8) == least_side({("up", 1)}, ("up",), known, 8)

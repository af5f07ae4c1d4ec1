"""In the attention itself: inside its mask a prompt adds what the formula says, outside it adds exactly nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from pipelines.attention.kernel import Kernel
from pipelines.attention.tap import installed
from pipelines.engine import Engine, Loaded
from pipelines.image_prompts import prepare
from pipelines.loading import LoadOptions
from pipelines.methods.base import area_resized, grid_of
from pipelines.methods.image_prompt import ImagePrompt
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines.image_prompts.conftest import prompt

STRENGTHS = (0.75, 0.5)
BOXES = (tiny.box(0, 0, 32, 28), tiny.box(40, 32, 64, 64))
MASKS = torch.stack([torch.from_numpy(mask / 255) for mask in BOXES])[None].float()
ROWS = 2
"""One negative and one of the prompt."""


@contextmanager
def attentions(
    engine: Engine, loaded: Loaded, store: PictureStore, strengths: tuple[float, ...], ours: bool = True
) -> Iterator[list[torch.nn.Module]]:
    """The cross-attention modules of a UNet that wears the adapter, tapped."""
    asked = {"image_prompt": prompt(store)}
    request = tiny.collage_request(store, loaded.card.name, asked, asked)
    prepare(loaded, request, LoadOptions(), lambda done, total: None)
    kernel = Kernel()
    if ours:
        ImagePrompt().begin(tiny.run_of(engine, request, store), kernel)
    unet, adapter = loaded.pipe.unet, loaded.adapter
    with adapter.worn(unet, strengths), installed(unet, kernel, loaded.family.site):
        found = [unet.get_submodule(name) for name in adapter.processors]
        assert len(found) >= 5, "all of the UNet's"
        yield found


def inputs(module: Any, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Places of an 8 by 8 or a 4 by 4 grid, words, and two encoded prompts of four tokens."""
    generator = torch.Generator().manual_seed(number)
    wide, text = module.to_q.weight.shape[1], module.to_k.weight.shape[1]
    return (
        torch.randn(ROWS, 64 if number % 2 else 16, wide, generator=generator),
        torch.randn(ROWS, 77, text, generator=generator),
        torch.randn(ROWS, 2, 4, text, generator=generator),
    )


def attended(
    module: Any, given: tuple[torch.Tensor, torch.Tensor, torch.Tensor], masks: torch.Tensor = MASKS
) -> torch.Tensor:
    places, words, pictures = given
    with torch.no_grad():
        out: torch.Tensor = module(
            places, encoder_hidden_states=(words, [pictures]), ip_adapter_masks=[masks]
        )
    return out


def by_formula(module: Any, given: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """What a place reads from the words, and of each prompt strength times mask times what it reads from that."""
    places, words, pictures = given
    heads, processor = module.heads, module.processor

    def split(states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (heads, -1)).transpose(1, 2)

    def read(key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        query = split(module.to_q(places))
        logits = query @ split(key).transpose(-1, -2) * query.shape[-1] ** -0.5
        return (logits.softmax(-1) @ split(value)).transpose(1, 2).flatten(2)

    with torch.no_grad():
        out = read(module.to_k(words), module.to_v(words))
        grid = grid_of(places.shape[1], (8, 8))
        assert grid is not None
        for number, strength in enumerate(STRENGTHS):
            one = pictures[:, number]
            seen = area_resized(MASKS[:, number], grid).flatten(1)[..., None]
            out = out + strength * seen * read(processor.to_k_ip[0](one), processor.to_v_ip[0](one))
        final: torch.Tensor = module.to_out[0](out)
    return final


def test_inside_as_the_formula_says_and_outside_exactly_nothing(
    adapters: Engine, loaded: Loaded, store: PictureStore
) -> None:
    with attentions(adapters, loaded, store, (0.0, 0.0)) as modules:
        silent = [attended(module, inputs(module, number)) for number, module in enumerate(modules)]
    with attentions(adapters, loaded, store, STRENGTHS) as modules:
        for number, module in enumerate(modules):
            given = inputs(module, number)
            out = attended(module, given)
            grid = (8, 8) if number % 2 else (4, 4)
            shares = area_resized(MASKS[0], grid).flatten(1).sum(0)
            outside = shares == 0
            assert 0 < outside.sum() < len(outside)
            assert torch.equal(out[:, outside], silent[number][:, outside]), "not in the last bit"
            assert (out - silent[number])[:, ~outside].abs().amax(-1).min() > 1e-3, "every place inside"
            torch.testing.assert_close(out, by_formula(module, given), atol=1e-5, rtol=1e-4)


def test_each_prompt_stays_in_its_own_mask(adapters: Engine, store: PictureStore) -> None:
    """The car's place does not change with the cat's picture, nor the other way round."""
    loaded = adapters.load("sd_noise")
    car = area_resized(MASKS[0, :1], (8, 8)).flatten() > 0
    cat = area_resized(MASKS[0, 1:], (8, 8)).flatten() > 0
    with attentions(adapters, loaded, store, STRENGTHS) as modules:
        module = modules[1]
        places, words, pictures = inputs(module, 1)
        other = pictures.clone()
        other[:, 1] *= -1
        first, second = (attended(module, (places, words, one)) for one in (pictures, other))
    assert torch.equal(first[:, car], second[:, car])
    assert (first - second)[:, cat].abs().amax(-1).min() > 1e-3


def test_a_narrow_layer_counts(adapters: Engine, store: PictureStore) -> None:
    """Why masks are laid our way: read at the cells' centres, as stock does, two pixels of a cell are nothing, or
    less than nothing.
    """
    loaded = adapters.load("sd_noise")
    least = []
    for left in (0, 5):  # a cell of the 8 by 8 grid is 8 pixels wide, its centre is at 4
        masks = torch.zeros(1, 2, 64, 64)
        masks[..., left : left + 2] = 1
        inside = area_resized(masks[0, :1], (8, 8)).flatten() > 0
        moved = []
        for ours in (True, False):
            outs = []
            for strengths in (STRENGTHS, (0.0, 0.0)):
                with attentions(adapters, loaded, store, strengths, ours) as modules:
                    outs.append(attended(modules[1], inputs(modules[1], 1), masks))
            moved.append((outs[0] - outs[1])[:, inside])
        assert moved[0].abs().amax(-1).min() > 1e-3
        least.append((moved[1] * moved[0]).sum().item())
    assert least[0] == 0 and least[1] < 0


@pytest.mark.parametrize(("height", "width"), [(72, 64), (64, 136), (136, 200)])
def test_grids_of_odd_sides(adapters: Engine, store: PictureStore, height: int, width: int) -> None:
    """Where a level halves an odd side, rounding up, the mask lies on the level's real grid; without a warning."""
    request = tiny.text_request("sd_noise", height=height, width=width)
    method = ImagePrompt()
    method.begin(tiny.run_of(adapters, request, store), Kernel())
    mask = torch.zeros(1, height, width)
    mask[:, : height // 2] = 1
    for h, w in (
        (height // 8, width // 8),
        (-(-height // 16), -(-width // 16)),
    ):
        laid = method.lay_mask(mask, h * w)
        assert torch.equal(laid, area_resized(mask, (h, w)).flatten(1))
        assert method.lay_mask(mask, h * w) is laid, "once a run"
        assert laid.reshape(h, w)[0].eq(1).all() and laid.reshape(h, w)[-1].eq(0).all()

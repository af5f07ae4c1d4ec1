"""What remembers the text's keys and values: bit-equal, computed once a text, asked every time where it must be."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from pipelines.attention.memo import remembered
from pipelines.engine import Engine
from pipelines.families import family
from pipelines.pictures import PictureStore
from tests.pipelines import tiny
from tests.pipelines.runs import sampled

SITE = family("sd").site


def maps(unet: torch.nn.Module) -> list[Any]:
    return [
        linear
        for module in unet.modules()
        if getattr(module, "is_cross_attention", False)
        for linear in (module.to_k, module.to_v)
    ]


def text(seed: int) -> torch.Tensor:
    return torch.randn(2, 77, 32, generator=torch.Generator().manual_seed(seed))


def run(unet: Any, states: torch.Tensor) -> torch.Tensor:
    sample = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out: torch.Tensor = unet(sample, 500, states, return_dict=False)[0]
    return out


@contextmanager
def computed() -> Iterator[Counter[int]]:
    """How often each weight is multiplied with, by its id; without a hook, as hooked maps are asked every time."""
    counts: Counter[int] = Counter()

    class Counting(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.nn.functional.linear:
                counts[id(args[1])] += 1
            return func(*args, **(kwargs or {}))

    with Counting():
        yield counts


def test_what_is_remembered_is_what_was_computed() -> None:
    unet = tiny.unet()
    texts = [text(1), text(2)]
    stock = [run(unet, one) for one in texts]
    weights = [id(linear.weight) for linear in maps(unet)]
    with remembered(unet, SITE) as memory, computed() as counts:
        assert memory.count == len(weights) > 0
        for turn, (words, times) in enumerate([(0, 1), (0, 1), (1, 2), (1, 2), (0, 3)]):
            assert torch.equal(run(unet, texts[words]), stock[words]), turn
            assert {counts[one] for one in weights} == {times}, turn
    assert not any("forward" in vars(module) for module in unet.modules())
    assert torch.equal(run(unet, texts[1]), stock[1])


def test_a_text_that_is_written_to_is_another() -> None:
    unet, states = tiny.unet(), text(1)
    with remembered(unet, SITE):
        run(unet, states)
        states.copy_(text(2))
        assert torch.equal(run(unet, states), run(unet, text(2)))


def test_an_equal_text_that_is_another_tensor_is_computed_anew() -> None:
    """Identity alone counts: comparing numbers would cost what is saved, and a freed tensor's place is taken again."""
    unet = tiny.unet()
    with remembered(unet, SITE), computed() as counts:
        for seed in (1, 1, 2, 3):
            assert torch.equal(run(unet, text(seed)), run(unet, text(seed)))
    assert {counts[id(linear.weight)] for linear in maps(unet)} == {8}


def test_nothing_is_left_after_an_exception_nor_held() -> None:
    unet, states = tiny.unet(), text(1)
    held = weakref.ref(states)
    with pytest.raises(RuntimeError, match="breaks"), remembered(unet, SITE) as memory:
        assert memory.count > 0
        run(unet, states)
        raise RuntimeError("a run breaks")
    assert not any("forward" in vars(module) for module in unet.modules())
    del states
    gc.collect()
    assert held() is None


def test_what_is_forgotten_is_not_held_and_computed_again() -> None:
    unet, states = tiny.unet(), text(1)
    stock, held = run(unet, states), weakref.ref(states)
    with remembered(unet, SITE) as memory, computed() as counts:
        for _ in range(2):
            assert torch.equal(run(unet, states), stock)
            memory.forget()
        assert {counts[id(linear.weight)] for linear in maps(unet)} == {2}
        del states
        gc.collect()
        assert held() is None


def test_nothing_is_held_while_the_picture_is_decoded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU that is where most room is wanted."""
    loaded = engine.load("sd_velocity")
    seen: list[list[bool]] = []

    def kept() -> list[bool]:
        return [linear.forward._kept is not None for linear in maps(loaded.pipe.unet)]

    stock = loaded.pipe.vae.decode

    def decode(*args: Any, **kwargs: Any) -> Any:
        seen.append(kept())
        return stock(*args, **kwargs)

    monkeypatch.setattr(loaded.pipe.vae, "decode", decode)
    handle = loaded.pipe.unet.register_forward_hook(lambda *_: seen.append(kept()))
    try:
        sampled(loaded, tiny.text_request(steps=2), PictureStore())
    finally:
        handle.remove()
    *steps, decoding = seen
    assert len(steps) == 2 and all(all(one) for one in steps) and not any(decoding)


def accelerated(linear: Any) -> None:
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    add_hook_to_module(linear, AlignDevicesHook())


def grouped(linear: Any) -> None:
    from diffusers.hooks import HookRegistry

    HookRegistry.check_if_exists_or_initialize(linear)


@pytest.mark.parametrize(
    "hook",
    [
        accelerated,
        grouped,
        lambda linear: linear.register_forward_hook(lambda *_: None),
        lambda linear: linear.register_forward_pre_hook(lambda *_: None),
    ],
    ids=["accelerate", "diffusers", "after", "before"],
)
def test_maps_that_others_hooked_are_asked_every_time(hook: Callable[[Any], object]) -> None:
    """Offload brings a map's weights, and the next one's, when it is called."""
    unet, states = tiny.unet(), text(1)
    stock = run(unet, states)
    first, *rest = maps(unet)
    hook(first)
    with remembered(unet, SITE) as memory, computed() as counts:
        assert memory.count == len(rest)
        for _ in range(3):
            assert torch.equal(run(unet, states), stock)
    assert [counts[id(linear.weight)] for linear in (first, *rest)] == [3, *(1 for _ in rest)]


def by_method(unet: Any) -> Any:
    unet.compile(backend="eager")
    return unet


def of_blocks(unet: Any) -> Any:
    unet.compile_repeated_blocks(backend="eager")
    return unet


def of_a_part(unet: Any) -> Any:
    unet.mid_block = torch.compile(unet.mid_block, backend="eager")
    return unet


def of_its_forward(unet: Any) -> Any:
    unet.forward = torch.compile(unet.forward, backend="eager")
    return unet


@pytest.mark.parametrize(
    "way",
    [by_method, of_blocks, lambda unet: torch.compile(unet, backend="eager"), of_a_part, of_its_forward],
)
def test_a_compiled_model_is_left_as_it_was_compiled(way: Callable[[Any], Any]) -> None:
    """What is patched into it would be compiled, again in each run, and has no place in a full graph."""
    with remembered(way(tiny.unet()), SITE) as memory:
        assert memory.count == 0


def test_no_transformer_has_such_maps() -> None:
    from tests.pipelines.tiny_transformers import flux

    kind = family("flux")
    with remembered(kind.denoiser(flux()), kind.site) as memory:
        assert memory.count == 0


@pytest.mark.parametrize(("asked", "times"), [("plain", 1), ("layers", 1), ("avoid", 2), ("cads", 5)])
def test_a_run_computes_them_as_often_as_its_text_changes(engine: Engine, asked: str, times: int) -> None:
    """While a reference rides along the text has a row more; CADS gives each of its steps (t above .6) another."""
    store = PictureStore()
    steps = {"steps": 8, "window": 0.5}
    request = {
        "plain": lambda: tiny.text_request(**steps),
        "layers": lambda: tiny.collage_request(store, car={"attend_inside": 0.8}, **steps),
        "avoid": lambda: tiny.text_request(avoids=(tiny.avoid(store),), **steps),
        "cads": lambda: tiny.text_request(cads=0.1, **steps),
    }[asked]()
    loaded = engine.load(request.model)
    with computed() as counts:
        sampled(loaded, request, store)
    assert {counts[id(linear.weight)] for linear in maps(loaded.pipe.unet)} == {times}

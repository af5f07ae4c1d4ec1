"""LoRAs and IP-Adapters under the methods: both act, neither hides the other, and nothing of ours stays."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.attention.tap import installed
from pipelines.engine import Engine, Loaded
from pipelines.methods.base import Inputs, Reach
from pipelines.methods.confine import Confine
from pipelines.methods.layer_attention import LayerAttention
from pipelines.methods.watch import Watch
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import RenderRequest
from tests.needs import library
from tests.pipelines import runs, tiny, tiny_adapter
from tests.pipelines import tiny_transformers as tt


def adopted(model: str) -> Loaded:
    """A pipeline of its own, which the test may change."""
    kinds: Any = tt if model in tt.KINDS else tiny
    return Engine().adopt(model, kinds.KINDS[model](), kinds.card_for(model))


def everything(loaded: Loaded, store: PictureStore) -> RenderRequest:
    """A request that needs layer attention, spread, avoid and harmonize."""
    card = loaded.card
    return tiny.collage_request(
        store,
        card.name,
        scheduler=card.scheduler,
        guidance=card.guidance,
        steps=4,
        car={"harmonize": 1.0, "attend_inside": 1.0, "attend_outside": 1.0},
        cat={"harmonize": 0.5},
        images=2,
        spread=1.0,
        spread_threshold=0.0,
        window=0.5,
        avoids=(tiny.avoid(store),),
    )


sampled = partial(runs.sampled, images=range(2))


def apart(ours: list[Pixels], theirs: list[Pixels]) -> float:
    """The least that two pictures of a seed differ by."""
    return min(tiny.moved(a, b) for a, b in zip(ours, theirs, strict=True))


def same(ours: list[Pixels], theirs: list[Pixels]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("model", [*tiny.KINDS, *tt.KINDS])
def test_a_lora_and_the_methods(store: PictureStore, model: str) -> None:
    peft = library("peft")
    loaded = adopted(model)
    request, denoiser = everything(loaded, store), loaded.family.denoiser(loaded.pipe)
    plain, methods = sampled(loaded, request, store, []), sampled(loaded, request, store)
    torch.manual_seed(0)
    looks = peft.LoraConfig(
        r=2, lora_alpha=8, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v"]
    )
    denoiser.add_adapter(looks, "own")  # type: ignore[operator]
    before = [id(module.processor) for module in denoiser.modules() if hasattr(module, "processor")]
    lora, both = sampled(loaded, request, store, []), sampled(loaded, request, store)
    assert apart(lora, plain) > 0.05, "the LoRA acts"
    assert apart(both, methods) > 0.05, "under the methods, too"
    assert apart(both, lora) > 0.02, "and they act on it"
    assert before == [id(module.processor) for module in denoiser.modules() if hasattr(module, "processor")]
    assert same(lora, sampled(loaded, request, store, []))
    denoiser.set_adapters(["own"], [0.0])  # type: ignore[operator]
    assert same(methods, sampled(loaded, request, store)), "at weight 0 it is not there"


def with_ip_adapter(model: str) -> Loaded:
    """A model with an IP-Adapter of random weights, by the loader's own way, and a picture prompt for its calls."""
    loaded = adopted(model)
    if model in tt.KINDS:
        tiny_adapter.join(loaded)
        return loaded
    unet = loaded.pipe.unet
    text, pixels, count = unet.config.cross_attention_dim, 24, 4
    generator = torch.Generator().manual_seed(1)

    def weights(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    keys: dict[str, torch.Tensor] = {}
    for number, name in enumerate(unet.attn_processors):
        module = unet.get_submodule(name.removesuffix(".processor"))
        if module.is_cross_attention:
            wide = module.to_k.weight.shape[0]
            keys[f"{number}.to_k_ip.weight"] = 3 * weights(wide, text)
            keys[f"{number}.to_v_ip.weight"] = 3 * weights(wide, text)
    projection = {
        "proj.weight": weights(count * text, pixels),
        "proj.bias": torch.zeros(count * text),
        "norm.weight": torch.ones(text),
        "norm.bias": torch.zeros(text),
    }
    unet._load_ip_adapter_weights({"image_proj": projection, "ip_adapter": keys}, low_cpu_mem_usage=False)
    prompt = torch.randn(1, 1, pixels, generator=generator)
    loaded.arguments["ip_adapter_image_embeds"] = [torch.cat([torch.zeros_like(prompt), prompt])]
    return loaded


def scaled(denoiser: Any, weight: float) -> None:
    """The weight of its picture prompts."""
    for processor in denoiser.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [weight] if isinstance(processor.scale, list) else weight


@pytest.mark.parametrize("model", ["sd_noise", "sd2", "sdxl", "flux", "chroma", "sd3"])
def test_an_ip_adapter_and_the_methods(store: PictureStore, model: str) -> None:
    loaded = with_ip_adapter(model)
    request, denoiser = everything(loaded, store), loaded.family.denoiser(loaded.pipe)
    unet: Any = denoiser
    before = dict(unet.attn_processors)
    stock, both = sampled(loaded, request, store, []), sampled(loaded, request, store)
    assert apart(both, stock) > 0.1, "the methods act"
    silent = request.replace(spread_threshold=1.0, avoids=(), layers=())
    assert same(sampled(loaded, silent, store, []), sampled(loaded, silent, store)), "tapped and off is stock"
    scaled(unet, 0.0)
    weak = sampled(loaded, request, store)
    assert apart(weak, both) > 0.1, "and the picture prompt acts under them"
    assert all(unet.attn_processors[name] is one for name, one in before.items())


def test_the_picture_prompt_is_not_taken_for_words(store: PictureStore) -> None:
    """Its keys are as many as reach the words' places, and have no bias."""
    lengths: list[tuple[int, bool]] = []

    class Watched(LayerAttention):
        def logit_bias(
            self, site: Site, query: torch.Tensor, key: torch.Tensor, scale: float
        ) -> torch.Tensor | None:
            bias = super().logit_bias(site, query, key, scale)
            if site.cross:
                lengths.append((key.shape[2], bias is not None))
            return bias

    loaded = with_ip_adapter("sd_noise")
    request = everything(loaded, store)
    places = loaded.family.tokens(loaded.pipe, request)[0]
    assert places == [2, 3], "inside the four tokens of the picture prompt"
    sampled(loaded, request, store, [Watched()])
    assert set(lengths) == {(77, True), (4, False)}


@pytest.mark.parametrize("model", ["flux", "chroma", "sd3"])
def test_nor_in_joint_attention(store: PictureStore, model: str) -> None:
    """What the adapter adds in the first block stays the same, whatever the slots do to the joint call."""
    loaded, added = with_ip_adapter(model), []
    transformer, request = loaded.pipe.transformer, everything(loaded, store).replace(steps=2)
    attention = transformer.transformer_blocks[0].attn
    handle = attention.to_out[0].register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    third = attention.register_forward_hook(
        lambda module, args, out: caught.append(out[2]) if len(out) == 3 else None
    )
    asked: list[tuple[int, int]] = []

    def bias(site: Site, query: torch.Tensor, key: torch.Tensor, scale: float) -> torch.Tensor:
        asked.append((query.shape[2], key.shape[2]))
        return torch.randn(1, 1, *asked[-1], generator=torch.Generator().manual_seed(5))

    try:
        for kernel in (Kernel(), Kernel([bias], [lambda site, out: 2 * out])):
            seen = []
            for weight in (1.0, 0.0):
                scaled(transformer, weight)
                caught: list[torch.Tensor] = []
                with installed(transformer, kernel, loaded.family.site):
                    sampled(loaded, request, store, [])
                seen.append(caught[:2])
            if model != "sd3":  # apart in the output, next to the joint call's
                (joint, own), (bare, none) = seen
                assert torch.equal(joint, bare) and not none.any()
                added.append((joint, own))
            else:
                added.append((seen[1][0], seen[0][0] - seen[1][0]))
    finally:
        handle.remove()
        third.remove()
    (joint, own), (changed, still) = added
    assert tiny_adapter.spread(joint - changed) > 0.1, "the slots act"
    assert tiny_adapter.spread(own) > 0.1 and torch.allclose(own, still, atol=1e-5)
    assert asked and all(queries == keys for queries, keys in asked)


@pytest.mark.parametrize("kind", [Confine, Watch])
def test_nor_by_what_confines_or_watches(kind: type[Confine] | type[Watch], store: PictureStore) -> None:
    """Places 2 and 3 are words where 77 keys are, and a picture's where there are four."""
    engine = Engine(1e9)
    engine.adopt("sd_noise", (loaded := adopted("sd_noise")).pipe, loaded.card)
    run = tiny.run_of(engine, tiny.collage_request(store, "sd_noise"), store)
    run.reaches = (Reach("prompt", (2, 3), (0,)),)
    method, kernel = kind(), Kernel()
    method.begin(run, kernel)
    method.before_forward(
        tiny.step_of(run, run.first + 1),
        Inputs(torch.zeros(0), {"encoder_hidden_states": torch.zeros(2, 77, 8)}),
    )
    site, generator = Site(cross=True, part="up"), torch.Generator().manual_seed(0)
    query, words, picture = (torch.randn(2, 2, n, 4, generator=generator) for n in (64, 77, 4))
    seen = []
    for key in (picture, words):
        if isinstance(method, Watch):
            method.watch(site, query, key, 0.5, None)
            seen.append(any(share for share in method.shares()[0]))
        else:
            seen.append(method.logit_bias(site, query, key, 0.5) is not None)
    assert seen == [False, True]


def test_the_engine_gives_the_arguments(store: PictureStore) -> None:
    loaded = with_ip_adapter("sd_noise")
    engine = Engine(preview_seconds=1e9)
    engine.adopt("ip", loaded.pipe, loaded.card, **loaded.arguments)
    request = everything(loaded, store).replace(model="ip")
    found = list(tiny.pictures(engine, request, store))
    assert same(found, sampled(loaded, request, store))
    assert Kernel().map_output == []

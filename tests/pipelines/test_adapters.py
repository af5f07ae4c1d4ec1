"""LoRAs and IP-Adapters under the methods: both act, neither hides the other, and nothing of ours stays."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine, Loaded
from pipelines.methods.layer_attention import LayerAttention
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import RenderRequest
from tests.pipelines import runs, tiny
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


@pytest.mark.parametrize("model", ["sd_noise", "sdxl", *tt.KINDS])
def test_a_lora_and_the_methods(store: PictureStore, model: str) -> None:
    peft = pytest.importorskip("peft")
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
    """A UNet with an IP-Adapter of random weights, by the loader's own way, and a picture prompt for its calls."""
    loaded = adopted(model)
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


@pytest.mark.parametrize("model", ["sd_noise", "sdxl"])
def test_an_ip_adapter_and_the_methods(store: PictureStore, model: str) -> None:
    loaded = with_ip_adapter(model)
    request, unet = everything(loaded, store), loaded.pipe.unet
    before = dict(unet.attn_processors)
    stock, both = sampled(loaded, request, store, []), sampled(loaded, request, store)
    assert apart(both, stock) > 0.1, "the methods act"
    silent = request.replace(spread_threshold=1.0, avoids=(), layers=())
    assert same(sampled(loaded, silent, store, []), sampled(loaded, silent, store)), "tapped and off is stock"
    for processor in unet.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.0]
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


def test_the_engine_gives_the_arguments(store: PictureStore) -> None:
    loaded = with_ip_adapter("sd_noise")
    engine = Engine(preview_seconds=1e9)
    engine.adopt("ip", loaded.pipe, loaded.card, **loaded.arguments)
    request = everything(loaded, store).replace(model="ip")
    found = list(tiny.pictures(engine, request, store))
    assert same(found, sampled(loaded, request, store))
    assert Kernel().map_output == []

"""Taps on real denoisers: what goes in comes out again, and unknown processors are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
    IPAdapterAttnProcessor2_0,
    SlicedAttnProcessor,
)

from pipelines.attention.kernel import Kernel, Site
from pipelines.attention.tap import installed, tapped
from pipelines.errors import UnsupportedError
from pipelines.families import family
from tests.pipelines import tiny


def forward(
    model: torch.nn.Module, rows: int = 2, height: int = 8, width: int = 8, **words: Any
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(rows, 4, height, width, generator=generator)
    text = torch.randn(rows, 77, model.config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        return model(sample, 500, encoder_hidden_states=text, return_dict=False, **words)[0]


def xl_words(rows: int = 2) -> dict[str, Any]:
    ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(rows, -1)
    return {"added_cond_kwargs": {"text_embeds": torch.ones(rows, 32), "time_ids": ids}}


@pytest.fixture(params=["plain", "only_cross", "xl"])
def model(request: pytest.FixtureRequest) -> Any:
    made = {"plain": {}, "only_cross": {"only_cross": True}, "xl": {"xl": True}}[request.param]
    return tiny.unet(0, **made), (xl_words() if request.param == "xl" else {})


SITE = family("sd").site


def test_installed_and_silent_is_bit_identical_and_undone(model: Any) -> None:
    unet, words = model
    before = {name: id(p) for name, p in unet.attn_processors.items()}
    plain = forward(unet, **words)
    with installed(unet, Kernel([lambda *_: None], [lambda site, out: out]), SITE) as count:
        assert count == len(before)
        assert all(id(p) != before[name] for name, p in unet.attn_processors.items())
        assert torch.equal(forward(unet, **words), plain)
    assert {name: id(p) for name, p in unet.attn_processors.items()} == before
    assert torch.equal(forward(unet, **words), plain)


def test_installed_and_speaking_changes_the_output(model: Any) -> None:
    unet, words = model
    plain = forward(unet, **words)
    with installed(unet, Kernel([], [lambda site, out: out * 0]), SITE):
        assert (forward(unet, **words) - plain).abs().max() > 1e-3


def test_undone_after_an_exception(model: Any) -> None:
    unet, words = model
    before = dict(unet.attn_processors)

    def fail(*_: Any) -> None:
        raise RuntimeError("a slot breaks")

    with pytest.raises(RuntimeError, match="a slot breaks"), installed(unet, Kernel([fail]), SITE):
        forward(unet, **words)
    assert all(unet.attn_processors[name] is processor for name, processor in before.items())


def test_undone_when_one_processor_is_refused() -> None:
    unet = tiny.unet(0)
    last = [module for module in unet.modules() if isinstance(module, Attention)][-1]
    last.set_processor(SlicedAttnProcessor(1))
    before = dict(unet.attn_processors)
    with pytest.raises(UnsupportedError, match="SlicedAttnProcessor"), installed(unet, Kernel(), SITE):
        pass
    assert all(unet.attn_processors[name] is processor for name, processor in before.items())


@pytest.mark.parametrize("processor", [AttnProcessor(), SlicedAttnProcessor(1)])
def test_unknown_processors_are_refused_by_name(processor: Any) -> None:
    with pytest.raises(UnsupportedError, match=type(processor).__name__):
        tapped(processor, Kernel().attend)


def test_a_tapped_processor_stays_what_it_was() -> None:
    stock = IPAdapterAttnProcessor2_0(32, 32)
    new = tapped(stock, lambda *a, **k: None)
    assert isinstance(new, IPAdapterAttnProcessor2_0) and new is not stock
    assert new.to_k_ip is stock.to_k_ip
    assert type(stock) is IPAdapterAttnProcessor2_0
    assert tapped(AttnProcessor2_0(), lambda *a, **k: None).__class__.__name__ == "TappedAttnProcessor2_0"


def test_a_shared_processor_is_not_changed_for_others() -> None:
    unet = tiny.unet(0)
    shared = AttnProcessor2_0()
    unet.set_attn_processor(shared)
    with installed(
        unet, Kernel(), lambda name, module: SITE(name, module) if name.endswith("attn2") else None
    ):
        kinds = {type(p) is AttnProcessor2_0 for name, p in unet.attn_processors.items() if "attn1" in name}
        assert kinds == {True}
        assert not any(
            type(p) is AttnProcessor2_0 for name, p in unet.attn_processors.items() if "attn2" in name
        )
    assert all(p is shared for p in unet.attn_processors.values())


def test_cross_attention_is_what_the_module_is() -> None:
    """With ``only_cross_attention`` the module called attn1 reads text."""
    seen: dict[str, tuple[bool, bool]] = {}
    unet = tiny.unet(0, only_cross=True)

    def kind(name: str, module: torch.nn.Module) -> Site | None:
        site = SITE(name, module)
        if site is not None:
            seen[name] = (site.cross, module.to_k.in_features == 32 != module.to_q.in_features)  # type: ignore[union-attr, operator]
        return site

    keys: dict[bool, set[int]] = {True: set(), False: set()}
    with installed(unet, Kernel([lambda s, q, k, _: keys[s.cross].add(k.shape[2])]), kind):  # type: ignore[func-returns-value]
        forward(unet)
    assert seen["down_blocks.0.attentions.0.transformer_blocks.0.attn1"][0]
    assert seen["down_blocks.0.attentions.0.transformer_blocks.0.attn2"][0]
    assert not seen["down_blocks.1.attentions.0.transformer_blocks.0.attn1"][0]
    assert keys == {True: {77}, False: {16, 4}}


def test_parts_of_the_denoiser() -> None:
    parts = {
        name.split(".")[0]: site.part
        for name, module in tiny.unet(0).named_modules()
        if isinstance(module, Attention) and (site := SITE(name, module))
    }
    assert parts == {"down_blocks": "down", "mid_block": "mid", "up_blocks": "up"}
    assert SITE("time_embedding", torch.nn.Identity()) is None


def test_a_dispatching_processor_is_tapped_too() -> None:
    """The newer attention classes call diffusers' dispatcher with (B, N, heads, D)."""
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    flux = FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    ).eval()
    given = {
        "hidden_states": torch.randn(1, 6, 4),
        "encoder_hidden_states": torch.randn(1, 5, 8),
        "pooled_projections": torch.randn(1, 8),
        "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(6, 3),
        "txt_ids": torch.zeros(5, 3),
        "return_dict": False,
    }
    with torch.no_grad():
        plain = flux(**given)[0]
        shapes: list[tuple[int, ...]] = []
        kernel = Kernel([lambda s, q, k, _: shapes.append(tuple(q.shape))])  # type: ignore[func-returns-value]
        with installed(flux, kernel, lambda name, module: Site(cross=False, part="joint")) as count:
            assert torch.equal(flux(**given)[0], plain)
        assert count == 2 and shapes == [(1, 2, 11, 16)] * 2
        with installed(
            flux, Kernel([], [lambda s, out: out * 0]), lambda *_: Site(cross=False, part="joint")
        ):
            assert (flux(**given)[0] - plain).abs().max() > 1e-3

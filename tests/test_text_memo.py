"""The text memo of the benchmark: bit-equal, computed once a text, gone afterwards; its share is counted."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks import common, shapes, text_memo
from tests.pipelines import tiny


def test_what_is_remembered_is_what_was_computed() -> None:
    unet = tiny.unet()
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, 8, 8, generator=generator)
    texts = [torch.randn(2, 77, 32, generator=generator) for _ in range(2)]

    def run(text: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            out: torch.Tensor = unet(sample, 500, text, return_dict=False)[0]
        return out

    stock = [run(text) for text in texts]
    maps = 2 * sum(getattr(module, "is_cross_attention", False) for module in unet.modules())
    with text_memo.remembered(unet) as held:
        assert torch.equal(run(texts[0]), stock[0]) and len(held) == maps > 0
        assert torch.equal(run(texts[0]), stock[0]) and len(held) == maps, "computed once"
        assert torch.equal(run(texts[1]), stock[1]) and len(held) == 2 * maps, "another text is another"
    assert not any("forward" in vars(module) for module in unet.modules())


def test_shares_are_of_the_whole_forward() -> None:
    settings = common.protocol("text_memo")
    found = {shape.name: shape for shape in shapes.SHAPES}["embedded"]
    share = text_memo.counted(found, settings)
    assert share == pytest.approx(0.0223, abs=0.001)
    assert text_memo.counted(found, {**settings, "text": 2 * settings["text"]}) > 1.8 * share

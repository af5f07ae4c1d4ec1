"""FLUX.1: T5's tokens first, then the picture; CLIP gives one pooled vector and no places."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from pipelines.families.spans import in_final_text, tokens_of_spans
from pipelines.families.transformer import Packed
from pipelines.request import RenderRequest

T5_TOKENS = 512
"""The stock pipelines' own limit."""


def t5_places(pipe: Any, tokenizer: Any, request: RenderRequest) -> list[list[int]]:
    """Places of the words of each layer, in the prompt with learned tokens expanded where the pipeline does that."""

    def final(prompt: str) -> str:
        convert = getattr(pipe, "maybe_convert_prompt", None)
        return prompt if convert is None else str(convert(prompt, tokenizer))

    spans = [layer.span for layer in request.layers]
    text, spans = in_final_text(final, request.prompt, spans)
    return tokens_of_spans(tokenizer, text, spans, [layer.name for layer in request.layers], T5_TOKENS)


class FluxFamily(Packed):
    """dev and schnell: guidance is distilled into the model, so all rows are the prompt's."""

    name = "flux"
    models = "FLUX.1 dev, schnell"
    text_to_image = "FluxPipeline"
    image_to_image = "FluxImg2ImgPipeline"

    refused: Mapping[str, str] = MappingProxyType(
        {
            "negative_prompt": "its guidance is distilled",
            "negative": "its guidance is distilled",
            "guidance_interval": "its guidance is distilled",
        }
    )

    def guided(self, pipe: Any, request: RenderRequest) -> bool:
        """Never: guidance is distilled."""
        return False

    def arguments(self, pipe: Any, request: RenderRequest) -> dict[str, Any]:
        """No negative prompt."""
        given = super().arguments(pipe, request)
        del given["negative_prompt"]
        return given

    def tokens(self, pipe: Any, request: RenderRequest) -> list[list[int]]:
        """T5's places of the words."""
        return t5_places(pipe, pipe.tokenizer_2, request)

    @torch.no_grad()
    def empty_text(self, pipe: Any, request: RenderRequest) -> dict[str, torch.Tensor]:
        """T5's states and CLIP's pooled vector."""
        states, pooled, _ = pipe.encode_prompt("", None)
        return {"encoder_hidden_states": states, "pooled_projections": pooled}

"""Stable Diffusion 3 and 3.5: the picture first, then CLIP's tokens, then T5's; a phrase stands in both."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.attention.kernel import Joint
from pipelines.errors import PhraseError
from pipelines.families.spans import tokens_of_spans
from pipelines.families.transformer import TransformerFamily
from pipelines.request import RenderRequest

T5_TOKENS = 256
"""The stock pipelines' own limit."""


class SD3Family(TransformerFamily):
    """Negative and positive rows in one call; unpacked latents, two by two cells a token."""

    name = "sd3"
    models = "Stable Diffusion 3, 3.5"
    text_to_image = "StableDiffusion3Pipeline"
    image_to_image = "StableDiffusion3Img2ImgPipeline"
    joint = Joint(text_first=False)
    parts = ("double",)

    def tokens(self, pipe: Any, request: RenderRequest) -> list[list[int]]:
        """CLIP's places, and T5's behind them. What CLIP cuts off may still be read by T5."""
        clip = pipe.tokenizer_max_length
        encoders = [(pipe.tokenizer, clip, 0)]
        if pipe.text_encoder_3 is not None:
            encoders.append((pipe.tokenizer_3, T5_TOKENS, clip))
        found: list[list[int]] = []
        for layer in request.layers:
            places: list[int] = []
            cut: PhraseError | None = None
            for tokenizer, limit, start in encoders:
                try:
                    own = tokens_of_spans(tokenizer, request.prompt, [layer.span], [layer.name], limit)[0]
                except PhraseError as error:
                    cut = error
                    continue
                places += [start + token for token in own]
            if cut is not None and not places:
                raise cut
            found.append(places)
        return found

    @torch.no_grad()
    def empty_text(self, pipe: Any, request: RenderRequest) -> dict[str, torch.Tensor]:
        """States of all encoders and pooled text."""
        states, _, pooled, _ = pipe.encode_prompt("", None, None, do_classifier_free_guidance=False)
        return {"encoder_hidden_states": states, "pooled_projections": pooled}

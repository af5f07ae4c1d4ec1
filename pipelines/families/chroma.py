"""Chroma: FLUX's layout with a mask over T5's padding, and real guidance in a second call.

Up to diffusers 0.42 that mask is numbers, 0 and 1, which attention adds: what is to be hidden counts for e times less
each token, no more. It stays as it is, so that what is off is the stock picture.
"""

from __future__ import annotations

from typing import Any

import torch

from pipelines.families.flux import t5_places
from pipelines.families.transformer import Packed
from pipelines.request import RenderRequest


class ChromaFamily(Packed):
    """Prompt rows in the first call of a step, negative rows in the second."""

    name = "chroma"
    models = "Chroma"
    text_to_image = "ChromaPipeline"
    image_to_image = "ChromaImg2ImgPipeline"
    two_calls = True

    def arguments(self, pipe: Any, request: RenderRequest) -> dict[str, Any]:
        """The empty negative prompt is a prompt too."""
        given = super().arguments(pipe, request)
        return {**given, "negative_prompt": given["negative_prompt"] or ""}

    def tokens(self, pipe: Any, request: RenderRequest) -> list[list[int]]:
        """T5's places of the words."""
        return t5_places(pipe, pipe.tokenizer, request)

    @torch.no_grad()
    def empty_text(self, pipe: Any, request: RenderRequest) -> dict[str, torch.Tensor]:
        """T5's states, and the mask with the picture's places open as the pipeline makes it."""
        states, _, mask, *_ = pipe.encode_prompt("", None, do_classifier_free_guidance=False)
        places = (request.height // self.multiple) * (request.width // self.multiple)
        whole = pipe._prepare_attention_mask(1, places, states.dtype, mask)
        return {"encoder_hidden_states": states, "attention_mask": whole}

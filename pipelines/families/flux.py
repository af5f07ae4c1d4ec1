"""FLUX.1: T5's tokens first, then the picture; CLIP gives one pooled vector and no places."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from types import MappingProxyType
from typing import Any

import torch
from diffusers.loaders import TextualInversionLoaderMixin

from pipelines.families.spans import in_final_text, tokens_of_spans
from pipelines.families.transformer import Packed
from pipelines.request import RenderRequest

T5_TOKENS = 512
"""The stock pipelines' own limit, and dev's."""
SCHNELL_TOKENS = 256
"""What schnell was made for: more of them are padding that nothing masks (diffusers' guide to FLUX)."""
NO_TRUE_GUIDANCE = "its guidance is distilled, and true guidance beside that is not built"
"""diffusers has it (``true_cfg_scale`` with a negative prompt): a second call a step, so twice the time, for a model
that was distilled not to need it.
"""


def t5_places(pipe: Any, tokenizer: Any, request: RenderRequest, limit: int = T5_TOKENS) -> list[list[int]]:
    """Places of the words of each layer, in the prompt with learned tokens expanded where the pipeline does that."""

    def final(prompt: str) -> str:
        convert = getattr(pipe, "maybe_convert_prompt", None)
        return prompt if convert is None else str(convert(prompt, tokenizer))

    spans = [layer.span for layer in request.layers]
    text, spans = in_final_text(final, request.prompt, spans)
    return tokens_of_spans(tokenizer, text, spans, [layer.name for layer in request.layers], limit)


def limit_of(pipe: Any) -> int:
    """T5's tokens that the pipeline's transformer reads: schnell is the one that reads no guidance."""
    return T5_TOKENS if pipe.transformer.config.guidance_embeds else SCHNELL_TOKENS


class FluxFamily(Packed):
    """dev and schnell: guidance is distilled into the model (`NO_TRUE_GUIDANCE`), so all rows are the prompt's."""

    name = "flux"
    models = "FLUX.1 dev, schnell"
    text_to_image = "FluxPipeline"
    image_to_image = "FluxImg2ImgPipeline"

    encoders = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
    refused: Mapping[str, str] = MappingProxyType(
        dict.fromkeys(("negative_prompt", "negative", "guidance_interval"), NO_TRUE_GUIDANCE)
    )

    def pipeline(self, base: Any, scheduler: Any, *, from_picture: bool) -> Any:
        """With learned tokens of several vectors expanded from a picture too, where the stock class does not."""
        made = super().pipeline(base, scheduler, from_picture=from_picture)
        if not isinstance(made, TextualInversionLoaderMixin):
            kind = type(made)
            made.__class__ = type(kind.__name__, (kind, TextualInversionLoaderMixin), {})
        return made

    def guided(self, pipe: Any, request: RenderRequest) -> bool:
        """Never: guidance is distilled."""
        return False

    def arguments(self, pipe: Any, request: RenderRequest) -> dict[str, Any]:
        """No negative prompt."""
        given = super().arguments(pipe, request)
        del given["negative_prompt"]
        return {**given, "max_sequence_length": limit_of(pipe)}

    def tokens(self, pipe: Any, request: RenderRequest) -> list[list[int]]:
        """T5's places of the words."""
        return t5_places(pipe, pipe.tokenizer_2, request, limit_of(pipe))

    @torch.no_grad()
    def empty_text(self, pipe: Any, request: RenderRequest) -> dict[str, torch.Tensor]:
        """`text` of the empty prompt."""
        return self.text(pipe, "", (request.height, request.width))

    def text(self, pipe: Any, prompt: str, size: tuple[int, int]) -> dict[str, torch.Tensor]:
        """T5's states and CLIP's pooled vector."""
        states, pooled, _ = pipe.encode_prompt(prompt, None, max_sequence_length=limit_of(pipe))
        return {"encoder_hidden_states": states, "pooled_projections": pooled}

    def moment(self, pipe: Any, share: float) -> tuple[float, tuple[float, float]]:
        """Sigma drawn logit-normally (arXiv 2403.03206, section 3.1): most of the learning is in the middle."""
        within = min(max(share, 1e-4), 1 - 1e-4)
        sigma = 1 / (1 + math.exp(-NormalDist().inv_cdf(within)))
        return sigma, (1 - sigma, sigma)

    def predict(
        self,
        pipe: Any,
        noisy: torch.Tensor,
        times: torch.Tensor,
        text: dict[str, torch.Tensor],
        guidance: float,
    ) -> torch.Tensor:
        """Places of words are zero, those of the picture its rows and columns of packed cells."""
        count, _, height, width = noisy.shape
        rows, columns = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3)
        states = text["encoder_hidden_states"]
        scale = noisy.new_full((count,), guidance) if pipe.transformer.config.guidance_embeds else None
        output = pipe.transformer(
            hidden_states=self.pack(noisy),
            timestep=times,
            guidance=scale,
            pooled_projections=text["pooled_projections"].expand(count, -1),
            encoder_hidden_states=states.expand(count, -1, -1),
            txt_ids=noisy.new_zeros(states.shape[1], 3),
            img_ids=places.to(noisy),
            return_dict=False,
        )[0]
        return self.unpack(output, (height, width))

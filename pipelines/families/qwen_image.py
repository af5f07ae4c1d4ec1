"""Qwen-Image: a chat template whose first tokens are dropped, then the picture; guidance in a second call."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.families.spans import tokens_in_template
from pipelines.families.transformer import Packed
from pipelines.request import RenderRequest

TEXT_TOKENS = 512
"""What the image-to-image pipeline reads after the dropped ones; text-to-image is given the same limit."""


class QwenImageFamily(Packed):
    """Latents have a frame axis of one, which stays outside of what methods see."""

    name = "qwen"
    models = "Qwen-Image"
    text_to_image = "QwenImagePipeline"
    image_to_image = "QwenImageImg2ImgPipeline"
    two_calls = True
    parts = ("double",)

    def arguments(self, pipe: Any, request: RenderRequest) -> dict[str, Any]:
        """Guidance needs a negative prompt; a space is what its authors use for none."""
        given = super().arguments(pipe, request)
        scale = given.pop("guidance_scale")
        if scale > 1:
            return {**given, "true_cfg_scale": scale, "negative_prompt": given["negative_prompt"] or " "}
        return {**given, "true_cfg_scale": 1.0, "negative_prompt": None}

    def tokens(self, pipe: Any, request: RenderRequest) -> list[list[int]]:
        """Places after the template's beginning, which the pipeline drops."""
        dropped = pipe.prompt_template_encode_start_idx
        found = tokens_in_template(
            pipe.prompt_template_encode.format, pipe.tokenizer, request, TEXT_TOKENS + dropped
        )
        return [[token - dropped for token in tokens] for tokens in found]

    def clean_latents(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:
        """Mean and deviation of each channel; the frame axis goes."""
        config = pipe.vae.config

        def channels(values: list[float]) -> torch.Tensor:
            return torch.tensor(values).view(1, -1, 1, 1).to(latents)

        return (latents[:, :, 0] - channels(config.latents_mean)) / channels(config.latents_std)

    def pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """A film of one frame."""
        return pixels[:, :, None]

    def start(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, 1, C, h, w) → (n, C, h, w)."""
        return latents[:, 0]

    @torch.no_grad()
    def empty_text(self, pipe: Any, request: RenderRequest) -> dict[str, torch.Tensor]:
        """States of what stands for no prompt; shorter than the prompt's, so `lengthen` pads and masks."""
        states, _ = pipe.encode_prompt(" ")
        return {"encoder_hidden_states": states}

    def lengthen(self, kwargs: dict[str, Any], text: dict[str, torch.Tensor], count: int) -> None:
        """Rows of both lengths padded to the longer, with a mask over the padding."""
        states, own = kwargs["encoder_hidden_states"], text["encoder_hidden_states"]
        mask = kwargs.get("encoder_hidden_states_mask")
        rows, length = states.shape[0], max(states.shape[1], own.shape[1])
        if mask is None:
            mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        own_mask = torch.ones(own.shape[:2], dtype=mask.dtype, device=states.device)

        def longer(value: torch.Tensor) -> torch.Tensor:
            missing = length - value.shape[1]
            return torch.cat([value, value.new_zeros(value.shape[0], missing, *value.shape[2:])], 1)

        kwargs["encoder_hidden_states"] = longer(states)
        kwargs["encoder_hidden_states_mask"] = longer(mask)
        kwargs["img_shapes"] = [kwargs["img_shapes"][0]] * (rows + count)
        super().lengthen(
            kwargs,
            {"encoder_hidden_states": longer(own), "encoder_hidden_states_mask": longer(own_mask)},
            count,
        )

"""FLUX.2 dev and Klein: a chat template, all of it read, then the picture in cells of 16 pixels.

Their ``image`` argument is a reference, not a start, and there is no image-to-image with a strength: a run from a
picture is text-to-image from the noised picture over the rest of the schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from pipelines.attention.kernel import Joint
from pipelines.families.base import NOTHING
from pipelines.families.spans import moved_by_padding, negative_text, tokens_in_template
from pipelines.families.transformer import TransformerFamily
from pipelines.request import RenderRequest

TEXT_TOKENS = 512
"""The stock pipelines' own limit, the template's tokens among them."""
DISTILLED = "its guidance is distilled"


class Flux2Family(TransformerFamily):
    """dev: guidance is distilled, one call a step. Latents are (n, 4 C, h/2, w/2), so a cell is a token."""

    name = "flux2"
    models = "FLUX.2 dev"
    text_to_image = "Flux2Pipeline"
    joint = Joint(text_first=True, patch=1)

    refused: Mapping[str, str] = MappingProxyType(
        {"negative_prompt": DISTILLED, "negative": DISTILLED, "guidance_interval": DISTILLED}
    )

    def guided(self, pipe: Any, request: RenderRequest) -> bool:
        """Never: guidance is distilled."""
        return False

    def set_timesteps(self, pipe: Any, scheduler: Any, request: RenderRequest, steps: int) -> None:
        """The pipeline's own shift, needed before it runs where the start is a noised picture."""
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        places = (request.height // self.multiple) * (request.width // self.multiple)
        mu = compute_empirical_mu(image_seq_len=places, num_steps=steps)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)

    def arguments(self, pipe: Any, request: RenderRequest) -> dict[str, Any]:
        """No negative prompt."""
        given = super().arguments(pipe, request)
        del given["negative_prompt"]
        return given

    def render(self, pipe: Any, prompt: str) -> str:
        """The text that is tokenized: the system's message and the prompt without image marks."""
        from diffusers.pipelines.flux2.pipeline_flux2 import format_input

        messages = format_input(prompts=[prompt], system_message=pipe.system_message)[0]
        text: str = pipe.tokenizer.apply_chat_template(messages, add_generation_prompt=False, tokenize=False)
        return text

    def words(self, pipe: Any) -> Any:
        """The tokenizer itself: dev's is inside a processor."""
        return pipe.tokenizer.tokenizer

    def tokens(self, pipe: Any, request: RenderRequest) -> list[list[int]]:
        """Places in the chat template, moved where padding stands on the left."""

        def render(prompt: str) -> str:
            return self.render(pipe, prompt)

        found = tokens_in_template(render, self.words(pipe), request, TEXT_TOKENS)
        return moved_by_padding(self.words(pipe), render(request.prompt), found, TEXT_TOKENS)

    def pack(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) → (n, h·w, C)."""
        return latents.flatten(2).transpose(1, 2)

    def unpack(self, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(n, h·w, C) → (n, C, h, w)."""
        return latents.transpose(1, 2).reshape(latents.shape[0], latents.shape[2], *size)

    def given(self, latents: torch.Tensor) -> torch.Tensor:
        """The pipeline packs what it is given."""
        return latents

    def clean_latents(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:
        """Two by two cells together, normalized by the autoencoder's batch statistics."""
        patches = torch.nn.functional.pixel_unshuffle(latents, 2)
        norm = pipe.vae.bn
        mean = norm.running_mean.view(1, -1, 1, 1).to(patches)
        deviation = (norm.running_var.view(1, -1, 1, 1) + pipe.vae.config.batch_norm_eps).sqrt().to(patches)
        normalized: torch.Tensor = (patches - mean) / deviation
        return normalized

    @torch.no_grad()
    def empty_text(self, pipe: Any, request: RenderRequest) -> dict[str, torch.Tensor]:
        """States of the template around nothing."""
        states, _ = pipe.encode_prompt("")
        return {"encoder_hidden_states": states}


class KleinFamily(Flux2Family):
    """Klein: Qwen's template; the base models have real guidance in a second call, the distilled ones none."""

    name = "klein"
    models = "FLUX.2 Klein"
    text_to_image = "Flux2KleinPipeline"
    two_calls = True
    refused = NOTHING

    def check(self, request: RenderRequest, pipe: Any = None) -> None:
        """Where guidance is distilled, also refuses what dev does."""
        super().check(request, pipe)
        if pipe is not None and pipe.config.is_distilled:
            self.refuse(request, Flux2Family.refused)

    def guided(self, pipe: Any, request: RenderRequest) -> bool:
        """Where it is not distilled."""
        return request.guidance > 1 and not pipe.config.is_distilled

    def arguments(self, pipe: Any, request: RenderRequest) -> dict[str, Any]:
        """The negative prompt as states, which is how the pipeline takes one."""
        given, text = super().arguments(pipe, request), negative_text(request)[0]
        if text and self.guided(pipe, request):
            with torch.no_grad():
                given["negative_prompt_embeds"] = pipe.encode_prompt(text)[0]
        return given

    def options(self, base: Any) -> dict[str, Any]:
        """Whether guidance is distilled."""
        return {"is_distilled": base.config.is_distilled}

    def steering(self, pipe: Any, request: RenderRequest, branches: list[list[int]]) -> float:
        """None where guidance is distilled."""
        return 0.0 if pipe.config.is_distilled else super().steering(pipe, request, branches)

    def words(self, pipe: Any) -> Any:
        """The tokenizer."""
        return pipe.tokenizer

    def render(self, pipe: Any, prompt: str) -> str:
        """A user's message, with thinking closed."""
        text: str = pipe.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return text

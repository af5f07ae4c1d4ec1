"""UNet families: Stable Diffusion 1 and 2 (and the embedded model), and XL."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from pipelines.attention.kernel import Site
from pipelines.families.base import Family
from pipelines.families.spans import in_final_text, tokens_of_spans
from pipelines.methods.base import Inputs
from pipelines.request import RenderRequest


class UNetFamily(Family):
    """What the UNet families share."""

    parts = ("down", "mid", "up")
    refused: Mapping[str, str] = MappingProxyType(
        {"attend_both_ways": "its text does not look at the picture"}
    )

    def denoiser(self, pipe: Any) -> torch.nn.Module:
        """The module that is tapped and hooked."""
        model: torch.nn.Module = pipe.unet
        return model

    def site(self, name: str, module: torch.nn.Module) -> Site | None:
        """A module of the denoiser as a `Site`: cross-attention is what the module is, not how it is called.

        With ``only_cross_attention`` a block's ``attn1`` reads text; with ``double_self_attention`` its ``attn2`` does
        not. diffusers notes on the module which one it is.
        """
        part = name.split("_", 1)[0]
        if part not in ("down", "mid", "up"):
            return None
        return Site(cross=bool(getattr(module, "is_cross_attention", False)), part=part)

    def read(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> Inputs:
        """The sample comes first, or by name."""
        sample: torch.Tensor = args[0] if args else kwargs["sample"]
        return Inputs(sample, dict(kwargs))

    def write(self, inputs: Inputs, args: Any) -> tuple[Any, dict[str, Any]]:
        """As `read` found it."""
        if args:
            return (inputs.sample, *args[1:]), inputs.kwargs
        return args, {**inputs.kwargs, "sample": inputs.sample}

    @torch.no_grad()
    def empty_text(self, pipe: Any, request: RenderRequest) -> dict[str, torch.Tensor]:
        """`text` of the empty prompt at the request's size."""
        return self.text(pipe, "", (request.height, request.width))

    def final_prompt(self, pipe: Any, prompt: str) -> str:
        """The string the pipeline tokenizes: learned multi-vector tokens expanded."""
        text: str = pipe.maybe_convert_prompt(prompt, pipe.tokenizer)
        return text

    def tokens(self, pipe: Any, request: RenderRequest) -> list[list[int]]:
        """For each layer the positions of its words among the text tokens. Raises `PhraseError`."""
        spans = [layer.span for layer in request.layers]
        names = [layer.name for layer in request.layers]
        if not any(spans):
            return [[] for _ in spans]
        text, spans = in_final_text(partial(self.final_prompt, pipe), request.prompt, spans)
        return tokens_of_spans(pipe.tokenizer, text, spans, names)

    def moment(self, pipe: Any, share: float) -> tuple[float, tuple[float, float]]:
        """A step of the training's schedule, and its level from the scheduler's own betas."""
        kept = pipe.scheduler.alphas_cumprod
        step = min(int(share * len(kept)), len(kept) - 1)
        alpha = float(kept[step])
        return float(step), (alpha**0.5, (1 - alpha) ** 0.5)

    def predict(
        self,
        pipe: Any,
        noisy: torch.Tensor,
        times: torch.Tensor,
        text: dict[str, torch.Tensor],
        guidance: float,
    ) -> torch.Tensor:
        """Also XL's pooled text and sizes, where ``text`` has them."""
        count = len(noisy)
        more: dict[str, Any] = {}
        if "ids" in text:
            added = {"text_embeds": text["pooled"], "time_ids": text["ids"]}
            more["added_cond_kwargs"] = {name: row.expand(count, -1) for name, row in added.items()}
        states = text["states"].expand(count, -1, -1)
        output: torch.Tensor = pipe.unet(noisy, times, states, return_dict=False, **more)[0]
        return output

    def lengthen(self, kwargs: dict[str, Any], text: dict[str, torch.Tensor], count: int) -> None:
        """Append ``count`` rows of ``text`` to the denoiser's keyword arguments."""
        states = kwargs["encoder_hidden_states"]
        kwargs["encoder_hidden_states"] = torch.cat([states, text["states"].to(states).expand(count, -1, -1)])
        condition = kwargs.get("timestep_cond")
        if condition is not None:
            kwargs["timestep_cond"] = torch.cat([condition, condition[:1].expand(count, -1)])


class SDFamily(UNetFamily):
    """Stable Diffusion 1.x and 2.x, and the embedded model."""

    name = "sd"
    models = "Stable Diffusion 1.5, 2.1, embedded"
    text_to_image = "StableDiffusionPipeline"
    encoders = (("tokenizer", "text_encoder"),)
    image_to_image = "StableDiffusionImg2ImgPipeline"

    def options(self, base: Any) -> dict[str, Any]:
        """A safety checker that the user's pipeline has stays required."""
        return {"requires_safety_checker": base.components.get("safety_checker") is not None}

    def text(self, pipe: Any, prompt: str, size: tuple[int, int]) -> dict[str, torch.Tensor]:
        """States (1, T, D)."""
        states, _ = pipe.encode_prompt(prompt, pipe._execution_device, 1, False)
        return {"states": states}


class SDXLFamily(UNetFamily):
    """Stable Diffusion XL: two text encoders with the same token positions, pooled text and sizes beside."""

    name = "sdxl"
    models = "Stable Diffusion XL"
    text_to_image = "StableDiffusionXLPipeline"
    encoders = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
    image_to_image = "StableDiffusionXLImg2ImgPipeline"

    def options(self, base: Any) -> dict[str, Any]:
        """The base pipeline's own settings."""
        keep = {"force_zeros_for_empty_prompt": base.config.get("force_zeros_for_empty_prompt", True)}
        return {**keep, "add_watermarker": False}

    def text(self, pipe: Any, prompt: str, size: tuple[int, int]) -> dict[str, torch.Tensor]:
        """States, pooled text and the sizes of an uncropped picture of that size."""
        states, _, pooled, _ = pipe.encode_prompt(
            prompt, device=pipe._execution_device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        ids = torch.tensor([[*size, 0, 0, *size]], dtype=states.dtype, device=states.device)
        return {"states": states, "pooled": pooled, "ids": ids}

    def lengthen(self, kwargs: dict[str, Any], text: dict[str, torch.Tensor], count: int) -> None:
        """Also the added conditions, in a new dict: the pipeline keeps its own from step to step."""
        super().lengthen(kwargs, text, count)
        added = dict(kwargs["added_cond_kwargs"])
        for name, row in (("text_embeds", "pooled"), ("time_ids", "ids")):
            value = added[name]
            extra = text[row][:, : value.shape[-1]].to(value).expand(count, -1)
            added[name] = torch.cat([value, extra])
        kwargs["added_cond_kwargs"] = added

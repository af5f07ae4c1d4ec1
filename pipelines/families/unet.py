"""UNet families: Stable Diffusion 1 and 2 (and the embedded model), and XL."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from pipelines.attention.kernel import Site
from pipelines.families.base import Family
from pipelines.families.chunks import Plan, cut, plan
from pipelines.families.spans import in_final_text, tokens_of_spans
from pipelines.methods.base import Inputs, Reach
from pipelines.request import RenderRequest


class UNetFamily(Family):
    """What the UNet families share."""

    parts = ("down", "mid", "up")
    image_prompts = True
    controlled = True
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

    def level(self, pipe: Any, name: str) -> int:
        """Blocks go down level by level, and up again from the last, on which the middle is."""
        last = len(pipe.unet.config.block_out_channels) - 1
        block, number = name.split(".")[:2]
        if block == "mid_block":
            return last
        return int(number) if block == "down_blocks" else last - int(number)

    def read(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> Inputs:
        """The sample comes first, or by name."""
        sample: torch.Tensor = args[0] if args else kwargs["sample"]
        time = args[1] if len(args) > 1 else kwargs["timestep"]
        return Inputs(sample, dict(kwargs), time)

    def write(self, inputs: Inputs, args: Any) -> tuple[Any, dict[str, Any]]:
        """As `read` found it."""
        if args:
            return (inputs.sample, *args[1:]), inputs.kwargs
        return args, {**inputs.kwargs, "sample": inputs.sample}

    @torch.no_grad()
    def empty_text(self, pipe: Any, request: RenderRequest) -> dict[str, torch.Tensor]:
        """`text` of the empty prompt at the request's size."""
        return self.text(pipe, "", (request.height, request.width))

    def text(self, pipe: Any, prompt: str, size: tuple[int, int]) -> dict[str, torch.Tensor]:
        """What `encode` makes of each chunk, their states after one another, (1, T, D)."""
        ranges = cut(prompt, partial(self.fits, pipe)) or [(0, 0)]
        encoded = [self.encode(pipe, prompt[slice(*one)]) for one in ranges]
        return encoded[0] | {"states": torch.cat([one["states"] for one in encoded], 1)}

    def final_prompt(self, pipe: Any, prompt: str) -> str:
        """The string the pipeline tokenizes: learned multi-vector tokens expanded."""
        text: str = pipe.maybe_convert_prompt(prompt, pipe.tokenizer)
        return text

    def guided(self, pipe: Any, request: RenderRequest) -> bool:
        """Not where the guidance's strength is an input of the model (LCM)."""
        return request.guidance > 1 and pipe.unet.config.time_cond_proj_dim is None

    def tokenizers(self, pipe: Any) -> list[Any]:
        """Those that must agree on how much fits into a chunk."""
        return [pipe.tokenizer]

    def plan(self, pipe: Any, request: RenderRequest) -> Plan:
        """How the words are read, in chunks of what the tokenizer takes."""
        return plan(request, partial(self.fits, pipe), self.guided(pipe, request))

    def fits(self, pipe: Any, text: str) -> bool:
        """Whether one chunk takes all of a text, learned multi-vector tokens expanded."""
        final = self.final_prompt(pipe, text)
        return all(
            len(words(final, verbose=False)["input_ids"]) <= words.model_max_length
            for words in self.tokenizers(pipe)
        )

    def tokens(self, pipe: Any, request: RenderRequest) -> list[list[int]]:
        """For each layer the positions of its words among the text tokens of all chunks. Raises `PhraseError`."""
        found: list[list[int]] = [[] for _ in request.layers]
        names = [layer.name for layer in request.layers]
        for number, chunk in enumerate(self.plan(pipe, request).prompt):
            if not any(chunk.spans):
                continue
            text, spans = in_final_text(partial(self.final_prompt, pipe), chunk.text or "", chunk.spans)
            places = tokens_of_spans(pipe.tokenizer, text, spans, names)
            for own, more in zip(found, places, strict=True):
                own += [place + number * pipe.tokenizer.model_max_length for place in more]
        return found

    def reaches(self, pipe: Any, request: RenderRequest) -> tuple[Reach, ...]:
        """A layer's own chunks, and what fills up the shorter of prompt and negative prompt."""
        return self.plan(pipe, request).reaches(pipe.tokenizer.model_max_length)

    def cut_off(self, pipe: Any, request: RenderRequest, prompt: str) -> bool:
        """Never: what does not fit is read in further chunks."""
        return False

    @torch.no_grad()
    def arguments(self, pipe: Any, request: RenderRequest) -> dict[str, Any]:
        """The prompts as they are, or in states where they take more than one chunk."""
        given = super().arguments(pipe, request)
        found = self.plan(pipe, request)
        if found.count == 1:
            return given
        del given["prompt"], given["negative_prompt"]
        sides = (("", found.prompt), ("negative_", found.negative))
        for side, chunks in sides:
            if not chunks:
                continue
            encoded = [self.encode(pipe, chunk.text) for chunk in chunks]
            # nothing sees what fills up, so any numbers do; its own keep the statistics of a row as they are
            filled = [encoded[k % len(encoded)]["states"] for k in range(found.count)]
            given[f"{side}prompt_embeds"] = torch.cat(filled, 1)
            if (
                "pooled" in encoded[0]
            ):  # the scene's first words stand for the whole, as they do where all is read
                given[f"{side}pooled_prompt_embeds"] = encoded[0]["pooled"]
        return given

    def encode(self, pipe: Any, text: str | None) -> dict[str, torch.Tensor]:
        """One chunk as the pipeline encodes it: ``states`` (1, T, D), and ``pooled`` where the model has it.

        With the text encoder's gradient. None is a negative prompt that is not given.
        """
        raise TypeError("a family says how it encodes")

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
        """Also XL's pooled text and sizes, where ``text`` has them, and guidance, where the UNet reads it."""
        count = len(noisy)
        more: dict[str, Any] = {}
        if (width := pipe.unet.config.time_cond_proj_dim) is not None:  # as the stock calls give it
            scale = torch.full((count,), guidance - 1)
            more["timestep_cond"] = pipe.get_guidance_scale_embedding(scale, embedding_dim=width).to(noisy)
        if "ids" in text:
            added = {"text_embeds": text["pooled"], "time_ids": text["ids"]}
            more["added_cond_kwargs"] = {name: row.expand(count, -1) for name, row in added.items()}
        states = text["states"].expand(count, -1, -1)
        output: torch.Tensor = pipe.unet(noisy, times, states, return_dict=False, **more)[0]
        return output

    @torch.no_grad()
    def control(
        self, controlnet: Any, inputs: Inputs, picture: torch.Tensor, mode: int, rows: int, words: int | None
    ) -> list[torch.Tensor]:
        """As the stock ControlNet pipelines call it, without what they call guess mode: every row is controlled."""
        states = inputs.kwargs["encoder_hidden_states"][:rows, :words]
        shown = picture.expand(rows, -1, -1, -1)
        added = inputs.kwargs.get("added_cond_kwargs")
        more: dict[str, Any] = {}
        if added and "text_embeds" in added:
            more["added_cond_kwargs"] = {name: added[name][:rows] for name in ("text_embeds", "time_ids")}
        if "num_control_type" in controlnet.config:
            kind = torch.zeros(rows, controlnet.config.num_control_type, device=picture.device)
            kind[:, mode] = 1
            more |= {"control_type": kind.to(picture.dtype), "control_type_idx": [mode]}
            given: Any = [shown]
        else:
            given = shown
        down, middle = controlnet(
            inputs.sample[:rows], inputs.time, states, controlnet_cond=given, return_dict=False, **more
        )
        return [*down, middle]

    def put_control(self, kwargs: dict[str, Any], residuals: list[torch.Tensor]) -> None:
        """As the stock ControlNet pipelines do; the last is the middle block's."""
        kwargs["down_block_additional_residuals"] = residuals[:-1]
        kwargs["mid_block_additional_residual"] = residuals[-1]

    def lengthen(self, kwargs: dict[str, Any], text: dict[str, torch.Tensor], count: int) -> None:
        """Append ``count`` rows of ``text`` to the denoiser's keyword arguments, as long as those there are."""
        states = kwargs["encoder_hidden_states"]
        own = text["states"].to(states)
        own = own.repeat(1, states.shape[1] // own.shape[1], 1)
        kwargs["encoder_hidden_states"] = torch.cat([states, own.expand(count, -1, -1)])
        added = kwargs.get("added_cond_kwargs")
        if added and "image_embeds" in added:
            # no picture prompt, as IP-Adapter says it: zeros; in a new dict, as the pipeline keeps its own
            rows = [
                torch.cat([one, torch.zeros_like(one[:1]).expand(count, *one.shape[1:])])
                for one in added["image_embeds"]
            ]
            kwargs["added_cond_kwargs"] = {**added, "image_embeds": rows}
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

    def encode(self, pipe: Any, text: str | None) -> dict[str, torch.Tensor]:
        """No negative prompt is the empty one."""
        states, _ = pipe.encode_prompt(text or "", pipe._execution_device, 1, False)
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

    def tokenizers(self, pipe: Any) -> list[Any]:
        """Both; their words have the same places."""
        return [pipe.tokenizer, pipe.tokenizer_2]

    def encode(self, pipe: Any, text: str | None) -> dict[str, torch.Tensor]:
        """No negative prompt is the empty one, or zeros where the model was trained so."""
        states, _, pooled, _ = pipe.encode_prompt(
            text or "",
            device=pipe._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        if text is None and pipe.config.force_zeros_for_empty_prompt:
            states, pooled = torch.zeros_like(states), torch.zeros_like(pooled)
        return {"states": states, "pooled": pooled}

    def text(self, pipe: Any, prompt: str, size: tuple[int, int]) -> dict[str, torch.Tensor]:
        """Also the sizes of an uncropped picture of that size."""
        text = super().text(pipe, prompt, size)
        states = text["states"]
        return text | {"ids": torch.tensor([[*size, 0, 0, *size]], dtype=states.dtype, device=states.device)}

    def lengthen(self, kwargs: dict[str, Any], text: dict[str, torch.Tensor], count: int) -> None:
        """Also the added conditions, in a new dict: the pipeline keeps its own from step to step."""
        super().lengthen(kwargs, text, count)
        added = dict(kwargs["added_cond_kwargs"])
        for name, row in (("text_embeds", "pooled"), ("time_ids", "ids")):
            value = added[name]
            extra = text[row][:, : value.shape[-1]].to(value).expand(count, -1)
            added[name] = torch.cat([value, extra])
        kwargs["added_cond_kwargs"] = added

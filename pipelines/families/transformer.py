"""What the transformer families share: flow matching, one sequence of text and picture, rows named by argument."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch

from pipelines.attention.kernel import Joint, Site
from pipelines.errors import UnsupportedError
from pipelines.families.base import Family
from pipelines.methods.base import Inputs
from pipelines.request import RenderRequest

LINES = {"double": "transformer_blocks", "single": "single_transformer_blocks"}


class TransformerFamily(Family):
    """A flow-matching transformer in which words and picture attend to each other."""

    parts = tuple(LINES)
    multiple = 16
    prediction = "flow"
    # these pipelines start at int(steps − steps · strength): half a step less, where UNet pipelines want half more
    half_step = -0.5
    joint = Joint(text_first=True)
    sample_name = "hidden_states"
    two_calls = False
    """Whether guidance asks the denoiser twice a step."""
    shared: tuple[str, ...] = ("txt_ids", "img_ids")
    """Tensor arguments that are not one row a picture."""

    def check(self, request: RenderRequest, pipe: Any = None) -> None:
        """Also refuses one step where the schedule is stretched to a last level: it would divide zero by zero."""
        super().check(request, pipe)
        if request.steps == 1 and pipe is not None and pipe.scheduler.config.shift_terminal:
            raise UnsupportedError(f"steps is 1, and {request.model} needs at least 2; raise the steps.")

    def denoiser(self, pipe: Any) -> torch.nn.Module:
        """The transformer."""
        model: torch.nn.Module = pipe.transformer
        return model

    def site(self, name: str, module: torch.nn.Module) -> Site | None:
        """The joint attention of double and single blocks; attention inside the picture only is left alone."""
        for part, line in LINES.items():
            if name.startswith(f"{line}.") and name.endswith(".attn"):
                return Site(cross=False, part=part, joint=self.joint)
        return None

    def level(self, pipe: Any, name: str) -> None:
        """One grid everywhere."""

    def set_timesteps(self, pipe: Any, scheduler: Any, request: RenderRequest, steps: int) -> None:
        """A schedule with the right start, pure noise, which no shift moves; the pipeline knows the shift."""
        sigmas = np.linspace(1.0, 1 / steps, steps)
        mu = {"mu": 1.0} if scheduler.config.use_dynamic_shifting else {}
        scheduler.set_timesteps(sigmas=sigmas, **mu)

    def arguments(self, pipe: Any, request: RenderRequest) -> dict[str, Any]:
        """Also the size, which these image-to-image pipelines do not take from the picture."""
        return {**super().arguments(pipe, request), "height": request.height, "width": request.width}

    def copies(self, picture: Any, count: int) -> Any:
        """One for each generator: given one for all, these pipelines encode with the first generator, or with none."""
        return [picture] * count if count > 1 else picture

    def clean_latents(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:
        """Shifted and scaled."""
        config = pipe.vae.config
        scaled: torch.Tensor = (latents - config.shift_factor) * config.scaling_factor
        return scaled

    def rows(self, count: int, images: int, turn: int = 0) -> tuple[list[int], list[list[int]]]:
        """Where guidance is a second call, the prompt's rows come first, then the negative ones."""
        if not self.two_calls:
            return super().rows(count, images, turn)
        branch = list(range(count))
        return (branch if turn == 0 else []), [branch]

    def steering(self, pipe: Any, request: RenderRequest, branches: list[list[int]]) -> float:
        """Neither of two calls sees the other's rows: there are two where guidance is above 1."""
        if not self.two_calls:
            return super().steering(pipe, request, branches)
        return max(0.0, request.guidance - 1)

    def read(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> Inputs:
        """All arguments by name."""
        forward = getattr(module, "_orig_mod", module).forward  # torch.compile(model) wraps
        named = {**inspect.signature(forward).bind_partial(*args).arguments, **kwargs}
        sample: torch.Tensor = named.pop(self.sample_name)
        return Inputs(sample, named)

    def write(self, inputs: Inputs, args: Any) -> tuple[Any, dict[str, Any]]:
        """All by name."""
        return (), {**inputs.kwargs, self.sample_name: inputs.sample}

    def lengthen(self, kwargs: dict[str, Any], text: dict[str, torch.Tensor], count: int) -> None:
        """``text`` where it names an argument; of the others with rows, the first row again."""
        rows = kwargs["encoder_hidden_states"].shape[0]
        for name, value in kwargs.items():
            if not isinstance(value, torch.Tensor) or name in self.shared or value.shape[:1] != (rows,):
                continue
            row = text[name].to(value) if name in text else value[:1]
            kwargs[name] = torch.cat([value, row.expand(count, *value.shape[1:])])
        more = kwargs.get("joint_attention_kwargs") or {}
        if (shown := more.get("ip_adapter_image_embeds")) is not None:
            # no picture prompt: zeros; in a new dict, as the pipeline keeps its own
            rows = [
                torch.cat([one, torch.zeros_like(one[:1]).expand(count, *one.shape[1:])])
                for one in (shown if isinstance(shown, list) else [shown])
            ]
            longer = rows if isinstance(shown, list) else rows[0]
            kwargs["joint_attention_kwargs"] = {**more, "ip_adapter_image_embeds": longer}


class Packed(TransformerFamily):
    """Latents packed two by two into tokens: (n, C, h, w) ↔ (n, h/2 · w/2, 4 C)."""

    def pack(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) → (n, N, 4 C)."""
        n, c, h, w = latents.shape
        cells = latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
        return cells.reshape(n, (h // 2) * (w // 2), 4 * c)

    def unpack(self, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(n, N, 4 C) → (n, C, h, w)."""
        h, w = size
        n, _, c = latents.shape
        cells = latents.view(n, h // 2, w // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return cells.reshape(n, c // 4, h, w)

"""Z-Image: one line of blocks, picture first, both parts padded to 32; rows are lists, positive before negative."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.attention.kernel import Joint, Site
from pipelines.families.spans import tokens_in_template
from pipelines.families.transformer import TransformerFamily
from pipelines.methods.base import Inputs
from pipelines.request import RenderRequest

TEXT_TOKENS = 512
"""The stock pipelines' own limit, the template's tokens among them."""


class ZImageFamily(TransformerFamily):
    """Guidance above 0 is on in this family: positive + guidance · (positive − negative)."""

    name = "zimage"
    models = "Z-Image"
    text_to_image = "ZImagePipeline"
    image_to_image = "ZImageImg2ImgPipeline"
    joint = Joint(text_first=False, align=32)
    keeps_float32 = True
    parts = ("single",)

    def site(self, name: str, module: torch.nn.Module) -> Site | None:
        """The main line; the refiners before it see the picture or the words alone."""
        if name.startswith("layers.") and name.endswith(".attention"):
            return Site(cross=False, part="single", joint=self.joint)
        return None

    def rows(self, count: int, images: int, turn: int = 0) -> tuple[list[int], list[list[int]]]:
        """[positive…, negative…] in one call, or the positive alone."""
        branches = [list(range(start, start + images)) for start in range(0, count, images)]
        return branches[0], branches

    def guided(self, pipe: Any, request: RenderRequest) -> bool:
        """Above 0."""
        return request.guidance > 0

    def steering(self, pipe: Any, request: RenderRequest, branches: list[list[int]]) -> float:
        """c + g (c − u)."""
        return request.guidance if len(branches) > 1 else 0.0

    def tokens(self, pipe: Any, request: RenderRequest) -> list[list[int]]:
        """Places in the chat template; padding is taken out before the denoiser, so its side does not count."""

        def render(prompt: str) -> str:
            text: str = pipe.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=True,
            )
            return text

        return tokens_in_template(render, pipe.tokenizer, request, TEXT_TOKENS)

    def read(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> Inputs:
        """The list of (C, 1, h, w) as one tensor."""
        pictures, time, texts = args
        return Inputs(torch.stack(pictures)[:, :, 0], {**kwargs, "t": time, "cap_feats": texts})

    def write(self, inputs: Inputs, args: Any) -> tuple[Any, dict[str, Any]]:
        """A list again."""
        named = dict(inputs.kwargs)
        return (list(inputs.sample[:, :, None].unbind(0)), named.pop("t"), named.pop("cap_feats")), named

    @torch.no_grad()
    def empty_text(self, pipe: Any, request: RenderRequest) -> dict[str, torch.Tensor]:
        """States of the template around nothing, (1, T, D)."""
        states, _ = pipe.encode_prompt("", do_classifier_free_guidance=False)
        return {"cap_feats": states[0][None]}

    def texts(self, kwargs: dict[str, Any]) -> list[torch.Tensor]:
        """A list already."""
        return list(kwargs["cap_feats"])

    def put_texts(self, kwargs: dict[str, Any], texts: list[torch.Tensor]) -> None:
        """As it came."""
        kwargs["cap_feats"] = texts

    def lengthen(self, kwargs: dict[str, Any], text: dict[str, torch.Tensor], count: int) -> None:
        """Texts are a list of their own lengths, which the model pads and masks."""
        time = kwargs["t"]
        kwargs["t"] = torch.cat([time, time[:1].expand(count)])
        row = text["cap_feats"][0].to(kwargs["cap_feats"][0])
        kwargs["cap_feats"] = [*kwargs["cap_feats"], *[row] * count]

"""The image prompts that a request asks for, encoded and worn for the length of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.errors import UnsupportedError
from pipelines.loading import LoadOptions
from pipelines.models import ModelCard
from pipelines.models.ip_adapter import IPAdapter
from pipelines.pictures import PictureStore
from pipelines.request import LayerRequest, RenderRequest

if TYPE_CHECKING:
    import torch


def prompting(request: RenderRequest) -> list[LayerRequest]:
    """The layers whose cut-out is a prompt; not one that is frozen, in which nothing could come of it."""
    return [layer for layer in request.layers if layer.is_image_prompt]


def adapter_asked(card: ModelCard, request: RenderRequest, options: LoadOptions) -> IPAdapter | None:
    """The IP-Adapter that a run needs: that of ``options``, else of the model's card; None where no layer asks for one.

    Raises `UnsupportedError` where none is known.
    """
    asked = prompting(request)
    source = options.ip_adapter or card.ip_adapter
    if asked and source is None:
        raise UnsupportedError(
            f"layer {asked[0].name!r}: image prompt cannot be used with {request.model}: no IP-Adapter is known for "
            "it; switch it off and use learn look, or name one with --ip-adapter."
        )
    return source if asked else None


def prepare(
    loaded: Any, request: RenderRequest, options: LoadOptions, say: Callable[[int, int], None]
) -> IPAdapter | None:
    """Have what the request needs beside the model, loaded on the first run that asks; what `adapter_asked` says.

    Raises `UnsupportedError` where the model has none or cannot wear one, `ModelError` where it cannot be read.
    """
    source = adapter_asked(loaded.card, request, options)
    if source is None:
        return None
    from pipelines.image_prompts import adapter

    adapter.check_wearable(loaded.family.denoiser(loaded.pipe), request.model)
    if loaded.adapter is None or loaded.adapter.source != source:
        loaded.adapter = adapter.load(loaded.pipe, loaded.family, request.model, source, say)
    return source


@contextmanager
def with_image_prompts(loaded: Any, request: RenderRequest, pictures: PictureStore) -> Iterator[Any]:
    """The loaded model to run with: the same where no layer asks, else with the adapter that `prepare` has loaded in
    its UNet, and prompts and masks among its arguments. At the end it is as it was.
    """
    asked = prompting(request)
    if not asked:
        yield loaded
        return
    import torch

    pipe, family, adapter = loaded.pipe, loaded.family, loaded.adapter
    unet = family.denoiser(pipe)
    prompts, empties = zip(
        *(
            adapter.encode(pipe, family, pictures, layer.image_prompt.cutout, layer.name)
            for layer in asked
            if layer.image_prompt is not None
        ),
        strict=True,
    )
    rows = [torch.stack(prompts, 1)]
    if family.guided(pipe, request):
        rows.insert(0, torch.stack(empties, 1))
    given = {
        **loaded.arguments,
        "ip_adapter_image_embeds": [torch.cat(rows).to(unet.dtype)],
        "cross_attention_kwargs": {
            **(loaded.arguments.get("cross_attention_kwargs") or {}),
            "ip_adapter_masks": [_masks(asked, pictures).to(pipe._execution_device)],
        },
    }
    strengths = [layer.image_prompt.strength for layer in asked if layer.image_prompt is not None]
    with adapter.worn(unet, strengths):
        yield dataclasses.replace(loaded, arguments=given)


def _masks(layers: list[LayerRequest], pictures: PictureStore) -> torch.Tensor:
    """Visible masks (1, layers, H, W) in 0..1."""
    import torch

    masks = [torch.from_numpy(pictures.get(layer.mask).copy()) for layer in layers]
    return torch.stack(masks)[None].float() / 255

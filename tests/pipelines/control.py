"""Tiny real ControlNets of the tiny UNets, and diffusers' own pipelines with them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import ControlNetModel, ControlNetUnionModel
from PIL import Image

from pipelines.edges import edges
from pipelines.engine import Engine
from pipelines.loading import LoadOptions
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import RenderRequest
from tests.pipelines import tiny
from tests.pipelines.engine.runs import STOCK


def controlnet(unet: Any, *, union: bool = False) -> Any:
    """Made from a UNet, with numbers in the layers that a new one has at zero, so that it does something."""
    torch.manual_seed(0)
    made: Any = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 4, 8, 8))
    if union:  # its own from_unet takes the sizes of SDXL for granted
        wide = unet.config.block_out_channels[0]
        sizes = {"num_trans_channel": wide, "num_trans_head": 2, "num_proj_channel": wide}
        known = inspect.signature(ControlNetUnionModel.__init__).parameters
        config = {name: value for name, value in made.config.items() if name in known}
        made = ControlNetUnionModel(**config, **sizes)
    for block in [
        *made.controlnet_down_blocks,
        made.controlnet_mid_block,
        made.controlnet_cond_embedding.conv_out,
    ]:
        torch.nn.init.normal_(block.weight, std=0.3)
    if union:
        torch.nn.init.normal_(made.task_embedding)
        torch.nn.init.normal_(made.spatial_ch_projs.weight, std=0.3)
    return made.eval()


def engine_with(folder: Path, model: str, *, union: bool = False) -> Engine:
    """An engine with one tiny model and a ControlNet of its own, saved to and read from ``folder``."""
    pipe = tiny.KINDS[model]()
    controlnet(pipe.unet, union=union).save_pretrained(folder)
    made = Engine(0, LoadOptions(controlnet=str(folder)))
    made.adopt(model, pipe, tiny.card_for(model))
    return made


def stock(engine: Engine, request: RenderRequest, store: PictureStore, strength: float | None) -> Pixels:
    """What diffusers' own ControlNet pipeline makes of a request's edge map at conditioning scale 1, image 0.

    ``strength`` is image-to-image's, None for text-to-image.
    """
    pipe = engine.load(request.model).pipe
    net = next(iter(engine.load(request.model).controlnets.values()))
    union = isinstance(net, ControlNetUnionModel)
    xl = "XL" in type(pipe).__name__
    kind = f"StableDiffusion{'XL' if xl else ''}ControlNet{'Union' if union else ''}"
    kind += "Pipeline" if strength is None else "Img2ImgPipeline"
    scheduler, options = STOCK[request.scheduler]
    own: dict[str, Any] = {"add_watermarker": False} if xl else {"requires_safety_checker": False}
    parts = {
        **pipe.components,
        "scheduler": getattr(diffusers, scheduler).from_config(pipe.scheduler.config, **options),
    }
    made = getattr(diffusers, kind)(**parts, controlnet=net, **own)
    made.set_progress_bar_config(disable=True)
    assert request.collage is not None
    flat = store.get(request.collage)
    shown = Image.fromarray(edges(flat, request.edges)).convert("RGB")
    named = "control_image" if strength is not None or union else "image"
    where: dict[str, Any] = {named: shown}
    if strength is None:
        where |= {"height": request.height, "width": request.width}
    else:
        where |= {"image": Image.fromarray(flat), "strength": strength}
    if union:
        where["control_mode"] = {"canny": 3, "soft": 2}[request.edges]
    out = made(
        prompt=request.prompt,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        controlnet_conditioning_scale=1.0,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
        **where,
    )
    return np.rint(np.asarray(out.images[0]).clip(0, 1) * 255).astype(np.uint8)

"""What the tests of the engine share: the stock run, and counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

from pipelines.pictures import Pixels
from pipelines.request import RenderRequest

STOCK: dict[str, tuple[str, dict[str, Any]]] = {
    "dpm++2m": ("DPMSolverMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "lcm": ("LCMScheduler", {"clip_sample": False}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


def stock(pipe: Any, request: RenderRequest, picture: Pixels | None = None, strength: float = 1.0) -> Pixels:
    """What diffusers itself makes of a request, image 0, with nothing of ours in the way."""
    name, options = STOCK[request.scheduler]
    scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **options)
    xl = "XL" if "XL" in type(pipe).__name__ else ""
    kind = f"StableDiffusion{xl}Pipeline" if picture is None else f"StableDiffusion{xl}Img2ImgPipeline"
    own = {"add_watermarker": False} if xl else {"requires_safety_checker": False}
    made = getattr(diffusers, kind)(**{**pipe.components, "scheduler": scheduler}, **own)
    made.set_progress_bar_config(disable=True)
    where: dict[str, Any] = (
        {"height": request.height, "width": request.width}
        if picture is None
        else {"image": Image.fromarray(picture), "strength": strength}
    )
    out = made(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt or None,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
        **where,
    )
    return np.rint(np.asarray(out.images[0]).clip(0, 1) * 255).astype(np.uint8)


@contextmanager
def counted(pipe: Any) -> Iterator[dict[str, int]]:
    """Counts denoiser calls and decodings through hooks of its own."""
    seen = {"denoiser": 0, "decoder": 0}

    def note(what: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            seen[what] += 1

        return hook

    handles = [
        pipe.unet.register_forward_hook(note("denoiser")),
        pipe.vae.decoder.register_forward_hook(note("decoder")),
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()

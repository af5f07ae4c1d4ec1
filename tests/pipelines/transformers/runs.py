"""What the tests of the transformer families share: requests and stock runs."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from PIL import Image

from pipelines.engine import Loaded
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import RenderRequest
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt


def words(model: str, **more: Any) -> dict[str, Any]:
    return {"scheduler": "flow_euler", "steps": 4, "guidance": tt.card_for(model).guidance, **more}


def text(model: str, **more: Any) -> RenderRequest:
    return tiny.text_request(model, **words(model, **more))


def collage(store: PictureStore, model: str, **more: Any) -> RenderRequest:
    return tiny.collage_request(store, model, **words(model, **more))


def made(loaded: Loaded, kind: str) -> Any:
    """A stock pipeline over the parts of ``loaded``, with a scheduler of its own."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(loaded.pipe.scheduler.config)
    pipe = getattr(diffusers, kind)(
        **{**loaded.pipe.components, "scheduler": scheduler}, **loaded.family.options(loaded.pipe)
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def from_noised(pipe: Any, request: RenderRequest, picture: Pixels) -> dict[str, Any]:
    """FLUX.2's call of strength .75 from a picture: its latents, noised by the scheduler itself, and the tail of its
    sigmas, whose shift the pipeline takes from the number of all steps.
    """
    generator = torch.Generator().manual_seed(request.seed)
    pixels = pipe.image_processor.preprocess(Image.fromarray(picture))
    clean = pipe._encode_vae_image(image=pixels, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    sigmas = np.linspace(1.0, 1 / request.steps, request.steps)
    mu = compute_empirical_mu(image_seq_len=clean[0, 0].numel(), num_steps=request.steps)
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    scheduler.set_timesteps(sigmas=sigmas, mu=mu)
    first = round(request.steps * 0.25)
    noised = scheduler.scale_noise(clean, scheduler.timesteps[first : first + 1], noise)
    return {"latents": noised, "sigmas": list(sigmas[first:])}


def stock(loaded: Loaded, request: RenderRequest, picture: Pixels | None = None) -> Pixels:
    """What diffusers itself makes of a request; with a picture, image-to-image at strength .75.

    Where it has no image-to-image (FLUX.2), text-to-image from the noised picture over the rest of the schedule.
    """
    by_picture = loaded.family.image_to_image if picture is not None else ""
    pipe = made(loaded, by_picture or loaded.family.text_to_image)
    given: dict[str, Any] = {"height": request.height, "width": request.width}
    if picture is not None and loaded.family.image_to_image:
        given |= {"image": Image.fromarray(picture), "strength": 0.75}
    elif picture is not None:
        given |= from_noised(pipe, request, picture)
    if loaded.card.name == "schnell":
        given["max_sequence_length"] = 256  # as its guide says
    scale = "true_cfg_scale" if loaded.card.family == "qwen" else "guidance_scale"
    if "negative_prompt" in inspect.signature(pipe.__call__).parameters and loaded.card.family != "flux":
        given["negative_prompt"] = request.negative_prompt or (" " if loaded.card.family == "qwen" else None)
    elif request.negative_prompt:  # Klein takes one as states
        given["negative_prompt_embeds"] = pipe.encode_prompt(request.negative_prompt)[0].detach()
    out = pipe(
        prompt=request.prompt,
        num_inference_steps=request.steps,
        **{scale: request.guidance},
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
        **given,
    )
    return np.rint(np.asarray(out.images[0]).clip(0, 1) * 255).astype(np.uint8)


GUIDED = ("sd3", "qwen", "zimage", "chroma", "klein")
"""Those with a negative branch."""
TO_THE_END: dict[str, Any] = {"background_harmonize": 1.0}

"""What the tests of the transformer families share: requests and stock runs."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import numpy as np
import torch
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


def stock(loaded: Loaded, request: RenderRequest, picture: Pixels | None = None) -> Pixels:
    """What diffusers itself makes of a request; with a picture, image-to-image at strength .75."""
    pipe = made(loaded, loaded.family.image_to_image if picture is not None else loaded.family.text_to_image)
    given: dict[str, Any] = {"height": request.height, "width": request.width}
    if picture is not None:
        given |= {"image": Image.fromarray(picture), "strength": 0.75}
    scale = "true_cfg_scale" if loaded.card.family == "qwen" else "guidance_scale"
    if "negative_prompt" in inspect.signature(pipe.__call__).parameters and loaded.card.family != "flux":
        given["negative_prompt"] = request.negative_prompt or (" " if loaded.card.family == "qwen" else None)
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

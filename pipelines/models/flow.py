"""Flow-matching transformers: ids and defaults, those distilled to a few steps included.

The windows of few-step models are ours: the share of their steps at a noise level of 0.9 or more, where NegToMe's
released FLUX code acts (t from 1000 to 900). The grids are a quarter of the finest, as for UNets.
"""

import dataclasses

from pipelines.models.card import FLOW_SCHEDULERS, THIN_FROM, ModelCard

_PARTS = ("double", "single")

FLUX = ModelCard(
    name="flux",
    family="flux",
    source="black-forest-labs/FLUX.1-dev",
    side=1024,
    scheduler="flow_euler",
    schedulers=FLOW_SCHEDULERS,
    steps=28,
    guidance=3.5,
    smallest_grid=16,
    thin_from=THIN_FROM,
    negtome_blocks=_PARTS,
    steers_above=None,
    own={"spread_threshold": 0.65},  # the dataclass of NegToMe's released FLUX code, whatever pushes away
    half="bfloat16",
    tiny="madebyollin/taef1",
    look_batch=1,  # ours, for its size
    look_side=512,
    origin="28 steps, guidance 3.5: diffusers' defaults",
)
SCHNELL = dataclasses.replace(
    FLUX,
    name="flux-schnell",
    source="black-forest-labs/FLUX.1-schnell",
    steps=4,
    guidance=0.0,
    own={**FLUX.own, "window": 0.25},
    origin="4 steps, guidance 0: diffusers' example",
)
SD3 = dataclasses.replace(
    FLUX,
    name="sd3",
    steers_above=1.0,
    family="sd3",
    source="stabilityai/stable-diffusion-3.5-medium",
    guidance=4.5,
    tiny="madebyollin/taesd3",
    origin="28 steps: diffusers' default; guidance 4.5: its model page",
)
FLUX2 = dataclasses.replace(
    FLUX,
    name="flux2",
    family="flux2",
    source="black-forest-labs/FLUX.2-dev",
    steps=50,
    guidance=4.0,
    factor=16,
    tiny=None,
    origin="50 steps, guidance 4: diffusers' defaults",
)
KLEIN_BASE = dataclasses.replace(
    FLUX2,
    name="flux2-klein-base",
    steers_above=1.0,
    family="klein",
    source="black-forest-labs/FLUX.2-klein-base-4B",
)
KLEIN = dataclasses.replace(
    KLEIN_BASE,
    name="flux2-klein",
    source="black-forest-labs/FLUX.2-klein-4B",
    steps=4,
    guidance=1.0,
    steers_above=None,
    own={**KLEIN_BASE.own, "window": 0.75},
    origin="4 steps, guidance 1: its model page",
)
QWEN = dataclasses.replace(
    FLUX,
    name="qwen-image",
    steers_above=1.0,
    family="qwen",
    source="Qwen/Qwen-Image",
    steps=50,
    guidance=4.0,
    tiny=None,
    origin="50 steps, guidance 4: diffusers' defaults",
)
Z_IMAGE = dataclasses.replace(
    FLUX,
    name="z-image",
    steers_above=0.0,
    family="zimage",
    source="Tongyi-MAI/Z-Image",
    steps=50,
    guidance=4.0,
    origin="50 steps, guidance 4: the example of its own repository, which recommends 28 to 50 and 3 to 5",
)
Z_IMAGE_TURBO = dataclasses.replace(
    Z_IMAGE,
    name="z-image-turbo",
    source="Tongyi-MAI/Z-Image-Turbo",
    steps=8,
    guidance=0.0,
    own={**Z_IMAGE.own, "window": 0.375},
    origin="8 steps, guidance 0: diffusers' example",
)
CHROMA = dataclasses.replace(
    FLUX,
    name="chroma",
    steers_above=1.0,
    family="chroma",
    source="lodestones/Chroma1-HD",
    steps=40,
    guidance=3.0,
    origin="40 steps, guidance 3: diffusers' example with this model",
)

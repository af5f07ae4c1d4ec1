"""UNets distilled to a few steps: their own steps, guidance, scheduler and window.

The windows are ours: the share of these steps whose timestep is 600 or more, where NegToMe's evaluation scripts for
SDXL act. Every model here takes 4 steps, at about 999, 749, 499 and 249, so the share is one half.
"""

import dataclasses

from pipelines.models.stable_diffusion import SD15, SD21, SDXL

LCM_SD15 = dataclasses.replace(
    SD15,
    name="lcm",
    source="SimianLuo/LCM_Dreamshaper_v7",
    side=768,
    scheduler="lcm",
    schedulers=("lcm",),
    steps=4,
    guidance=8.5,
    steers_above=None,
    smallest_grid=24,
    own={**SD15.own, "window": 0.5},
    origin="4 steps and guidance 8.5, which its UNet reads as an input: diffusers' defaults of this model's pipeline",
)
SD_TURBO = dataclasses.replace(
    SD21,
    name="sd-turbo",
    source="stabilityai/sd-turbo",
    side=512,
    scheduler="euler",
    schedulers=("euler", "euler_a"),
    steps=4,
    guidance=0.0,
    smallest_grid=16,
    own={**SD21.own, "window": 0.5},
    spacing="trailing",
    origin="1 to 4 trailing steps without guidance: diffusers' guide to Turbo, after arXiv 2311.17042; 4, because a "
    "collage needs steps to settle: ours; Euler: the scheduler it ships with",
)
SDXL_TURBO = dataclasses.replace(
    SDXL,
    name="sdxl-turbo",
    source="stabilityai/sdxl-turbo",
    side=512,
    scheduler="euler_a",
    schedulers=("euler_a", "euler"),
    steps=4,
    guidance=0.0,
    smallest_grid=16,
    own={**SDXL.own, "window": 0.5},
    spacing="trailing",
    origin="as Stable Diffusion Turbo; Euler ancestral: the scheduler it ships with",
)
SDXL_LIGHTNING = dataclasses.replace(
    SDXL,
    name="sdxl-lightning",
    source="ByteDance/SDXL-Lightning",
    file="sdxl_lightning_4step.safetensors",
    scheduler="euler",
    schedulers=("euler",),
    steps=4,
    guidance=0.0,
    own={**SDXL.own, "window": 0.5},
    spacing="trailing",
    origin="4 trailing steps of Euler without guidance: its model page; the file is distilled to just 4",
)

"""Models distilled to a few steps: their own steps, guidance and scheduler."""

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
    guidance=8.0,
    smallest_grid=24,
    origin="4 steps: arXiv 2310.04378; guidance 8: the number its model page uses, which the UNet reads as an input",
)
SD_TURBO = dataclasses.replace(
    SD21,
    name="sd-turbo",
    source="stabilityai/sd-turbo",
    side=512,
    scheduler="euler_a",
    schedulers=("euler_a", "euler"),
    steps=4,
    guidance=0.0,
    smallest_grid=16,
    origin="1 to 4 steps without guidance: arXiv 2311.17042; 4, because a collage needs steps to settle: ours",
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
    origin="as Stable Diffusion Turbo",
)

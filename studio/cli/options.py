"""Options that several commands have: how a model is loaded, how large the picture is, what measures similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from pipelines.loading import DTYPES, OFFLOADS, QUANTIZERS, LoadOptions, Lora
from pipelines.models.ip_adapter import IPAdapter
from studio.log import to_stderr

Dtype = Annotated[str | None, typer.Option(help=f"Number type of the weights: {', '.join(DTYPES)}.")]
Device = Annotated[str | None, typer.Option(help="Device as torch names it: cpu, cuda, cuda:1, mps.")]
DeviceMap = Annotated[str | None, typer.Option(help="Device map as diffusers names it, such as balanced.")]
Offload = Annotated[
    str | None, typer.Option(help=f"Keep idle weights off the device: {', '.join(OFFLOADS)}.")
]
Quantize = Annotated[str | None, typer.Option(help=f"Weights in fewer bits: {', '.join(QUANTIZERS)}.")]
Loras = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[:WEIGHT]", help="LoRA: file, folder or hub id; repeatable."),
]
Config = Annotated[str | None, typer.Option(help="Folder or hub id with what a single-file model lacks.")]
IPAdapterName = Annotated[
    str | None,
    typer.Option(
        "--ip-adapter",
        metavar="SOURCE:WEIGHTS[:ENCODER]",
        help="What makes pictures prompts: folder or hub id, file in it, image encoder's folder in it.",
    ),
]
Controlnet = Annotated[
    str | None,
    typer.Option(help="Folder or hub id of the ControlNet that keeps shapes, instead of the model's own."),
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read weights that can run code; only if you trust them.")
]
Open = Annotated[
    bool,
    typer.Option(
        "--open",
        help="Fill in what prompt and words leave open of what the embedded model knows (colours, skin tones, genders, "
        "synonyms), another combination in each image.",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="SIDE|WIDTHxHEIGHT",
        help="Resize the collage, layers and all, as for a model that draws larger: its longer side, or both.",
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What measures similarity: folder or hub id of a CLIP or DINOv2; else the embedded CLIP, "
        "which has seen the embedded model's pictures alone.",
    ),
]


def build(
    dtype: str | None,
    device: str | None,
    device_map: str | None,
    offload: str | None,
    quantize: str | None,
    loras: Sequence[str] | None,
    config: str | None,
    controlnet: str | None,
    allow_pickle: bool,
    ip_adapter: str | None = None,
) -> LoadOptions:
    """The options as one; from here on the loader's one line about its choices goes to stderr."""
    to_stderr()
    return LoadOptions(
        dtype=dtype,
        device=device,
        device_map=device_map,
        offload=offload,
        quantize=quantize,
        loras=tuple(Lora.parse(one) for one in loras or ()),
        config=config,
        controlnet=controlnet,
        allow_pickle=allow_pickle,
        ip_adapter=IPAdapter.parse(ip_adapter) if ip_adapter else None,
    )

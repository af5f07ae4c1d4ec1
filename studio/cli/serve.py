"""``decollage serve``: the studio in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from studio.cli import options
from studio.cli.features import encoder


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    share: Annotated[bool, typer.Option(help="Make a public link through Gradio's relay.")] = False,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Offer this model too, and download it at its first render; repeatable."),
    ] = None,
    features: options.Features = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    offload: options.Offload = None,
    quantize: options.Quantize = None,
    lora: options.Loras = None,
    config: options.Config = None,
    controlnet: options.Controlnet = None,
    allow_pickle: options.AllowPickle = False,
    ip_adapter: options.IPAdapterName = None,
) -> None:
    """Open the studio in the browser, until interrupted.

    Exit codes: 1 the page cannot start, as when the port is taken or features are not found; 2 bad input; 130
    interrupted, which is how it ends.
    """
    how = options.build(
        dtype, device, device_map, offload, quantize, lora, config, controlnet, allow_pickle, ip_adapter
    )
    seen = encoder(features)  # now, so that a wrong name is said before the page opens
    from studio.ui import launch  # only here: Gradio takes seconds to load

    launch(host=host, port=port, share=share, browser=browser, models=model or (), options=how, features=seen)

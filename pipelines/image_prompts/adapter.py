"""An IP-Adapter beside a model: read by diffusers' own loader, worn for the length of a run, gone without trace.

What the loader puts into the UNet is taken out again at once and kept: the processors of the cross-attention with
their keys and values, the projection of the encoded picture, and the image encoder. They wait in main memory.
diffusers' own way of unloading is not used: it makes new processors for the whole UNet, whatever was there.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pipelines.errors import DecollageError, ModelError, UnsupportedError
from pipelines.image_prompts.ground import on_ground
from pipelines.learning.tokens import offloaded
from pipelines.loading.failures import first_line, is_out_of_memory
from pipelines.loading.fetch import fetch
from pipelines.loading.load import quiet
from pipelines.models.ip_adapter import IPAdapter
from pipelines.pictures import PictureStore

KEPT = 32
"""Encoded cut-outs that are kept; of IP-Adapter Plus some 0.7 MB each."""

Encoded = tuple[torch.Tensor, torch.Tensor]
"""A picture prompt and the empty one, (1, D) or of IP-Adapter Plus (1, T, D)."""


@dataclass
class Adapter:
    """What makes pictures prompts. ``processors`` by the name of the attention module that they belong to."""

    source: IPAdapter
    processors: Mapping[str, Any]
    projection: torch.nn.Module
    encoder: Any
    extractor: Any
    encoded: OrderedDict[str, Encoded] = field(default_factory=OrderedDict)

    @torch.no_grad()
    def encode(self, pipe: Any, family: Any, pictures: PictureStore, cutout: str, layer: str) -> Encoded:
        """The cut-out called ``cutout`` as the pipeline itself encodes an image prompt; the last `KEPT` are kept."""
        if cutout in self.encoded:
            self.encoded.move_to_end(cutout)
            return self.encoded[cutout]
        picture = Image.fromarray(on_ground(pictures.get(cutout), layer))
        made, device = _own(pipe, family), pipe._execution_device
        made.register_modules(image_encoder=self.encoder, feature_extractor=self.extractor)
        simple = type(self.projection.image_projection_layers[0]).__name__ == "ImageProjection"  # type: ignore[index]
        try:
            self.encoder.to(device)
            prompt, empty = made.encode_image(picture, device, 1, not simple)
        finally:
            self.encoder.to("cpu")
        self.encoded[cutout] = prompt, empty
        while len(self.encoded) > KEPT:
            self.encoded.popitem(last=False)
        return prompt, empty

    @contextmanager
    def worn(self, unet: torch.nn.Module, strengths: Sequence[float]) -> Iterator[None]:
        """The UNet with this adapter, one image prompt for each of ``strengths`` (0 to 1)."""
        place: Any = {"device": unet.device, "dtype": unet.dtype}
        with restored(unet):
            try:
                for name, processor in self.processors.items():
                    processor.scale = [list(strengths)]
                    unet.get_submodule(name).set_processor(processor.to(**place))  # type: ignore[operator]
                _project(unet, self.projection.to(**place), "ip_image_proj")
                yield
            finally:
                self.rest()

    def rest(self) -> None:
        """Wait in main memory."""
        for part in (*self.processors.values(), self.projection, self.encoder):
            part.to("cpu")


def load(pipe: Any, family: Any, model: str, source: IPAdapter, say: Callable[[int, int], None]) -> Adapter:
    """The adapter ``source`` for a stock pipeline, whose UNet is as it was afterwards; ``say`` is told of a download.

    Raises `UnsupportedError` where the pipeline cannot wear one, `ModelError` where it cannot be read, and what ``say``
    raises.
    """
    unet = family.denoiser(pipe)
    check_wearable(unet, model)
    made = _own(pipe, family)
    made.register_modules(image_encoder=None)  # the adapter comes with the one it was trained with
    try:
        folder = _files(source, say)
        parent, _, name = source.weights.rpartition("/")
        # parts are made with random numbers before their weights are read
        with torch.random.fork_rng(devices=[]), restored(unet), quiet():
            before = {id(processor) for _, processor in _processors(unet)}
            made.load_ip_adapter(
                str(folder),
                subfolder=parent,
                weight_name=name,
                # with a slash it counts from the folder, not from the weights
                image_encoder_folder=f"./{source.encoder}",
                local_files_only=True,
            )
            new = {
                path: processor
                for path, processor in _processors(unet)
                if id(processor) not in before and isinstance(processor, torch.nn.Module)
            }
            projection = unet.encoder_hid_proj
    except DecollageError:
        raise
    except Exception as error:  # the libraries raise what they like
        if is_out_of_memory(error):  # the run says so
            raise
        raise ModelError(
            f"IP-Adapter {source} could not be loaded ({first_line(error)}); check its name and that it was made for "
            f"{model}, or set image prompt to 0."
        ) from error
    loaded = Adapter(source, new, projection, made.image_encoder, made.feature_extractor)
    loaded.rest()
    return loaded


def check_wearable(unet: Any, model: str) -> None:
    """`UnsupportedError` for a UNet that cannot have an IP-Adapter for a while and be as it was then."""
    why = None
    if any(part._compiled_call_impl is not None for part in unet.modules()) or hasattr(unet, "_orig_mod"):
        why = "its denoiser is compiled"
    elif unet.encoder_hid_proj is not None:
        why = "it has an IP-Adapter or a projection of its own"
    elif getattr(unet, "hf_quantizer", None) is not None:
        why = "its weights are quantized"
    elif any(offloaded(part) for part in unet.modules() if part is not unet):
        why = "its layers wait off the device one by one"
    if why is not None:
        raise UnsupportedError(
            f"image prompt cannot be used with {model} as it is loaded: {why}; load it otherwise, or use learn look."
        )


@contextmanager
def restored(unet: Any) -> Iterator[None]:
    """On exit processors, projection and config of a UNet without a projection are what they were before."""
    before = list(_processors(unet))
    kind = unet.config.encoder_hid_dim_type
    try:
        yield
    finally:
        for name, processor in before:
            module = unet.get_submodule(name)
            if module.processor is not processor:
                module.set_processor(processor)
        _project(unet, None, kind)


def _project(unet: Any, projection: Any, kind: str | None) -> None:
    """Set the projection; taken out first, so that None is no child."""
    del unet.encoder_hid_proj
    unet.encoder_hid_proj = projection
    unet.config.encoder_hid_dim_type = kind


def _processors(unet: Any) -> Iterator[tuple[str, Any]]:
    for name, module in unet.named_modules():
        if hasattr(module, "set_processor"):
            yield name, module.processor


def _own(pipe: Any, family: Any) -> Any:
    """A pipeline object over the same parts, of which the loader and the encoder need one."""
    return family.pipeline(pipe, copy.deepcopy(pipe.scheduler), from_picture=False)


def _files(source: IPAdapter, say: Callable[[int, int], None]) -> Path:
    """The folder with the adapter's files, fetched where it is no folder here. Raises `ModelError`."""
    from safetensors import safe_open

    folder = Path(source.source)
    if not folder.is_dir():
        wanted = [source.weights, f"{source.encoder}/config.json", f"{source.encoder}/*.safetensors"]
        folder = fetch(source.source, wanted, say)
    weights = folder / source.weights
    if weights.suffix != ".safetensors":
        raise ModelError(
            f"IP-Adapter {source} is no .safetensors file, which alone is read; choose such a one."
        )
    if not weights.is_file() or not list((folder / source.encoder).glob("*.safetensors")):
        raise ModelError(
            f"IP-Adapter {source} lacks its weights, or the .safetensors of its image encoder; give "
            "SOURCE:WEIGHTS:ENCODER as its files are called."
        )
    with safe_open(weights, framework="pt") as file:
        names = set(file.keys())
    identity = "image_proj.proj.0.weight" in names and "image_proj.proj.3.weight" not in names
    if identity or any("perceiver" in name or "lora" in name for name in names):
        raise ModelError(
            f"IP-Adapter {source} reads faces by a recogniser of its own, not pictures; choose another."
        )
    return folder

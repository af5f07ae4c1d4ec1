"""ControlNets: which one keeps shapes on a model, and loading it when a request first asks for it.

A stock `ControlNetModel` or `ControlNetUnionModel` (arXiv 2302.05543), told apart by their weights. Torch is imported
inside the functions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.errors import DecollageError, ModelError, UnsupportedError
from pipelines.loading.failures import first_line, is_out_of_memory, pickled, sentence
from pipelines.loading.fetch import Say, fetch, fetch_file
from pipelines.loading.options import LoadOptions
from pipelines.models import ModelCard
from pipelines.request import RenderRequest

FAMILIES = ("sd", "sdxl")
"""Where a ControlNet can run beside the denoiser; each family says so of itself, and a test compares."""
FOLDER = "controlnet"
"""Inside a model's own folder: a ControlNet for Canny edges that came with it."""
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
SHARDS = "diffusion_pytorch_model-*-of-*.safetensors"
SHAPE = (
    "in_channels",
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "addition_embed_type",
)
"""What a ControlNet's and a UNet's configs must agree on: the sizes of what goes in, of the text, of what is added."""


def controlnet_of(card: ModelCard, options: LoadOptions, edges: str) -> str | None:
    """The folder or hub id of the ControlNet for a kind of edges, None where none is known: the one asked for, else the
    one in the model's own folder, else the card's.
    """
    if options.controlnet is not None:
        return options.controlnet
    own = card.folder and card.folder / FOLDER
    if edges == "canny" and own and (own / CONFIG).is_file():
        return str(own)
    return card.controlnets.get(edges)


def no_shape(card: ModelCard, options: LoadOptions, edges: str) -> str | None:
    """Why a model cannot keep shapes, in one sentence with what to do; None where it can. Looks nothing up."""
    if card.family not in FAMILIES:
        return f"{card.name} cannot keep shapes; use Stable Diffusion 1.5 or XL, or lower Harmonize instead."
    if controlnet_of(card, options, edges) is None:
        return (
            f"{card.name} has no ControlNet for {edges} edges; give one with --controlnet, or lower Harmonize "
            "instead."
        )
    return None


def at_hand(source: str) -> bool:
    """Whether a ControlNet is on this machine; asks nobody."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(source).is_dir() or isinstance(try_to_load_from_cache(source, CONFIG), str)
    except HFValidationError:  # a folder that is not there
        return False


def controlnet_asked(card: ModelCard, request: RenderRequest, options: LoadOptions) -> str | None:
    """The folder or hub id of what keeps shapes in a run, None where no layer asks for it. Looks nothing up.

    Raises `UnsupportedError` where none is known.
    """
    asking = next((layer for layer in request.layers if layer.keeps_shape), None)
    if asking is None:
        return None
    source = controlnet_of(card, options, request.edges)
    if source is None:
        raise UnsupportedError(
            f"layer {asking.name!r}: keep shape needs a ControlNet for {request.edges} edges, and {request.model} has "
            "none; give one with --controlnet, or set keep shape to 0 and lower harmonize to keep the cut-out's own "
            "shape."
        )
    return source


def prepare_controlnet(loaded: Any, request: RenderRequest, options: LoadOptions, say: Say) -> str | None:
    """Have what keeps shapes in a run among ``loaded.controlnets``, loaded on first use; which it is, None for none.

    Raises what `controlnet_asked` and `load_controlnet` raise.
    """
    source = controlnet_asked(loaded.card, request, options)
    if source is not None and source not in loaded.controlnets:
        denoiser = loaded.family.denoiser(loaded.pipe)
        loaded.controlnets[source] = load_controlnet(source, loaded.pipe, denoiser, options, say)
    return source


def load_controlnet(source: str, pipe: Any, denoiser: Any, options: LoadOptions, say: Say) -> Any:
    """The ControlNet ``source`` beside ``denoiser``, in its dtype; where weights wait off the device, its do too.

    Raises `ModelError` where it cannot be had or was made for another model, before its weights are fetched.
    """
    import diffusers
    from safetensors import safe_open

    name = f"ControlNet {source!r}"
    try:
        path = Path(source)
        here = path.is_dir()
        config = path / CONFIG if here else fetch_file(source, CONFIG, source)
        if config is None or not config.is_file():
            raise ModelError(f"{name} has no {CONFIG}; give a folder or hub id in diffusers' layout.")
        _check_fits(name, json.loads(config.read_text(encoding="utf-8")), denoiser.config)
        if not here:
            kinds = ["diffusion_pytorch_model.bin"] if options.allow_pickle else []
            path = fetch(source, [CONFIG, WEIGHTS, f"{WEIGHTS}.index.json", SHARDS, *kinds], say)
        files = sorted(path.glob("*.safetensors"))
        if not files and not options.allow_pickle:
            raise ModelError(pickled(source))
        union = False
        for file in files:
            with safe_open(file, framework="numpy") as weights:
                union = union or "task_embedding" in weights.keys()  # noqa: SIM118 - no dict
        kind = diffusers.ControlNetUnionModel if union else diffusers.ControlNetModel
        made = kind.from_pretrained(str(path), dtype=denoiser.dtype, use_safetensors=bool(files))
    except DecollageError:
        raise
    except Exception as error:  # the libraries raise what they like
        if is_out_of_memory(error):  # the run says so
            raise
        if Path(source).exists():
            raise ModelError(
                f"{name} could not be loaded ({first_line(error)}); download it again."
            ) from error
        raise ModelError(sentence(source, source, error)) from error
    made.eval().requires_grad_(False)
    device = pipe._execution_device
    if not any(_waits(module) for module in denoiser.modules()):
        return made.to(device)
    made.enable_group_offload(onload_device=device, offload_type="leaf_level", use_stream=False)
    return made


def _waits(module: Any) -> bool:
    """Whether a module's weights come to the device only when it is called. Asked of its hooks, as of layers that wait
    diffusers says that they are on the device; a device map has hooks, too, that move no weights.
    """
    from accelerate.hooks import CpuOffload

    own = getattr(module, "_hf_hook", None)
    return "group_offloading" in getattr(getattr(module, "_diffusers_hook", None), "hooks", {}) or any(
        isinstance(hook, CpuOffload) or getattr(hook, "offload", False)
        for hook in getattr(own, "hooks", [own])
    )


def _check_fits(name: str, own: dict[str, Any], unet: Any) -> None:
    for word in SHAPE:
        mine, its = own.get(word), unet.get(word)
        if (list(mine) if isinstance(mine, list | tuple) else mine) != (
            list(its) if isinstance(its, list | tuple) else its
        ):
            raise ModelError(
                f"{name} was made for another model ({word} {mine}, and this one has {its}); choose one made for it."
            )

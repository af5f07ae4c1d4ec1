"""Examples that need the autoencoder: reconstructions, ruined latents; and empty places. Made once, kept in a
file.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.progress import track

from pipelines.embedded.judge.data import IGNORE, Examples, empty_places, from_chunk, join, ruined_latents
from pipelines.embedded.judge.model import Vocabulary
from pipelines.embedded.training.captions import crop_caption
from pipelines.embedded.training.scenes import Scene
from pipelines.embedded.training.world import World

SEED = 4712


def as_tensor(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (n, H, W, 3) → float32 (n, 3, H, W) in −1..1, channels last in memory."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def decode(decoder: torch.nn.Module, latents: torch.Tensor, size: int = 24) -> NDArray[np.uint8]:
    """Unscaled latents → pictures uint8 (n, 128, 128, 3); whole scenes are halved. bf16 autocast."""
    parts = []
    for part in track(latents.split(size), "decoding", transient=True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = decoder(part.contiguous(memory_format=torch.channels_last)).float()
        if x.shape[-1] > 128:
            x = F.interpolate(x, (128, 128), mode="area")
        parts.append(((x + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def decoded_examples(
    path: Path, vocabulary: Vocabulary, autoencoder: Path, crops: int, whole: int
) -> Examples:
    """Reconstructions, ruined latents and empty places from one chunk (seeded)."""
    from diffusers import AutoencoderTiny

    decoder = (
        AutoencoderTiny.from_pretrained(autoencoder).decoder.eval().to(memory_format=torch.channels_last)
    )
    rng = np.random.default_rng(SEED)
    parts = []
    for kind, count in (("crops", crops), ("whole", whole)):
        found, stored = from_chunk(path, vocabulary, kind)
        chosen = rng.integers(0, len(found), count)
        latents = torch.from_numpy(stored[chosen]).float()
        same = found.take(chosen)
        same.pictures = decode(decoder, latents)
        parts.append(same)
        if kind == "crops":
            ruined, gone = ruined_latents(latents, rng)
            none = nothing_of(found.take(chosen), vocabulary)
            none.pictures = decode(decoder, ruined)
            none.targets["place"][gone.numpy()] = len(vocabulary.places)
            none.targets["time"][gone.numpy()] = len(vocabulary.times)
            parts.append(none)
    with np.load(path) as data:
        texts = json.loads(data["scenes"].tobytes())["whole"]
    scenes = [Scene.from_json(texts[k % len(texts)]["scene"]) for k in range(crops // 2)]
    return join([*parts, empty_places(scenes, vocabulary, rng)])


def unfinished_examples(
    path: Path, vocabulary: Vocabulary, weights: Path, world: World, count: int
) -> Examples:
    """What a denoiser paints that cannot draw yet: right colours, right mass, no shapes. Nothing recognisable.

    ``weights`` is an early export (a stock pipeline's folder); it samples crops with captions of the pool. This can
    only make the judge stricter with the model that it judges.
    """
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(weights, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    rng = np.random.default_rng(SEED + 1)
    with np.load(path) as data:
        texts = json.loads(data["scenes"].tobytes())["crops"]
    found, _ = from_chunk(path, vocabulary, "crops")
    chosen = rng.permutation(len(found))[:count]
    examples = found.take(chosen)
    for start in track(range(0, len(chosen), 32), "an unfinished denoiser", transient=True):
        part = [texts[k] for k in chosen[start : start + 32]]
        prompts = [
            crop_caption(world, Scene.from_json(entry["scene"]), entry["named"], rng) for entry in part
        ]
        generator = torch.Generator().manual_seed(SEED + start)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made = pipe(
                prompts,
                height=128,
                width=128,
                num_inference_steps=8,
                guidance_scale=3.0,
                generator=generator,
                output_type="pt",
            ).images
        pictures = (made.float() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        examples.pictures[start : start + 32] = pictures
    return nothing_of(examples, vocabulary)


def nothing_of(examples: Examples, vocabulary: Vocabulary) -> Examples:
    """The same pictures, of which only that they show nothing recognisable is known."""
    for head, target in examples.targets.items():
        target[:] = len(vocabulary.labels) if head == "object" else IGNORE
    examples.presence[:], examples.cells[:] = -1, -1
    return examples


def save_examples(path: Path, examples: Examples) -> None:
    """Keep decoded examples, in one move."""
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        np.savez(
            file,
            pictures=examples.pictures,
            presence=examples.presence,
            cells=examples.cells,
            **examples.targets,
        )
    part.replace(path)


def load_examples(path: Path) -> Examples:
    """Inverse of `save_examples`."""
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files}
    return Examples(
        arrays.pop("pictures"), targets=arrays, presence=arrays.pop("presence"), cells=arrays.pop("cells")
    )

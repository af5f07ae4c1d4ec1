"""From a training run to the folder that stock diffusers loads.

``python -m pipelines.embedded.training.export --run RUN --clip CLIP --autoencoder AE --out WEIGHTS``

Writes a `StableDiffusionPipeline` folder in half precision, safetensors only, shards under 10 MB, with the small
CLIP beside it in ``clip/``. Takes RUN/cooled.pt where there is one, else RUN/state.pt; averaged weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DPMSolverMultistepScheduler, StableDiffusionPipeline
from transformers import CLIPModel, CLIPTokenizer

from pipelines.embedded.training.denoiser import SCHEDULE, SIZES, Trainee, new_unet, text_tower
from pipelines.embedded.training.world import WORLDS

SHARD = "9MB"


def load_trained(
    state_path: Path, clip_path: Path, size: str, classes: int
) -> tuple[Trainee, float, dict[str, int]]:
    """The averaged weights of a run as a `Trainee`, the latent scale, and what it has seen."""
    state = torch.load(state_path, map_location="cpu", weights_only=True)
    trainee = Trainee(new_unet(size), text_tower(CLIPModel.from_pretrained(clip_path)), classes)
    trainee.load_state_dict(state["average"])
    return trainee.eval(), state["scale"], state["counts"]


def build_pipeline(
    trainee: Trainee, scale: float, tokenizer: CLIPTokenizer, autoencoder: Path
) -> StableDiffusionPipeline:
    """A stock pipeline over the trained parts; the autoencoder's ``scaling_factor`` is the training's scale."""
    vae = AutoencoderTiny.from_pretrained(autoencoder)
    vae.register_to_config(scaling_factor=scale)
    schedule = {key: SCHEDULE[key] for key in SCHEDULE if key not in ("clip_sample", "set_alpha_to_one")}
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=trainee.text,
        tokenizer=tokenizer,
        unet=trainee.unet,
        scheduler=DPMSolverMultistepScheduler(**schedule),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _drop_derived_fields(config: Path) -> None:
    """`AutoencoderTiny` sets ``block_out_channels`` itself and complains, at every load, of finding it in the file; and
    where it was read from is nobody's business.
    """
    fields = json.loads(config.read_text())
    for name in ("block_out_channels", "_name_or_path"):
        fields.pop(name, None)
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="small", choices=sorted(WORLDS))
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--size", default="cpu", choices=sorted(SIZES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cooled = options.run / "cooled.pt"
    source = cooled if cooled.exists() else options.run / "state.pt"
    trainee, scale, counts = load_trained(
        source, options.clip, options.size, len(WORLDS[options.world].labels)
    )
    tokenizer = CLIPTokenizer.from_pretrained(options.clip)
    pipe = build_pipeline(trainee, scale, tokenizer, options.autoencoder).to(dtype=torch.float16)
    if options.out.exists():
        for old in options.out.rglob("*.safetensors*"):
            old.unlink()
    pipe.save_pretrained(options.out, max_shard_size=SHARD)
    shutil.rmtree(options.out / "unet")
    pipe.unet.save_pretrained(options.out / "unet", max_shard_size=SHARD)
    _drop_derived_fields(options.out / "vae" / "config.json")
    clip = CLIPModel.from_pretrained(options.clip).half()
    clip.save_pretrained(options.out / "clip", max_shard_size=SHARD)
    tokenizer.save_pretrained(options.out / "clip")
    size = sum(path.stat().st_size for path in options.out.rglob("*.safetensors"))
    print(f"{source.name}: {counts}; {size / 1e6:.1f} MB of weights in {options.out}")


if __name__ == "__main__":
    main()

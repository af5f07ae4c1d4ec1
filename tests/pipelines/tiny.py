"""Tiny real pipelines: stock classes with random weights, 64×64 pixels, a run in a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipelines import schedulers
from pipelines.embedded.training.tokenizer import build_tokenizer
from pipelines.engine import Engine
from pipelines.events import Event, Finished, Preview, RenderResult, Warned
from pipelines.methods.base import Run, Step
from pipelines.models.card import SCHEDULERS, ModelCard
from pipelines.pictures import PictureStore, Pixels
from pipelines.request import AvoidRequest, LayerRequest, RenderRequest
from pipelines.sampling import plan

SIDE = 64
WORDS = (
    "a",
    "red",
    "car",
    "cat",
    "on",
    "the",
    "beach",
    "table",
    "coffee",
    "and",
    "at",
    "night",
    "blue",
    "sky",
)
PROMPT = "a red car and a cat on the beach"
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@cache
def tokenizer() -> CLIPTokenizer:
    """A stock tokenizer that knows `WORDS`."""
    return build_tokenizer(WORDS)


@cache
def tokenizer_2() -> CLIPTokenizer:
    """As Stable Diffusion 2's: what pads is the token of "!"."""
    words = build_tokenizer(WORDS)
    words.pad_token = "!"
    return words


def text_encoder(seed: int, pooled: bool = False, wide: int = 32, **more: Any) -> Any:
    """Two layers of CLIP's text tower."""
    torch.manual_seed(seed)
    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=wide,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=32,
        eos_token_id=words.eos_token_id,
        bos_token_id=words.bos_token_id,
        pad_token_id=words.pad_token_id,
        **more,
    )
    return (CLIPTextModelWithProjection if pooled else CLIPTextModel)(config).eval()


def unet(seed: int = 0, *, xl: bool = False, only_cross: bool = False, **more: Any) -> UNet2DConditionModel:
    """Two levels (8×8 and 4×4 tokens), or three with ``only_cross``: cross-attention in both places of the finest."""
    torch.manual_seed(seed)
    levels = 3 if only_cross else 2
    extra: dict[str, Any] = (
        {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 32,
            "transformer_layers_per_block": (1, 2),
        }
        if xl
        else {"only_cross_attention": (True, False, False)[:levels] if only_cross else False}
    )
    model = UNet2DConditionModel(
        sample_size=SIDE // 8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 16, 32)[-levels:],
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=64 if xl else 32,
        **{"attention_head_dim": (2, 4) if xl else 2, **extra, **more},
    ).eval()
    for name, module in model.named_modules():
        # wider than the stock start, so that what the attention does shows in the picture
        if name.rsplit(".", 1)[-1] in ("to_q", "to_k", "to_v"):
            module.weight.data *= 3
    return model


def autoencoder(seed: int, tiny: bool) -> AutoencoderTiny | AutoencoderKL:
    """Factor 8, four latent channels."""
    torch.manual_seed(seed)
    if tiny:
        model = AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
        ).eval()
        last = model.decoder.layers[-1]
        last.weight.data *= 20  # an untrained decoder says black, whatever it is given
        last.bias.data += 0.5
        return model
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    ).eval()


def sd_velocity() -> StableDiffusionPipeline:
    """As the embedded model: velocity, zero terminal signal-to-noise ratio, trailing steps, a tiny autoencoder."""
    return StableDiffusionPipeline(
        vae=autoencoder(1, tiny=True),
        text_encoder=text_encoder(2),
        tokenizer=tokenizer(),
        unet=unet(3, only_cross=True),
        scheduler=DDIMScheduler(
            **_BETAS,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd_noise() -> StableDiffusionPipeline:
    """As Stable Diffusion 1.5: noise prediction, its PNDM config, a variational autoencoder."""
    return StableDiffusionPipeline(
        vae=autoencoder(4, tiny=False),
        text_encoder=text_encoder(5),
        tokenizer=tokenizer(),
        unet=unet(6),
        scheduler=PNDMScheduler(**_BETAS, skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd2() -> StableDiffusionPipeline:
    """As Stable Diffusion 2.1: velocity, heads by level, linear projections, a text tower of OpenCLIP, "!" pads."""
    return StableDiffusionPipeline(
        vae=autoencoder(11, tiny=False),
        text_encoder=text_encoder(12, hidden_act="gelu"),
        tokenizer=tokenizer_2(),
        unet=unet(13, attention_head_dim=(2, 4), use_linear_projection=True),
        scheduler=DDIMScheduler(
            **_BETAS,
            prediction_type="v_prediction",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> StableDiffusionXLPipeline:
    """As Stable Diffusion XL: two text encoders, pooled text, sizes, its Euler config."""
    return StableDiffusionXLPipeline(
        vae=autoencoder(7, tiny=False),
        text_encoder=text_encoder(8),
        text_encoder_2=text_encoder(9, pooled=True),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet(10, xl=True),
        scheduler=EulerDiscreteScheduler(**_BETAS, steps_offset=1, timestep_spacing="leading"),
        add_watermarker=False,
    )


def lcm() -> StableDiffusionPipeline:
    """As a latent consistency model: `sd_noise` whose UNet reads the guidance."""
    pipe = sd_noise()
    torch.manual_seed(1)
    unet = UNet2DConditionModel.from_config(pipe.unet.config, time_cond_proj_dim=16).eval()
    return StableDiffusionPipeline(**{**pipe.components, "unet": unet}, requires_safety_checker=False)


KINDS = {"sd_velocity": sd_velocity, "sd_noise": sd_noise, "sd2": sd2, "sdxl": sdxl}
RUNS = [
    (model, scheduler)
    for model in KINDS
    for scheduler in SCHEDULERS
    if model != "sd2" or scheduler in ("euler", "ddim")
]
"""(model, scheduler) for tests over both; of Stable Diffusion 2.1, whose betas are the others', one of each unit."""


def card_for(name: str) -> ModelCard:
    """A card for one of `KINDS`: NegToMe acts in every part down to 4×4 tokens."""
    return ModelCard(
        name=name,
        family="sdxl" if name == "sdxl" else "sd",
        source=name,
        side=SIDE,
        scheduler="dpm++2m",
        steps=6,
        guidance=4.0,
        smallest_grid=4,
        negtome_blocks=("down", "mid", "up"),
        origin="tests",
    )


def picture(seed: int, channels: int = 3) -> Pixels:
    """Random soft blobs, uint8 (64, 64, channels)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, channels), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)


def box(top: int, left: int, bottom: int, right: int, value: int = 255) -> Pixels:
    """A mask, uint8 (64, 64)."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top:bottom, left:right] = value
    return mask


CAR, CAT = box(8, 4, 56, 28), box(8, 36, 56, 60)


def layer(store: PictureStore, name: str, mask: Pixels, **words: Any) -> LayerRequest:
    """A layer whose words are its name, at the place where they stand in `PROMPT`."""
    at = PROMPT.find(name)
    span = (at, at + len(name)) if at >= 0 else None
    return LayerRequest(**{"name": name, "mask": store.put(mask), "span": span, "harmonize": 0.6, **words})


def text_request(model: str = "sd_velocity", **words: Any) -> RenderRequest:
    """Plain text-to-image."""
    given = {"scheduler": "dpm++2m", "steps": 5, "guidance": 4.0, "seed": 7, "prompt": PROMPT}
    return RenderRequest(**{"model": model, "width": SIDE, "height": SIDE, **given, **words})


def collage_request(
    store: PictureStore,
    model: str = "sd_velocity",
    car: dict[str, Any] | None = None,
    cat: dict[str, Any] | None = None,
    **words: Any,
) -> RenderRequest:
    """Two layers on a background; by default all of one strength, .6, and no attention."""
    flat = picture(1)
    layers = (layer(store, "red car", CAR, **(car or {})), layer(store, "cat", CAT, **(cat or {})))
    kept = np.zeros((SIDE, SIDE, 4), np.uint8)
    kept[..., :3] = flat
    for one, mask in zip(layers, (CAR, CAT), strict=True):
        kept[..., 3] |= mask if one.harmonize == 0 else 0
    frozen = store.put(kept) if kept[..., 3].any() else None
    given = {"collage": store.put(flat), "layers": layers, "frozen": frozen, "background_harmonize": 0.6}
    return text_request(model, **{**given, **words})


def avoid(store: PictureStore, seed: int = 9, **words: Any) -> AvoidRequest:
    """A reference picture to avoid."""
    given = {"name": "that", "picture": store.put(picture(seed)), "alpha": 1.0, "threshold": 0.0}
    return AvoidRequest(**{**given, **words})


def events(engine: Engine, request: RenderRequest, store: PictureStore) -> list[Event]:
    """All events of a run."""
    return list(engine.render(request, store))


def result(engine: Engine, request: RenderRequest, store: PictureStore) -> RenderResult:
    """The result of a run."""
    last = events(engine, request, store)[-1]
    assert isinstance(last, Finished)
    return last.result


def pictures(engine: Engine, request: RenderRequest, store: PictureStore) -> tuple[Pixels, ...]:
    """The pictures of a run."""
    return result(engine, request, store).pictures


def warnings(found: Iterable[Event]) -> list[str]:
    """The texts of a run's warnings."""
    return [event.message for event in found if isinstance(event, Warned)]


def previews(found: Iterable[Event]) -> list[Pixels]:
    """A run's previews."""
    return [event.picture for event in found if isinstance(event, Preview)]


def moved(one: Pixels, other: Pixels) -> float:
    """Mean absolute difference in 0..255."""
    return float(np.abs(one.astype(int) - other).mean())


def run_of(engine: Engine, request: RenderRequest, store: PictureStore, images: int = 1) -> Run:
    """The `Run` that sampling makes of a request, before its first step, with random ``clean`` and ``noise``."""
    loaded = engine.load(request.model)
    base, how = loaded.pipe, plan(request)
    scheduler = schedulers.build(request.scheduler, base.scheduler, loaded.card, pinned=True, steps=how.steps)
    pipe = loaded.family.pipeline(base, scheduler, from_picture=how.from_picture)
    scheduler.set_timesteps(how.steps)
    cells = (request.height // 8, request.width // 8)
    generator = torch.Generator().manual_seed(0)
    return Run(
        request=request,
        pictures=store,
        card=loaded.card,
        pipe=pipe,
        family=loaded.family,
        images=images,
        first=how.first,
        steps=how.steps,
        seeds=[request.seed + k for k in range(images)],
        levels=schedulers.levels(scheduler),
        times=schedulers.times(scheduler),
        exploding=request.scheduler in schedulers.EXPLODING,
        latent_size=cells,
        tokens=loaded.family.tokens(pipe, request),
        device=torch.device("cpu"),
        dtype=torch.float32,
        clean=torch.randn(images, 4, *cells, generator=generator),
        noise=torch.randn(images, 4, *cells, generator=generator),
    )


def step_of(run: Run, index: int, guided: bool = True) -> Step:
    """Denoiser call ``index`` of the full schedule, [negative…, positive…] or the prompt's rows alone."""
    rows = run.images * (2 if guided else 1)
    conditional, branches = run.family.rows(rows, run.images)
    steering = run.family.steering(run.pipe, run.request, branches)
    return Step(index, run.levels[index], rows, run.latent_size, conditional, branches, steering)

"""The denoiser: a small conditional UNet and what it is taught. `train` holds the loop and the command.

Objective: v-prediction (arXiv 2202.00512) on the zero-terminal-SNR schedule (arXiv 2305.08891), plain mean square
on v; nine timesteps of ten logit-normal towards noise, one of ten uniform. A 1×1 head on the middle block names the
class in each cell; it is dropped at export. Attention maps are never supervised and no layer masks are shown: that
would rig what the studio measures.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel

from pipelines.embedded.training.clip import WIDTH
from pipelines.embedded.training.muon import Muon

SIZES = {"cpu": (64, 128, 192), "gpu": (80, 160, 240)}
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,  # unused with trailing spacing; 0 draws a deprecation warning
}


def new_unet(size: str = "cpu") -> UNet2DConditionModel:
    """A three-level UNet with one layer a block; attention to text only at 32×32, to both below."""
    channels = SIZES[size]
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=12,
        out_channels=12,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        only_cross_attention=(True, False, False),
        attention_head_dim=(1, 2, 3),  # in diffusers' UNet this counts heads: 64 channels a head
        cross_attention_dim=WIDTH,
        norm_num_groups=16,
    )


def sample_timesteps(count: int, generator: torch.Generator) -> torch.Tensor:
    """Integers 0..999: nine of ten from sigmoid(N(0.4, 1)), one of ten uniform. Ours: small worlds need noise."""
    normal = torch.sigmoid(torch.randn(count, generator=generator) + 0.4)
    uniform = torch.rand(count, generator=generator)
    mixed = torch.where(torch.rand(count, generator=generator) < 0.1, uniform, normal)
    return (mixed * 1000).long().clamp(0, 999)


class Trainee(torch.nn.Module):
    """UNet, text tower and the class head, so that one object is saved, averaged and compiled."""

    def __init__(self, unet: UNet2DConditionModel, text: torch.nn.Module, classes: int) -> None:
        super().__init__()
        self.unet, self.text = unet, text
        self.head = torch.nn.Conv2d(unet.config["block_out_channels"][-1], classes + 1, 1)
        self._middle: torch.Tensor | None = None
        unet.mid_block.register_forward_hook(self._keep)

    def _keep(self, module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        self._middle = output

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """noisy (n, 12, h, w), timesteps (n,), tokens (n, 77) → v (n, 12, h, w), class logits (n, c, h/4, w/4)."""
        words = self.text(tokens).last_hidden_state
        v = self.unet(noisy, timesteps, words).sample
        return v, self.head(self._middle)


def optimizers(trainee: Trainee, kind: str, rate: float) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the UNet's inner weights and AdamW for the rest; text at a tenth."""
    unet = dict(trainee.unet.named_parameters())
    inner = [
        p for name, p in unet.items() if p.ndim >= 2 and not name.startswith(("conv_in", "conv_out", "time"))
    ]
    chosen = {id(p) for p in inner} if kind == "muon" else set()
    rest = [p for p in [*unet.values(), *trainee.head.parameters()] if id(p) not in chosen]
    groups = [{"params": rest, "lr": rate}, {"params": list(trainee.text.parameters()), "lr": rate / 10}]
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.01)]
    if kind == "muon":
        made.append(Muon(inner, lr=12 * rate))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["full"] = group["lr"]
    return made


def text_tower(clip: CLIPModel) -> torch.nn.Module:
    """A stock `CLIPTextModel` with the weights of a CLIP's text half."""
    tower = CLIPTextModel(clip.config.text_config)
    tower.set_attn_implementation("eager")  # see clip.py
    missing = tower.load_state_dict(clip.text_model.state_dict(), strict=False)
    if missing.missing_keys:
        raise RuntimeError(f"the CLIP lacks {missing.missing_keys[:3]}")
    return tower


def start_from(trainee: Trainee, folder: Path) -> float:
    """Put exported UNet and text weights into ``trainee``; returns their latent scale. The class head stays new."""
    exported = UNet2DConditionModel.from_pretrained(folder / "unet")
    trainee.unet.load_state_dict(exported.state_dict())
    trainee.text.load_state_dict(CLIPTextModel.from_pretrained(folder / "text_encoder").state_dict())
    return float(json.loads((folder / "vae" / "config.json").read_text())["scaling_factor"])


def diffuse(
    latents: torch.Tensor, alphas: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy latents, timesteps and v = √ᾱ ε − √(1−ᾱ) x (arXiv 2202.00512, appendix D)."""
    timesteps = sample_timesteps(len(latents), generator)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    a = alphas[timesteps].to(latents.device).view(-1, 1, 1, 1)
    clean, dirty = a.sqrt(), (1 - a).sqrt()
    return clean * latents + dirty * noise, timesteps.to(latents.device), clean * noise - dirty * latents

"""Textual inversion of one cut-out (arXiv 2208.01618), with the loss inside its mask as Collage Diffusion has it.

Only the vectors are learned; model and words stay as they are. Rates are shares of the typical entry of the text
encoder's own table, which differs by orders of magnitude between encoders: the released Collage Diffusion code's 4e-4
for Stable Diffusion, whose entries are about .0145, is such a share of .028.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pipelines.learning.tokens import Rows, wearing
from pipelines.learning.views import view
from pipelines.methods.base import area_resized
from pipelines.models.card import ModelCard
from pipelines.pictures import Pixels

VIEWS = 16
"""Views that are encoded once, and drawn from after that."""
RATE = 0.028
WARM_UP = 0.1
"""Share of the steps in which the rate rises: the released code's 25 of 250."""
SEED = 2_303_002_62
"""Any fixed number: learning depends on nothing but what the look's key holds, and on no sampler's generator."""


@dataclass(frozen=True)
class Learned:
    """The vectors, and the loss of every step."""

    rows: Rows
    losses: tuple[float, ...]


def masked_loss(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(n,) mean square errors where the mask (n, 1, h, w) is, each over its own area: what is outside is nothing."""
    square = (prediction.float() - target.float()).square().mean(1, keepdim=True)
    errors: torch.Tensor = (square * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1e-6)
    return errors


def target_of(clean: torch.Tensor, noise: torch.Tensor, level: torch.Tensor, prediction: str) -> torch.Tensor:
    """What a denoiser is to say: "epsilon", "v_prediction", "flow" or "sample"; ``level`` is (2, n, 1, 1, 1)."""
    alpha, sigma = level.unbind()
    if prediction == "epsilon":
        return noise
    if prediction == "v_prediction":
        return alpha * noise - sigma * clean
    return noise - clean if prediction == "flow" else clean


class _Learned(torch.nn.Module):
    """The text encoder's table with its last rows, a look's, apart: they alone have a gradient."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor, rows: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach(), persistent=False)
        self.first = len(weight) - len(rows)
        self.rows = torch.nn.Parameter(rows.detach().float().clone().to(weight.device))

    @property
    def typical(self) -> float:
        """Root mean square of the entries of the words' embeddings."""
        return float(self.weight[: self.first].float().square().mean().sqrt())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(n, T) → (n, T, D) in the table's number type."""
        known = torch.nn.functional.embedding(ids, self.weight)
        learned = self.rows[(ids - self.first).clamp(min=0)].to(known.dtype)
        return torch.where((ids >= self.first)[..., None], learned, known)


@contextmanager
def _still(pipe: Any, family: Any) -> Iterator[None]:
    """Nothing in the model asks for a gradient; what did, does again afterwards.

    Off the CPU the denoiser computes again on the way back what it otherwise would keep: of XL at 1024 pixels 10.6 GB
    beside its 5.1 of weights, by the sizes of what torch keeps.
    """
    denoiser = family.denoiser(pipe)
    parts = [denoiser, *(getattr(pipe, name) for _, name in family.encoders)]
    asking = [one for part in parts for one in part.parameters() if one.requires_grad]
    again = scarce(denoiser.device) and not denoiser.is_gradient_checkpointing
    for one in asking:
        one.requires_grad_(False)
    if again:
        denoiser.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if again:
            denoiser.disable_gradient_checkpointing()
        for one in asking:
            one.requires_grad_(True)


def scarce(device: torch.device) -> bool:
    """Whether memory is worth more than time there: on an accelerator."""
    return device.type != "cpu"


def _views(
    pipe: Any, family: Any, cutout: Pixels, side: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean latents (`VIEWS`, C, h, w) in float32 and masks (`VIEWS`, 1, h, w) of so many views."""
    clean, masks = [], []
    for _ in range(VIEWS):
        picture, mask = view(cutout, side, generator)
        latents = family.encode_picture(pipe, picture).float()
        clean.append(latents)
        masks.append(area_resized(mask[None], tuple(latents.shape[-2:]))[:, None].to(latents))
    return torch.cat(clean), torch.cat(masks)


def learn(
    pipe: Any,
    family: Any,
    card: ModelCard,
    cutout: Pixels,
    phrase: str,
    token: str,
    begin: Rows,
    steps: int,
    say: Callable[[int, int], None],
) -> Learned:
    """Vectors for ``token`` in ``phrase``, starting at ``begin``, that stand for ``cutout``, uint8 (h, w, 4).

    ``say`` is told the steps done and in all; what it raises ends the learning and leaves nothing behind.
    """
    generator = torch.Generator().manual_seed(SEED)
    side, batch = card.look_side or card.side, card.look_batch
    prediction = family.prediction or pipe.scheduler.config.prediction_type
    with wearing(pipe, family, {token: begin}) as worn, _still(worn, family), torch.enable_grad():
        clean, masks = _views(worn, family, cutout, side, generator)
        dtype = family.denoiser(worn).dtype
        rows, groups = [], []
        for place, (_, name) in enumerate(family.encoders):
            encoder = getattr(worn, name)
            learned = _Learned(encoder.get_input_embeddings().weight, begin[place])
            encoder.set_input_embeddings(learned)
            rows.append(learned.rows)
            groups.append({"params": [learned.rows], "lr": RATE * learned.typical})
        optimizer = torch.optim.Adam(groups)
        rise = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda n: min(1.0, (n + 1) / max(1, steps * WARM_UP))
        )
        # gradients of half precision numbers vanish unless they are made larger on the way
        scaler = torch.amp.GradScaler(clean.device.type, enabled=dtype == torch.float16)
        losses = []
        for step in range(steps):
            chosen = torch.randint(len(clean), (batch,), generator=generator)
            noise = torch.randn((batch, *clean.shape[1:]), generator=generator).to(clean)
            # one noise level in each of ``batch`` equal parts of all: less chance in the sum than any from all
            shares = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
            moments = [family.moment(worn, float(share)) for share in shares]
            times = torch.tensor([time for time, _ in moments]).to(clean)
            level = torch.tensor([level for _, level in moments]).T[..., None, None, None].to(clean)
            target = target_of(clean[chosen], noise, level, prediction)
            noisy = level[0] * clean[chosen] + level[1] * noise
            text = family.text(worn, phrase, (side, side))
            output = family.predict(worn, noisy.to(dtype), times, text, card.guidance)
            loss = masked_loss(output, target, masks[chosen]).mean()
            optimizer.zero_grad()
            torch.autograd.backward(scaler.scale(loss))
            scaler.step(optimizer)
            scaler.update()
            rise.step()
            losses.append(loss.item())
            say(step + 1, steps)
    return Learned(tuple(one.detach().float().cpu() for one in rows), tuple(losses))

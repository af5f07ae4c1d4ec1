"""Muon for a UNet: momentum, then the nearest orthogonal matrix, on every weight with two or more axes.

After Keller Jordan's description of Muon (2024): Newton-Schulz iteration with coefficients (3.4445, −4.7750,
2.0315), five times. torch.optim.Muon takes matrices only; here a convolution counts as (out, in·kh·kw) and the
step is scaled by √max(1, rows/columns). Vectors, embeddings and the last layer go to AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch


def orthogonalise(gradient: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrix, roughly: (rows, columns) → the same shape, bf16 inside."""
    x = gradient.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(rounds):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if tall else x).to(gradient.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum made orthogonal; ``lr`` is the spectral size of one step (about 0.01)."""

    def __init__(
        self, params: Iterable[torch.nn.Parameter], lr: float = 0.01, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; parameters without a gradient stay."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"]).reshape(p.shape[0], -1)
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                p.add_(orthogonalise(update).reshape(p.shape), alpha=-group["lr"] * scale)

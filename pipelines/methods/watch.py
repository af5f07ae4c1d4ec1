"""How much of the attention that a layer's words get lies inside its mask.

In the rows that the prompt guides, let P(p, t) be the attention of place p to token t, mean over heads, and
A(p) = Σ P(p, t) over a layer's tokens. Its share inside is Σ m(p) A(p) / Σ A(p), where m is the visible mask: 1 where
the words act in the layer alone, and the mask's own share of the picture where they look everywhere alike. Ours, after
the attention maps of Prompt-to-Prompt (arXiv 2208.01626, section 3).

It looks, and changes nothing. To be cheap it computes these probabilities anew at three steps of a run only, at no more
than `MOST_PLACES` places a module, a few heads at a time: over a run of 30 steps at most a tenth of the products of
queries and keys in text attention, and less in joint attention, where the places are a part of the picture's.
"""

from __future__ import annotations

import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.methods.base import Inputs, Method, Run, Step, area_resized, grids, word_count

MOST_PLACES = 1024
STEPS = 3
HEADS = 4
"""At once: so a large picture's probabilities never stand in memory whole."""


def chosen_steps(first: int, steps: int) -> set[int]:
    """`STEPS` of the steps from ``first`` to ``steps`` − 1, in the middle of equal parts of the run; fewer where it is
    shorter.
    """
    count = steps - first
    return {first + (2 * k + 1) * count // (2 * STEPS) for k in range(STEPS)}


def chosen_places(grid: tuple[int, int]) -> torch.Tensor:
    """Flat numbers of places (h, w) in even rows and columns, at most `MOST_PLACES`."""
    h, w = grid
    stride = 1
    while -(-h // stride) * -(-w // stride) > MOST_PLACES:
        stride += 1
    rows, columns = (torch.arange(min(stride, side) // 2, side, stride) for side in (h, w))
    return (rows[:, None] * w + columns).flatten()


def attended(
    query: torch.Tensor,
    key: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None,
    tokens: torch.Tensor,
) -> torch.Tensor:
    """Attention (N, K) of queries (H, N, D) to ``tokens`` (K,) among keys (H, T, D), mean over heads.

    ``mask`` is what is added to the logits, or with booleans what may be seen, broadcastable to (H, N, T).
    """
    logits = torch.matmul(query, key.transpose(-1, -2)).float() * scale
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask
    return (logits[..., tokens] - logits.logsumexp(-1, keepdim=True)).exp().mean(0)


class Watch(Method):
    """Sums A inside and everywhere, over modules and steps; `shares` tells them."""

    order = 90

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Choose steps and places; nothing is installed where no layer has words."""
        self._step: Step | None = None
        self._words: int | None = None
        self._steps = chosen_steps(run.first, run.steps)
        layers, device = run.request.layers, run.device
        told = (
            run.variant_tokens or [run.tokens] * run.images
        )  # where images have prompts of their own, each its own
        self._worded = [[bool(own) for own in tokens] for tokens in told]
        self._last = max((token for tokens in told for own in tokens for token in own), default=-1)
        self._told = [_with_owners(tokens, device) for tokens in told]
        self._sums = torch.zeros(run.images, len(layers), 2, device=device)
        self._grids: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        if self._last < 0:
            return
        masks = torch.stack([torch.from_numpy(run.pictures.get(layer.mask).copy()) for layer in layers]) / 255
        for grid in grids(run.latent_size):
            places = chosen_places(grid)
            shares = area_resized(masks, grid).flatten(1)[:, places]
            self._grids[grid[0] * grid[1]] = places.to(device), shares.to(device)
        kernel.watch.append(self.watch)

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        """Look in this call, or not."""
        self._step = step if step.index in self._steps and len(step.conditional) else None
        self._words = word_count(inputs)

    def watch(
        self, site: Site, query: torch.Tensor, key: torch.Tensor, scale: float, mask: torch.Tensor | None
    ) -> None:
        """Add what this module attends to in the prompt's rows."""
        step, joint = self._step, site.joint
        if step is None or not (site.cross or joint):
            return
        if site.cross and self._words is not None and key.shape[2] != self._words:
            return  # no words: an IP-Adapter's picture prompt
        image = joint.image(query.shape[2], step.latent_size) if joint else slice(0, query.shape[2])
        start = joint.text_start(step.latent_size) if joint else 0
        known = self._grids.get(image.stop - image.start)
        if known is None or start + self._last >= key.shape[2]:
            return
        places, shares = known
        places = places + image.start
        if mask is not None:
            mask = mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
        for image_number, row in enumerate(step.conditional):
            tokens, owner = self._told[image_number]
            if not len(tokens):
                continue
            tokens = tokens + start
            found = torch.zeros(len(places), len(tokens), device=query.device)
            for low in range(0, query.shape[1], HEADS):
                heads = slice(low, low + HEADS)
                seen = None if mask is None else mask[row, heads, places]
                own = attended(query[row, heads, places], key[row, heads], scale, seen, tokens)
                found += own * (min(low + HEADS, query.shape[1]) - low) / query.shape[1]
            layers = found @ owner
            self._sums[image_number, :, 0] += (shares.T * layers).mean(0)
            self._sums[image_number, :, 1] += layers.mean(0)

    def shares(self) -> list[list[float | None]]:
        """For each image the share of each layer, 0 to 1; None for a layer without words or that was not looked at."""
        told: list[list[float | None]] = []
        for own, image in zip(self._worded, self._sums.tolist(), strict=True):
            told.append(
                [
                    inside / total if worded and total > 0 else None
                    for worded, (inside, total) in zip(own, image, strict=True)
                ]
            )
        return told


def _with_owners(tokens: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens (K,) of all layers' words, and (K, L) 1 where a token is a layer's."""
    pairs = [(number, token) for number, own in enumerate(tokens) for token in own]
    owner = torch.tensor([number for number, _ in pairs], dtype=torch.long)
    one_hot = torch.nn.functional.one_hot(owner, max(1, len(tokens))).float()
    return torch.tensor([token for _, token in pairs], device=device, dtype=torch.long), one_hot.to(device)

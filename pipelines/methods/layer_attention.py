"""Layer attention: each layer's words act where the layer is.

Collage Diffusion (arXiv 2303.00262, section 4.1), after eDiff-I's paint-with-words (arXiv 2211.01324): in the text
cross-attention of the conditional rows the logits of a layer's tokens rise inside its visible mask and fall outside:

    logit += w(σ) · M · ( attend_inside · m(p)  −  attend_outside · (1 − m(p)) )

with w(σ) = log(log(σ + 1.01) + 1) and M the largest logit of that token over heads and places, taken per image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.methods.base import Inputs, Method, Run, Step, area_resized, grids, word_count
from pipelines.schedulers import ratio


def weight(sigma: float) -> float:
    """w(σ) for σ in "exploding" units: log(log(σ + 1.01) + 1), never negative (σ = 0 gives 0.00995)."""
    return math.log(math.log(sigma + 1.01) + 1)


def bias_columns(inside: torch.Tensor, outside: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    """The low-rank half of the bias: S (L+1, K) with bias = w · M · (U @ S) and U = [m_1 … m_L, 1].

    inside, outside: (L,) strengths; owner: (K,) the layer of each biased token.
    """
    one_hot = torch.nn.functional.one_hot(owner, len(inside)).T.to(inside.dtype)
    rise = one_hot * (inside + outside)[:, None]
    fall = -(one_hot * outside[:, None]).sum(0, keepdim=True)
    return torch.cat([rise, fall])


def averaged(masks: torch.Tensor, sizes: list[tuple[int, int]]) -> Iterator[torch.Tensor]:
    """Masks (n, H, W) over each of ``sizes``, largest first, as `area_resized` gives them: (n, h, w) each.

    Where one grid halves the one before, it is averaged from that: the mean of means is the mean, and cheaper.
    """
    found = masks
    for h, w in sizes:
        found = area_resized(found if found.shape[1:] == (2 * h, 2 * w) else masks, (h, w))
        yield found


class LayerAttention(Method):
    """The bias of all layers, built once a token grid and once a step; 16 layers cost about what 2 do."""

    order = 10

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Read masks and token positions; nothing is installed when every strength is 0."""
        layers, device = run.request.layers, run.device
        strong = [
            number for number, layer in enumerate(layers) if layer.attend_inside or layer.attend_outside
        ]
        # where each image has a prompt of its own, the columns of its words are its own too
        owners = [
            {token: number for number in strong for token in tokens[number]}
            for tokens in run.variant_tokens or [run.tokens]
        ]
        places = sorted({token for owner in owners for token in owner})
        self._run = run
        self._step: Step | None = None
        self._words: int | None = None
        self._rows: slice | list[int] = []
        if places and places[-1] - places[0] < 2 * len(places):
            places = list(range(places[0], places[-1] + 1))  # one piece: a view costs less than picking
        self._places = places
        self._token = torch.tensor(places, device=device, dtype=torch.long)
        inside = torch.tensor([layer.attend_inside for layer in layers])
        outside = torch.tensor([layer.attend_outside for layer in layers])
        columns = []
        for owner in owners:
            numbers = torch.tensor([owner.get(token, -1) for token in places], dtype=torch.long)
            columns.append(bias_columns(inside, outside, numbers.clamp_min(0)) * (numbers >= 0))
        self._columns = torch.stack(columns).to(device)
        # a 0-d tensor: as a float a compiled model would be compiled again at each step
        self._weight = torch.zeros((), device=device)
        # all at once: built inside a compiled forward they would compile it again at the next step
        self._grids: dict[int, torch.Tensor] = {}
        if places:
            masks = [torch.from_numpy(run.pictures.get(layer.mask).copy()) for layer in layers]
            self._grids = {
                shares.shape[1] * shares.shape[2]: self._spread_over(shares).to(device)
                for shares in averaged(torch.stack(masks) / 255, grids(run.latent_size))
            }
            kernel.logit_bias.append(self.logit_bias)

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        """Set the step's weight from its noise level."""
        self._step, self._words = step, word_count(inputs)
        count = len(step.conditional)
        first = step.conditional[0] if count else 0
        together = step.conditional == list(range(first, first + count))
        self._rows = slice(first, first + count) if together else step.conditional  # a slice copies nothing
        self._weight.fill_(weight(ratio(step.level)))

    def logit_bias(
        self, site: Site, query: torch.Tensor, key: torch.Tensor, scale: float
    ) -> torch.Tensor | None:
        """(B, 1, N, T) where text is looked at, zero for unconditional and reference rows; None elsewhere.

        In joint attention N = T are text and picture in one; what is biased is the picture's look at the words, and
        with ``attend_both_ways`` the words' look at the picture by the same numbers.
        """
        step, joint = self._step, site.joint
        if not (site.cross or joint) or step is None or not len(step.conditional):
            return None
        if site.cross and self._words is not None and key.shape[2] != self._words:
            return None  # no words: an IP-Adapter's picture prompt
        places = joint.image(query.shape[2], step.latent_size) if joint else slice(0, query.shape[2])
        start = joint.text_start(step.latent_size) if joint else 0
        if start + self._places[-1] >= key.shape[2]:
            return None
        tokens = self._tokens(start)
        spread = self._grids.get(places.stop - places.start)
        if spread is None:
            return None
        rows = self._rows
        asked = key[rows][:, :, tokens] * scale
        logits = torch.matmul(query[rows][:, :, places], asked.transpose(-1, -2))
        limit = 1e4 if query.dtype == torch.float16 else 1e9
        largest = logits.amax(-2).amax(1).float().clamp(0, limit)
        columns = (self._columns * (largest * self._weight)[:, None]).clamp_(-limit, limit)
        values = torch.matmul(spread, columns).to(query.dtype)  # of the layers' words alone: the rest stays 0
        # the last axis is rounded up to 8 and cut again, which the memory-efficient CUDA kernel wants aligned
        bias = query.new_zeros((query.shape[0], 1, query.shape[2], -(-key.shape[2] // 8) * 8))
        for row, one in zip(step.conditional, values, strict=True):
            bias[row, 0, places][:, tokens] = one
            if joint and self._run.request.attend_both_ways:
                bias[row, 0, tokens, places] = one.T
        return bias[..., : key.shape[2]]

    def _tokens(self, start: int) -> slice | torch.Tensor:
        """The biased tokens among keys whose text begins at ``start``."""
        if len(self._places) == self._places[-1] - self._places[0] + 1:
            return slice(start + self._places[0], start + self._places[-1] + 1)
        return self._token + start

    @staticmethod
    def _spread_over(shares: torch.Tensor) -> torch.Tensor:
        """U (N, L+1) for what each cell of a grid has of each layer (L, h, w)."""
        columns = shares.flatten(1)
        return torch.cat([columns, torch.ones_like(columns[:1])]).T.contiguous()

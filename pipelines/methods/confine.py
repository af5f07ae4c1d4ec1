"""Words that are seen only where they belong: further chunks of the prompt, and negative words of a layer.

A key k of the text gets log v(p) added to its logits at place p, where v is how much of it is to be seen there: a
softmax then weighs it by v. Inside a layer's visible mask v is 1 and nothing is added; outside it is 0 and the
attention is exactly 0; a cell that the mask's edge crosses sees it by its share. Ours, and hard on purpose: a negative
word that leaks would take the thing away from the rest of the picture too, and how much it counts inside is what
guidance is for.

In joint attention the words look at each other, so there no text but the phrase itself sees its keys: otherwise it
would reach the rest of the picture through them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.methods.base import Inputs, Method, Reach, Run, Step, area_resized, grids, word_count


def seen(masks: torch.Tensor, inside: bool) -> torch.Tensor:
    """v (N,) of visible masks (layers, N) in 0..1, which share each place between them; no layers see nothing."""
    together = masks.sum(0).clamp(0, 1)
    return together if inside else 1 - together


def role_rows(step: Step, role: str) -> list[int]:
    """The batch rows that `Reach.rows` means in a call."""
    if role == "prompt":
        return list(step.conditional)
    if role == "reference":
        return list(step.references.values())
    conditional = set(step.conditional)
    return [row for branch in step.branches for row in branch if row not in conditional]


class Confine(Method):
    """Adds log v to the logits of the keys that `Run.reaches` names; all of it is built before the first step."""

    order = 11

    def begin(self, run: Run, kernel: Kernel) -> None:
        """Build log v for each token grid; nothing is installed where every key is seen everywhere."""
        self._step: Step | None = None
        self._words: int | None = None
        self._keys: dict[str, torch.Tensor] = {}
        self._owners: dict[str, torch.Tensor] = {}
        self._places: dict[str, dict[int, torch.Tensor]] = {}
        self._texts: dict[str, torch.Tensor] = {}
        self._last = max((key for reach in run.reaches for key in reach.keys), default=-1)
        named = sorted({layer for reach in run.reaches for layer in reach.layers})
        layers = run.request.layers
        masks = {layer: torch.from_numpy(run.pictures.get(layers[layer].mask).copy()) for layer in named}
        for role in ("prompt", "negative", "reference"):
            own = [reach for reach in run.reaches if reach.rows == role]
            if own:
                self._build(run, role, own, masks)
        if self._keys:
            kernel.logit_bias.append(self.logit_bias)

    def _build(self, run: Run, role: str, own: Sequence[Reach], masks: dict[int, torch.Tensor]) -> None:
        device = run.device
        keys = [key for reach in own for key in reach.keys]
        owner = torch.tensor([number for number, reach in enumerate(own) for _ in reach.keys], device=device)
        self._keys[role], self._owners[role] = torch.tensor(keys, device=device), owner
        closed = torch.full((len(keys), len(keys)), float("-inf"), device=device)
        self._texts[role] = closed.masked_fill(owner[:, None] == owner, 0.0)
        self._places[role] = {}
        for h, w in grids(run.latent_size):
            columns = []
            for reach in own:
                shares = [area_resized(masks[layer][None] / 255, (h, w)).flatten() for layer in reach.layers]
                columns.append(seen(torch.stack(shares) if shares else torch.zeros(0, h * w), reach.inside))
            self._places[role][h * w] = torch.stack(columns, 1).log().to(device)

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        """Note which rows are whose, and how many keys are words."""
        self._step, self._words = step, word_count(inputs)

    def logit_bias(
        self, site: Site, query: torch.Tensor, key: torch.Tensor, scale: float
    ) -> torch.Tensor | None:
        """(B, 1, N, T) where text is looked at: 0 but for the keys that are confined; None elsewhere."""
        step, joint = self._step, site.joint
        if not (site.cross or joint) or step is None:
            return None
        if site.cross and self._words is not None and key.shape[2] != self._words:
            return None  # no words: an IP-Adapter's picture prompt
        places = joint.image(query.shape[2], step.latent_size) if joint else slice(0, query.shape[2])
        start = joint.text_start(step.latent_size) if joint else 0
        if start + self._last >= key.shape[2]:
            return None
        padded = -(-key.shape[2] // 8) * 8  # as in layer attention: what the memory-efficient kernel wants
        bias: torch.Tensor | None = None
        for role, keys in self._keys.items():
            rows, spread = role_rows(step, role), self._places[role].get(places.stop - places.start)
            if spread is None or not rows:
                continue
            if bias is None:
                bias = query.new_zeros((query.shape[0], 1, query.shape[2], padded))
            columns = keys + start
            for row in rows:
                own = bias[row, 0]
                if joint:
                    own[:, columns] = float("-inf")
                    own[columns[:, None], columns] = self._texts[role].to(own.dtype)
                own[places, columns] = spread.to(own.dtype)[:, self._owners[role]]
        return None if bias is None else bias[..., : key.shape[2]]

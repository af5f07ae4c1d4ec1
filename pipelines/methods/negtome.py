"""NegToMe: features pushed away from their best match.

Negative Token Merging (arXiv 2412.01339, figure 3c): for each token f of the output find the reference token r with the
largest cosine; where that exceeds the threshold, f ← (1 + α) f − α r. `Spread` takes the other images of the batch as
reference, by default all at once and symmetrically (ours: in the release image 0 is the reference and never moves,
which ``spread_match`` "first" repeats); `Avoid` takes reference rows (`reference_rows`). Matching stays inside a
guidance branch. Acts on the output of self-attention before its linear layer, with which the push commutes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.methods.acting import is_large_enough
from pipelines.methods.base import Inputs, Method, Run, Step, area_resized, grid_of, grids
from pipelines.methods.thinning import picked, thinned, thins
from pipelines.methods.vary import token_alpha, varying_layers, varying_masks

CHUNK = 1024
"""Source tokens matched at once: memory is CHUNK × reference tokens, the arithmetic the same."""


def match(
    source: torch.Tensor, reference: torch.Tensor, allowed: torch.Tensor | None = None, axis: str = "source"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Best partner by cosine: source (N, D), reference (M, D) → similarity (N,), index into reference (N,).

    ``allowed`` (M,) bool leaves reference tokens out. ``axis="source"`` is the paper's wording: the largest over the
    reference for each source token. ``"released"`` repeats the released code, which takes the largest over the
    *source* for each reference token and reads that index in the reference (needs N = M; kept for comparison).

    In float32 whatever the features are, and at most 1: half precision makes NaN of a token of zeros, which is then
    everybody's largest, and cosines above 1, which a threshold of 1 would let through.
    """
    unit_reference = _unit(reference)
    if axis == "released":
        return _largest(_unit(source), unit_reference, allowed, dim=-2)
    parts = [
        _largest(_unit(source[start : start + CHUNK]), unit_reference, allowed, dim=-1)
        for start in range(0, len(source), CHUNK)
    ]
    best, index = zip(*parts, strict=True)
    return torch.cat(best), torch.cat(index)


def _unit(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features.float(), dim=-1)


def _largest(
    source: torch.Tensor, reference: torch.Tensor, allowed: torch.Tensor | None, dim: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest cosine of unit vectors along ``dim`` of (source, reference), and its index there."""
    similarity = source @ reference.T
    if allowed is not None:
        similarity = similarity.masked_fill(~allowed[None], float("-inf"))
    best, index = similarity.max(dim=dim)
    return best.clamp_max(1), index


def push(
    source: torch.Tensor,
    reference: torch.Tensor,
    alpha: float | torch.Tensor,
    threshold: float,
    allowed: torch.Tensor | None = None,
    axis: str = "source",
) -> torch.Tensor:
    """α (f − r) where the cosine exceeds ``threshold``, else 0: source (N, D), reference (M, D) → (N, D).

    ``alpha`` > 0 pushes away, < 0 pulls towards; a number or (N,).
    """
    similarity, index = match(source, reference, allowed, axis)
    strength = (similarity > threshold).to(source.dtype) * alpha
    return strength[:, None] * (source - reference[index])


class _InSelfAttention(Method):
    """What spread and avoid share: where and when they act."""

    def begin(self, run: Run, kernel: Kernel) -> None:
        self._run = run
        self._step: Step | None = None
        kernel.map_output.append(self.map_output)

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        """Remember the step where this acts in it."""
        self._step = step if self.acts(step) else None

    def acts(self, step: Step) -> bool:
        """Only the first ``active_steps`` count."""
        return step.index - self._run.first < self._run.active_steps

    def map_output(self, site: Site, out: torch.Tensor) -> torch.Tensor:
        """Heads joined to features, pushed, and split again; the same tensor where nothing is to be done."""
        step = self._step
        if step is None or site.cross or site.part not in self.parts():
            return out
        joint = site.joint
        if joint:  # the words stay where they are
            grid: tuple[int, int] | None = joint.grid(step.latent_size)
            places = joint.image(out.shape[2], step.latent_size)
        else:
            places = slice(0, out.shape[2])
            grid = grid_of(out.shape[2], step.latent_size)
            if grid is None or not is_large_enough(grid, self._run.card, step.latent_size):
                return out
        image = out[:, :, places]
        rows, heads, tokens, size = image.shape
        features = image.transpose(1, 2).reshape(rows, tokens, heads * size)
        assert grid is not None
        moved = self.moved(features, step, grid)
        moved = moved.reshape(rows, tokens, heads, size).transpose(1, 2).to(out.dtype)
        if tokens == out.shape[2]:
            return moved
        return torch.cat([out[:, :, : places.start], moved, out[:, :, places.stop :]], 2)

    def parts(self) -> tuple[str, ...]:
        """The parts of the denoiser in which this acts: what the model card says."""
        return self._run.card.negtome_blocks

    def moved(self, features: torch.Tensor, step: Step, grid: tuple[int, int]) -> torch.Tensor:
        """(rows, N, D) → (rows, N, D), computed from unmoved features."""
        raise TypeError("a method that moves features says how")


class Spread(_InSelfAttention):
    """Away from the other images of the batch: over the whole picture, and inside the layers that vary.

    The reference of an image is, by ``spread_match``: "all", the other images together, so that each token has the best
    of all their tokens as its partner (with the released axis, which knows one reference only, the mean of the pushes
    from each); "nearest", the one image whose tokens match best on average, so that a push does not mix partners of
    several pictures; "first", the paper's rule, image 0 of each branch, which does not move itself.
    ``spread_every`` n > 1 matches with every n-th token of a reference only: as many comparisons fewer. Else fine grids
    are thinned where the model card says so (`thinning`).

    By ``spread_by`` "push", as in the paper, in the rows of every guidance branch; by "guidance", ours, the rows of the
    negative branch are pulled towards the other images and guidance steers apart, as `Avoid` does and for its reason.
    """

    order = 30
    joint = True

    def begin(self, run: Run, kernel: Kernel) -> None:
        super().begin(run, kernel)
        layers = varying_layers(run)
        # one for each token where layers vary; all at once, as in `Avoid.begin`
        self._alphas: dict[tuple[int, int], torch.Tensor] = {}
        if layers:
            masks = varying_masks(run)
            self._alphas = {
                grid: token_alpha(run.request.spread, layers, masks, grid) for grid in grids(run.latent_size)
            }

    def moved(self, features: torch.Tensor, step: Step, grid: tuple[int, int]) -> torch.Tensor:
        request = self._run.request
        alpha = self._alphas[grid] if self._alphas else request.spread
        if isinstance(alpha, torch.Tensor):
            alpha = alpha.to(features.dtype)
        branches = step.branches
        if request.spread_by == "guidance":
            alpha = alpha / max(1.0, step.steering)
            if step.steers:
                branches = [branch for branch in branches if not set(branch) & set(step.conditional)]
                alpha = -alpha
        if not branches:
            return features
        reference = self._reference(features, grid)
        out = features.clone()
        for branch in branches:
            for row in branch:
                partners = self._partners(features, reference, branch, row)
                if not partners:
                    continue
                if request.axis == "released":
                    pushes = [
                        push(features[row], features[other], alpha, request.spread_threshold, axis="released")
                        for other in partners
                    ]
                    out[row] += torch.stack(pushes).mean(0)
                else:
                    # not by a list of rows, which a GPU would have to wait for
                    others = torch.cat([reference[other] for other in partners])
                    out[row] += push(features[row], others, alpha, request.spread_threshold)
        return out

    def parts(self) -> tuple[str, ...]:
        """Those that the request names, else what the model card says."""
        return self._run.request.spread_parts or super().parts()

    def _reference(self, features: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """What of each row others are matched with: (rows, N, D) → (rows, M, D)."""
        request = self._run.request
        if request.spread_every == 1 and thins(self._run.card, request, grid):
            return thinned(features, grid)
        return features[:, :: request.spread_every]

    def _partners(
        self, features: torch.Tensor, reference: torch.Tensor, branch: list[int], row: int
    ) -> list[int]:
        """The rows that ``row`` is pushed away from; none for one that does not move."""
        request = self._run.request
        others = [other for other in branch if other != row]
        if request.spread_match == "first":
            return [branch[0]] if row != branch[0] else []
        if request.spread_match == "nearest" and len(others) > 1:
            return [
                max(
                    others,
                    key=lambda other: float(
                        match(features[row], reference[other], axis=request.axis)[0].mean()
                    ),
                )
            ]
        return others


@dataclass
class _Reach:
    """``allowed`` of the reference's tokens count; ``places`` of them are compared, None for all on their grid."""

    allowed: torch.Tensor | None
    inside: torch.Tensor
    places: torch.Tensor | None = None


class Avoid(_InSelfAttention):
    """Away from reference pictures, whose rows `reference_rows` adds to the batch while this acts.

    By "push", as in the paper: α (f − r) is added in the rows of every guidance branch. α below 0 is the same towards
    the reference, which the paper calls style guidance; a blurred copy to be avoided is its quality guidance.

    By "guidance": the rows of the negative branch are pulled towards the reference, f + α (r − f) / max(1, s), so that
    guidance steers the picture away. Ours, because the prompt's rows keep their features: at strong settings less of
    what the prompt asks for is lost, at gentle ones the two are alike (docs/architecture.md). The guided output
    c + (g − 1) (c − u) moves by s = g − 1 times what u moves by (`Step.steering`), so the divisor gives α the same
    weight at every guidance from 2 on (s of 1), that of a push of the picture itself. It is never under 1, lest a
    guidance near 1 pull without bound: there the weight is s, and shrinks with the guidance. Without guidance there is
    no such branch, and it is a push; in a step that a guidance interval leaves out it is a push divided in the same
    way, as an α that is right for guidance would there be s times too much for the features.
    """

    order = 40

    def begin(self, run: Run, kernel: Kernel) -> None:
        super().begin(run, kernel)
        # all at once: built inside a compiled forward they would compile it again at the next step
        self._reaches = {
            (grid, number): self._reach(grid, number)
            for grid in grids(run.latent_size)
            for number in range(len(run.request.avoids))
        }

    def _reach(self, grid: tuple[int, int], number: int) -> _Reach:
        """Which reference tokens count, and how much each output token is to move, for avoid ``number``."""
        run, avoid = self._run, self._run.request.avoids[number]
        allowed = None
        if avoid.mask is not None:
            mask = torch.from_numpy(run.pictures.get(avoid.mask).copy()).to(run.device)
            cover = area_resized(mask[None] / 255, grid).flatten()
            allowed = cover > min(0.5, float(cover.max()) / 2)
        inside = torch.ones(grid[0] * grid[1], device=run.device)
        if avoid.layer is not None:
            layer = run.request.layers[avoid.layer]
            mask = torch.from_numpy(run.pictures.get(layer.mask).copy()).to(run.device)
            inside = area_resized(mask[None] / 255, grid).flatten()
        if allowed is not None and bool(allowed.any()) and thins(run.card, run.request, grid):
            return _Reach(None, inside, picked(allowed, grid))
        return _Reach(allowed, inside)

    def acts(self, step: Step) -> bool:
        """Where a reference is in the batch: each has a window of its own."""
        return bool(step.references)

    def _reference(self, features: torch.Tensor, grid: tuple[int, int], reach: _Reach) -> torch.Tensor:
        """What of a reference's row (1, N, D) is matched with: (M, D)."""
        if reach.places is not None:
            return features[0, reach.places]
        if reach.allowed is None and thins(self._run.card, self._run.request, grid):
            return thinned(features, grid)[0]
        return features[0]

    def moved(self, features: torch.Tensor, step: Step, grid: tuple[int, int]) -> torch.Tensor:
        request = self._run.request
        rows, sign = list(range(step.rows)), 1.0
        if request.avoid_by == "guidance":
            sign = 1 / max(1.0, step.steering)
            if step.steers:
                rows = [row for row in rows if row not in step.conditional]
                sign = -sign
        out = features.clone()
        for number, reference_row in step.references.items():
            avoid, reach = request.avoids[number], self._reaches[grid, number]
            alpha = (sign * avoid.alpha * reach.inside).to(features.dtype)
            reference = self._reference(features[reference_row : reference_row + 1], grid, reach)
            for row in rows:
                out[row] += push(
                    features[row],
                    reference,
                    alpha,
                    avoid.threshold,
                    reach.allowed,
                    request.axis,
                )
        return out

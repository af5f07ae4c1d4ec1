"""Methods that look at themselves during whole runs: what their attention is, which rows and places they move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Loaded
from pipelines.methods.base import Inputs, Method, Run, Step, area_resized, grid_of
from pipelines.methods.layer_attention import LayerAttention
from pipelines.methods.negtome import Avoid, Spread, match
from pipelines.methods.reference_rows import ReferenceRows
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from tests.pipelines.methods.merging import similar
from tests.pipelines.runs import sampled


@contextmanager
def ids_read(encoders: Mapping[str, Any]) -> Iterator[dict[str, list[int]]]:
    """The token ids that text encoders read meanwhile, by their names, all calls after one another."""
    read: dict[str, list[int]] = {name: [] for name in encoders}

    def noting(name: str) -> Callable[..., None]:
        def note(module: Any, args: Any, kwargs: Any) -> None:
            read[name] += (args[0] if args else kwargs["input_ids"])[0].tolist()

        return note

    handles = [
        encoder.register_forward_pre_hook(noting(name), with_kwargs=True)
        for name, encoder in encoders.items()
    ]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def first_mask(run: Run) -> torch.Tensor:
    """(1, H, W) in 0..1 of the first layer."""
    return torch.from_numpy(run.pictures.get(run.request.layers[0].mask).copy())[None] / 255


def outside_of(run: Run, grid: tuple[int, int]) -> torch.Tensor:
    """Places of a grid that have nothing of the first layer."""
    return (area_resized(first_mask(run), grid).flatten() == 0).nonzero().flatten()


class Hard(LayerAttention):
    """Layer attention of overwhelming weight that looks at what the softmax makes of it, on every family.

    ``outside`` is the most attention that places outside the first layer's mask pay to its words, a number a word;
    ``stock_outside`` what they paid without it; ``untouched`` whether no other row has a bias.
    """

    def begin(self, run: Run, kernel: Kernel) -> None:
        super().begin(run, kernel)
        self.outside: list[float] = []
        self.stock_outside: list[float] = []
        self.untouched: list[bool] = []

    def before_forward(self, step: Step, inputs: Inputs) -> None:
        super().before_forward(step, inputs)
        self._weight.fill_(1e6)

    def logit_bias(
        self, site: Site, query: torch.Tensor, key: torch.Tensor, scale: float
    ) -> torch.Tensor | None:
        bias = super().logit_bias(site, query, key, scale)
        if not (site.cross or site.joint):
            assert bias is None
            return None
        step, joint, run = self._step, site.joint, self._run
        assert step is not None
        if bias is None:
            self.untouched.append(not len(step.conditional))
            return None
        others = [row for row in range(step.rows) if row not in list(step.conditional)]
        self.untouched.append(not bias[others].any())
        rows = step.conditional
        places = joint.image(query.shape[2], step.latent_size) if joint else slice(0, query.shape[2])
        grid = joint.grid(step.latent_size) if joint else grid_of(query.shape[2], step.latent_size)
        assert grid is not None
        away = outside_of(run, grid) + places.start
        own = torch.tensor(run.tokens[0]) + (joint.text_start(step.latent_size) if joint else 0)
        logits = query[rows] @ key[rows].transpose(-1, -2) * scale
        # a word that no place of the picture asks for has no largest logit to scale by, and so no bias
        asked = logits[:, :, places][..., own].amax((1, 2)) > 0
        for into, added in ((self.outside, bias[rows]), (self.stock_outside, 0 * bias[rows])):
            chances = (logits + added).softmax(-1)[:, :, away][..., own].amax((1, 2))
            into += chances[asked].tolist()
        return bias


def first_predictions(
    loaded: Loaded, requests: list[RenderRequest], store: PictureStore
) -> tuple[list[bool], list[bool]]:
    """Of the first of two steps, for each row of the denoiser's batch: whether it is the prompt's, and whether its
    prediction is the same number by number for both requests, run with layer attention.
    """
    outputs: list[list[torch.Tensor]] = []
    roles: list[list[int]] = []

    class Roles(LayerAttention):
        def before_forward(self, step: Step, inputs: Inputs) -> None:
            super().before_forward(step, inputs)
            roles.append(list(step.conditional))

    def note(module: Any, args: Any, kwargs: Any, out: Any) -> None:
        outputs[-1].extend(out[0])

    handle = loaded.family.denoiser(loaded.pipe).register_forward_hook(note, with_kwargs=True)
    try:
        for request in requests:
            assert request.steps == 2
            outputs.append([])
            sampled(loaded, request, store, [Roles()])
    finally:
        handle.remove()
    first = len(roles) // 4  # calls of the first of two steps of two runs
    each = len(outputs[0]) // (2 * first)
    conditional = [bool(k in rows) for rows in roles[:first] for k in range(each)]
    same = [torch.equal(a, b) for a, b in zip(*outputs, strict=True)]
    return conditional, same[: len(conditional)]


class WatchedSpread(Spread):
    """``checked`` are the parts in which it moved features of the picture's own attention, and of nothing else;
    ``moved_rows`` counts the rows that it moved, by whether they are the prompt's, where guidance has two sides.
    """

    def __init__(self) -> None:
        self.checked: list[str] = []
        self.moved_rows = {True: 0, False: 0}

    def map_output(self, site: Site, out: torch.Tensor) -> torch.Tensor:
        new = super().map_output(site, out)
        step = self._step
        if step is None:
            return new
        if site.cross:
            assert new is out, "what is read of the words stays"
            return new
        if site.joint:
            words = torch.ones(out.shape[2], dtype=torch.bool)
            words[site.joint.image(out.shape[2], step.latent_size)] = False
            assert words.any() and torch.equal(new[:, :, words], out[:, :, words])
        if new is not out:
            moved = [not torch.equal(new[row], out[row]) for row in range(step.rows)]
            if any(moved):
                self.checked.append(site.part)
            if step.steers:
                for row, one in enumerate(moved):
                    self.moved_rows[row in step.conditional] += one
        return new


class WatchedAvoid(Avoid):
    """``inside`` tells, a call, whether features inside the first layer's mask moved; outside none may, nor may the
    reference's own, nor by guidance the prompt's.
    """

    def __init__(self) -> None:
        self.inside: list[bool] = []

    def moved(self, features: torch.Tensor, step: Step, grid: tuple[int, int]) -> torch.Tensor:
        new = super().moved(features, step, grid)
        if step.references:
            if self._run.request.avoid_by == "guidance" and step.steers:
                assert torch.equal(new[step.conditional], features[step.conditional]), "the prompt's rows"
            away = outside_of(self._run, grid)
            assert torch.equal(new[:, away], features[:, away])
            assert torch.equal(new[step.rows :], features[step.rows :]), "nor does the reference"
            self.inside.append(not torch.equal(new, features))
        return new


class _Found(Exception):
    """Ends a run in which all is seen."""


def first_distance(loaded: Loaded, request: RenderRequest, store: PictureStore) -> float:
    """Of joint attention that spread or avoid has moved: 1 − cosine of an image token and its match, in the mean.

    In the first call in which rows move, those of the prompt or by guidance the negative ones; their matches are the
    reference's tokens, or the other image's.
    """
    kind: Any = Avoid if request.avoids else Spread
    by = request.avoid_by if request.avoids else request.spread_by

    class Noted(kind):  # type: ignore[misc]
        def map_output(self, site: Site, out: torch.Tensor) -> torch.Tensor:
            new: torch.Tensor = super().map_output(site, out)
            step, joint = self._step, site.joint
            if step is None or joint is None:
                return new
            pulled = by == "guidance" and step.steers
            rows = [row for row in range(step.rows) if (row in step.conditional) != pulled]
            if not rows:
                return new
            places = joint.image(out.shape[2], step.latent_size)
            tokens = new[:, :, places].transpose(1, 2).flatten(2)
            if request.avoids:
                raise _Found(1 - float(match(tokens[rows[0]], tokens[step.references[0]])[0].mean()))
            raise _Found(1 - similar(tokens[rows]))

    methods: list[Method] = [ReferenceRows(), Noted()] if request.avoids else [Noted()]
    with pytest.raises(_Found) as found:
        sampled(loaded, request, store, methods, range(request.images))
    return float(found.value.args[0])

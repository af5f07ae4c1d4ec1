"""What is known about a model before it is loaded: data, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.models.ip_adapter import IPAdapter

SCHEDULERS = ("dpm++2m", "euler", "euler_a", "ddim", "lcm", "unipc")
FLOW_SCHEDULERS = ("flow_euler",)
"""What the transformer families run on: their own flow-matching Euler, with the shift that their config asks for."""
THIN_FROM = 2048
"""Tokens from which on a grid counts as fine: at a megapixel the finest of SDXL and FLUX has about 4096, SDXL's next
1024, in every aspect ratio; this is as far from both. Ours."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """One model, or one kind of model loaded from a folder.

    ``source`` is a folder or a hub id. ``factor`` is pixels per latent cell, ``side`` the side in pixels it was
    trained at. ``smallest_grid`` is the least side in tokens of a self-attention grid in which NegToMe acts, and
    ``negtome_blocks`` the parts of the denoiser ("down", "mid", "up" of a UNet; "double", "single" of a transformer).
    ``thin_from`` is the number of tokens of a grid from which on reference tokens are thinned to one of four
    (`methods.thinning`), None for never. ``steers_above`` is the guidance above which there is a negative branch to
    steer away from, None for never: guidance is distilled, or an input of the model. ``origin`` says where the defaults
    come from.

    ``own`` holds defaults of its words in place of those of every model (`studio.defaults.DEFAULTS`): for a few-step
    model the ``window``, the share of the steps in which NegToMe acts. ``file`` is the one
    file of a hub id that holds the whole model, ``spacing`` the timestep spacing that its scheduler's config lacks,
    ``half`` the number type off the CPU, ``tiny`` the folder or hub id of a small autoencoder for previews.
    ``least`` is the share of ``side`` down to which it still draws well: a part of a picture is not run at less. From
    ``most`` times ``side`` on things come twice, which is said: common use, looked at on the embedded model alone.
    ``controlnets`` are hub ids of the ControlNets that keep shapes, by the kind of edges (`pipelines.edges.KINDS`).
    A look is learned in ``look_steps`` of ``look_batch`` views of ``look_side`` pixels, None for ``side``: 250 of 4 in
    the released Collage Diffusion code. ``ip_adapter`` makes a cut-out a prompt, None where none is published for the
    model.
    """

    name: str
    family: str
    source: str
    side: int
    scheduler: str
    steps: int
    guidance: float
    origin: str
    schedulers: tuple[str, ...] = SCHEDULERS
    factor: int = 8
    smallest_grid: int = 32
    negtome_blocks: tuple[str, ...] = ("up",)
    thin_from: int | None = None
    steers_above: float | None = 1.0
    own: Mapping[str, float] = field(default_factory=dict)
    file: str | None = None
    spacing: str | None = None
    half: str = "float16"
    tiny: str | None = None
    least: float = 0.5
    most: float = 2.0
    controlnets: Mapping[str, str] = field(default_factory=dict)
    look_steps: int = 250
    look_batch: int = 4
    look_side: int | None = None
    ip_adapter: IPAdapter | None = None

    def steers(self, guidance: float) -> bool:
        """Whether a run with this guidance has a negative branch; without one NegToMe pushes."""
        return self.steers_above is not None and guidance > self.steers_above

    @property
    def least_side(self) -> int:
        """``least`` in pixels."""
        return round(self.least * self.side)

    @property
    def most_side(self) -> int:
        """``most`` in pixels."""
        return round(self.most * self.side)

    @property
    def folder(self) -> Path | None:
        """The local folder of ``source``, or None when it is a hub id."""
        path = Path(self.source)
        return path if path.is_dir() else None

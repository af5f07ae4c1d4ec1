"""What is known about a model before it is loaded: data, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SCHEDULERS = ("dpm++2m", "euler", "euler_a", "ddim", "lcm", "unipc")
FLOW_SCHEDULERS = ("flow_euler",)
"""What the transformer families run on: their own flow-matching Euler, with the shift that their config asks for."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """One model, or one kind of model loaded from a folder.

    ``source`` is a folder or a hub id. ``factor`` is pixels per latent cell, ``side`` the side in pixels it was
    trained at. ``smallest_grid`` is the least side in tokens of a self-attention grid in which NegToMe acts, and
    ``negtome_blocks`` the parts of the denoiser ("down", "mid", "up" of a UNet; "double", "single" of a transformer).
    ``origin`` says where the defaults come from.

    ``window`` is the share of the steps in which NegToMe acts, None for that of every model. ``file`` is the one
    file of a hub id that holds the whole model, ``spacing`` the timestep spacing that its scheduler's config lacks,
    ``half`` the number type off the CPU, ``tiny`` the folder or hub id of a small autoencoder for previews.
    A look is learned in ``look_steps`` of ``look_batch`` views of ``look_side`` pixels, None for ``side``: 250 of 4 in
    the released Collage Diffusion code.
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
    window: float | None = None
    file: str | None = None
    spacing: str | None = None
    half: str = "float16"
    tiny: str | None = None
    look_steps: int = 250
    look_batch: int = 4
    look_side: int | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder of ``source``, or None when it is a hub id."""
        path = Path(self.source)
        return path if path.is_dir() else None

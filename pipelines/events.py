"""What the engine says while it runs; the only thing that comes back before the result."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.pictures import Pixels
from pipelines.request import RenderRequest


@dataclass(frozen=True)
class Downloading:
    """The model is on its way from the hub: ``done`` of ``total`` bytes, which grows as files are begun."""

    model: str
    done: int
    total: int


@dataclass(frozen=True)
class Learning:
    """Before the run: step ``step`` of ``steps`` of learning the look of a layer is done. A look that is kept from
    before is not learned, and nothing is said.
    """

    layer: str
    step: int
    steps: int


@dataclass(frozen=True)
class Started:
    """The run begins. ``steps`` counts denoiser steps really run per image, ``prompt`` is the full prompt."""

    prompt: str
    steps: int
    images: int


@dataclass(frozen=True)
class Progress:
    """Step ``step`` of ``steps`` of image ``image`` of ``images`` is done (steps from 1, images from 0).

    In a joint run (spread, vary on) all images advance together and ``image`` is 0.
    """

    step: int
    steps: int
    image: int
    images: int


@dataclass(frozen=True)
class Preview:
    """A rough picture of what the run is heading for: uint8 (H, W, 3) at canvas size, frozen pixels exact.

    Of images that advance together only the first is shown, so that previews come at most twice a second in all.
    """

    image: int
    step: int
    picture: Pixels


@dataclass(frozen=True)
class ImageDone:
    """Image ``image`` is final; ``seed`` makes it again alone."""

    image: int
    seed: int
    picture: Pixels


@dataclass(frozen=True)
class Warned:
    """Something was ignored or will not work as asked; ``layer`` names the layer it concerns, if one."""

    message: str
    layer: str | None = None


@dataclass(frozen=True)
class RenderResult:
    """The pictures and how they came about.

    ``report`` is JSON-ready: seconds, denoiser calls, versions, threads, device, dtype, warnings;
    `pipelines.measure.numbers` adds numbers.
    """

    request: RenderRequest
    pictures: tuple[Pixels, ...]
    report: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """The run is over; always the last event of a run that was not stopped."""

    result: RenderResult


Event = Downloading | Learning | Started | Progress | Preview | ImageDone | Warned | Finished

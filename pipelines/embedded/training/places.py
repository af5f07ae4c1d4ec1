"""Places, painted by arithmetic: a seeded background for every place and time of day, without objects.

``paint(place, time, seed)`` costs about 2 ms. Sky, sun, moon and stars follow the time; everything else is
painted as by day and multiplied by :data:`TINT`, the same light that :mod:`.scenes` puts on the objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import FieldError

__all__ = ["PLACES", "PLAIN", "SIDE", "TINT", "Place", "paint", "place", "plain_colour"]

SIDE = 256
Canvas = NDArray[np.float32]
Colour = tuple[float, float, float]

TINT: Mapping[str, Colour] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.72, 0.55),
    "night": (0.38, 0.42, 0.68),
}
"""What the light of each time multiplies every surface by (linear in sRGB values: a look, not physics)."""

PLAIN: Mapping[str, Colour] = {
    "white": (240, 240, 240),
    "grey": (158, 158, 158),
    "red": (214, 69, 60),
    "blue": (70, 120, 222),
    "green": (88, 176, 92),
    "yellow": (246, 214, 96),
    "orange": (246, 150, 62),
    "pink": (246, 166, 200),
    "purple": (150, 104, 200),
}
"""Plain backgrounds by their colour word, by daylight."""

_SKY: Mapping[str, tuple[Colour, Colour]] = {
    "day": ((104, 176, 246), (196, 224, 250)),
    "sunset": ((96, 70, 140), (255, 150, 96)),
    "night": (((10, 12, 36)), (30, 36, 84)),
}
_X = np.arange(SIDE, dtype=np.float32)
_Y = np.arange(SIDE, dtype=np.float32)[:, None]


@dataclass(frozen=True)
class Place:
    """One place: where ground begins (rows from the top; None without ground), its times, and its painter.

    A painter fills a float32 canvas (0 to 255) as by day; it gets the canvas (holding the sky, or a plain
    colour where there is none), the time and a generator.
    """

    name: str
    ground: int | None
    painter: Callable[[Canvas, str, np.random.Generator], None]
    sky: bool = True
    times: tuple[str, ...] = ("day", "sunset", "night")


def _blend(img: Canvas, cover: Canvas, colour: Canvas | Colour, top: int = 0) -> None:
    """Paint ``colour`` over rows from ``top`` with coverage 0 to 1 (rows×256)."""
    part = img[top : top + cover.shape[0]]
    part += cover[..., None] * (np.asarray(colour, np.float32) - part)


def _below(img: Canvas, edge: Canvas, colour: Colour, shade: float = 0.0) -> None:
    """Fill everything below the curve ``edge`` (one height per column), darker by ``shade`` at the bottom."""
    top = max(0, int(edge.min()) - 1)
    rows = _Y[top:]
    cover = np.clip(rows - edge + 0.5, 0.0, 1.0)
    tone: Canvas = np.asarray(colour, np.float32)
    if shade:
        tone = tone * (1.0 - shade * (rows - top) / (SIDE - top))[..., None].astype(np.float32)
    _blend(img, cover, tone, top)


def _wave(rng: np.random.Generator, mean: float, height: float, waves: float) -> Canvas:
    """A soft curve around ``mean``: two sines with random phases."""
    a, b = rng.uniform(0, 2 * np.pi, 2)
    x = _X * (2 * np.pi / SIDE)
    curve = mean + height * (0.7 * np.sin(waves * x + a) + 0.3 * np.sin(2.3 * waves * x + b))
    return np.asarray(curve, np.float32)


def _disc(img: Canvas, x: float, y: float, radius: float, colour: Colour, soft: float = 0.7) -> None:
    """A filled circle with an edge ``soft`` pixels wide."""
    r = int(radius + soft + 2)
    y0, y1, x0, x1 = max(0, int(y) - r), min(SIDE, int(y) + r), max(0, int(x) - r), min(SIDE, int(x) + r)
    if y0 >= y1 or x0 >= x1:
        return
    d = np.sqrt((_Y[y0:y1] - y) ** 2 + (_X[x0:x1] - x) ** 2)
    part = img[y0:y1, x0:x1]
    part += np.clip((radius - d) / soft + 0.5, 0.0, 1.0)[..., None] * (np.asarray(colour, np.float32) - part)


def _ridge(rng: np.random.Generator, base: float, height: float, peaks: int) -> Canvas:
    """A zigzag of mountains: the upper edge of ``peaks`` triangles."""
    centre = (np.arange(peaks) + rng.uniform(0.1, 0.9, peaks)) * (SIDE / peaks)
    top = height * rng.uniform(0.55, 1.0, peaks)
    slope = rng.uniform(0.75, 1.15, peaks)
    peak = (top[:, None] - slope[:, None] * np.abs(_X - centre[:, None])).max(0)
    return np.asarray(base - peak.clip(0), np.float32)


def _heaven(time: str, rng: np.random.Generator) -> Canvas:
    top, bottom = (np.asarray(c, np.float32) for c in _SKY[time])
    img = np.empty((SIDE, SIDE, 3), np.float32)
    img[:] = top + (bottom - top) * np.clip(_Y / 165, 0, 1)[..., None]
    x = rng.uniform(24, SIDE - 24)
    if time == "day":
        _disc(img, x, rng.uniform(22, 60), 15, (255, 238, 140), soft=1.5)
        for _ in range(rng.integers(0, 3)):
            cx, cy, s = rng.uniform(10, 246), rng.uniform(18, 80), rng.uniform(0.7, 1.2)
            for dx, r in ((-15, 8), (0, 12), (14, 9)):
                _disc(img, cx + dx * s, cy - (r - 8) * 0.4 * s, r * s, (250, 252, 255), soft=2.5)
    elif time == "sunset":
        _disc(img, x, 128, 62, (255, 186, 110), soft=90)
        _disc(img, x, rng.uniform(92, 122), 21, (255, 206, 84), soft=1.5)
    else:
        for sx, sy, b in rng.uniform(0, 1, (26, 3)):
            _disc(img, sx * 255, sy * 140, 1.0 + 0.5 * b, (225, 228, 250), soft=1.4)
        y = rng.uniform(24, 56)
        _disc(img, x, y, 13, (240, 238, 208), soft=1.5)
        _disc(img, x + 6, y - 4, 11, (22, 26, 64), soft=1.5)
    return img


def _meadow(img: Canvas, time: str, rng: np.random.Generator) -> None:
    _below(img, _wave(rng, rng.uniform(138, 150), 12, 1.2), (112, 184, 92))
    _below(img, _wave(rng, 162, 6, 0.9), (92, 172, 74), 0.22)
    for x, y in zip(rng.uniform(4, 252, 7), rng.uniform(182, 250, 7), strict=True):
        petal = ((250, 250, 250), (250, 220, 90), (246, 150, 180))[rng.integers(3)]
        _disc(img, x, y, 2.2, petal, soft=1.2)


def _beach(img: Canvas, time: str, rng: np.random.Generator) -> None:
    horizon = rng.uniform(118, 130)
    _below(img, np.full(SIDE, horizon, np.float32), (38, 128, 200), -0.35)
    shore = _wave(rng, 172, 5, 0.8)
    _below(img, shore - 4, (222, 240, 246))
    _below(img, shore, (232, 208, 150), 0.1)


def _desert(img: Canvas, time: str, rng: np.random.Generator) -> None:
    _below(img, _wave(rng, rng.uniform(140, 150), 14, 1.1), (236, 192, 120))
    _below(img, _wave(rng, 164, 8, 0.8), (222, 170, 98), 0.12)


def _snow(img: Canvas, time: str, rng: np.random.Generator) -> None:
    _below(img, _wave(rng, rng.uniform(136, 148), 11, 1.2), (206, 220, 234))
    for x, h in zip(rng.uniform(0, 256, 3), rng.uniform(26, 40, 3), strict=True):
        _fir(img, float(x), 166, float(h), (120, 158, 160))
    _below(img, _wave(rng, 164, 6, 0.8), (240, 245, 250), 0.06)


def _fir(img: Canvas, x: float, base: float, height: float, colour: Colour) -> None:
    """A fir tree: three triangles."""
    y0, y1 = int(base - height), int(base)
    x0, x1 = max(0, int(x - height)), min(SIDE, int(x + height))
    if x0 >= x1:
        return
    t = (_Y[y0:y1] - (base - height)) / height
    half = height * 0.34 * (0.25 + 0.75 * t) * (0.55 + 0.45 * ((t * 3) % 1.0))
    part = img[y0:y1, x0:x1]
    part += np.clip(half - np.abs(_X[x0:x1] - x) + 0.5, 0, 1)[..., None] * (
        np.asarray(colour, np.float32) - part
    )


def _city(img: Canvas, time: str, rng: np.random.Generator) -> None:
    street, x = 166, int(-rng.integers(0, 18))
    while x < SIDE:
        width, height = int(rng.integers(26, 44)), int(rng.integers(52, 122))
        grey = float(rng.uniform(112, 160))
        x0, x1, top = max(0, x), min(SIDE, x + width - 2), street - height
        if x1 - x0 > 1:
            img[top:street, x0:x1] = (grey, grey * 1.02, grey * 1.08)
            for wx in range(x + 5, x + width - 8, 9):
                for wy in range(top + 7, street - 10, 12):
                    if wx >= 0 and wx + 4 <= SIDE and rng.random() < 0.72:
                        img[wy : wy + 6, wx : wx + 4] = _WINDOW[time]
        x += width
    img[street:] = (104, 104, 112)
    img[street : street + 4] = (172, 172, 176)
    for wx in range(int(rng.integers(-20, 20)), SIDE, 56):
        img[212:216, max(0, wx) : max(0, wx + 28)] = (206, 206, 200)


# Divided by the tint where windows are lit, so that they glow after everything has been tinted.
_WINDOW: Mapping[str, Colour] = {
    "day": (206, 226, 240),
    "sunset": (255, 214 / 0.72, 120 / 0.55),
    "night": (255 / 0.38, 214 / 0.42, 110 / 0.68),
}


def _forest(img: Canvas, time: str, rng: np.random.Generator) -> None:
    for base, low, high, count, green in ((150, 62, 112, 11, (44, 110, 78)), (168, 48, 84, 9, (30, 86, 58))):
        xs = (np.arange(count) + rng.uniform(0.2, 0.8, count)) * (SIDE / count)
        for x, h in zip(xs, rng.uniform(low, high, count), strict=True):
            _fir(img, float(x), base, float(h), green)
        _below(img, np.full(SIDE, base - 4, np.float32), green)
    _below(img, _wave(rng, 168, 4, 0.9), (104, 140, 72), 0.25)


def _mountains(img: Canvas, time: str, rng: np.random.Generator) -> None:
    ridge = _ridge(rng, 166, 118, 4)
    _below(img, ridge, (126, 134, 150))
    snow = np.clip((112 - ridge) * 0.45, 0, 22)
    top = int(ridge.min())
    jag = 4 * np.abs(((_X / 9) % 2) - 1)
    rows = _Y[top:166]
    cap = np.clip(rows - ridge + 0.5, 0, 1) * np.clip(ridge + snow + jag * (snow > 2) - rows, 0, 1)
    _blend(img, cap, (244, 248, 252), top)
    _below(img, _ridge(rng, 170, 60, 5), (98, 108, 120))
    _below(img, _wave(rng, 166, 5, 0.9), (120, 160, 96), 0.2)


def _room(img: Canvas, time: str, rng: np.random.Generator) -> None:
    wall = ((236, 222, 200), (206, 222, 232), (222, 206, 226))[rng.integers(3)]
    x = 30 if rng.random() < 0.5 else 150
    view = img[36:106, x : x + 76].copy()
    img[:168] = wall
    img[30:112, x - 6 : x + 82] = (250, 250, 246)
    img[36:106, x : x + 76] = view
    img[36:106, x + 36 : x + 40] = (250, 250, 246)
    img[160:168] = (250, 248, 242)
    img[168:] = (176, 124, 84)
    for y in (182, 202, 226):
        img[y : y + 2] = (152, 104, 70)


def _underwater(img: Canvas, time: str, rng: np.random.Generator) -> None:
    shallow, deep = np.array([(70, 180, 220), (14, 72, 150)], np.float32)
    img[:] = shallow + (deep - shallow) * np.clip(_Y / 210, 0, 1)[..., None]
    _below(img, _wave(rng, 190, 7, 0.9), (214, 190, 130), 0.2)
    for x, h in zip(rng.uniform(6, 250, 4), rng.uniform(40, 90, 4), strict=True):
        y = np.arange(int(200 - h), 200, dtype=np.float32)[:, None]
        half = 4.5 * np.clip((y - (200 - h)) / 20, 0, 1)
        _blend(
            img, np.clip(half - np.abs(_X - x - 5 * np.sin(y / 9)) + 0.5, 0, 1), (40, 140, 96), int(200 - h)
        )
    for x, y, r in zip(rng.uniform(8, 248, 7), rng.uniform(14, 170, 7), rng.uniform(3, 6, 7), strict=True):
        _disc(img, x, y, r, (176, 224, 244), soft=1.5)


def _space(img: Canvas, time: str, rng: np.random.Generator) -> None:
    img[:] = np.array((14, 10, 34), np.float32) + np.array((18, 8, 36), np.float32) * (_Y / SIDE)[..., None]
    for x, y, b in rng.uniform(0, 1, (44, 3)):
        _disc(img, x * 255, y * 255, 0.9 + 0.6 * b, (226, 228, 250), soft=1.4)
    colour = ((222, 130, 84), (110, 160, 216), (196, 160, 220))[rng.integers(3)]
    x, y, r = rng.uniform(20, 236), rng.uniform(20, 236), rng.uniform(16, 30)
    _disc(img, x, y, r, colour, soft=1.5)
    red, green, blue = (min(255.0, 1.15 * c) for c in colour)
    _disc(img, x - r * 0.25, y - r * 0.25, r * 0.55, (red, green, blue), soft=r * 0.6)


def _clouds(img: Canvas, time: str, rng: np.random.Generator) -> None:
    for _ in range(6):
        x, y, s = rng.uniform(0, 256), rng.uniform(60, 250), rng.uniform(1.2, 2.2)
        for dx, r in ((-18, 9), (-4, 13), (12, 11), (24, 7)):
            _disc(img, x + dx * s, y - (r - 8) * 0.4 * s, r * s, (248, 250, 254), soft=4)


def _plain(img: Canvas, time: str, rng: np.random.Generator) -> None:
    """Only a little darker towards the bottom: the canvas already has the seed's colour."""
    img *= (1.04 - 0.1 * _Y / SIDE)[..., None]


PLACES: Mapping[str, Place] = {
    p.name: p
    for p in (
        Place("meadow", 172, _meadow),
        Place("beach", 182, _beach),
        Place("desert", 176, _desert),
        Place("snow", 174, _snow),
        Place("city", 174, _city),
        Place("forest", 178, _forest),
        Place("mountains", 176, _mountains),
        Place("room", 178, _room),
        Place("underwater", 198, _underwater, sky=False),
        Place("space", None, _space, sky=False, times=("day",)),
        Place("sky", None, _clouds),
        Place("plain", None, _plain, sky=False),
    )
}


def place(name: str) -> Place:
    """The place called ``name``; :class:`~pipelines.errors.FieldError` where there is none."""
    try:
        return PLACES[name]
    except KeyError:
        raise FieldError(f"there is no place {name!r}: choose one of {', '.join(PLACES)}.") from None


def plain_colour(seed: int) -> str:
    """The colour word of a plain background with this seed."""
    return list(PLAIN)[int(np.random.default_rng([seed, 7]).integers(len(PLAIN)))]


def paint(name: str, time: str, seed: int) -> Canvas:
    """The empty place: float32 256×256×3, 0 to 255, lit by ``time``; equal arguments give equal pictures."""
    chosen, rng, tint = place(name), np.random.default_rng([seed, 11]), np.asarray(TINT[time], np.float32)
    if chosen.sky:
        # Painters work in daylight colours; the sky has its own light, so it is divided by the tint first.
        img = _heaven(time, rng) / tint
    else:
        img = np.empty((SIDE, SIDE, 3), np.float32)
        img[:] = PLAIN[plain_colour(seed)]
    chosen.painter(img, time, rng)
    img *= tint
    return np.clip(img, 0, 255, out=img)

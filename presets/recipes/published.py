"""The four example scenes that were published with Collage Diffusion (arXiv 2303.00262), as data, with art of our own.

Number and order of the layers and their strengths are those of the scenes; pictures and prompts are not theirs (they
carry no licence). A layer shows the drawer's nearest cut-out, or a piece of one of the embedded world's painted places
where the scene has a surface: sky, water, cloth. Words are those that the embedded model knows, and none where it has
none.
"""

from __future__ import annotations

from dataclasses import dataclass

Strengths = tuple[float, float, float, float]
"""As published: positive and negative cross-attention, noise, canny."""


@dataclass(frozen=True)
class Cutout:
    """The drawer's cut-out of a class: centre and longest side in canvas pixels."""

    label: str
    x: float
    y: float
    size: float
    flip: bool = False


@dataclass(frozen=True)
class Piece:
    """A piece of a painted place: its ``box`` (left, top, right, bottom), ``scale`` times as large, centred at x, y.

    Of it shows an ``oval`` as large as the box, or all.
    """

    place: str
    time: str
    seed: int
    box: tuple[int, int, int, int] = (0, 0, 256, 256)
    x: float = 128
    y: float = 128
    scale: tuple[float, float] = (1.0, 1.0)
    oval: bool = False


@dataclass(frozen=True)
class Shown:
    """One layer: what it was in the published scene, what it is here, its words in the prompt, and its strengths."""

    was: str
    art: Cutout | Piece
    words: str
    strengths: Strengths


@dataclass(frozen=True)
class Published:
    """One scene, layers from back to front."""

    name: str
    prompt: str
    seed: int
    layers: tuple[Shown, ...]


LIVING_ROOM = Published(
    "Living room",
    "a living room by day with a gift, a mushroom, a chair, a tulip, a drum and a teapot",
    44,
    (
        Shown("room", Piece("room", "day", 1), "a living room", (0.2, 0.2, 0.9, 0.1)),
        Shown("wooden table", Cutout("wrapped-gift", 48, 160, 76), "gift", (0.86, 0.8, 0.4, 0.8)),
        Shown("lamp", Cutout("mushroom", 48, 92, 68), "mushroom", (0.88, 0.7, 0.4, 0.5)),
        Shown(
            "carpet",
            Piece("plain", "day", 2, (0, 0, 180, 48), 136, 222, oval=True),
            "",
            (0.67, 0.66, 0.5, 0.4),
        ),
        Shown("couch with pillows", Cutout("chair", 194, 174, 94), "chair", (0.4, 0.8, 0.2, 0.6)),
        Shown("window", Piece("room", "day", 0, (144, 30, 232, 112), 188, 71), "", (0.73, 0.5, 0.58, 0.6)),
        Shown("potted plant", Cutout("tulip", 128, 128, 76), "tulip", (0.5, 0.4, 0.4, 0.4)),
        Shown("wooden coffee table", Cutout("drum", 112, 212, 80), "drum", (0.6, 0.73, 0.6, 0.5)),
        Shown("blue mug", Cutout("teapot", 112, 166, 54), "teapot", (0.8, 0.85, 0.3, 0.5)),
    ),
)
"""Table: a gift; lamp: a mushroom; carpet: a yellow oval; couch: a chair; potted plant: a tulip; coffee table: a drum;
mug: a teapot."""

POOL = Published(
    "House and pool",
    "a house and a pink tulip on a green meadow by day, clouds, by the sea",
    42,
    (
        Shown("backyard", Piece("meadow", "day", 7), "a green meadow", (0.3, 0.2, 0.9, 0.1)),
        Shown(
            "sky with birds",
            Piece("sky", "day", 3, (0, 0, 256, 120), 128, 60),
            "clouds",
            (0.3, 0.4, 0.8, 0.5),
        ),
        Shown("house", Cutout("house", 88, 124, 130), "house", (0.59, 0.61, 0.2, 0.74)),
        Shown("pink cherry blossom", Cutout("tulip", 210, 134, 100), "pink tulip", (0.77, 0.6, 0.8, 0.5)),
        Shown(
            "swimming pool",
            Piece("underwater", "day", 3, (20, 20, 220, 76), 132, 222, oval=True),
            "by the sea",
            (0.4, 0.4, 0.7, 0.4),
        ),
    ),
)
"""Sky: without its birds; cherry blossom: a tulip; pool: a piece of the world under water."""

PIRATE_SHIP = Published(
    "Ship before the storm",
    "a castle and a sailing boat by the sea at sunset, clouds",
    42,
    (
        Shown(
            "stormy ocean",
            Piece("beach", "sunset", 3, (0, 40, 256, 168), 128, 128, (1.0, 2.0)),
            "by the sea",
            (0.1, 0.1, 0.9, 0.1),
        ),
        Shown(
            "dark storm clouds",
            Piece("sky", "sunset", 3, (0, 0, 256, 160), 128, 80),
            "clouds",
            (0.1, 0.1, 0.8, 0.0),
        ),
        Shown(
            "rocky shore",
            Piece("mountains", "sunset", 3, (0, 124, 160, 204), 206, 186, oval=True),
            "",
            (0.6, 0.6, 0.1, 0.5),
        ),
        Shown("lighthouse", Cutout("castle", 206, 136, 84), "castle", (0.7, 0.5, 0.2, 0.8)),
        Shown("pirate ship", Cutout("sailboat", 78, 188, 150), "sailing boat", (0.64, 0.65, 0.5, 0.5)),
    ),
)
"""Rocky shore: mountains; lighthouse: a castle; pirate ship: a sailing boat."""

STILL_LIFE = Published(
    "Still life",
    "a teapot, a pineapple, an apple and a carrot in a room in the dark, purple",
    7000,
    (
        Shown("dark room", Piece("room", "night", 4), "a room in the dark", (0.1, 0.1, 0.8, 0.2)),
        Shown(
            "table with cloth",
            Piece("plain", "night", 21, (0, 176, 256, 256), 128, 216),
            "purple",
            (0.3, 0.2, 0.5, 0.8),
        ),
        Shown("pitcher", Cutout("teapot", 158, 144, 116), "teapot", (0.3, 0.3, 0.8, 0.8)),
        Shown("wine bottle", Cutout("pineapple", 60, 158, 110), "pineapple", (0.5, 0.2, 0.7, 0.3)),
        Shown("red apple", Cutout("red-apple", 112, 206, 62), "apple", (0.6, 0.2, 0.2, 0.3)),
        Shown("orange", Cutout("carrot", 206, 204, 56), "carrot", (0.5, 0.2, 0.6, 0.5)),
    ),
)
"""Cloth: a purple surface; pitcher: a teapot; wine bottle: a pineapple; orange: a carrot."""

SCENES = {
    "living-room": LIVING_ROOM,
    "pool": POOL,
    "ship": PIRATE_SHIP,
    "still-life": STILL_LIFE,
}

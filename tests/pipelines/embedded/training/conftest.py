"""A tiny world of real parts: drawings in an iconify package written by hand, and a store of drawn shapes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.world import WORLDS, World

_CAR = (
    '<path fill="#e02020" d="M2 14h28v10H2z"/><path fill="#901010" d="M2 22h28v2H2z"/>'
    '<path fill="#30c0ff" d="M8 8h16v6H8z"/><circle fill="#222" cx="8" cy="25" r="3"/>'
)
_FACE = '<circle fill="{}" cx="16" cy="16" r="10"/>'


@pytest.fixture(scope="session")
def art(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``node_modules`` folder with one hand-made icon set in the format of the real ones."""
    root = tmp_path_factory.mktemp("art")
    folder = root / "@iconify-json" / "fluent-emoji-flat"
    folder.mkdir(parents=True)
    icons = {
        "automobile": {"body": _CAR},
        "tower": {"body": '<path fill="#888" d="M12 2h8v28h-8z"/>'},
        "cook": {"body": _FACE.format("#ffc020")},
        "woman-cook": {"body": _FACE.format("#ffb020")},
        "man-cook": {"body": _FACE.format("#ffa020")},
    }
    for who in ("cook", "woman-cook", "man-cook"):
        icons[f"{who}-dark"] = {"body": _FACE.format("#603010")}
    aliases = {"car": {"parent": "automobile"}, "auto": {"parent": "car"}}
    data = {"prefix": "tiny", "width": 32, "height": 32, "icons": icons, "aliases": aliases}
    info = {
        "prefix": "tiny",
        "name": "Tiny",
        "author": {"name": "Nobody", "url": "https://example.org"},
        "license": {"spdx": "MIT"},
    }
    (folder / "icons.json").write_text(json.dumps(data))
    (folder / "info.json").write_text(json.dumps(info))
    return root


@pytest.fixture(scope="session")
def tiny() -> World:
    """The world that the hand-made art can draw."""
    return World(
        name="tiny",
        objects=("automobile", "tower"),
        roles={"cook": ("woman", "dark")},
        words={"automobile": ("car",), "tower": ("tower",), "cook": ("cook",)},
        styles=("flat",),
        places=("meadow", "plain"),
        recolourable={"automobile": "red"},
        tones=("default", "dark"),
    )


@pytest.fixture(scope="session")
def small() -> World:
    """The world that ships."""
    return WORLDS["small"]


@pytest.fixture(scope="session")
def shapes(small: World) -> CutoutStore:
    """A store for the small world whose cut-outs are discs of one colour, white where no colour is asked."""
    y, x = np.mgrid[-1:1:80j, -1:1:80j]
    disc = np.zeros((80, 80, 4), np.uint8)
    disc[x**2 + y**2 < 1] = 255
    return CutoutStore(small.name, dict.fromkeys(small.art_keys(), disc))

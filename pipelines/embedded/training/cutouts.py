"""Cut-outs: emoji art rendered once into RGBA pictures with names, in one file that loads fast.

``python -m pipelines.embedded.training.cutouts --art NODE_MODULES_DIR --world small --out DIR`` reads the
iconify packages under ``NODE_MODULES_DIR/@iconify-json`` and writes ``DIR/cutouts.npz``; ``--drawer DIR``
writes the studio's drawer of ready cut-outs instead (PNG files and ``index.json``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.embedded.training.art import SIDE, Pixels, fit, load_sets, render_key
from pipelines.embedded.training.world import World, art_key, world
from pipelines.errors import ModelError, PictureError

__all__ = ["CutoutStore", "build", "drawer", "main"]


def build(art: Path, chosen: World, out: Path, side: int = SIDE) -> Path:
    """Render every cut-out of ``chosen`` (longest side ``side`` pixels) into ``out/cutouts.npz``; returns
    its path.
    """
    sets = load_sets(art, chosen.styles)
    index, flat, offset = {}, [], 0
    for key in chosen.art_keys():
        pixels = render_key(sets, key, side)
        index[key] = [offset, pixels.shape[0], pixels.shape[1]]
        flat.append(pixels.reshape(-1))
        offset += pixels.size
    out.mkdir(parents=True, exist_ok=True)
    path = out / "cutouts.npz"
    header = json.dumps({"world": chosen.name, "index": index}).encode()
    # Replaced in one move: a training run may be reading the old file.
    part = out / "cutouts.part.npz"
    np.savez_compressed(part, pixels=np.concatenate(flat), header=np.frombuffer(header, np.uint8))
    part.replace(path)
    return path


def drawer(art: Path, chosen: World, out: Path, side: int = 256) -> Path:
    """Write the studio's drawer into ``out``: one RGBA PNG a class, its usual look, and ``index.json``;
    returns its path.

    People are neutral (no tone, no gender), recolourable objects have their dominant colour. An entry holds
    ``name``, ``words``, ``label``, ``kind`` ("object" or "person"), ``file``, ``width``, ``height``,
    ``licence``, ``source`` and, where the art was recoloured, ``changes``.
    """
    style = chosen.styles[0]
    sets = load_sets(art, (style,))
    info = sets[style].info
    source = f"{info['name']}, {info['author']['name']}, {info['author']['url']}"
    out.mkdir(parents=True, exist_ok=True)
    entries = []
    for label in chosen.labels_in(style):
        person = {"tone": "default", "gender": "person"} if label in chosen.roles else {}
        colour = chosen.recolourable.get(label)
        pixels = render_key(sets, art_key(style, label, colour=colour, **person), side)
        # Colour under full transparency is never seen; black there makes the files smaller.
        clean = pixels * (pixels[..., 3:] > 0)
        Image.fromarray(clean, "RGBA").save(out / f"{label}.png", optimize=True)
        entry = {
            "name": f"{colour or ''} {chosen.words[label][0]}".strip(),
            "words": list(chosen.words[label]),
            "label": label,
            "kind": "person" if person else "object",
            "file": f"{label}.png",
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "licence": info["license"]["spdx"],
            "source": source,
        }
        entries.append({**entry, "changes": "main colour replaced"} if colour else entry)
    path = out / "index.json"
    path.write_text(json.dumps({"version": 1, "cutouts": entries}, indent=1) + "\n")
    return path


class CutoutStore:
    """All cut-outs of a world in memory: ``store[key]`` is RGBA uint8, H×W×4, longest side 160, not to be
    written to.
    """

    def __init__(self, name: str, pictures: Mapping[str, Pixels]) -> None:
        self.world = name
        self._pictures = dict(pictures)
        self._scaled = lru_cache(maxsize=4096)(self._scale)

    @classmethod
    def load(cls, path: str | Path) -> CutoutStore:
        """Read a ``cutouts.npz`` or the folder that holds it; :class:`ModelError` where it is missing."""
        path = Path(path)
        path = path / "cutouts.npz" if path.is_dir() else path
        if not path.is_file():
            raise ModelError(
                f"there are no cut-outs at {path.name}: render them with the cutouts command first."
            )
        with np.load(path) as data:
            header, pixels = json.loads(data["header"].tobytes()), data["pixels"]
        pixels.flags.writeable = False
        return cls(
            header["world"],
            {k: pixels[o : o + 4 * h * w].reshape(h, w, 4) for k, (o, h, w) in header["index"].items()},
        )

    def __getitem__(self, key: str) -> Pixels:
        try:
            return self._pictures[key]
        except KeyError:
            raise PictureError(f"the store has no cut-out {key!r}: render the world it belongs to.") from None

    def __contains__(self, key: object) -> bool:
        return key in self._pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def keys(self) -> list[str]:
        """All names, in the world's order."""
        return list(self._pictures)

    def extent(self, key: str, size: int) -> tuple[int, int]:
        """(width, height) in pixels of the cut-out when its longest side is ``size``."""
        h, w = self[key].shape[:2]
        scale = size / max(h, w)
        return max(1, round(w * scale)), max(1, round(h * scale))

    def scaled(self, key: str, size: int, flip: bool = False) -> NDArray[np.float32]:
        """The cut-out at longest side ``size``: float32 H×W×4, colour 0 to 255 times alpha, alpha 0 to 1;
        cached.
        """
        return self._scaled(key, size, flip)

    def _scale(self, key: str, size: int, flip: bool) -> NDArray[np.float32]:
        pixels = fit(self[key], size)
        out = pixels[:, ::-1].astype(np.float32) if flip else pixels.astype(np.float32)
        out[..., 3] /= 255.0
        out[..., :3] *= out[..., 3:]
        out.flags.writeable = False
        return out


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Render the embedded model's art into cut-outs.")
    parser.add_argument(
        "--art", type=Path, required=True, help="node_modules folder with the @iconify-json packages"
    )
    parser.add_argument("--world", default="small")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, help="folder for cutouts.npz")
    target.add_argument("--drawer", type=Path, help="write the studio's drawer into this folder instead")
    parser.add_argument("--side", type=int, default=None, help="longest side in pixels (160; the drawer 256)")
    options = parser.parse_args(argv)
    chosen = world(options.world)
    if options.drawer:
        print(f"the drawer is at {drawer(options.art, chosen, options.drawer, options.side or 256)}")
        return
    path = build(options.art, chosen, options.out, options.side or SIDE)
    print(f"{len(CutoutStore.load(path))} cut-outs in {path}")


if __name__ == "__main__":
    main()

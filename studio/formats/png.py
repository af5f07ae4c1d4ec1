"""A rendered PNG carries the collage that made it, and opens as that collage again.

The .collage archive sits in a private chunk ``clLg`` (ancillary, safe to copy, so every other program shows
the picture as ever). Beside it are a JSON report (``decollage-report``) and the ``parameters`` text that
galleries of AUTOMATIC1111's web interface read. Where one layer was rendered on a picture, the chunk ``clUn`` keeps
what lay underneath (`underneath`).
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipelines.errors import ArchiveError
from pipelines.events import RenderResult
from pipelines.pictures import Pixels
from pipelines.request import RenderRequest
from studio.document import MAX_JSON, Collage
from studio.formats import archive, underneath
from studio.pictures import Library

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNK = b"clLg"
UNDER = b"clUn"
REPORT = "decollage-report"
MAX_PNG = archive.MAX_ARCHIVE + 64 * 2**20


def embed(
    pixels: Pixels,
    collage: Collage,
    library: Library,
    report: Mapping[str, Any],
    made_on: tuple[str, Pixels] | None = None,
) -> bytes:
    """A PNG of ``pixels`` (uint8, height x width x 3) with the collage inside.

    ``report`` is JSON-ready; where it holds a ``request`` (a `RenderRequest` as JSON data), a ``seed`` and a
    ``prompt``, the ``parameters`` text tells what was really used instead of what the collage leaves to the defaults.
    ``made_on`` is a layer's id and the picture that this layer alone was rendered on.
    """
    notes = PngInfo()
    notes.add_itxt("parameters", _parameters(collage, report), zip=False)
    notes.add_itxt(REPORT, json.dumps(report, sort_keys=True, ensure_ascii=False), zip=True)
    notes.add(CHUNK, archive.write_bytes(collage, library))
    if made_on is not None:
        notes.add(UNDER, underneath.pack(*made_on, pixels))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=notes)
    return buffer.getvalue()


def embed_result(
    result: RenderResult,
    image: int,
    collage: Collage,
    library: Library,
    made_on: tuple[str, Pixels] | None = None,
) -> bytes:
    """The PNG of image ``image`` of a finished run, with the collage that makes it again; ``made_on`` as in `embed`."""
    request = json.loads(result.request.to_json())
    report = {**result.report, "request": request, "image": image, "seed": result.request.seed + image}
    report["prompt"] = result.request.of_image(image).prompt
    return embed(result.pictures[image], remade(collage, result, image), library, report, made_on)


def remade(collage: Collage, result: RenderResult, image: int) -> Collage:
    """The collage that makes image ``image`` of a run again: with its seed, and alone if it was made alone.

    Where NegToMe ties the images of a batch together, the whole batch is kept.
    """
    if is_joint(result.request):
        return collage.replace(seed=result.request.seed)
    return collage.replace(seed=result.request.seed + image, images=1)


def is_joint(request: RenderRequest) -> bool:
    """Whether the images of the batch depend on each other."""
    return request.images > 1 and (request.spread != 0 or any(layer.vary != 0 for layer in request.layers))


def read(path: str | Path) -> tuple[Collage, Library]:
    """The collage inside a PNG file; `ArchiveError` when it carries none, or errors of `archive.read`."""
    path = Path(path)
    with archive.named(path):
        if path.stat().st_size > MAX_PNG:
            raise ArchiveError(f"it is larger than {MAX_PNG >> 20} MiB; give a smaller file.")
        return read_bytes(path.read_bytes())


def read_bytes(data: bytes) -> tuple[Collage, Library]:
    """The collage inside the bytes of a PNG; errors as in `read`."""
    for kind, body in _chunks(data):
        if kind == CHUNK:
            return archive.read_bytes(body)
    raise ArchiveError("it carries no collage; add it as a picture, or give a PNG that Decollage rendered.")


def read_underneath(data: bytes, pixels: Pixels, layer: str) -> Pixels | None:
    """What layer ``layer`` alone was rendered on to make ``pixels``, the PNG's own; None where that is not known."""
    for kind, body in _chunks(data):
        if kind == UNDER:
            return underneath.unpack(body, pixels, layer)
    return None


def read_report(data: bytes) -> dict[str, Any]:
    """What `embed` was told about the run; empty where the PNG carries no report."""
    for kind, body in _chunks(data):
        if kind == b"iTXt" and body.startswith(REPORT.encode() + b"\0\1\0\0\0"):
            unpacker = zlib.decompressobj()
            try:
                text = unpacker.decompress(body[len(REPORT) + 5 :], MAX_JSON)
                report = json.loads(text)
            except (zlib.error, ValueError, RecursionError):
                raise ArchiveError("its report is damaged; use another copy.") from None
            return report if isinstance(report, dict) else {}
    return {}


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(SIGNATURE):
        raise ArchiveError("it is not a PNG file; give one that Decollage rendered.")
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if len(body) < length or data[at + 8 + length : at + 12 + length] != struct.pack(
            ">I", zlib.crc32(kind + body)
        ):
            raise ArchiveError("it is damaged; use another copy.")
        yield kind, body
        at += 12 + length


def _parameters(collage: Collage, report: Mapping[str, Any]) -> str:
    request = report.get("request")
    used: Mapping[str, Any] = request if isinstance(request, Mapping) else collage.to_dict()
    lines = [str(report.get("prompt", used["prompt"]))]
    if used["negative_prompt"]:
        lines.append(f"Negative prompt: {used['negative_prompt']}")
    facts = {
        "Steps": used["steps"],
        "Sampler": used["scheduler"],
        "CFG scale": used["guidance"],
        "Seed": report.get("seed", used["seed"]),
        "Size": f"{collage.canvas.width}x{collage.canvas.height}",
        "Model": used["model"],
        "Version": "Decollage",
    }
    lines.append(", ".join(f"{name}: {value}" for name, value in facts.items() if value is not None))
    return "\n".join(lines)

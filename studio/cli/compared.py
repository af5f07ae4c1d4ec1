"""What ``decollage compare`` tells of the settings that are finished: a line each, the sheet and the manifest."""

from __future__ import annotations

import io
import json
from pathlib import Path
from statistics import mean
from typing import Any

from pipelines.events import RenderResult
from pipelines.models import ModelCard
from studio.cli.writing import stem_of, write_new
from studio.document import Collage
from studio.rivals import OFF
from studio.sheet import sheet

TOLD = (
    "spread",
    "spread_by",
    "spread_match",
    "spread_threshold",
    "spread_parts",
    "spread_every",
    "exact_match",
    "avoid_by",
    "axis",
    "window",
    "cads",
    "cads_low",
    "cads_high",
    "cads_mix",
    "guidance_interval",
    "variants",
)
"""What a setting's collage says that another's may not; null is the model's own, which the request has."""
CARD = ("negtome_blocks", "smallest_grid", "thin_from")


def line(name: str, results: dict[str, RenderResult]) -> str:
    """What stdout is told of a finished setting."""
    report: dict[str, Any] = results[name].report
    parts = [name]
    spread = report.get("numbers", {}).get("spread")
    if spread:
        parts += [f"similarity {1 - spread['distance']:.3f}", f"vendi {spread['vendi']:.2f}"]
    for near in report.get("numbers", {}).get("avoids", ()):
        if near["inside"]:
            parts.append(f"near {near['name']!r} {mean(near['inside']):.3f}")
    parts.append(f"{report['seconds']:.1f} s")
    before = results[OFF].report["seconds"] if OFF in results else None
    if name != OFF and isinstance(before, int | float) and before > 0:
        parts.append(f"{100 * (report['seconds'] / before - 1):+.1f} %")
    return "\t".join(parts)


def write(
    out: Path,
    stem: str,
    collage: Collage,
    card: ModelCard,
    asked: dict[str, Collage],
    results: dict[str, RenderResult],
    files: dict[str, list[str]],
    left: dict[str, str],
    features: str,
) -> None:
    """Sheet and manifest of the settings that are finished.

    The manifest alone tells what was run: each setting has its whole ``request`` beside what its collage ``changes``,
    and under ``card`` stands what requests leave to the model's ``card``: where NegToMe acts, and what it thins.
    """
    manifest: dict[str, Any] = {
        "collage": stem,
        "model": collage.model,
        "card": {word: getattr(card, word) for word in CARD},
        "seeds": [(collage.seed or 0) + image for image in range(collage.images)],
        "features": features,
        "left_out": left,
        "settings": {},
    }
    rows = []
    for name in files:
        own, result = asked[name], results[name]
        manifest["settings"][name] = {
            "changes": {word: getattr(own, word) for word in TOLD}
            | {
                "avoids": [avoid.label for avoid in own.avoids],
                "vary": {layer.label: layer.vary for layer in own.layers if layer.vary},
            },
            "request": json.loads(result.request.to_json()),
            "prompts": [result.request.of_image(image).prompt for image in range(len(result.pictures))],
            "seconds": result.report["seconds"],
            "numbers": result.report.get("numbers", {}),
            "files": files[name],
        }
        _, *told = line(name, results).split("\t")
        rows.append(("\n".join([name.replace("+", "\n+ "), *told]), result.pictures))
    manifest["run"] = {
        word: value
        for word, value in next(iter(results.values())).report.items()
        if word in ("device", "dtype", "threads", "versions")
    }
    buffer = io.BytesIO()
    sheet(rows).save(buffer, "PNG")
    told_in_full = json.dumps(manifest, indent=1) + "\n"
    write_new(out, stem_of(stem, "compare"), buffer.getvalue(), beside=told_in_full.encode())

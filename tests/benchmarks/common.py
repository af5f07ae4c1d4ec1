"""What all benchmarks share: frozen protocols, scenes from the drawer, sheets, tables, and where a number was
made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.scenes import Scene, sample_scene
from pipelines.embedded.training.world import world
from pipelines.loading.control import FOLDER as CONTROLNET
from pipelines.measure.intervals import Interval
from pipelines.pictures import Pixels
from presets.recipes.build import WORLD, drawer_store, item

ROOT = Path(__file__).parents[2]
PROTOCOLS = Path(__file__).parent / "protocol"
RESULTS = ROOT / "docs" / "results"
RUNS = ROOT / "runs" / "benchmarks"
WEIGHTS = ROOT / "pipelines" / "embedded" / "weights"
SHEET_BYTES = 600_000


def protocol(name: str) -> dict[str, Any]:
    """The frozen settings of a benchmark."""
    data: dict[str, Any] = json.loads((PROTOCOLS / f"{name}.json").read_text())
    return data


def digest(data: Any) -> str:
    """sha256 of canonical JSON, shortened to what a table can hold."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def hold_to(name: str, prompts: Sequence[str], freeze: bool) -> None:
    """Refuse to run when the prompts made from the seed are not those frozen; ``freeze`` writes them down
    instead.
    """
    settings = protocol(name)
    found = digest(list(prompts))
    if freeze:
        settings["prompts"] = found
        (PROTOCOLS / f"{name}.json").write_text(json.dumps(settings, indent=1) + "\n")
    elif settings.get("prompts") != found:
        raise SystemExit(
            f"the prompts are not those frozen in protocol/{name}.json ({found}): "
            "the world has changed; freeze them again with --freeze, commit, and then run."
        )


def weights_digest(folder: Path) -> str:
    """sha256 over the names and bytes of all weights of a model folder, shortened.

    But for its ControlNet's, which act in no run that does not ask for them: those have a digest of their own.
    """
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        name = path.relative_to(folder)
        if name.parts[0] != CONTROLNET:
            total.update(name.as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:16]


def engine(weights: Path, looks: Path | None = None) -> Any:
    """The project's engine with the embedded model of a folder; ``looks`` keeps what it learns (the user's own)."""
    from diffusers import StableDiffusionPipeline

    from pipelines.engine import Engine
    from pipelines.models import card

    made = Engine(looks=looks)
    if weights != WEIGHTS:
        # with the folder's own ControlNet, or none
        known = dataclasses.replace(card("embedded"), folder=weights)
        made.adopt("embedded", StableDiffusionPipeline.from_pretrained(weights), known)
    return made


def machine() -> dict[str, str]:
    """Where and on what a run was made."""
    import diffusers
    import torch

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), cpu)

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = (
        " with local changes" if git("status", "--porcelain", "--", "pipelines", "studio", "presets") else ""
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": (git("rev-parse", "--short", "HEAD") or "none") + changed,
        "machine": f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"diffusers {diffusers.__version__}",
    }


def heading(title: str, command: str, settings: dict[str, Any], weights: str, *, kept: bool = False) -> str:
    """The top of a results page, with what the protocol says of itself: how its settings were come by, and misses.

    ``kept``: its rows are kept between runs.
    """
    where = machine()
    older = " (kept rows may be of earlier ones)" if kept else ""
    about = f"{settings['about']}\n\n" if "about" in settings else ""
    return (
        f"# {title}\n\n"
        f"`{command}` · {where['date']} · commit {where['commit']}{older} · weights {weights}\n"
        f"{where['machine']} · {where['versions']}\n"
        f"Protocol: `{json.dumps({k: v for k, v in settings.items() if k not in ('about', 'why')})}`\n\n"
        f"{about}"
    )


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def percent(interval: Interval) -> str:
    """A share as "63.2 % (58.9 to 67.3)"."""
    return f"{100 * interval.value:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def points(interval: Interval) -> str:
    """A difference of shares as "+4.1 points (2.0 to 6.1)"."""
    return f"{100 * interval.value:+.1f} points ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


def number(interval: Interval, digits: int = 3) -> str:
    """A mean as "12.345 (12.100 to 12.600)"."""
    return f"{interval.value:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def within(interval: Interval, *, least: float = -math.inf, most: float = math.inf) -> bool | None:
    """Whether all of an interval is within a bound; None where it reaches over it."""
    if least <= interval.low and interval.high <= most:
        return True
    return False if interval.high < least or interval.low > most else None


def all_of(each: Iterable[bool | None]) -> bool | None:
    """True where all are, False where one is; else None, which is open."""
    found = set(each)
    return False if False in found else None if None in found else True


def reached(true: bool | None, missed: str = "**missed**") -> str:
    """The word for a target."""
    return {True: "reached", None: "open", False: missed}[true]


def grid(
    rows: Sequence[Sequence[Pixels]], side: int, labels: Sequence[str] = (), captions: Sequence[str] = ()
) -> Image.Image:
    """Rows of pictures, each ``side`` px, with a label before each row, or a caption of up to two lines under
    each picture.
    """
    left = 96 if labels else 0
    under = 26 if captions else 2
    columns = max(len(row) for row in rows)
    out = Image.new("RGB", (left + columns * (side + 2), len(rows) * (side + under)), "white")
    draw = ImageDraw.Draw(out)
    count = 0
    for r, row in enumerate(rows):
        top = r * (side + under)
        if labels:
            draw.multiline_text((2, top + 4), labels[r], fill="black", spacing=1)
        for c, picture in enumerate(row):
            x = left + c * (side + 2)
            out.paste(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), (x, top))
            if captions:
                draw.multiline_text(
                    (x, top + side), _wrap(captions[count], side // 6), fill="black", spacing=0
                )
            count += 1
    return out


def _wrap(text: str, width: int) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines[:2])


def save_sheet(picture: Image.Image, path: Path) -> None:
    """A JPEG of at most `SHEET_BYTES`, as good as fits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for quality in (92, 86, 80, 72, 64, 50, 35):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= SHEET_BYTES:
            break
    path.write_bytes(buffer.getvalue())


@cache
def every_look() -> CutoutStore:
    """The drawer under every key of the world: where things lie does not depend on their look."""
    chosen, drawer = world(WORLD), drawer_store()
    shown = {label: drawer[item(label, 0, 0, 1).key] for label in chosen.labels}
    return CutoutStore(WORLD, {key: shown[key.partition("#")[0].split("/")[1]] for key in chosen.art_keys()})


def drawer_scene(rng: np.random.Generator, **asked: Any) -> Scene:
    """A random scene (`sample_scene` with what is asked for) whose objects look as the drawer has them."""
    scene = sample_scene(world(WORLD), rng, every_look(), **asked)
    looks = tuple(item(i.label, i.x, i.y, i.size, flip=i.flip) for i in scene.items)
    return dataclasses.replace(scene, items=looks)


def of_these(claims: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """The claims of a results file that these keys made: what other settings, weights or another judge gave is not
    shown under these, nor is what says no key.
    """
    return {name: one for name, one in claims.items() if name in keys and one.get("key") == keys[name]}


def kept_rows(
    path: Path, count: int, make: Callable[[int], dict[str, Any]], what: str
) -> list[dict[str, Any]]:
    """Row k = make(k) for k < count, one JSON line each, so that a stopped run goes on where it was."""
    from rich.progress import track

    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if path.exists():
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        # what a stop left of a line is cut off; rows beyond ``count`` stay kept
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with path.open("a") as file:
        for k in track(range(len(rows), count), what):
            rows.append(make(k))
            file.write(json.dumps(rows[-1]) + "\n")
            file.flush()
    return rows[:count]

"""``decollage info``: what is in a collage."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipelines.errors import ArchiveError
from pipelines.measure.numbers import told
from pipelines.models import shipped
from studio.cli.files import find, load
from studio.cli.saying import plain, say
from studio.defaults import defaults_of, usual_alpha
from studio.document import Avoid, Collage, Layer
from studio.formats import is_png, png
from studio.phrases import place_phrases
from studio.suggest import Suggestion, picture_sizes, suggest


def info(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help=".collage, folder, rendered PNG, or preset name.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the document as JSON.")] = False,
    suggested: Annotated[
        bool, typer.Option("--suggest", help="Print values for what is left to the default, and why.")
    ] = False,
) -> None:
    """Print what a collage holds; a star marks a value that is left to the default.

    With --suggest it prints starting values from each layer's size and place instead, one a line: as `render --set`
    takes it, a tab, the reason; with --json a list of them.

    Exit codes: 0 done; 2 the file cannot be opened as a collage.
    """
    collage, library = load(file)
    if suggested:
        _print_suggestions(suggest(collage, picture_sizes(collage, library)), as_json)
        return
    if as_json:
        say(_for_stdout(collage.to_json().removesuffix("\n")))
        return
    path = find(file)
    say(plain(path.name + (f": {collage.name}" if collage.name else "")))
    for word, value in (*_facts(collage), *_made(path)):
        say(plain(f"  {word:<12} {value}"))
    for number, layer in enumerate(collage.layers, start=1):
        say(plain(f"  {f'layer {number}':<12} {_layer(layer, collage)}"))
    for avoid in collage.avoids:
        say(plain(f"  {'avoid':<12} {_avoid(avoid, collage)}"))


def _for_stdout(text: str) -> str:
    """JSON as it is, or with JSON's own escapes where stdout's encoding lacks some of its characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(json.loads(text), indent=1)
    return text


def _print_suggestions(found: Sequence[Suggestion], as_json: bool) -> None:
    if as_json:
        say(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
        return
    for one in found:
        say(f"layers.{one.layer}.{one.word}={one.value:g}\t{plain(one.reason)}")


def _facts(collage: Collage) -> Iterator[tuple[str, str]]:
    def or_model(value: object) -> str:
        return "the model's *" if value is None else f"{value}"

    phrases = [layer.prompt for layer in collage.layers if layer.visible]
    under = collage.background
    picture = " under a picture" if under.picture else ""
    yield "canvas", f"{collage.canvas.width} x {collage.canvas.height}"
    yield (
        "background",
        f"{under.colour}{picture}, harmonize {_value(under.harmonize, 'background_harmonize', collage)}",
    )
    yield "prompt", place_phrases(collage.prompt, phrases)[0]
    if collage.negative_prompt:
        yield "negative", collage.negative_prompt
    yield "model", collage.model
    yield (
        "sampler",
        ", ".join(
            (
                f"scheduler {or_model(collage.scheduler)}",
                f"steps {or_model(collage.steps)}",
                f"guidance {or_model(collage.guidance)}",
            )
        ),
    )
    yield "seed", "random" if collage.seed is None else str(collage.seed)
    yield "images", str(collage.images)
    if collage.spread:
        threshold = _value(collage.spread_threshold, "spread_threshold", collage)
        how = f"by {collage.spread_by}, from {collage.spread_match}, likeness {threshold}"
        yield "spread", f"{collage.spread:g} {how}, window {_value(collage.window, 'window', collage)}"
    if collage.cads:
        yield "cads", f"{collage.cads:g}"
    if collage.guidance_interval is not None:
        yield "interval", "{:g} to {:g}".format(*collage.guidance_interval)
    if collage.variants:
        yield "variants", "on"


def _made(path: Path) -> Iterator[tuple[str, str]]:
    """What the report of a rendered PNG tells; others may have written it."""
    if not (path.is_file() and is_png(path)):
        return
    try:
        report = png.read_report(path.read_bytes())
    except ArchiveError:
        yield "report", "damaged, so how it was rendered is not told"
        return
    seconds = report.get("seconds")
    if isinstance(seconds, int | float):
        with contextlib.suppress(OverflowError):
            yield "rendered in", f"{seconds:.1f} s"
    edit = report.get("edit")
    if isinstance(edit, dict):
        yield "only", f"{str(edit.get('layer'))[:100]!r} was rendered, on picture {str(edit.get('on'))[:12]}"
    found, image = report.get("numbers"), report.get("image")
    if isinstance(found, dict) and isinstance(image, int):
        with contextlib.suppress(AttributeError, LookupError, OverflowError, TypeError, ValueError):
            yield "shows", "; ".join(told(found, image))


def _layer(layer: Layer, collage: Collage) -> str:
    words = [
        repr(layer.label),
        f"at {layer.x:g}, {layer.y:g}",
        f"scale {layer.scale_x:g} x {layer.scale_y:g}",
        *(
            f"{word} {_value(getattr(layer, word), word, collage)}"
            for word in ("harmonize", "attend_inside", "attend_outside")
        ),
        *(
            f"{word} {getattr(layer, word):g}"
            for word in ("keep_shape", "image_prompt", "vary")
            if getattr(layer, word)
        ),
        *(["look learned"] if layer.look else []),
        *([f"without {layer.negative!r}"] if layer.negative else []),
        *([] if layer.prompt else ["no words"]),
        *([] if layer.visible else ["hidden"]),
    ]
    return ", ".join(words)


def _avoid(avoid: Avoid, collage: Collage) -> str:
    where = "the whole picture" if avoid.layer is None else f"layer {collage.layer(avoid.layer).label!r}"
    hidden = "" if avoid.visible else ", hidden"
    usual = usual_alpha("avoid", collage, shipped(collage.model))
    alpha = f"{usual:g}*" if avoid.alpha is None else f"{avoid.alpha:g}"
    towards = " (towards it)" if (avoid.alpha or 0) < 0 else ""
    made = "" if avoid.made == "given" else f", a {avoid.made} copy"
    of = " of the collage" if avoid.picture is None else ""
    threshold = _value(avoid.threshold, "avoid_threshold", collage)
    window = _value(collage.window if avoid.window is None else avoid.window, "window", collage)
    masked = ", masked" if avoid.mask else ""
    strength = f"alpha {alpha}{towards} by {collage.avoid_by}, likeness {threshold}, window {window}"
    return f"{avoid.label!r}{made}{of}{masked} in {where}, {strength}{hidden}"


def _value(value: float | None, word: str, collage: Collage) -> str:
    return f"{defaults_of(collage)[word]:g}*" if value is None else f"{value:g}"

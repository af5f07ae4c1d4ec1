"""``decollage compare``: the same seeds with each way to make images differ, from each other or what is avoided."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.errors import FieldError, UnsupportedError
from pipelines.events import Finished, RenderResult, Warned
from pipelines.measure.numbers import measured
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from studio.cli import avoiding, options
from studio.cli.compared import line, write
from studio.cli.features import encoder, unlike
from studio.cli.files import find, load
from studio.cli.saying import say, warn
from studio.cli.settings import apply_settings, at_size
from studio.cli.writing import make_folder, stem_of, write_each
from studio.document import MAX_SEED, Collage
from studio.formats import png
from studio.opening import NOTHING_OPEN, opened_collage
from studio.pictures import Library
from studio.rivals import DEFAULT, lacking, rivals
from studio.to_request import Prepared, to_request

if TYPE_CHECKING:
    from pipelines.engine import Engine
    from pipelines.measure.encoders import PictureFeatures

IMAGES = 4
"""Pictures a setting where the collage asks for one alone: the paper's batch."""


def compare(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help=".collage, folder, rendered PNG, or preset name.")
    ],
    out: Annotated[
        str, typer.Option("-o", "--out", metavar="DIR", help="Folder for sheet, pictures, manifest.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"Only this setting; repeatable. One of {', '.join(DEFAULT)}, or another sum.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the first image; else the collage's, else 1.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help=f"Number of images, 2 to 16; else the collage's, else {IMAGES}.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model: a card's name, hub id, folder or file.")] = None,
    size: options.Size = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field, as in render; repeatable."),
    ] = None,
    avoid: avoiding.Avoids = None,
    style: avoiding.Styles = None,
    fill: options.Open = False,
    features: options.Features = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    offload: options.Offload = None,
    quantize: options.Quantize = None,
    lora: options.Loras = None,
    config: options.Config = None,
    controlnet: options.Controlnet = None,
    allow_pickle: options.AllowPickle = False,
    ip_adapter: options.IPAdapterName = None,
) -> None:
    """Render one collage with off, noise on the words (CADS), a guidance interval, prompt variants, NegToMe between
    the images, sums of these, the pictures to avoid, and the layers that vary.

    All settings have the same seeds. Strengths are the collage's own where it has them. Variants need alternatives such
    as {red|blue} in the prompt, avoid a reference, vary a layer that varies; without them these settings are left out.
    What the model cannot do of this collage is left out with a warning; a setting that --only names and that would be
    left out is an error. --open writes alternatives for what the prompt leaves open, and the other settings leave it
    open. DIR gets every picture with its collage inside as it is finished, NAME-compare.png (a row a setting, nothing
    selected) and NAME-compare.json. One line a setting goes to stdout, tabs between: name, mean similarity of the
    pictures, Vendi, mean similarity to each picture to avoid (avoided or not), seconds, and how many more than off in
    percent. On a CPU images that do not act on each other are drawn one by one, which takes other seconds than one
    batch.

    Exit codes: 0 done; 1 the model or this machine cannot do it; 2 bad input; 130 interrupted.
    """
    how = options.build(
        dtype, device, device_map, offload, quantize, lora, config, controlnet, allow_pickle, ip_adapter
    )
    collage, library = load(file)
    given = {"seed": seed, "images": images, "model": model}
    collage = collage.replace(**{field: value for field, value in given.items() if value is not None})
    collage = avoiding.with_references(collage, library, avoid or (), style or ())
    collage = at_size(apply_settings(collage, settings or (), library), size)
    if collage.seed is None:
        collage = collage.replace(seed=1)
    if collage.images == 1 and images is None:
        collage = collage.replace(images=IMAGES)
    filled = opened_collage(collage) if fill else collage
    if fill and filled is collage:
        warn(NOTHING_OPEN)
    names = tuple(only or DEFAULT)
    asked = rivals(filled, names, written=collage)
    left = {name: why for name in names if (why := lacking(filled, name))}
    if only and left:
        name, why = next(iter(left.items()))
        raise FieldError(f"{name} cannot be compared: {why}")
    store = PictureStore()
    prepared = {name: to_request(one, library, store) for name, one in asked.items()}
    whole = to_request(
        collage, library, store
    ).request  # what is avoided and varies, by which all are measured
    stem = find(file).resolve().stem
    folder = make_folder(out, (stem_of(stem, name, MAX_SEED) for name in asked))

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from pipelines.engine import default_engine  # only here: this is what takes seconds to load

    engine, seen = default_engine(how), encoder(features)
    prepared = _possible(engine, prepared, left, named=bool(only))  # by its card, before it is fetched
    engine.load(collage.model)  # so that no setting's seconds hold it
    prepared = _possible(engine, prepared, left, named=bool(only))
    if features is None and (said := unlike([whole])):
        warn(said.message)
    results: dict[str, RenderResult] = {}
    files: dict[str, list[str]] = {}
    refused: UnsupportedError | None = None
    try:
        for name, one in prepared.items():
            for warning in one.warnings:
                warn(f"{name}: {warning.message}")
            try:
                result = _rendered(engine, one.request, store, name)
            except UnsupportedError as error:  # what shows in the run alone
                refused = refused or _named(name, error)
                left[name] = str(error)
                warn(_left_out([name], str(error)))
                continue
            results[name] = _measured(result, whole, store, seen)
            files[name] = _keep(folder, stem, name, asked[name], library, results[name])
            say(line(name, results))
    finally:  # what was made before an interruption or an error stays
        if files:
            known = engine.card(collage.model)
            write(folder, stem, collage, known, asked, results, files, left, features or "embedded")
    if refused is not None and (only or not files):
        raise refused


def _possible(
    engine: Engine, prepared: dict[str, Prepared], left: dict[str, str], *, named: bool
) -> dict[str, Prepared]:
    """The settings that the engine can render, as far as it knows by now; ``left`` takes the others with the reasons,
    and each reason is said once.

    Raises `UnsupportedError` for one that was ``named``, and where none remains.
    """
    found: dict[str, UnsupportedError] = {}
    for name, one in prepared.items():
        try:
            engine.check(one.request)
        except UnsupportedError as error:
            if named:
                raise _named(name, error) from error
            found[name] = error
    if len(found) == len(prepared):  # what off cannot have, none can
        raise next(iter(found.values()))
    reasons: dict[str, list[str]] = {}
    for name, refusal in found.items():
        reasons.setdefault(str(refusal), []).append(name)
    for why, names in reasons.items():
        left.update(dict.fromkeys(names, why))
        warn(_left_out(names, why))
    return {name: one for name, one in prepared.items() if name not in found}


def _named(name: str, error: UnsupportedError) -> UnsupportedError:
    return UnsupportedError(f"{name} cannot be compared: {error}")


def _left_out(names: list[str], why: str) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} left out: {why}"


def _rendered(engine: Engine, request: RenderRequest, store: PictureStore, name: str) -> RenderResult:
    """The result of one setting; warnings go to stderr."""
    result = None
    for event in engine.render(request, store):
        if isinstance(event, Warned):
            warn(f"{name}: {event.message}")
        if isinstance(event, Finished):
            result = event.result
    assert result is not None, "a run ends with Finished or an error"
    return result


def _measured(
    result: RenderResult, whole: RenderRequest, store: PictureStore, seen: PictureFeatures | None
) -> RenderResult:
    """The result with its numbers, those of what ``whole`` avoids and varies among them, whether or not it did."""
    layers = [
        replace(own, vary=asked.vary) for own, asked in zip(result.request.layers, whole.layers, strict=True)
    ]
    told = result.request.replace(avoids=whole.avoids, layers=tuple(layers))
    found = measured(replace(result, request=told), store, seen)
    return replace(found, request=result.request)


def _keep(
    folder: Path, stem: str, name: str, collage: Collage, library: Library, result: RenderResult
) -> list[str]:
    """The names of the pictures of one setting, written with their collage inside."""
    named = (
        (
            stem_of(stem, name, result.request.seed + image),
            png.embed_result(result, image, collage, library),
        )
        for image in range(len(result.pictures))
    )
    return [path.name for path in write_each(folder, named) if path is not None]

"""``decollage render``: collages in, PNGs with the collage inside out."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from pipelines.edges import edges
from pipelines.events import (
    Downloading,
    Event,
    Finished,
    ImageDone,
    Learning,
    Progress,
    RenderResult,
    Started,
    Warned,
)
from pipelines.measure.numbers import measured, told
from pipelines.pictures import PictureStore, Pixels
from studio.cli import avoiding, options
from studio.cli.features import encoder, unlike
from studio.cli.files import find, load
from studio.cli.only import made_alone, name_of, sources
from studio.cli.saying import plain, say, warn
from studio.cli.settings import apply_settings, at_size, named
from studio.cli.writing import make_folder, stem_of, write_each, write_new
from studio.document import MAX_SEED, Collage
from studio.edit_layer import Edit, edit_layer, read_result
from studio.formats import png
from studio.opening import NOTHING_OPEN, opened_collage
from studio.pictures import Library
from studio.sizes import size as in_words
from studio.to_request import Prepared, to_request

if TYPE_CHECKING:
    from pipelines.measure.encoders import PictureFeatures


def render(
    out: Annotated[str, typer.Option("-o", "--out", metavar="DIR", help="Folder for the pictures.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE...", help="Collages: .collage, folder, rendered PNG, or preset name."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first image; image k uses seed + k.")] = None,
    images: Annotated[int | None, typer.Option(help="Number of images, 1 to 16.")] = None,
    model: Annotated[str | None, typer.Option(help="Model: a card's name, hub id, folder or file.")] = None,
    size: options.Size = None,
    steps: Annotated[int | None, typer.Option(help="Sampler steps.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Change a field: steps=20, background.harmonize=1, layers.NAME.harmonize=0.3, avoids.NAME.mask=FILE, "
            "avoids.NAME.layer=NAME; repeatable.",
        ),
    ] = None,
    avoid: avoiding.Avoids = None,
    style: avoiding.Styles = None,
    fill: options.Open = False,
    features: options.Features = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="LAYER", help="Render this layer alone, by name, words or id; all else stays."),
    ] = None,
    on: Annotated[
        Path | None,
        typer.Option(
            metavar="PICTURE",
            help="A result of the collage, for --only to work on. One that carries its collage may stand for FILE, and "
            "FILE for it. Where LAYER was the last to be rendered on it, that rendering is replaced.",
        ),
    ] = None,
    save_edges: Annotated[
        bool, typer.Option("--save-edges", help="Also write NAME-edges.png: what Keep shape is shown.")
    ] = False,
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
    """Render collages into DIR as NAME-SEED.png, never over an existing file; a long NAME is cut.

    Every picture carries the collage that makes it again. All files are read and checked before the first
    is rendered. One line a picture goes to stdout, tabs between: path, seed, size, steps, seconds, then what there
    is of these numbers: share of pixels changed against the flat collage; spread of the batch; similarity to each
    avoid reference, inside and outside its reach; with variants the image's prompt; and with --set watch=true the
    layers that the model lost, and what would help. With --only the pictures are PICTURE-LAYER-SEED.png, where a
    PICTURE that is named so already says its LAYER once, and the largest difference outside the layer is told, which
    is 0. Progress and warnings go to stderr.

    Exit codes: 0 done; 1 the model or this machine cannot do it; 2 bad input; 130 interrupted (finished
    pictures are kept).
    """
    how = options.build(
        dtype, device, device_map, offload, quantize, lora, config, controlnet, allow_pickle, ip_adapter
    )
    given = {"seed": seed, "images": images, "model": model, "steps": steps}
    changes = {field: value for field, value in given.items() if value is not None}
    jobs = []
    for file, picture in sources(files or [], only, on):
        collage, library = load(file)
        collage = avoiding.with_references(collage.replace(**changes), library, avoid or (), style or ())
        collage = at_size(apply_settings(collage, settings or (), library), size)
        if fill:
            filled = opened_collage(collage)
            if filled is collage:
                warn(NOTHING_OPEN)
            collage = filled
        store, name = PictureStore(), find(file).resolve().stem
        prepared: Prepared | Edit
        if only is None or picture is None:
            prepared = to_request(collage, library, store)
            if warning := made_alone(find(file)):
                warn(warning.message)
        else:
            layer = named(collage.layers, only, "layers")
            pixels, before = read_result(picture, layer.id)
            prepared = edit_layer(collage, library, store, pixels, layer.id, before=before)
            name = name_of(picture, layer)
        jobs.append((name, collage, library, store, prepared))
    folder = make_folder(out, (stem_of(name, MAX_SEED) for name, *_ in jobs))

    # its remark on long prompts would stand before the one line of an error
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from pipelines.engine import default_engine  # only here: this is what takes seconds to load

    engine = default_engine(how)
    seen = encoder(features)
    if features is None and (warning := unlike(prepared.request for *_, prepared in jobs)):
        warn(warning.message)
    for name, collage, library, store, prepared in jobs:
        for warning in prepared.warnings:
            warn(warning.message)
        if save_edges and prepared.request.collage is None:
            warn("there is no flat collage, so no edges are saved.")
        elif save_edges and prepared.request.collage is not None:
            shown = edges(store.get(prepared.request.collage), prepared.request.edges)
            held = io.BytesIO()
            Image.fromarray(shown).save(held, "PNG")
            write_new(folder, stem_of(name, "edges"), held.getvalue())
        run = _Run(name, collage, library, prepared, store, folder, seen)
        events = engine.render(prepared.request, store, watch=collage.watch)
        if isinstance(prepared, Edit):
            events = prepared.pasted(events, store, seen)
        with contextlib.closing(events):
            run.follow(events)


class _Run:
    """One collage on its way; writes what was finished even when the run is cut short."""

    def __init__(
        self,
        name: str,
        collage: Collage,
        library: Library,
        prepared: Prepared | Edit,
        store: PictureStore,
        out: Path,
        features: PictureFeatures | None = None,
    ) -> None:
        self.features = features
        self.name, self.collage, self.library, self.out = name, collage, library, out
        self.store = store
        self.request = prepared.request
        self.counted = isinstance(prepared, Edit)  # its pictures are whole and have their numbers already
        self.made_on = prepared.made_on if isinstance(prepared, Edit) else None
        self.report: dict[str, object] = {}
        self.pictures: list[Pixels] = []

    def follow(self, events: Iterator[Event]) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[at]}", markup=False),
            TimeElapsedColumn(),
        )
        try:
            with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
                task = bar.add_task(self.name, total=None, at="starting")
                for event in events:
                    self._take(event, bar, task)
        finally:
            self._write()

    def _take(self, event: Event, bar: Bar, task: TaskID) -> None:
        match event:
            case Downloading(model=model, done=done, total=total):
                bar.update(
                    task, total=total, completed=done, at=f"downloading {model}, {in_words(done, total)}"
                )
            case Learning(layer=layer, step=step, steps=steps):
                bar.update(task, total=steps, completed=step, at=f"learning the look of {plain(layer)}")
            case Started(steps=steps, images=images):
                rounds = 1 if png.is_joint(self.request) else images
                bar.update(task, total=steps * rounds, completed=0, at=f"0/{images} images")
            case Progress(step=step, steps=steps, image=image):
                bar.update(task, completed=image * steps + step)
            case ImageDone(picture=picture):
                self.pictures.append(picture)
                bar.update(task, at=f"{len(self.pictures)}/{self.request.images} images")
            case Warned():
                warn(event.message)
            case Finished(result=result):
                self.report = (result if self.counted else measured(result, self.store, self.features)).report

    def _write(self) -> None:
        result = RenderResult(self.request, tuple(self.pictures), self.report)
        named = (
            (
                stem_of(self.name, self.request.seed + image),
                png.embed_result(result, image, self.collage, self.library, self.made_on),
            )
            for image in range(len(self.pictures))
        )
        lines: list[str] = []
        try:
            for image, path in enumerate(write_each(self.out, named)):
                lines += [self._line(path, image)] if path is not None else []
        finally:  # what cannot be said or written takes no picture with it
            for line in lines:
                say(line)

    def _line(self, path: Path, image: int) -> str:
        """What stdout is told of a picture."""
        seconds = self.report.get("seconds")
        canvas, seed = self.collage.canvas, self.request.seed + image
        line = f"{path}\tseed {seed}\t{canvas.width}x{canvas.height}\t{self.request.steps} steps"
        took = [f"{seconds:.1f} s"] if isinstance(seconds, int | float) else []
        found = self.report.get("numbers")
        said = [self.request.of_image(image).prompt] if self.request.variants else []
        numbers = told(found, image) if isinstance(found, dict) else []
        return "\t".join([line, *took, *map(plain, (*numbers, *said))])

"""The looks that a request asks for: from the cache or learned, and worn for the length of a run."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.errors import DecollageError, ModelError, UnsupportedError
from pipelines.learning import cache, invert
from pipelines.learning.invert import learn
from pipelines.learning.tokens import Rows, begin_with, offloaded, wearing
from pipelines.learning.views import LARGEST, SMALLEST, plain
from pipelines.learning.words import worded, words_of
from pipelines.loading.failures import is_out_of_memory
from pipelines.models.card import ModelCard
from pipelines.pictures import PictureStore, digest
from pipelines.request import MAX_VECTORS, LayerRequest, RenderRequest
from pipelines.sampling import plan

Say = Callable[[str, int, int], None]
"""(the layer's name, steps done, steps in all)"""
Warn = Callable[[str, str | None], None]


@dataclass(frozen=True)
class Worn:
    """What a run goes on with; ``facts`` tell of each look, for the report, JSON-ready."""

    loaded: Any
    request: RenderRequest
    facts: tuple[dict[str, object], ...] = ()


@contextmanager
def with_looks(
    loaded: Any, request: RenderRequest, pictures: PictureStore, folder: Path | None, say: Say, warn: Warn
) -> Iterator[Worn]:
    """The loaded model and the request to run with, learned tokens in both; untouched where no look is asked for.

    Images with prompts of their own (variants) have a look for each wording of a layer, so that each is the picture
    that its prompt alone would give. A layer without words, or frozen, has nothing that could look like anything, and
    is left out; so are all where no step is run. ``folder`` keeps what is learned, None for the user's own. What
    ``say`` raises ends the learning. Raises `UnsupportedError` where a look must be learned and parts of the model wait
    off the device.
    """
    told = [request.of_image(image) for image in range(len(request.variants) or 1)]
    asked = [
        (number, words_of(one, number))
        for one in told
        for number, layer in enumerate(one.layers)
        if layer.look is not None and layer.span and layer.harmonize > 0
    ]
    if not asked or plan(request).count == 0:
        yield Worn(loaded, request)
        return
    pipe, family = loaded.pipe, loaded.family
    tokens = {one: f"<look-{count}>" for count, one in enumerate(dict.fromkeys(asked))}
    dressed = worded(request, tokens)  # and what is too long, told before minutes of learning
    for one in told:
        family.tokens(pipe, one)
        family.reaches(pipe, one)
    weights = cache.fingerprint(
        [family.denoiser(pipe), *(getattr(pipe, name) for _, name in family.encoders)]
    )
    maker = _Maker(pipe, family, loaded.card, weights, folder or cache.folder(), say, warn)
    rows, facts = {}, []
    for (number, words), token in tokens.items():
        rows[token], fact = maker.make(request.layers[number], words, pictures, token)
        facts.append(fact)
    with wearing(pipe, family, rows) as worn:
        yield Worn(dataclasses.replace(loaded, pipe=worn), dressed, tuple(facts))


def _begin(pipe: Any, family: Any, words: str, vectors: int) -> Rows:
    """The vectors that a look of ``words`` starts from, one entry a text encoder; 0 ``vectors``: as many as words."""
    rows = []
    for tokenizer_name, encoder_name in family.encoders:
        tokenizer = getattr(pipe, tokenizer_name)
        ids = tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]
        table = getattr(pipe, encoder_name).get_input_embeddings().weight.detach()
        rows.append(begin_with(table[ids], vectors or min(len(ids), MAX_VECTORS)).float().cpu())
    return tuple(rows)


@dataclass(frozen=True)
class _Maker:
    """Finds a look in the cache, or learns it and keeps it there."""

    pipe: Any
    family: Any
    card: ModelCard
    weights: str
    folder: Path
    say: Say
    warn: Warn

    def make(
        self, layer: LayerRequest, words: str, pictures: PictureStore, token: str
    ) -> tuple[Rows, dict[str, object]]:
        """The vectors that stand before a layer's words, and what the report tells of them."""
        look = layer.look
        if look is None:
            raise ValueError("a layer without a look learns none")
        begin = _begin(self.pipe, self.family, words, look.vectors)
        cutout = plain(pictures.get(look.cutout))
        said = {
            "words": words,
            "model": self.card.name,
            "steps": look.steps,
            "vectors": [len(one) for one in begin],
        }
        path = self.folder / (
            cache.key({**said, **self._deciding(), "cutout": digest(cutout)}) + ".safetensors"
        )
        names = [name for _, name in self.family.encoders]
        began = time.monotonic()
        fact: dict[str, object] = {"layer": layer.name, **said, "cached": True}
        rows = cache.read(path, names, begin)
        if rows is None:
            _check_whole(self.pipe, self.family, self.card, layer.name)
            tell = partial(self.say, layer.name)
            try:
                found = learn(
                    self.pipe,
                    self.family,
                    self.card,
                    cutout,
                    f"{token} {words}",
                    token,
                    begin,
                    look.steps,
                    tell,
                )
            except Exception as error:
                if isinstance(error, DecollageError) or not is_out_of_memory(error):
                    raise
                traceback.clear_frames(error.__traceback__)  # they hold what was computed
                raise ModelError(
                    f"layer {layer.name!r}: there is too little memory to learn its look on {self.card.name}; switch "
                    "look off and lower harmonize to keep the cut-out's own look."
                ) from error
            rows, ends = found.rows, (found.losses[0], found.losses[-1])
            fact |= {"cached": False, "seconds": round(time.monotonic() - began, 3)}
            if (why := cache.write(path, names, rows, {**said, "losses": ends})) is not None:
                self.warn(
                    f"layer {layer.name!r}: its look cannot be kept in {str(self.folder)!r} ({why}) and will be "
                    "learned again next time; set DECOLLAGE_CACHE to another folder.",
                    layer.name,
                )
        return rows, fact

    def _deciding(self) -> dict[str, object]:
        """All that decides a look beside the layer: the weights, and how learning is done."""
        return {
            "weights": self.weights,
            "guidance": self.card.guidance,
            "batch": self.card.look_batch,
            "side": self.card.look_side or self.card.side,
            "rate": invert.RATE,
            "warm_up": invert.WARM_UP,
            "views": invert.VIEWS,
            "sizes": (SMALLEST, LARGEST),
        }


def _check_whole(pipe: Any, family: Any, card: ModelCard, layer: str) -> None:
    """`UnsupportedError` where weights come to the device only when called: backwards they would not be there."""
    parts = [family.denoiser(pipe), *(getattr(pipe, name) for _, name in family.encoders)]
    if any(offloaded(module) for part in parts for module in part.modules()):
        raise UnsupportedError(
            f"layer {layer!r}: look cannot be learned while parts of {card.name} wait off the device; choose offload "
            "none, or switch look off and lower harmonize to keep the cut-out's own look."
        )

"""Where a layer's words stand in what each transformer family really reads."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine
from pipelines.errors import PhraseError
from pipelines.families.spans import moved_by_padding
from pipelines.methods.base import Method, Run
from pipelines.pictures import PictureStore, Pixels
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.runs import sampled
from tests.pipelines.spies import ids_read
from tests.pipelines.tiny_words import qwen_words
from tests.pipelines.transformers.runs import collage, text


class TestWords:
    """Phrases on the string that the pipeline tokenizes: the ids at their places spell them."""

    PLACES: ClassVar[dict[str, tuple[str, list[int]]]] = {
        "sd3": ("tokenizer_3", [78, 79, 80, 81]),
        "flux": ("tokenizer_2", [1, 2, 3, 4]),
        "schnell": ("tokenizer_2", [1, 2, 3, 4]),
        "chroma": ("tokenizer", [1, 2, 3, 4]),
        "zimage": ("tokenizer", [4, 5]),
        "flux2": ("tokenizer", [503, 504]),
        "klein": ("tokenizer", [4, 5]),
        "qwen": ("tokenizer", [1, 2]),
    }

    def test_places(self, engine: Engine, store: PictureStore, model: str) -> None:
        loaded = engine.load(model)
        found = loaded.family.tokens(loaded.pipe, collage(store, model))[0]
        assert found == ([2, 3] if model == "sd3" else []) + self.PLACES[model][1]

    def test_the_encoder_reads_the_phrase_there(
        self, engine: Engine, store: PictureStore, model: str
    ) -> None:
        """Ids caught at the text encoder itself, with the pipeline's padding, template and dropped tokens."""
        loaded = engine.load(model)
        places = dict([self.PLACES[model]])
        if model == "sd3":
            places |= {"tokenizer": [2, 3], "tokenizer_2": [2, 3]}
        encoders = {name: getattr(loaded.pipe, name.replace("tokenizer", "text_encoder")) for name in places}
        with ids_read(encoders) as read:
            sampled(loaded, text(model, steps=2), store, [])
        for name, own in places.items():
            before = -77 if name == "tokenizer_3" else 34 if model == "qwen" else 0
            spelt = [read[name][place + before] for place in own]
            tokenizer = getattr(loaded.pipe, name)
            words = getattr(tokenizer, "tokenizer", tokenizer).decode(spelt)
            assert words.replace(" ", "") == "redcar"

    def test_cut_off(self, engine: Engine, store: PictureStore, model: str) -> None:
        loaded = engine.load(model)
        prompt = "at night " * 400 + "red car"
        request = collage(store, model).replace(
            prompt=prompt,
            layers=(
                dataclasses.replace(collage(store, model).layers[0], span=(len(prompt) - 7, len(prompt))),
            ),
        )
        with pytest.raises(PhraseError, match="red car"):
            loaded.family.tokens(loaded.pipe, request)

    def test_padding_on_the_left_moves_the_places(self) -> None:
        words = copy.copy(qwen_words())
        assert moved_by_padding(words, "a red car", [[1, 2]], 8) == [[1, 2]]
        words.padding_side = "left"
        ids = words("a red car", padding="max_length", max_length=8)["input_ids"]
        places = moved_by_padding(words, "a red car", [[1, 2]], 8)[0]
        assert words.decode([ids[place] for place in places]).strip() == "red car"

    def test_what_clip_cuts_off_t5_still_reads(self, engine: Engine, store: PictureStore) -> None:
        loaded = engine.load("sd3")
        prompt = "a " * 80 + "red car"
        layer = dataclasses.replace(collage(store, "sd3").layers[0], span=(160, 167))
        found = loaded.family.tokens(
            loaded.pipe, collage(store, "sd3").replace(prompt=prompt, layers=(layer,))
        )
        assert found[0] and min(found[0]) >= 77


class FirstKeys(Method):
    """Remembers the keys (H, T, D) of the prompt's first row in the first joint attention."""

    order = 99

    def begin(self, run: Run, kernel: Kernel) -> None:
        self.keys: torch.Tensor | None = None
        self.site: Site | None = None
        self.size = run.latent_size
        kernel.watch.append(self.look)

    def look(self, site: Site, query: torch.Tensor, key: torch.Tensor, *_: Any) -> None:
        if self.keys is None and site.joint is not None:
            self.keys, self.site = key[0].clone(), site


@pytest.mark.parametrize(("width", "padded"), [(64, 32), (96, 32), (160, 64)])
def test_where_z_image_puts_the_words(engine: Engine, store: PictureStore, width: int, padded: int) -> None:
    """Behind the picture and its padding: there, and only there, other words are other keys in the first block."""
    found = []
    for prompt in ("a red car", "a blue hat"):
        method = FirstKeys()
        request = text("zimage", prompt=prompt, steps=1, width=width)
        sampled(engine.load("zimage"), request, store, [method])
        assert method.keys is not None and method.site is not None and method.site.joint is not None
        found.append(method.keys)
    differ = (found[0] - found[1]).abs().amax((0, 2)).nonzero().flatten().tolist()
    assert differ[0] == padded == method.site.joint.text_start(method.size)
    assert differ == list(range(padded, differ[-1] + 1))


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_flux_2_reads_the_same_words_by_its_own_processor(store: PictureStore) -> None:
    """The tests' own is the processor's base class, as the class itself wants torchvision."""
    from transformers import PixtralImageProcessor, PixtralProcessor

    def drawn(own: bool) -> tuple[list[list[int]], Pixels]:
        pipe, card = tt.flux2(), tt.card_for("flux2")
        if own:
            words = pipe.tokenizer
            parts = {"tokenizer": words.tokenizer, "chat_template": words.chat_template}
            pipe.register_modules(
                tokenizer=PixtralProcessor(image_processor=PixtralImageProcessor(), **parts)
            )
        loaded = Engine().adopt("flux2", pipe, card)
        request = collage(store, "flux2")
        return loaded.family.tokens(pipe, request), sampled(loaded, request, store)[0]

    (places, picture), (own_places, own_picture) = drawn(False), drawn(True)
    assert own_places == places and all(places)
    assert np.array_equal(own_picture, picture)

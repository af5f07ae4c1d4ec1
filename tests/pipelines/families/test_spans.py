"""From phrases to tokens, on the tiny vocabulary and on CLIP's real one."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPTokenizer

from pipelines.engine import Engine
from pipelines.errors import PhraseError
from pipelines.families import family
from pipelines.families.spans import tokens_of_spans
from pipelines.pictures import PictureStore
from tests.needs import missing
from tests.pipelines import tiny
from tests.pipelines.runs import sampled
from tests.pipelines.spies import ids_read


def span(text: str, phrase: str, nth: int = 0) -> tuple[int, int]:
    at = -1
    for _ in range(nth + 1):
        at = text.index(phrase, at + 1)
    return at, at + len(phrase)


def words(tokenizer: Any, text: str, positions: list[int]) -> list[str]:
    """The tokens at these positions of what a pipeline feeds its text encoder."""
    ids = tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
    return [tokenizer.convert_ids_to_tokens(ids[position]).removesuffix("</w>") for position in positions]


@cache
def real_vocabulary() -> Path | None:
    """CLIP's merges as the open-clip-torch wheel carries them; its code is not imported, for it needs torchvision."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    return path if path.is_file() else None


@pytest.fixture(scope="session")
def clip() -> CLIPTokenizer:
    """The tokenizer of SD 1.5: 49,408 tokens."""
    path = real_vocabulary()
    if path is None:
        missing("CLIP's vocabulary is not here; pip install --no-deps open-clip-torch")
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [(line.split()[0], line.split()[1]) for line in lines]
    # the order of the 256 byte symbols is that of GPT-2: printable ones first
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    symbols = [chr(byte) for byte in printable] + [chr(256 + k) for k in range(len(rest))]
    tokens = [*symbols, *(s + "</w>" for s in symbols), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: k for k, token in enumerate(tokens)},
        merges=merges,
        pad_token="<|endoftext|>",
        model_max_length=77,
    )


@pytest.fixture(params=["tiny", "clip"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return tiny.tokenizer() if request.param == "tiny" else request.getfixturevalue("clip")


class TestSpans:
    def test_words_at_their_places(self, tokenizer: Any) -> None:
        text = "A red car and a coffee table at night, the table"
        spans = [span(text, "red car"), span(text, "coffee table"), None, span(text, "table", 1)]
        found = tokens_of_spans(tokenizer, text, spans, ["one", "two", "three", "four"])
        assert [words(tokenizer, text, positions) for positions in found] == [
            ["red", "car"],
            ["coffee", "table"],
            [],
            ["table"],
        ]
        assert found[3] != found[1][1:]

    def test_a_phrase_cut_off_is_an_error_naming_the_layer(self, tokenizer: Any) -> None:
        text = "the " * 73 + "red car"
        kept = tokens_of_spans(tokenizer, text, [span(text, "red car")], ["auto"])
        assert kept == [[74, 75]] and words(tokenizer, text, kept[0]) == ["red", "car"]
        for extra in (1, 2, 40):
            longer = "the " * extra + text
            with pytest.raises(PhraseError, match=r"layer 'auto'.*'red car'.*75 tokens"):
                tokens_of_spans(tokenizer, longer, [span(longer, "red car")], ["auto"])

    def test_forty_layers_name_the_first_cut_off(self, tokenizer: Any) -> None:
        text = ", ".join(["red car"] * 40)
        spans = [span(text, "red car", k) for k in range(40)]
        with pytest.raises(PhraseError, match="layer 'l25'"):
            tokens_of_spans(tokenizer, text, spans, [f"l{k}" for k in range(40)])
        with pytest.raises(PhraseError, match="layer 'l25'"):  # first in the text, whatever the layers' order
            tokens_of_spans(tokenizer, text, spans[::-1], [f"l{k}" for k in range(40)][::-1])
        assert len(tokens_of_spans(tokenizer, text, spans[:25], [f"l{k}" for k in range(25)])[24]) == 2

    def test_a_phrase_of_nothing_readable(self, tokenizer: Any) -> None:
        with pytest.raises(PhraseError, match="layer 'gap'"):
            tokens_of_spans(tokenizer, "a  car", [(1, 3)], ["gap"])


class TestRealVocabulary:
    def test_it_is_clips(self, clip: CLIPTokenizer) -> None:
        assert len(clip) == 49408
        # the ids that CLIP gives to these words
        assert clip("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]

    def test_words_of_several_tokens_case_and_accents(self, clip: CLIPTokenizer) -> None:
        text = "An Archaeopteryx beside a CAFÉ  table, it's 1999"
        spans = [span(text, phrase) for phrase in ("Archaeopteryx", "CAFÉ  table", "it's", "1999")]
        found = tokens_of_spans(clip, text, spans, list("abcd"))
        pieces = [words(clip, text, positions) for positions in found]
        assert "".join(pieces[0]) == "archaeopteryx" and len(pieces[0]) > 1
        assert pieces[1][-1] == "table" and len(pieces[1]) >= 2
        assert pieces[2] == ["it", "'s"] and pieces[3] == ["1", "9", "9", "9"]
        flat = [position for positions in found for position in positions]
        assert len(flat) == len(set(flat))

    def test_both_encoders_of_xl_agree(self, clip: CLIPTokenizer) -> None:
        """The second tokenizer differs in its padding alone, so positions hold for both."""
        second = CLIPTokenizer(
            vocab=clip.get_vocab(), merges=_merges(clip), pad_token="!", model_max_length=77
        )
        text = "a red car on the beach"
        spans = [span(text, "red car"), span(text, "beach")]
        names = ["car", "beach"]
        assert tokens_of_spans(clip, text, spans, names) == tokens_of_spans(second, text, spans, names)
        assert words(second, text, [2, 3, 6]) == ["red", "car", "beach"]
        ids = [t(text, padding="max_length", max_length=77).input_ids for t in (clip, second)]
        assert ids[0][:8] == ids[1][:8] and ids[0] != ids[1]


def _merges(tokenizer: CLIPTokenizer) -> list[tuple[str, str]]:
    import json

    return [tuple(pair) for pair in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]


class TestFamilies:
    def test_layers_of_a_request(self, engine: Engine, store: PictureStore, model: str) -> None:
        loaded = engine.load(model)
        request = tiny.collage_request(store, model)
        found = loaded.family.tokens(loaded.pipe, request)
        assert [words(loaded.pipe.tokenizer, request.prompt, one) for one in found] == [
            ["red", "car"],
            ["cat"],
        ]
        assert loaded.family.tokens(loaded.pipe, tiny.text_request(model)) == []

    @pytest.mark.parametrize("before", ["", "at night on the beach and " * 20])
    def test_the_encoder_reads_the_phrase_there(
        self, engine: Engine, store: PictureStore, model: str, before: str
    ) -> None:
        """Ids caught at each text encoder itself in a run; of a long prompt chunk by chunk."""
        loaded, request = engine.load(model), tiny.collage_request(store, model, steps=2)
        layers = tuple(
            dataclasses.replace(one, span=(one.span[0] + len(before), one.span[1] + len(before)))
            for one in request.layers
            if one.span
        )
        request = request.replace(prompt=before + request.prompt, layers=layers)
        found = loaded.family.tokens(loaded.pipe, request)
        assert (min(found[1]) > 77) == bool(before)
        names = dict(loaded.family.encoders)
        encoders = {tokenizer: getattr(loaded.pipe, encoder) for tokenizer, encoder in names.items()}
        with ids_read(encoders) as read:
            sampled(loaded, request, store, [])
        for name, ids in read.items():
            tokenizer = getattr(loaded.pipe, name)
            spelt = [tokenizer.decode([ids[place] for place in places]).strip() for places in found]
            assert spelt == ["red car", "cat"]

    def test_learned_tokens_of_several_vectors_move_the_rest(self, store: PictureStore) -> None:
        """One token typed is three fed: later words stand further back, and its own phrase holds all three."""
        pipe = tiny.sd_velocity()
        pipe.tokenizer = type(pipe.tokenizer)(
            vocab=pipe.tokenizer.get_vocab(),
            merges=_merges(pipe.tokenizer),
            pad_token="<|endoftext|>",
            model_max_length=77,
        )
        pipe.tokenizer.add_tokens(["<it>", "<it>_1", "<it>_2"])
        prompt = "a <it> and a red car"
        layers = (
            tiny.layer(store, "<it>", tiny.CAR, span=span(prompt, "<it>")),
            tiny.layer(store, "red car", tiny.CAT, span=span(prompt, "red car")),
        )
        request = tiny.collage_request(store).replace(prompt=prompt, layers=layers)
        found = family("sd").tokens(pipe, request)
        text = family("sd").final_prompt(pipe, prompt)
        assert text == "a <it> <it>_1 <it>_2 and a red car"
        assert [words(pipe.tokenizer, text, one) for one in found] == [
            ["<it>", "<it>_1", "<it>_2"],
            ["red", "car"],
        ]

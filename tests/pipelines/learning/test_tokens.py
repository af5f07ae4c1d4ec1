"""Learned tokens come in by diffusers' own loader and leave no trace."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pipelines.engine import Loaded
from pipelines.learning.tokens import LEGACY_END, begin_with, wearing
from tests.pipelines import tiny
from tests.pipelines.learning.conftest import rows_of, same, state


class TestBegin:
    words = torch.arange(12.0).reshape(4, 3)

    def test_as_many_vectors_as_words_are_the_words(self) -> None:
        assert torch.equal(begin_with(self.words, 4), self.words)

    def test_more_words_than_vectors_are_means_of_neighbours(self) -> None:
        halves = begin_with(self.words, 2)
        assert torch.equal(halves, torch.stack([self.words[:2].mean(0), self.words[2:].mean(0)]))
        assert torch.equal(begin_with(self.words, 1), self.words.mean(0, keepdim=True))

    def test_fewer_are_said_over_again(self) -> None:
        assert torch.equal(begin_with(self.words[:2], 3), self.words[[0, 1, 0]])


@torch.no_grad()
def test_the_words_own_embeddings_change_nothing(loaded: Loaded) -> None:
    """Each family by its own loader path: the prompt with the tokens means what the words meant, pooled text too."""
    pipe, family = loaded.pipe, loaded.family
    plain = family.text(pipe, "a red cat on the beach", (64, 64))
    with wearing(pipe, family, {"<look-0>": rows_of(loaded, "red cat")}) as worn:
        assert type(worn) is type(pipe) and worn is not pipe
        made = family.text(worn, "a <look-0> on the beach", (64, 64))
        for name, tensor in plain.items():
            if name == "encoder_hidden_states" and loaded.card.family == "flux":
                continue  # T5 sees a space of its own before what follows an added token
            assert torch.equal(made[name], tensor), name
    with wearing(pipe, family, {"<look-0>": tuple(2 * one for one in rows_of(loaded, "red cat"))}) as worn:
        made = family.text(worn, "a <look-0> on the beach", (64, 64))
        moved = [name for name, tensor in plain.items() if not torch.equal(made[name], tensor)]
    assert set(moved) == set(plain) - {"ids"}  # every text encoder reads them


def test_spans_cover_every_vector(loaded: Loaded) -> None:
    vectors = 3
    rows = tuple(one[:1].repeat(vectors, 1) for one in rows_of(loaded, "cat"))
    prompt = "a red <look-0> on the beach"
    request = tiny.text_request(prompt=prompt, collage="c", layers=(named("red <look-0>", prompt),))
    plain = "a red cat on the beach"
    without = tiny.text_request(prompt=plain, collage="c", layers=(named("red", plain),))
    with wearing(loaded.pipe, loaded.family, {"<look-0>": rows}) as worn:
        (tokens,) = loaded.family.tokens(worn, request)
        (red,) = loaded.family.tokens(worn, without)
        assert tokens[: len(red)] == red
        assert len(tokens) == len(red) + vectors + (tokens[-1] - tokens[0] + 1 - len(tokens))
        tokenizer = getattr(worn, loaded.family.encoders[-1][0])
        ids = tokenizer(worn.maybe_convert_prompt(prompt, tokenizer))["input_ids"]
        learned = [at for at, token in enumerate(ids) if token >= len(tokenizer) - vectors]
        assert len(learned) == vectors and set(learned) <= set(tokens)


def named(words: str, prompt: str):  # type: ignore[no-untyped-def]
    from pipelines.request import LayerRequest

    at = prompt.index(words)
    return LayerRequest(name=words, mask="m", span=(at, at + len(words)), harmonize=1.0)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left(loaded: Loaded, fails: bool) -> None:
    before = state(loaded)
    rows = rows_of(loaded, "red cat")
    looks = {"<look-0>": tuple(one + 1 for one in rows), "<look-1>": tuple(one[:1] - 1 for one in rows)}
    try:
        with wearing(loaded.pipe, loaded.family, looks) as worn:
            for name, part in ((name, getattr(worn, name)) for name, _ in loaded.family.encoders):
                assert {"<look-0>", "<look-0>_1", "<look-1>"} <= set(part.get_vocab())
                assert "<look-0>" not in getattr(loaded.pipe, name).get_vocab()
            assert not same(before, state(loaded))  # the text encoders are the model's own
            if fails:
                raise RuntimeError("in the middle of a run")
    except RuntimeError:
        assert fails
    assert same(before, state(loaded))


def test_a_bad_vector_leaves_nothing(loaded: Loaded) -> None:
    before = state(loaded)
    rows = tuple(torch.zeros(1, 5) for _ in loaded.family.encoders)
    with pytest.raises(ValueError), wearing(loaded.pipe, loaded.family, {"<look-0>": rows}):
        pass
    assert same(before, state(loaded))


@torch.no_grad()
def test_old_end_marks_keep_the_pooled_text(all_loaded: dict[str, Loaded]) -> None:
    """Published configs of XL and FLUX.1 say 2, and the pooled vector would be taken at the learned token."""
    loaded = all_loaded["sdxl"]
    encoder = loaded.pipe.text_encoder_2
    holder = next(module for module in encoder.modules() if "eos_token_id" in vars(module))
    right = holder.eos_token_id
    holder.eos_token_id = LEGACY_END
    try:
        plain = loaded.family.text(loaded.pipe, "a cat on the beach", (64, 64))["pooled"]
        with wearing(loaded.pipe, loaded.family, {"<look-0>": rows_of(loaded, "cat")}) as worn:
            made = loaded.family.text(worn, "a <look-0> on the beach", (64, 64))["pooled"]
            assert torch.equal(made, plain)
            holder.eos_token_id = LEGACY_END
            wrong = loaded.family.text(worn, "a <look-0> on the beach", (64, 64))["pooled"]
            assert not torch.equal(wrong, plain)
        assert holder.eos_token_id == LEGACY_END
    finally:
        holder.eos_token_id = right


def test_number_types_stay(velocity: Loaded) -> None:
    half = dataclasses.replace(velocity, pipe=tiny.KINDS["sd_velocity"]().to(torch.bfloat16))
    with wearing(half.pipe, half.family, {"<look-0>": rows_of(velocity, "cat")}):
        assert half.pipe.text_encoder.get_input_embeddings().weight.dtype == torch.bfloat16
    assert half.pipe.text_encoder.dtype == torch.bfloat16

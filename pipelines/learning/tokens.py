"""Learned tokens in a pipeline for the length of a run, and out again without trace.

The vectors are loaded by diffusers' own `load_textual_inversion`, into copies of the tokenizers and into a longer table
of our own that stands in the text encoder meanwhile. Its counterpart is not used: it makes new tables and new tokenizer
objects, forgets the dtype, and removes only the first vector of a look when told its name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.loaders import TextualInversionLoaderMixin

Rows = tuple[torch.Tensor, ...]
"""The vectors of one look, (V, D) for each of the family's text encoders in its order."""
LEGACY_END = 2
"""An end mark that old CLIP configs name wrongly: the pooled vector is then taken at the largest token, which a learned
token would be."""


class _Loader(TextualInversionLoaderMixin):  # type: ignore[misc]
    """diffusers' loader without a pipeline: none of its parts, so no offload hook of theirs is taken out."""

    components: Mapping[str, Any] = {}
    hf_device_map = None


def begin_with(embeddings: torch.Tensor, vectors: int) -> torch.Tensor:
    """(k, D) embeddings of words → (vectors, D): the same where k = vectors, means of neighbours where there are
    more words, the words over again where there are fewer.
    """
    count = len(embeddings)
    if count <= vectors:
        return embeddings[torch.arange(vectors, device=embeddings.device) % count].clone()
    groups = torch.tensor_split(embeddings, vectors)
    return torch.stack([group.mean(0) for group in groups])


@contextmanager
def wearing(pipe: Any, family: Any, looks: Mapping[str, Rows]) -> Iterator[Any]:
    """A stock pipeline over the parts of ``pipe`` that knows the tokens in ``looks``.

    Tokenizers are copies. The text encoders are the same objects, with another table, and as they were at the end.
    """
    made = family.pipeline(pipe, copy.deepcopy(pipe.scheduler), from_picture=False)
    with ExitStack() as stack:
        for place, (tokenizer_name, encoder_name) in enumerate(family.encoders):
            tokenizer = copy.deepcopy(getattr(pipe, tokenizer_name))
            encoder = getattr(pipe, encoder_name)
            rows = {token: of[place] for token, of in looks.items()}
            stack.enter_context(_table(encoder, tokenizer, list(rows.values()), pipe._execution_device))
            _Loader().load_textual_inversion(
                [{token: one} for token, one in rows.items()],
                token=list(rows),
                tokenizer=tokenizer,
                text_encoder=encoder,
            )
            setattr(made, tokenizer_name, tokenizer)
        yield made


@contextmanager
def _table(encoder: Any, tokenizer: Any, rows: Sequence[torch.Tensor], device: Any) -> Iterator[None]:
    """A table with room for ``rows`` in place of the text encoder's own, which comes back untouched.

    It has the size that the loader wants from the start: told to make one, the encoder would fill it with numbers drawn
    from the program's own generator.
    """
    table = encoder.get_input_embeddings()
    weight = table.weight.detach()
    size = len(tokenizer) + sum(len(one) for one in rows)
    larger = weight.new_zeros(size, weight.shape[1], device=device if offloaded(table) else weight.device)
    known = min(len(weight), len(tokenizer))
    larger[:known] = weight[:known]
    holders = [
        (parent, name)
        for parent in encoder.modules()
        for name, child in parent.named_children()
        if getattr(child, "weight", None) is table.weight
    ]
    children = [getattr(parent, name) for parent, name in holders]
    config = encoder.config.get_text_config()
    sizes = [(config, "vocab_size"), (encoder, "vocab_size")]
    before = [(part, name, vars(part).get(name, _ABSENT)) for part, name in sizes]
    ends = [module for module in encoder.modules() if vars(module).get("eos_token_id") == LEGACY_END]
    height, width = larger.shape
    encoder.set_input_embeddings(torch.nn.Embedding(height, width, _weight=larger, _freeze=True))
    for module in ends:
        module.eos_token_id = tokenizer.eos_token_id
    try:
        yield
    finally:
        for module in ends:
            module.eos_token_id = LEGACY_END
        for (parent, name), child in zip(holders, children, strict=True):
            setattr(parent, name, child)
        for part, name, value in before:
            if value is not _ABSENT:
                setattr(part, name, value)
            elif name in vars(part):
                delattr(part, name)


_ABSENT = object()


def offloaded(module: Any) -> bool:
    """Whether a module's weights come to the device by a hook of its own when it is called."""
    registry = getattr(module, "_diffusers_hook", None)
    return hasattr(module, "_hf_hook") or "group_offloading" in getattr(registry, "hooks", {})

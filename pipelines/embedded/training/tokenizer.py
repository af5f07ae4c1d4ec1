"""The text vocabulary of the embedded world, as a stock `CLIPTokenizer`.

Byte-pair merges are learnt on the list of words the captions use, with no limit on merges, so that every word of
the world becomes one token, while any other text still falls back to bytes and never to "unknown".
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

TOKENS = 77  # the length every stock CLIP pipeline pads to
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
SPARE = "<|spare{}|>"


def build_tokenizer(words: Iterable[str], spare: int = 64) -> CLIPTokenizer:
    """A `CLIPTokenizer` in which each of ``words`` (lower case, no spaces) is a single token.

    ``spare`` unused entries are kept at the end of the vocabulary, so that a wider world can add words without
    moving the ids of the old ones. Ours: a 49k vocabulary would be most of so small a model.
    """
    alphabet = sorted(ByteLevel.alphabet())
    bare = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trainer = trainers.BpeTrainer(
        vocab_size=20_000,
        min_frequency=1,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bare.train_from_iterator([[word] for word in sorted(set(words))], trainer)
    learnt = _merges(bare)
    vocab: dict[str, int] = {}
    for token in [*alphabet, *(symbol + "</w>" for symbol in alphabet), *(a + b for a, b in learnt)]:
        vocab.setdefault(token, len(vocab))
    for index in range(spare):
        vocab[SPARE.format(index)] = len(vocab)
    vocab[BEGIN] = len(vocab)
    vocab[END] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=learnt, pad_token=END, model_max_length=TOKENS)


def widen_tokenizer(tokenizer: CLIPTokenizer, words: Iterable[str]) -> CLIPTokenizer:
    """``tokenizer`` in which each of ``words`` is a single token, too; the ids of all older tokens stay.

    What a new word is spelled with is merged on spare ids, after all older merges, so that no older text is read
    otherwise. Raises ``ValueError`` where the spare ids do not suffice.
    """
    bare = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocab, merges = dict(bare["vocab"]), [tuple(pair) for pair in bare["merges"]]
    spare = sorted((token for token in vocab if token.startswith(SPARE[:7])), key=vocab.__getitem__)
    for word in sorted(set(words)):
        left, *rest = CLIPTokenizer(vocab=vocab, merges=merges, pad_token=END).tokenize(word)
        for right in rest:
            merges.append((left, right))
            left += right
            if left not in vocab:
                if not spare:
                    raise ValueError(f"the tokenizer has no spare ids left for the word {word!r}.")
                vocab[left] = vocab.pop(spare.pop(0))
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=END, model_max_length=TOKENS)


def words_known(tokenizer: CLIPTokenizer) -> int:
    """How many ids mean something: the first spare one, or all."""
    ids = [k for token, k in tokenizer.get_vocab().items() if token.startswith(SPARE[:7])]
    return min(ids, default=len(tokenizer))


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in merges]

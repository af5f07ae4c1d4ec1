"""The CLIP's loss and shape."""

import torch

from pipelines.embedded.training.clip import PROJECTION, SIDE, new_clip, sigmoid_loss
from pipelines.embedded.training.tokenizer import build_tokenizer


def test_sigmoid_loss_prefers_right_pairs() -> None:
    vectors = torch.eye(4)
    pairs = torch.eye(4, dtype=torch.bool)
    scale, bias = torch.tensor(2.0), torch.tensor(-3.0)
    right = sigmoid_loss(vectors, vectors, pairs, scale, bias)
    wrong = sigmoid_loss(vectors, vectors.roll(1, 0), pairs, scale, bias)
    assert right < wrong


def test_equal_captions_are_pairs() -> None:
    vectors = torch.ones(2, 3) / 3**0.5
    alone = sigmoid_loss(
        vectors, vectors, torch.eye(2, dtype=torch.bool), torch.tensor(2.0), torch.tensor(0.0)
    )
    both = sigmoid_loss(
        vectors, vectors, torch.ones(2, 2, dtype=torch.bool), torch.tensor(2.0), torch.tensor(0.0)
    )
    assert both < alone


def test_towers_meet_in_one_space() -> None:
    tokenizer = build_tokenizer(["cat"])
    model = new_clip(tokenizer)
    tokens = tokenizer(["cat", "a cat"], padding="max_length", return_tensors="pt")
    with torch.no_grad():
        out = model(input_ids=tokens.input_ids, pixel_values=torch.rand(2, 3, SIDE, SIDE))
    assert out.text_embeds.shape == out.image_embeds.shape == (2, PROJECTION)
    assert not torch.allclose(out.text_embeds[0], out.text_embeds[1])

"""Previews: a fitted map that shows colours, and frozen pixels laid over exactly."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

import pipelines.models
from pipelines import previews
from pipelines.engine import Engine
from pipelines.events import Preview
from pipelines.models import card
from pipelines.pictures import PictureStore
from pipelines.sampling import sample
from tests.pipelines import tiny


def test_training_pictures_are_soft_colourful_and_always_the_same() -> None:
    pictures = previews.smooth_pictures(4, 64)
    assert pictures.shape == (4, 64, 64, 3) and pictures.dtype == np.uint8
    assert np.array_equal(pictures, previews.smooth_pictures(4, 64))
    assert not np.array_equal(pictures, previews.smooth_pictures(4, 64, seed=1))
    assert pictures.std() > 40
    assert np.abs(np.diff(pictures.astype(int), axis=1)).max() < 40


class Averages:
    """An encoder whose latents are the cell colours themselves, mixed: what a perfect map can undo."""

    mix = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -0.5], [0.3, 0.0, 2.0], [0.1, 0.1, 0.1]])

    def encode_picture(self, pipe: object, picture: np.ndarray) -> torch.Tensor:
        colours = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        cells = torch.nn.functional.adaptive_avg_pool2d(colours, picture.shape[0] // 8)
        return torch.einsum("ck,nkhw->nchw", self.mix, cells) - 0.2


def test_a_linear_encoder_is_undone() -> None:
    encoder = Averages()
    matrix = previews.fit(encoder, None)
    assert matrix.shape == (5, 3)
    picture = previews.smooth_pictures(1, 64, seed=3)[0]
    shown = previews.preview(encoder.encode_picture(None, picture)[0], matrix, (64, 64))
    assert shown.shape == (64, 64, 3) and shown.dtype == np.uint8
    assert np.abs(shown.astype(int) - picture).mean() < 8
    assert np.abs(255 - shown.astype(int) - picture).mean() > 40


def test_fit_on_the_embedded_autoencoder_shows_the_colours() -> None:
    loaded = Engine().load("embedded")
    matrix = previews.fit(loaded.family, loaded.pipe)
    pictures = previews.smooth_pictures(6, 64, seed=5)
    latents = [loaded.family.encode_picture(loaded.pipe, picture)[0] for picture in pictures]
    shown = np.stack([previews.preview(one, matrix, (64, 64)) for one in latents]).astype(int)
    grey = np.abs(pictures.astype(int) - pictures.mean((0, 1, 2), keepdims=True).round()).mean()
    assert np.abs(shown - pictures).mean() < 0.4 * grey


def test_the_scale_of_the_latents_does_not_count() -> None:
    """Autoencoders whose latents are tiny or large get the same previews."""
    encoder, small = Averages(), Averages()
    small.mix = encoder.mix * 1e-3
    picture = previews.smooth_pictures(1, 64, seed=3)[0]
    one, other = (
        previews.preview(each.encode_picture(None, picture)[0], previews.fit(each, None), (64, 64))
        for each in (encoder, small)
    )
    assert np.abs(one.astype(int) - other).max() <= 1


@pytest.mark.parametrize("size", [(64, 64), (72, 136)])
def test_preview_has_the_canvas_size(size: tuple[int, int]) -> None:
    matrix = torch.zeros(5, 3)
    matrix[-1] = torch.tensor([0.5, 2.0, -1.0])
    picture = previews.preview(torch.randn(4, size[0] // 8, size[1] // 8).half(), matrix, size)
    assert picture.shape == (*size, 3)
    assert (picture == np.array([128, 255, 0])).all()


class TestLayOver:
    def test_nothing_frozen_changes_nothing(self) -> None:
        picture = tiny.picture(1)
        assert previews.lay_over(picture, None) is picture
        clear = np.zeros((64, 64, 4), np.uint8)
        assert np.array_equal(previews.lay_over(picture, clear), picture)

    def test_full_half_and_clear(self) -> None:
        picture = np.full((2, 3, 3), 100, np.uint8)
        frozen = np.zeros((2, 3, 4), np.uint8)
        frozen[:, 0] = (7, 8, 9, 255)
        frozen[:, 1] = (200, 0, 100, 128)
        out = previews.lay_over(picture, frozen)
        assert (out[:, 0] == (7, 8, 9)).all()
        assert (out[:, 1] == (150, 50, 100)).all()
        assert (out[:, 2] == 100).all() and out.dtype == np.uint8


def test_previews_of_a_run_head_for_the_picture(engine: Engine, store: PictureStore) -> None:
    """The last preview is nearer than the first to what the map shows of the final latents."""
    found = tiny.events(engine, tiny.text_request("sd_noise", steps=8), store)
    shown = tiny.previews(found)
    assert len(shown) == 7, "every step but the last"
    assert tiny.moved(shown[-1], shown[-2]) < tiny.moved(shown[0], shown[-2])


@pytest.mark.parametrize(("model", "scheduler"), tiny.RUNS)
def test_the_last_prediction_is_what_is_decoded(
    engine: Engine, store: PictureStore, model: str, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever scale a scheduler keeps its latents at, previews show the clean latents its steps head for."""
    loaded, request = engine.load(model), tiny.text_request(model, scheduler=scheduler)
    decoded: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []
    stock = loaded.pipe.vae.decode

    def decode(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        decoded.append(latents * loaded.pipe.vae.config.scaling_factor)
        return stock(latents, *args, **kwargs)

    monkeypatch.setattr(loaded.pipe.vae, "decode", decode)
    keep = lambda step, steps, clean: shown.append(clean())  # noqa: E731
    sample(loaded.pipe, loaded.family, loaded.card, request, store, [], [7], keep)
    assert len(shown) == request.steps
    error = (shown[-1] - decoded[0]).abs().mean() / decoded[0].abs().mean()
    assert error < 0.02
    assert (shown[0] - decoded[0]).abs().mean() / decoded[0].abs().mean() > error


@pytest.mark.parametrize("model", ["sd3", "flux", "chroma", "zimage"])
def test_a_small_autoencoder_previews_unpacked_latents(
    transformers: Engine, store: PictureStore, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed or not, it is given the picture's own grid in as many channels as the model's latents have."""
    loaded = transformers.load(model)
    channels, four = loaded.pipe.vae.config.latent_channels, (8,) * 4
    small = AutoencoderTiny(
        latent_channels=channels,
        encoder_block_out_channels=four,
        decoder_block_out_channels=four,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    ).eval()
    given: list[torch.Tensor] = []
    stock = small.decode
    monkeypatch.setattr(small, "decode", lambda latents: given.append(latents) or stock(latents))
    request = tiny.text_request(model, scheduler="flow_euler", steps=4, width=96)
    plain = tiny.previews(tiny.events(transformers, request, store))
    monkeypatch.setattr(loaded, "tiny", small)
    monkeypatch.setattr(loaded, "preview_matrix", None)  # fitted where there was none
    shown = tiny.previews(tiny.events(transformers, request, store))
    assert [tuple(one.shape) for one in given] == [(1, channels, 8, 12)] * 3
    assert [picture.shape for picture in shown] == [(64, 96, 3)] * 3
    assert tiny.moved(shown[-1], plain[-1]) > 1


def test_a_small_autoencoder_shows_what_it_decodes() -> None:
    pipe: Any = Engine().load("embedded").pipe  # whose own is one
    picture = previews.smooth_pictures(1, 64, seed=7)[0]
    latents = Engine().load("embedded").family.encode_picture(pipe, picture)
    shown = previews.decode(latents[0], pipe.vae, (64, 64))
    with torch.no_grad():
        stock = pipe.image_processor.postprocess(
            pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample, output_type="np"
        )
    assert np.abs(shown.astype(int) - stock[0] * 255).max() <= 1
    assert previews.decode(latents[0], pipe.vae, (96, 80)).shape == (96, 80, 3)
    darker = previews.decode(latents[0], pipe.vae, (64, 64)).astype(int)
    assert np.abs(255 - darker - picture).mean() > 2 * np.abs(darker - picture).mean()


@pytest.mark.parametrize("fitting", [True, False])
def test_a_model_brings_its_small_autoencoder_along(
    tmp_path: Path, store: PictureStore, monkeypatch: pytest.MonkeyPatch, fitting: bool
) -> None:
    """One for other latents, or none, and the linear map shows previews."""
    stock = tiny.KINDS["sd_noise"]()
    stock.save_pretrained(tmp_path / "model")
    small: Any = tiny.autoencoder(9, tiny=True)
    if not fitting:
        small = AutoencoderTiny(latent_channels=16)
    small.save_pretrained(tmp_path / "small")
    model = str(tmp_path / "model")
    one = dataclasses.replace(card(model), name="m", tiny=str(tmp_path / "small"))
    monkeypatch.setitem(pipelines.models.CARDS, "m", one)
    engine = Engine(preview_seconds=0)
    loaded = engine.load("m")
    assert (loaded.tiny is not None) == fitting
    without = Engine(preview_seconds=0)
    assert without.load(model).tiny is None  # not on this machine, and nothing is fetched for a folder
    shown = [
        event.picture
        for event in tiny.events(engine, tiny.text_request("m"), store)
        if isinstance(event, Preview)
    ]
    plain = [
        event.picture
        for event in tiny.events(without, tiny.text_request(model), store)
        if isinstance(event, Preview)
    ]
    assert len(shown) == len(plain) == tiny.text_request("m").steps - 1
    assert (loaded.preview_matrix is None) == fitting
    assert (tiny.moved(shown[-1], plain[-1]) > 1) == fitting

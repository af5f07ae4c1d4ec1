"""The autoencoder's loop: it learns, goes on where it stopped, and leaves latents alone when asked to."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import AutoencoderTiny

from pipelines.embedded.training import autoencoder
from pipelines.embedded.training.autoencoder import Run, held_out, loss_of, new_autoencoder, through, windows
from pipelines.embedded.training.cutouts import CutoutStore
from pipelines.embedded.training.world import World


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(mixed_precision="bf16")


def test_shape_is_what_the_denoiser_was_made_for() -> None:
    vae = new_autoencoder()
    back, latents = through(vae, torch.zeros(1, 3, 64, 48), decoder_only=False)
    assert latents.shape == (1, 12, 8, 6)
    assert back.shape == (1, 3, 64, 48)
    assert 0.7e6 < sum(p.numel() for p in vae.parameters()) < 0.9e6


def test_loss_sees_levels_and_edges() -> None:
    flat, striped = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    striped[..., ::2] = 0.5
    assert loss_of(flat, flat) == 0
    assert loss_of(flat + 0.25, flat) == pytest.approx(0.25)
    # the same mean difference as above, and an edge at every step across
    assert loss_of(striped, flat) == pytest.approx(0.25 + autoencoder.EDGES * 0.5)


def test_windows_are_cut_from_new_scenes(small: World, shapes: CutoutStore) -> None:
    first, again, other = (windows(small, shapes, np.random.default_rng(seed), 6) for seed in (0, 0, 1))
    assert first.shape == (6, autoencoder.SIDE, autoencoder.SIDE, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_steps_lower_the_loss(small: World, shapes: CutoutStore, accelerator: Accelerator) -> None:
    torch.manual_seed(0)
    run = Run(None, False, accelerator)
    pictures = windows(small, shapes, np.random.default_rng(0), 2)
    losses = [run.step(pictures, 1.0) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


def test_decoder_alone_leaves_the_latents(
    small: World, shapes: CutoutStore, accelerator: Accelerator
) -> None:
    torch.manual_seed(0)
    pictures = windows(small, shapes, np.random.default_rng(0), 1)
    moved = {}
    for decoder_only in (False, True):
        run = Run(None, decoder_only, accelerator)
        before = {name: p.detach().clone() for name, p in run.vae.state_dict().items()}
        run.step(pictures, 1.0)
        after = run.vae.state_dict()
        moved[decoder_only] = {
            name.split(".")[0] for name, p in before.items() if not torch.equal(p, after[name])
        }
    assert moved == {False: {"encoder", "decoder"}, True: {"decoder"}}


def test_command_trains_goes_on_and_exports(
    small: World,
    shapes: CutoutStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disc = shapes[shapes.keys()[0]]
    header = {"world": small.name, "index": dict.fromkeys(shapes.keys(), (0, *disc.shape[:2]))}
    (tmp_path / "store").mkdir()
    np.savez(
        tmp_path / "store" / "cutouts.npz",
        header=np.frombuffer(json.dumps(header).encode(), np.uint8),
        pixels=disc.ravel(),
    )
    monkeypatch.setattr(autoencoder, "HELD_OUT", 1)
    out = tmp_path / "ae"
    command = ["autoencoder", "--store", str(tmp_path / "store"), "--out", str(out), "--batch", "1"]
    steps = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", [*command, "--minutes", "0.01"])
        autoencoder.main()
        steps.append(torch.load(out / "state.pt", weights_only=True)["steps"])
    assert 0 < steps[0] < steps[1]
    assert f"step {steps[1]}: " in capsys.readouterr().out
    loaded = AutoencoderTiny.from_pretrained(out)
    figures = held_out(loaded, small, shapes, count=1)
    assert 3 < figures["whole"] < 40

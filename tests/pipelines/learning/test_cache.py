"""Learned looks on disk: found again, whole, and never taken for another's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from pipelines.engine import Loaded
from pipelines.learning import cache

NAMES = ("text_encoder", "text_encoder_2")
ROWS = (torch.arange(6.0).reshape(2, 3), torch.ones(1, 4))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "look.safetensors"
    assert cache.read(path, NAMES, ROWS) is None
    assert cache.write(path, NAMES, ROWS, {"words": "red car", "steps": 4}) is None
    found = cache.read(path, NAMES, ROWS)
    assert found is not None and all(torch.equal(a, b) for a, b in zip(found, ROWS, strict=True))
    assert list(path.parent.iterdir()) == [path]
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"words": '"red car"', "steps": "4"}


def test_damage_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "look.safetensors"
    cache.write(path, NAMES, ROWS, {})
    whole = path.read_bytes()
    assert cache.read(path, NAMES, (ROWS[0][:1], ROWS[1])) is None  # of other shapes
    assert cache.read(path, ("text_encoder", "other"), ROWS) is None
    path.write_bytes(whole[:-3])
    assert cache.read(path, NAMES, ROWS) is None
    path.write_bytes(b"")
    assert cache.read(path, NAMES, ROWS) is None
    cache.write(path, NAMES, (ROWS[0] * float("nan"), ROWS[1]), {})
    assert cache.read(path, NAMES, ROWS) is None


def test_the_longest_unused_make_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(4)]
    for number, path in enumerate(paths[:3]):
        cache.write(path, NAMES, ROWS, {})
        os.utime(path, (number, number))
    (tmp_path / "notes.txt").write_text("not ours")
    written = paths[0].stat()
    assert cache.read(paths[0], NAMES, ROWS) is not None  # now 1 is the longest unused
    assert paths[0].stat().st_mtime_ns == written.st_mtime_ns
    monkeypatch.setattr(cache, "MOST", 3 * written.st_size)
    assert cache.write(paths[3], NAMES, ROWS, {}) is None
    assert [path.exists() for path in paths] == [True, False, True, True]
    monkeypatch.setattr(cache, "MOST", 1)
    assert cache.write(paths[2], NAMES, ROWS, {}) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.safetensors", "notes.txt"]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert cache.write(tmp_path / "file" / "look.safetensors", NAMES, ROWS, {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_keys_tell_everything_apart() -> None:
    facts = {"words": "red car", "steps": 4, "vectors": [2]}
    assert cache.key(facts) == cache.key(dict(reversed(facts.items())))
    others = [{**facts, "words": "cat"}, {**facts, "steps": 5}, {**facts, "vectors": [1]}]
    assert len({cache.key(one) for one in [facts, *others]}) == 4


def test_the_folder_is_the_users_and_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DECOLLAGE_CACHE", str(tmp_path))
    assert cache.folder() == tmp_path / "looks"
    monkeypatch.delenv("DECOLLAGE_CACHE")
    for system, variable, expected in (
        ("linux", "XDG_CACHE_HOME", tmp_path / "x" / "decollage" / "looks"),
        ("win32", "LOCALAPPDATA", tmp_path / "x" / "decollage" / "looks"),
    ):
        monkeypatch.setattr(cache.sys, "platform", system)
        monkeypatch.setenv(variable, str(tmp_path / "x"))
        assert cache.folder() == expected
    monkeypatch.setattr(cache.sys, "platform", "darwin")
    assert cache.folder() == Path.home() / "Library" / "Caches" / "decollage" / "looks"


def test_weights_and_loras_have_fingerprints(velocity: Loaded) -> None:
    encoder, denoiser = velocity.pipe.text_encoder, velocity.pipe.unet
    before = cache.fingerprint([denoiser, encoder])
    assert before == cache.fingerprint([denoiser, encoder]) != cache.fingerprint([encoder])
    weight = next(iter(denoiser.parameters())).data
    kept = weight.clone()
    weight *= 1.001
    assert cache.fingerprint([denoiser, encoder]) != before
    weight.copy_(kept)
    module = next(module for module in denoiser.modules() if isinstance(module, torch.nn.Linear))
    prints = set()
    for strength in (0.5, 1.0):  # as a LoRA's layer says how strongly it acts
        module.scaling, module.active_adapters = {"lora0": strength}, ["lora0"]
        prints.add(cache.fingerprint([denoiser, encoder]))
    del module.scaling, module.active_adapters
    assert len(prints) == 2 and before not in prints
    assert cache.fingerprint([denoiser, encoder]) == before


class Quantized(torch.Tensor):
    """As torchao's: numbers and their scale in a tensor that nothing can be picked from."""

    values: torch.Tensor
    scale: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor, scale: torch.Tensor) -> Quantized:
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=scale.dtype)

    def __init__(self, values: torch.Tensor, scale: torch.Tensor) -> None:
        self.values, self.scale = values, scale

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["values", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].values, args[0].scale)
        raise NotImplementedError(f"{func} of a quantized tensor")


def test_quantized_weights_have_fingerprints() -> None:
    """Of what they consist of: any of it changed is another model."""

    def found(values: torch.Tensor, scale: torch.Tensor) -> str:
        part = torch.nn.Module()
        part.weight = torch.nn.Parameter(Quantized(values, scale), requires_grad=False)
        with pytest.raises(NotImplementedError):
            part.weight[::2]
        return cache.fingerprint([part])

    values, scale = torch.arange(-100, 100, dtype=torch.int8).reshape(10, 20), torch.ones(10, 1)
    prints = [found(values, scale), found(values + 1, scale), found(values, 2 * scale), found(values, scale)]
    assert prints[0] == prints[3] and len(set(prints)) == 3

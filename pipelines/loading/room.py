"""Free main memory, and whether a model's weights fit into it; looked at before they are read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from math import prod
from pathlib import Path

from pipelines.errors import RoomError
from pipelines.loading.failures import no_room
from pipelines.loading.fetch import VARIANTS
from pipelines.loading.options import LoadOptions
from pipelines.loading.placing import choose_offload, quantized_parts

QUANTIZED = {"bnb4": 0.5, "bnb8": 1.0, "int8": 1.0}
"""Bytes of a weight by `LoadOptions.quantize`, without the few numbers beside them."""


def free_memory() -> int | None:
    """Bytes of main memory that programs may still take, None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


Weights = Mapping[str, Sequence[Path]]
"""Files with weights by the part of the model that reads them."""


def check_room(
    name: str, weights: Weights, options: LoadOptions, device: str, dtype: str, free: int | None
) -> None:
    """`RoomError` where ``weights`` need more than ``free`` bytes of main memory.

    All of them, as wide as ``dtype`` or as they are quantized, where they stay in it: on a CPU, and wherever they wait
    for a device. Else the largest file as it is, as they pass through on the way to the device.
    """
    if free is None:
        return
    sizes = [file.stat().st_size for files in weights.values() for file in files]
    needed = max(sizes, default=0)
    narrow = QUANTIZED[options.quantize] if options.quantize else 0.0
    quantized = quantized_parts(set(weights)) if options.quantize else []
    total = int(
        sum(
            _held(file, narrow if part in quantized else float(_width(dtype)))
            for part, files in weights.items()
            for file in files
        )
    )
    if _stays(total, device, options):
        needed = total
    if needed > free:
        raise RoomError(no_room(name, needed, free))


def weights_of(source: Path) -> dict[str, Sequence[Path]]:
    """What loading reads of a model's folder: neither variants nor what is pickled beside safetensors."""
    index = json.loads((source / "model_index.json").read_text(encoding="utf-8"))
    found: dict[str, Sequence[Path]] = {}
    for part in [name for name, kind in index.items() if isinstance(kind, list) and kind[0] is not None]:
        for kind in (".safetensors", ".bin"):
            files = [
                file
                for file in sorted((source / part).glob(f"*{kind}"))
                if not any(fnmatch(file.name, variant) for variant in VARIANTS)
            ]
            if files:
                found[part] = files
                break
    return found


def _held(file: Path, width: float) -> float:
    """Bytes in memory of the weights of a file whose floating-point numbers become ``width`` bytes each.

    What is no safetensors file says nothing of its numbers without being run, so it counts as it is.
    """
    from safetensors import SafetensorError, safe_open

    size = file.stat().st_size
    if file.suffix != ".safetensors":
        return size
    try:
        with safe_open(file, framework="numpy") as weights:
            tensors = [weights.get_slice(name) for name in weights.keys()]  # noqa: SIM118 - no dict
            numbers: int = sum(prod(one.get_shape()) for one in tensors if _floating(one.get_dtype()))
            return numbers * width
    except SafetensorError:  # reading it will say so
        return size


def _floating(kind: str) -> bool:
    return kind.startswith(("F", "BF"))


def _width(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


def _stays(total: int, device: str, options: LoadOptions) -> bool:
    """Whether weights of ``total`` bytes are in main memory for as long as the model is loaded."""
    import torch

    if options.device_map:
        return options.device_map == "cpu"
    kind = torch.device(device).type
    if kind != "cuda":  # Apple's device has no memory of its own
        return kind in ("cpu", "mps")
    if options.offload is not None:
        return options.offload != "none"
    return choose_offload(total, 0, torch.cuda.mem_get_info(device)[0]) != "none"

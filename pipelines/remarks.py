"""Remarks of a library that a user can do nothing about, kept off stderr.

Where torchao is installed, transformers, peft and diffusers import it to ask whether weights are quantized, also in
runs that quantize nothing. On import it then says which of its kernels for other machines it could not load, torch says
that a way in which torchao registers a type is old, and diffusers (0.42) that it misses types of checkpoints that only
an older torchao wrote. Anything else any of them has to say goes through.
"""

from __future__ import annotations

import logging

_REMARKS = {
    "torchao": ("Failed to load", "Skipping import of cpp extensions"),
    "diffusers.quantizers.torchao.torchao_quantizer": ("Unable to import `torchao` Tensor objects",),
    "torch.utils._pytree": ("%s is an Enum subclass and is now natively supported",),
}
"""Logger: how its remarks begin."""


def _worth_saying(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_REMARKS[record.name])


def silence() -> None:
    """Let those remarks pass unsaid from now on; calling it again changes nothing."""
    for name in _REMARKS:
        logging.getLogger(name).addFilter(_worth_saying)

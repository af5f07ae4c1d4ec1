"""Sizes of downloads in words."""

from __future__ import annotations


def size(done: int, total: int) -> str:
    """ "1.2 of 6.9 GB", in MB where the whole is less than 1 GB."""
    unit, name, digits = (1e9, "GB", 1) if total >= 1e9 else (1e6, "MB", 0)
    return f"{done / unit:.{digits}f} of {total / unit:.{digits}f} {name}"

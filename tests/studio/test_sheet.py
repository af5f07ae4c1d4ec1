"""Contact sheets: every picture whole, in its row."""

from __future__ import annotations

import numpy as np

from studio.sheet import LEFT, sheet


def full(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_pictures_stand_in_their_rows_whole() -> None:
    made = np.asarray(
        sheet([("off\n1 s", [full(64, 64, 10), full(64, 32, 20)]), ("on", [full(16, 16, 30)])], 32)
    )
    assert made.shape == (2 * 34, LEFT + 2 * 34, 3)
    assert (made[:32, LEFT : LEFT + 32] == 10).all()
    assert (made[:32, LEFT + 34 : LEFT + 50] == 20).all() and (made[:32, LEFT + 51 :] == 255).all()
    assert (made[34:66, LEFT : LEFT + 32] == 30).all(), "a small picture is made larger"
    assert (made[:34, :LEFT] < 128).any(), "there is a label"


def test_nothing_to_show() -> None:
    assert sheet([]).size == (LEFT, 1)

"""What the ways to make a batch differ take, each timed beside a plain batch of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from tests.benchmarks import common
from tests.benchmarks.negtome_measures import Row, Settings, mean, names_of, percent, reached

AUTHORS_TIME = 0.036
"""How much longer the authors' run with NegToMe took."""


def timed(run: Callable[[], object]) -> float:
    """Processor seconds of one run."""
    start = time.process_time()
    run()
    return round(time.process_time() - start, 3)


def beside(run: Callable[[], object], off: Callable[[], object], first: bool) -> Row:
    """A run and a plain one in immediate succession, the plain one second where the run is ``first``: whatever else the
    machine does meets both.
    """
    if first:
        taken = timed(run)
        return {"seconds": taken, "off": timed(off)}
    plain = timed(off)
    return {"seconds": timed(run), "off": plain}


def more(one: Row) -> float:
    """How much longer than its plain batch, as a share."""
    return float(one["seconds"] / one["off"] - 1)


def seconds(rows: Sequence[Row], settings: Settings) -> str:
    """A line a setting."""
    lines = []
    for name in names_of(rows):
        taken, plain = (float(np.median([row[name][word] for row in rows])) for word in ("seconds", "off"))
        lines.append([name, f"{taken:.2f}", f"{plain:.2f}", percent(mean(rows, name, more))])
    found = mean(rows, "negtome", more)
    verdict = reached(found.value <= AUTHORS_TIME, found.high <= AUTHORS_TIME)
    headers = ("", "seconds", "off, beside it", "more")
    return (
        f"## What a batch that differs takes\n\nn = {len(rows)} pairs a setting, batches of {settings['images']} in "
        "one call of the denoiser a step, settings as above; each in immediate succession with a plain batch, in every "
        f"second row the other way round. Processor seconds, medians.\n\n{common.table(headers, lines)}\n"
        f"To beat: {100 * AUTHORS_TIME:g} % more time (authors). NegToMe here: {percent(found)}: {verdict}.\n\n"
    )

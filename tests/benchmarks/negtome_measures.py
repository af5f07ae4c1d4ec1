"""The numbers of NegToMe's benchmark. Rows, not pictures, are independent; prompts are, for entropy."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipelines.measure.intervals import Interval, bootstrap, wilson

Settings = dict[str, Any]
Row = dict[str, Any]


def names_of(rows: Sequence[Row]) -> list[str]:
    """The settings of a row, in their order."""
    return [name for name, value in rows[0].items() if isinstance(value, dict)]


def agreement(rows: Sequence[Row], name: str, word: str = "agreement") -> Interval:
    """The share of pictures that show what was asked."""
    hits = list(itertools.chain.from_iterable(row[name][word] for row in rows))
    return wilson(sum(hits), len(hits))


def difference(rows: Sequence[Row], name: str, of: Callable[[Row], float], base: str = "off") -> Interval:
    """Mean over the rows of one setting's number less that of ``base`` in the same row."""
    return bootstrap([of(row[name]) - of(row[base]) for row in rows])


def lost(rows: Sequence[Row], name: str, word: str = "agreement", base: str = "off") -> Interval:
    """How agreement differs from off, paired."""
    return difference(rows, name, lambda one: float(np.mean(one[word])), base)


def fall(rows: Sequence[Row], name: str, of: Callable[[Row], float], base: str = "off") -> Interval:
    """By what share the mean of a similarity falls against off: a ratio of means, resampled by rows."""
    before = np.array([of(row[base]) for row in rows])
    after = np.array([of(row[name]) for row in rows])
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(rows), size=(2000, len(rows)))
    found = 1 - after[drawn].mean(1) / before[drawn].mean(1)
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(float(1 - after.mean() / before.mean()), float(low), float(high), len(rows))


def entropy(values: Sequence[str]) -> float:
    """Shannon entropy in bits of how often each value occurs."""
    counts = np.array(list(Counter(values).values()), float)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def open_entropy(rows: Sequence[Row], name: str, word: str) -> Interval | None:
    """Mean over prompts of the entropy of an attribute in all their pictures that show the object."""
    found = _entropies(rows, name, word)
    return bootstrap(list(found.values())) if found else None


def entropy_gained(rows: Sequence[Row], name: str, word: str) -> Interval | None:
    """How the entropy of an attribute differs from off: mean over the prompts that show the object in both."""
    before, after = _entropies(rows, "off", word), _entropies(rows, name, word)
    found = [after[prompt] - before[prompt] for prompt in before if prompt in after]
    return bootstrap(found) if found else None


def _entropies(rows: Sequence[Row], name: str, word: str) -> dict[str, float]:
    seen: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        values = row[name]["style"] if word == "style" else row[name]["open"][word]
        shown = zip(values, row[name]["object"], strict=True)
        seen[row["prompt"]] += [value for value, right in shown if right and value is not None]
    return {prompt: entropy(values) for prompt, values in seen.items() if values}


def mixed(rows: Sequence[Row], name: str) -> Interval:
    """The share of batches in which an open attribute, style among them, has more than one value."""
    several = []
    for row in rows:
        lists = [*row[name]["open"].values(), row[name]["style"]]
        several.append(any(len({value for value in values if value is not None}) > 1 for values in lists))
    return wilson(sum(several), len(several))


def percent(one: Interval) -> str:
    """A ratio as "3.9 % (1.2 to 6.0)"."""
    return f"{100 * one.value:+.1f} % ({100 * one.low:+.1f} to {100 * one.high:+.1f})"


def similarity(one: Row) -> float:
    """Within a batch: mean cosine of features over its pairs."""
    return 1 - float(one["distance"])


def likeness(one: Row) -> float:
    """To the whole picture to avoid: mean over the batch."""
    return float(np.mean(one["whole similarity"]))


def seconds(rows: Sequence[Row], name: str) -> float:
    """Median processor seconds of a batch."""
    return float(np.median([row[name]["seconds"] for row in rows]))


def slower(rows: Sequence[Row], name: str) -> Interval:
    """By what share a setting takes longer than off; what samples all images in one call than off in one call."""
    joint = name.startswith("negtome")
    timed = [
        {
            "off": {"seconds": row["off"]["together" if joint else "seconds"]},
            name: {"seconds": row[name]["seconds"]},
        }
        for row in rows
    ]
    less = fall(timed, name, lambda one: float(one["seconds"]))
    return Interval(-less.value, -less.high, -less.low, less.n)

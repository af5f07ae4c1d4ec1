"""The numbers of NegToMe's benchmark. Prompts are independent; neither the rows of a prompt nor pictures are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipelines.measure.intervals import Interval, bootstrap
from tests.benchmarks import common

Settings = dict[str, Any]
Row = dict[str, Any]


def names_of(rows: Sequence[Row]) -> list[str]:
    """The settings of a row, in their order."""
    return [name for name, value in rows[0].items() if isinstance(value, dict)]


def _drawn(rows: Sequence[Row], *numbers: Sequence[float]) -> tuple[np.ndarray[Any, Any], ...]:
    """The sum of each of the lists of ``numbers``, one a row, in each of many draws of as many prompts as there are."""
    places = {prompt: at for at, prompt in enumerate(dict.fromkeys(row["prompt"] for row in rows))}
    of_prompt = np.zeros((len(numbers), len(places)))
    for column, row in enumerate(rows):
        of_prompt[:, places[row["prompt"]]] += [each[column] for each in numbers]
    drawn = np.random.default_rng(0).integers(len(places), size=(4000, len(places)))
    return tuple(each[drawn].sum(1) for each in of_prompt)


def over_rows(rows: Sequence[Row], of: Callable[[Row], float]) -> Interval:
    """The mean of a number of each row, and its percentile bootstrap interval: whole prompts are drawn."""
    found = [of(row) for row in rows]
    sums, counts = _drawn(rows, found, [1] * len(rows))
    low, high = np.percentile(sums / counts, (2.5, 97.5))
    return Interval(float(np.mean(found)), float(low), float(high), len(rows))


def mean(rows: Sequence[Row], name: str, of: Callable[[Row], float]) -> Interval:
    """The mean over the rows of one setting's number."""
    return over_rows(rows, lambda row: of(row[name]))


def agreement(rows: Sequence[Row], name: str, word: str = "agreement") -> Interval:
    """The share of pictures that show what was asked."""
    return mean(rows, name, lambda one: float(np.mean(one[word])))


def difference(rows: Sequence[Row], name: str, of: Callable[[Row], float], base: str = "off") -> Interval:
    """Mean over the rows of one setting's number less that of ``base`` in the same row."""
    return over_rows(rows, lambda row: of(row[name]) - of(row[base]))


def lost(rows: Sequence[Row], name: str, word: str = "agreement", base: str = "off") -> Interval:
    """How agreement differs from off, paired."""
    return difference(rows, name, lambda one: float(np.mean(one[word])), base)


def fall(rows: Sequence[Row], name: str, of: Callable[[Row], float], base: str = "off") -> Interval:
    """By what share the mean of a similarity falls against off: a ratio of means, whole prompts resampled."""
    before, after = ([of(row[which]) for row in rows] for which in (base, name))
    first, last = _drawn(rows, before, after)
    low, high = np.percentile(1 - last / first, (2.5, 97.5))
    return Interval(1 - sum(after) / sum(before), float(low), float(high), len(rows))


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

    def several(one: Row) -> bool:
        lists = [*one["open"].values(), one["style"]]
        return any(len({value for value in values if value is not None}) > 1 for values in lists)

    return mean(rows, name, several)


def percent(one: Interval) -> str:
    """A ratio as "3.9 % (1.2 to 6.0)"."""
    return f"{100 * one.value:+.1f} % ({100 * one.low:+.1f} to {100 * one.high:+.1f})"


def similarity(one: Row) -> float:
    """Within a batch: mean cosine of features over its pairs."""
    return 1 - float(one["distance"])


def variety(one: Row) -> float:
    """The Vendi score of a batch."""
    return float(one["vendi"])


def likeness(one: Row) -> float:
    """To the whole picture to avoid: mean over the batch."""
    return float(np.mean(one["whole similarity"]))


def reached(true: bool, surely: bool = True) -> str:
    """``surely``: whether the whole intervals say so, too."""
    if not true:
        return "**not reached**"
    return "**reached**" if surely else "**reached**, not beyond doubt"


AUTHORS_SPREAD = 1 - 0.780 / 0.812
"""How much the similarity within a batch fell in the authors' table, as a share of what it was."""


def held_to_the_authors(rows: Sequence[Row]) -> str:
    """Spread's verdict: as much less similarity as in the authors' table, at no loss of agreement."""
    falls, loss = fall(rows, "negtome", similarity), lost(rows, "negtome")
    won = falls.value >= AUTHORS_SPREAD and loss.value >= 0
    return (
        f"To beat: similarity {100 * AUTHORS_SPREAD:.1f} % lower at no loss of agreement (authors). NegToMe here: "
        f"{percent(falls)} lower, agreement {common.points(loss)}: "
        f"{reached(won, falls.low >= AUTHORS_SPREAD and loss.low >= 0)}.\n\n"
    )


def differing_cells(rows: Sequence[Row], name: str) -> list[str]:
    """A setting's similarity, its fall, Vendi, agreement and what that lost, as cells of a table."""
    off = name == "off"
    return [
        common.number(mean(rows, name, similarity)),
        "" if off else percent(fall(rows, name, similarity)),
        common.number(mean(rows, name, variety), 2),
        common.percent(agreement(rows, name)),
        "" if off else common.points(lost(rows, name)),
    ]


DIFFERING = ("similarity", "it falls by", "Vendi", "object, place, time", "against off")
"""Heads of `differing_cells`."""

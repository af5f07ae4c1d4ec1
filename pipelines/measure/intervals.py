"""How sure a measured number is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipelines.errors import FieldError

Z95 = 1.959964  # two-sided 95 % of a normal distribution


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval and the number of samples behind it."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """JSON-ready."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def wilson(hits: int, n: int) -> Interval:
    """A share and its score interval (E. B. Wilson 1927): inside 0..1, and right for few samples."""
    if not 0 <= hits <= n or n < 1:
        raise FieldError(f"{hits} of {n} is not a share; give 0 to n hits of at least one sample.")
    share, z = hits / n, Z95
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), n)


def bootstrap(values: ArrayLike, *, rounds: int = 4000, seed: int = 0) -> Interval:
    """The mean of (n,) values and its percentile bootstrap interval (Efron 1979); for paired designs give
    differences.
    """
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise FieldError("a bootstrap needs a list of at least one finite number.")
    rng = np.random.default_rng(seed)
    means = np.array([sample[rng.integers(0, len(sample), len(sample))].mean() for _ in range(rounds)])
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(sample.mean()), float(low), float(high), len(sample))

"""
What is computed from measurements.
"""

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """
    Return the smallest of *values* that at least *percent* percent of them do not exceed.

    Raises:
        ValueError: There are none.
    """
    if not values:
        raise ValueError("there is no percentile of no values")
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the three quartiles of *values*, each one of them."""
    return percentile(values, 25), percentile(values, 50), percentile(values, 75)

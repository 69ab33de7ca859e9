"""Figures of many measurements: percentiles, medians, ratios. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

PERCENTILES = (50, 90, 99)
CURVE = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 100)


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that is not exceeded by so many percent of them (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("no values, no percentile")
    rank = max(1, math.ceil(len(values) * percent / 100))
    return sorted(values)[rank - 1]


def distribution(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds: p50, p90, p99, the worst, and how many there were."""
    shown = {f"p{percent}": milliseconds(percentile(seconds, percent)) for percent in PERCENTILES}
    return {**shown, "worst": milliseconds(max(seconds)), "count": len(seconds)}


def curve(seconds: Sequence[float]) -> list[list[float]]:
    """For a plot: pairs of a percent and the milliseconds that so many do not exceed."""
    return [[percent, milliseconds(percentile(seconds, percent))] for percent in CURVE]


def milliseconds(seconds: float) -> float:
    return round(1_000 * seconds, 1)


def ratio(value: float, floor: float) -> float:
    """Three digits. NaN where the floor is nothing."""
    return round(value / floor, 3) if floor else math.nan


def medians(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Of each key over all rows; a key that a row does not have is left out there."""
    by_key: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            by_key.setdefault(key, []).append(value)
    return {key: round(statistics.median(values), 4) for key, values in by_key.items()}

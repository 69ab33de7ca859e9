"""Percentiles, medians and ratios of bench/."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import CURVE, curve, distribution, medians, percentile, ratio

VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(300, 0, -1)]
    assert [percentile(values, percent) for percent in (0, 50, 99, 100)] == [1, 150, 297, 300]
    assert percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@given(VALUES, st.floats(0, 100))
def test_so_many_percent_do_not_exceed_it(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert sum(value <= found for value in values) * 100 >= percent * len(values) - 1e-6
    assert sum(value < found for value in values) * 100 <= percent * len(values) + 1e-6


def test_a_distribution_is_in_milliseconds() -> None:
    seconds = [0.010] * 98 + [0.050, 0.0701]
    assert distribution(seconds) == {"p50": 10.0, "p90": 10.0, "p99": 50.0, "worst": 70.1, "count": 100}


def test_a_median_is_of_the_rounds_that_have_the_figure() -> None:
    assert medians([{"a": 1, "b": 2.0}, {"a": 9}, {"a": 2}]) == {"a": 2, "b": 2.0}
    assert medians([]) == {}


def test_a_ratio_to_nothing_is_no_number() -> None:
    assert ratio(1, 3) == 0.333
    assert math.isnan(ratio(1, 0))


@given(VALUES)
def test_a_curve_never_falls(values: list[float]) -> None:
    found = curve(values)
    assert [percent for percent, _ in found] == list(CURVE)
    assert [value for _, value in found] == sorted(value for _, value in found)

"""When a load is back after a kill: the moments that bench/recovery.py tells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.steady_load import Seen, everywhere, reached


def looks(*ended: int, every: float = 0.1) -> list[Seen]:
    """Of one shard."""
    return [Seen(number * every, (count,)) for number, count in enumerate(ended)]


def test_the_rate_counts_from_the_first_window_that_has_it() -> None:
    """Nothing for 1 s, then 10 a look: 100 a second."""
    seen = looks(*[0] * 11, *range(10, 300, 10))
    assert reached(seen, since=0.0, rate=100, window=0.5) == seen[10].at
    assert reached(seen, since=2.0, rate=100, window=0.5) == seen[20].at
    assert reached(seen, since=0.0, rate=101, window=0.5) is None


def test_a_window_that_is_not_over_says_nothing() -> None:
    assert reached(looks(0, 100, 200), since=0.0, rate=1, window=0.5) is None
    assert reached([], since=0.0, rate=1, window=0.5) is None


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 300))
def test_it_is_what_a_plain_search_finds(steps: list[int], rate: int) -> None:
    ended = [sum(steps[:count]) for count in range(len(steps))]
    seen, window = looks(*ended, every=0.25), 1.0
    plain = None
    for number, first in enumerate(seen):
        last = next((look for look in seen[number:] if look.at >= first.at + window), None)
        if last is not None and last.ended - first.ended >= rate * (last.at - first.at):
            plain = first.at
            break
    assert reached(seen, 0.0, rate, window) == plain


def test_everywhere_is_when_the_last_shard_has_moved() -> None:
    seen = [Seen(0.0, (5, 5)), Seen(1.0, (6, 6)), Seen(2.0, (9, 6)), Seen(3.0, (9, 7))]
    assert everywhere(seen, since=1.5) == 3.0
    assert everywhere(seen, since=0.5) == 1.0
    assert everywhere(seen[:3], since=1.5) is None
    assert everywhere(seen, since=-1.0) is None

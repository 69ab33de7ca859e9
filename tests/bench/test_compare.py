"""What `python -m bench.compare` makes of its runs."""

from __future__ import annotations

import pytest

from bench.compare import BARE, MODES, summary, table
from bench.load_run import COORDINATORS, KAFKA, PARTICIPANTS, POSTGRESQL, Run
from tests.system.orders import Fate


def a_run(sagas: int, seconds: float, *, coordinators: float) -> Run:
    return Run(sagas, seconds, {COORDINATORS: coordinators, PARTICIPANTS: 1.0, KAFKA: 0.5, POSTGRESQL: 0.5})


def test_ratios_are_taken_within_a_round() -> None:
    """The machine was twice as slow in the second round, for both."""
    rounds = [
        {BARE: a_run(1_000, 1, coordinators=1), "happy": a_run(1_000, 2, coordinators=3)},
        {BARE: a_run(1_000, 2, coordinators=2), "happy": a_run(1_000, 4, coordinators=6)},
    ]
    found = summary(rounds)
    assert found[BARE]["sagas_per_s"] == 750
    assert found["happy"]["share_of_bare"] == 0.5
    assert found["happy"]["cpu_times_bare.coordinators"] == 3
    assert found["happy"]["cpu_times_bare.all"] == pytest.approx((5 / 3 + 8 / 4) / 2, abs=0.001)
    assert found[BARE]["cpu_ms.all"] == 3.5


def test_the_shop_is_compared_with_lean_handlers_too() -> None:
    bare = a_run(100, 1, coordinators=1)
    found = summary([{BARE: bare, "happy": bare, "shop": a_run(100, 4, coordinators=1)}])
    assert found["shop"]["share_of_lean"] == 0.25
    assert "share_of_lean" not in summary([{BARE: bare, "shop": bare}])["shop"]


def test_the_table_has_a_line_for_each_mode_that_ran() -> None:
    bare = a_run(100, 1, coordinators=1)
    lines = table(summary([{BARE: bare, "undo": bare}])).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["bare", "undo"]
    assert "1.0 × bare" in lines[3]


def test_seven_of_ten_mixed_orders_complete() -> None:
    fates = [MODES["mixed"].fate(number) for number in range(100)]
    assert [fates.count(fate) for fate in Fate] == [70, 10, 10, 10]

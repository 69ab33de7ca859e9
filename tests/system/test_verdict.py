"""The judge is judged: each kind of violation is seen, and called by its name. The fault_plan is what was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.system.fault_plan import BROKER, DATABASE, FAILOVERS, JOINS, KILLS, STOPS, Fault, of_numbers, schedule
from tests.system.orders import Fate, Order
from tests.system.verdict import Listener, Verdict, judge_effects

UNDONE = ["+inventory", "+payment", "-payment", "-inventory"]


@pytest.mark.parametrize(
    ("happened", "kind"),
    [
        (UNDONE, None),
        ([*UNDONE, "-payment"], "doubled"),
        (["+inventory", "+payment", "-inventory", "-payment"], "out_of_order"),
        (UNDONE[:3], "wrong"),
        ([], "wrong"),
    ],
)
def test_effects_are_judged(happened: Sequence[str], kind: str | None) -> None:
    verdict = Verdict()
    judge_effects(verdict, Order(1, Fate.NOT_SERVED), happened)
    assert [*verdict.violations] == ([] if kind is None else [kind])


@pytest.mark.parametrize(
    ("numbers", "kinds"),
    [([1, 2], []), ([1, 2, 1], []), ([2, 1], ["out_of_order"]), ([1, 3], ["out_of_order"]), ([1], ["wrong"])],
    ids=["in order", "a copy", "reordered", "a gap", "its end is missing"],
)
def test_what_was_published_is_judged(numbers: Sequence[int], kinds: list[str]) -> None:
    verdict, order = Verdict(), Order(1, Fate.OUT_OF_STOCK)
    listener = Listener(verdict)
    for number in numbers:
        end = number == max(2, *numbers)
        type = "sagabus.saga.compensated" if end else "sagabus.saga.started"
        listener.hear({"ce_id": f"e{number}", "ce_type": type, "ce_subject": order.id, "ce_sequence": f"{number:012}"})
    listener.judge([order])
    assert [*verdict.violations] == kinds


def test_there_are_as_many_faults_as_were_asked_for() -> None:
    counts = of_numbers(
        kills=50, stops=20, rebalances=40, rolling=20, postgres=10, broker=10, cuts=5, buses=3, topics=6, failovers=12
    )
    assert sum(number * counts[fault] for fault, number in KILLS.items()) >= 50
    assert sum(counts[fault] for fault in STOPS) == 20
    assert 2 * sum(counts[fault] for fault in JOINS) == 40
    assert sum(counts[fault] for fault in BROKER) == sum(counts[fault] for fault in set(DATABASE)) == 10
    assert {counts[fault] for fault in FAILOVERS} == {3}
    assert (counts[Fault.ROLLING_RESTART], counts[Fault.CONNECTIONS_CUT], counts[Fault.BUS_REPLACED]) == (20, 5, 3)
    assert schedule(1, counts) == schedule(1, counts) != schedule(2, counts)

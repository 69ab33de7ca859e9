"""The demo's audit says no when something is wrong: each promise is broken once, and found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from sagabus.commands.demo.audit import audit
from sagabus.commands.demo.ledgers import Books, Movement
from sagabus.commands.demo.witness import Happening, Witness

TOTAL = Decimal("109.97")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
GOOD, BAD = "ORD-1", "ORD-2"


def movement(number: int, order: str, what: str, amount: Decimal | int) -> Movement:
    return Movement(number, order, what, Decimal(amount), BEGAN + timedelta(seconds=number))


BEFORE = Books((), (), (), {"PROD-1": 10, "PROD-2": 10})
AFTER = Books(
    goods=(
        movement(1, GOOD, "PROD-1", 2),
        movement(4, BAD, "PROD-1", 2),
        movement(7, BAD, "PROD-1", -2),
    ),
    money=(
        movement(2, GOOD, "TXN-1", TOTAL),
        movement(5, BAD, "TXN-2", TOTAL),
        movement(6, BAD, "TXN-2", -TOTAL),
    ),
    parcels=(movement(3, GOOD, f"TRACK-{GOOD}", 1),),
    stock={"PROD-1": 8, "PROD-2": 10},
)


def lifecycle(order: str, *types: str) -> list[Happening]:
    return [
        Happening(f"{order}:{n}", type, order, order, n, {"status": type.rpartition(".")[2]})
        for n, type in enumerate(types, 1)
    ]


def domain(order: str, type: str) -> Happening:
    return Happening(f"{order}:{type}", type, order, order, 0, {})


EVENTS = [
    *lifecycle(GOOD, "sagabus.saga.started", "sagabus.step.completed", "sagabus.saga.completed"),
    *lifecycle(BAD, "sagabus.saga.started", "sagabus.step.failed", "sagabus.saga.compensated"),
    *(domain(order, "inventory.stock_reserved") for order in (GOOD, BAD)),
    *(domain(order, "payment.payment_processed") for order in (GOOD, BAD)),
    domain(GOOD, "shipping.order_shipped"),
]


def wrongs(after: Books = AFTER, events: list[Happening] = EVENTS) -> list[str]:
    witness = Witness(lambda _: None)
    witness.keep(events)
    findings = audit(BEFORE, after, witness, completed=[GOOD], undone=[BAD], total=TOTAL)
    return [finding.found for finding in findings if not finding.right]


def test_all_as_it_should_be() -> None:
    assert wrongs() == []


def test_charged_twice() -> None:
    assert wrongs(replace(AFTER, money=(*AFTER.money, movement(8, GOOD, "TXN-1", TOTAL))))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("money", lambda rows: rows[:-1]),  # not refunded
        ("money", lambda rows: (*rows, movement(8, BAD, "TXN-2", -TOTAL))),  # refunded twice
        ("money", lambda rows: (*rows, movement(8, GOOD, "TXN-1", -TOTAL))),  # refunded though all went well
        ("money", lambda rows: rows[1:]),  # not charged
        ("goods", lambda rows: rows[:-1]),  # not put back
        ("goods", lambda rows: (*rows, movement(8, BAD, "PROD-1", -2))),  # put back twice
        ("goods", lambda rows: (*rows, movement(8, GOOD, "PROD-1", 2))),  # reserved twice
        ("goods", lambda rows: (rows[0], rows[1], replace(rows[2], at=BEGAN))),  # put back before the refund
        ("parcels", lambda rows: ()),  # not shipped
        ("parcels", lambda rows: (*rows, *rows)),  # shipped twice
        ("parcels", lambda rows: (*rows, movement(8, BAD, f"TRACK-{BAD}", 1))),  # shipped what was undone
        ("stock", lambda _: {"PROD-1": 7, "PROD-2": 10}),  # lost from the shelf
    ],
)
def test_each_fault_of_a_ledger_is_found(part: str, change: Callable[[Any], Any]) -> None:
    assert wrongs(replace(AFTER, **{part: change(getattr(AFTER, part))}))


@pytest.mark.parametrize(
    "events",
    [
        [one for one in EVENTS if not (one.saga_id == BAD and one.sequence == 2)],  # a gap
        [one for one in EVENTS if one.type != "sagabus.saga.completed"],  # not ended
        [one for one in EVENTS if one.type != "shipping.order_shipped"],  # not told
        [*EVENTS, domain(BAD, "shipping.order_shipped")],  # told of a refused step
        [*EVENTS, replace(EVENTS[-1], id="another")],  # told twice, as two events
    ],
)
def test_each_fault_on_a_topic_is_found(events: list[Happening]) -> None:
    assert wrongs(events=events)


def test_a_second_copy_of_an_event_is_no_fault() -> None:
    assert wrongs(events=[*EVENTS, EVENTS[-1]]) == []

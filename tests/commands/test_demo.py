"""The demo from end to end, as its user sees it: what it tells, how it ends, and that nothing is left of it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import psutil
import pytest

from sagabus.commands.subcommand import Exit
from tests.support.processes import Child

PATIENCE = 150.0

TOLD = """
host         starts a bus and a database, which takes some seconds
inventory    has started
host         started the coordinator
some seconds pass until it is at work
(a) An order succeeds
customer     orders ORD-12345
inventory    reserved 2 × PROD-1 and 1 × PROD-2 for ORD-12345: 109.97
payment      charged 109.97 for ORD-12345
shipping     shipped ORD-12345 to Shibuya, Japan
customer     ORD-12345 is completed, 109.97, TRACK-ORD-12345
(b) The last step fails
payment      refunded 109.97 for ORD-12346
inventory    put back 2 × PROD-1 and 1 × PROD-2 of ORD-12346
customer     ORD-12346 is compensated
(c) The coordinator is killed after the payment
payment      charged 109.97 for ORD-12347
host         killed the coordinator
host         started the coordinator
shipping     shipped ORD-12347
customer     ORD-12347 is completed, 109.97, TRACK-ORD-12347
(d) The coordinator is killed in the middle of an undo
payment      refunded 109.97 for ORD-12348
host         killed the coordinator
host         started the coordinator
inventory    put back 2 × PROD-1 and 1 × PROD-2 of ORD-12348
customer     ORD-12348 is compensated
What ledgers and topics say
payment's ledger: 4 charges of 109.97 for 4 orders
All ended as it should
"""
"""What follows from what. Events are read by another consumer: a line of theirs may come before or after these."""

EVENTS = """
saga.started ORD-12345 #1
inventory.stock_reserved ORD-12345
step.completed ORD-12345 #2: inventory.reserve_inventory
payment.payment_processed ORD-12345
shipping.order_shipped ORD-12345
saga.completed ORD-12345 #5
step.failed ORD-12346 #4: shipping.ship_order, address_not_served
compensation.completed ORD-12346 #5: payment.refund_payment
compensation.completed ORD-12346 #6: inventory.cancel_reservation
saga.compensated ORD-12346 #7
saga.compensated ORD-12348 #7
"""


def left_of(folder: Path) -> list[str]:
    """Processes that mention the folder: the database's, the coordinator's."""
    found = []
    for process in psutil.process_iter():
        try:
            places = [*process.cmdline(), process.cwd()]
        except (psutil.Error, OSError):
            continue
        if process.status() != psutil.STATUS_ZOMBIE and any(str(folder) in place for place in places):
            found.append(" ".join(process.cmdline()))
    return found


def demo(folder: Path, name: str = "demo") -> Child:
    return Child.python("sagabus.commands.main", "demo", folder=folder, name=name)


def in_order(told: str, expected: str) -> list[str]:
    """The expected pieces that are not told, each after the one before."""
    at, missing = 0, []
    for piece in expected.strip().splitlines():
        found = told.find(piece, at)
        if found < 0:
            missing.append(piece)
        else:
            at = found + len(piece)
    return missing


@pytest.mark.ring("deployment")
async def test_it_tells_its_story_and_a_second_run_does_too(folder: Path) -> None:
    for number in (1, 2):
        run = demo(folder, f"demo{number}")
        assert await run.ended(within=PATIENCE) == Exit.DONE, run.report()
        assert in_order(run.stdout, TOLD) == [], run.report()
        assert [line for line in EVENTS.strip().splitlines() if f"events       {line}" not in run.stdout] == []
        findings = re.findall(r"audit +(\w+): (.*)", run.stdout)
        assert len(findings) == 9
        assert {right for right, _ in findings} == {"right"}
        _killed_within(run.stdout, "(c) ", "(d) ", after="payment      charged", before="shipping     shipped")
        _killed_within(
            run.stdout, "(d) ", "What ledgers", after="payment      refunded", before="inventory    put back"
        )
        assert run.stderr == ""
        assert left_of(folder) == []


def _killed_within(told: str, begin: str, end: str, *, after: str, before: str) -> None:
    """The kill lands between the two, and neither happens twice."""
    scene = told.partition(begin)[2].partition(end)[0]
    assert scene.index(after) < scene.index("killed the coordinator") < scene.index(before)
    assert (scene.count(after), scene.count(before)) == (1, 1)


@pytest.mark.ring("deployment")
async def test_stopped_in_the_middle_it_leaves_nothing_running(folder: Path) -> None:
    with demo(folder) as run:
        await run.says("(c) ", within=PATIENCE)
        run.send(signal.SIGINT)
        assert await run.ended(within=PATIENCE) == Exit.INTERRUPTED, run.report()
        assert "Traceback" not in run.stderr
    assert left_of(folder) == []

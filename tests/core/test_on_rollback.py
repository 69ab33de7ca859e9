"""`ctx.on_rollback(command)`: an undo of what no step has done, at its place in the order of undoing."""

from __future__ import annotations

from typing import Any

import pytest

from sagabus.contracts import Command
from sagabus.contracts.errors import ActivityFailed
from sagabus.contracts.names import CommandKind
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import SagaStatus
from tests.core.kit import Drive
from tests.core.services import Order, Result, book, charge, check, refund, release, reserve, ship, unbook


@saga("saga")
async def registering(ctx: SagaContext, order: Order) -> Result:
    ctx.on_rollback(release(order=order.order, ref="first"))
    await ctx.call(charge(order=order.order))
    ctx.on_rollback(unbook(order=order.order))
    await ctx.call(check(order=order.order))
    return Result(refs=[])


def test_u13_a_registered_undo_is_sent_at_its_place_when_the_saga_is_undone() -> None:
    drive = Drive(registering).start()
    assert (drive.last.short, drive.kinds) == (["do 2 bank.charge"], ["started", "on_rollback 1", "command 2"])
    drive.completed(2)
    drive.refused(4)
    assert drive.last.short == ["undo 3 post.unbook"]
    drive.undone(3)
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.undone(2)
    assert drive.last.short == ["undo 1 stock.release"]
    (sent,) = drive.last.commands
    assert (sent.body, sent.head.kind) == (b'{"order":"O-1","ref":"first"}', CommandKind.UNDO)
    drive.undone(1)
    assert (drive.status, drive.attention) == (SagaStatus.COMPENSATED, "")


def test_u13_a_saga_that_completes_sends_nothing_of_it() -> None:
    drive = Drive(registering).start()
    drive.completed(2)
    drive.completed(4)
    assert (drive.status, drive.all.short) == (SagaStatus.COMPLETED, ["do 2 bank.charge", "do 4 bank.check"])


def test_u13_it_belongs_to_its_scope() -> None:
    @saga("saga")
    async def in_a_scope(ctx: SagaContext, order: Order) -> Result:
        ctx.on_rollback(release(order=order.order, ref="before"))
        try:
            async with ctx.scope():
                await ctx.call(book(order=order.order))
                ctx.on_rollback(refund(order=order.order, ref="inside"))
                await ctx.call(ship(order=order.order))
        except ActivityFailed:
            pass
        return Result(refs=[])

    drive = Drive(in_a_scope).start()
    drive.completed(2)
    drive.refused(4)
    assert drive.last.short == ["undo 3 bank.refund"]
    drive.undone(3)
    assert drive.last.short == ["undo 2 post.unbook"]
    drive.undone(2)
    assert drive.status == SagaStatus.COMPLETED


def test_u13_it_is_repeated_and_skipped_as_any_undo() -> None:
    drive = Drive(registering).start()
    drive.completed(2)
    drive.refused(4)
    drive.undo_refused(3)
    assert "undo of step 3 (post.unbook)" in drive.attention
    drive.operate("skip", 3)
    assert drive.last.short == ["undo 2 bank.refund"]


def test_u13_without_its_code_it_is_undone_too() -> None:
    drive = Drive(registering).start()
    drive.completed(2)
    drive.reload(keep_code=False)
    drive.take(drive.reply(Kind.STEP_REFUSED, 4, b'{"code":"no","message":"no"}'))
    drive.cancel("its code is gone")
    for number in (3, 2, 1):
        drive.undone(number)
    assert drive.status == SagaStatus.CANCELLED
    assert [row.step for row in drive.rows if row.kind is Kind.UNDO] == [3, 2, 1]


def test_u8_a_termination_tells_of_it() -> None:
    drive = Drive(registering).start()
    drive.operate("terminate")
    assert drive.error["outstanding"][0] == {"step": 1, "activity": "stock.release", "outstanding": "undo"}


def test_u9_an_answer_to_it_that_nobody_asked_for_is_told() -> None:
    drive = Drive(registering).start()
    drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b"null", attempt=1))
    assert "step 1" in drive.attention


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("release", "takes a command, 'release' filled in, not a str"),
        (release, "filled in, not a Compensation"),
        (reserve(order="O-1"), "stock.reserve is an activity: declare what undoes it"),
    ],
)
def test_u13_what_is_no_command_of_a_compensation_is_an_error(given: Command[Any], words: str) -> None:
    @saga("saga")
    async def wrong(ctx: SagaContext, order: Order) -> Result:
        ctx.on_rollback(given)
        return Result(refs=[])

    drive = Drive(wrong).start()
    assert drive.status == SagaStatus.COMPENSATED
    assert words in drive.error["message"]

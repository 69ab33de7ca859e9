"""The way back: what is settled, what is undone, and in which order."""

from __future__ import annotations

import asyncio
import json

from pydantic import BaseModel

from sagabus.contracts import Activity, Service
from sagabus.contracts.envelope import MAX_PAYLOAD
from sagabus.contracts.names import CommandKind
from sagabus.contracts.undo_input import by_function
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import LATE
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from tests.core.kit import Drive
from tests.core.services import (
    Done,
    Job,
    Order,
    Result,
    book,
    charge,
    check,
    count,
    reserve,
)
from tests.core.shapes import forgiving, gathered, grouped, sequential
from tests.core.situations import compensating, given_up, of, tried


@saga("saga")
async def failing_at_last(ctx: SagaContext, order: Order) -> Result:
    await ctx.call(reserve(order=order.order))
    await ctx.call(charge(order=order.order))
    await ctx.call(book(order=order.order))
    raise ValueError("undo all of it")


# U5: order.


def test_u5_steps_are_undone_in_the_reverse_order_of_completion_one_at_a_time() -> None:
    drive = Drive(gathered).start()
    drive.completed(2)
    drive.completed(3)
    drive.completed(1)
    drive.refused(4)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert drive.last.short == ["undo 2 bank.refund"], "step 3 has no compensation"
    assert drive.status == SagaStatus.COMPENSATING
    drive.undone(2)
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.last.told == ["compensation.completed", "saga.compensated"]
    assert drive.last.lifecycle[-1].body["error"]["activity"] == "post.book"


def test_u5_unknown_steps_come_first_by_number_descending() -> None:
    drive = Drive(gathered).start()
    drive.completed(2)
    drive.refused(3)
    assert drive.last.short == ["settle 1 sagabus.settle"], "one at a time"

    @saga("saga")
    async def wide(ctx: SagaContext, order: Order) -> Result:
        calls = [reserve, charge, count, reserve]
        await asyncio.gather(*(ctx.call(one(order=order.order)) for one in calls))
        return Result(refs=[])

    drive = Drive(wide).start()
    drive.completed(2)
    drive.refused(3)
    assert drive.last.short == ["settle 4 sagabus.settle"]
    drive.settled(4)
    assert drive.last.short == ["undo 4 stock.release"]
    drive.undone(4)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.never(1)
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.undone(2)
    assert drive.status == SagaStatus.COMPENSATED


def test_u5_the_sibling_that_a_group_cancels_is_settled_and_undone() -> None:
    drive = Drive(grouped).start()
    drive.completed(1)
    drive.refused(2)
    assert drive.last.short == ["settle 3 sagabus.settle"]
    drive.settled(3)
    assert drive.last.short == ["undo 1 stock.release"], "count has no compensation"
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.error["code"] == "no", "the leaf of the group"


def test_u6_any_exception_undoes() -> None:
    drive = Drive(failing_at_last).start()
    for step in (1, 2, 3):
        drive.completed(step)
    assert drive.error["at"].startswith("test_undo.py:")
    assert drive.error | {"at": ""} == {
        "code": "sagabus.saga_raised", "message": "undo all of it", "type": "ValueError", "at": "",
    }  # fmt: skip
    for step in (3, 2, 1):
        assert [sent.head.step for sent in drive.last.commands] == [step]
        drive.undone(step)
    assert drive.status == SagaStatus.COMPENSATED


# U1, U2: known and unknown.


def test_u1_a_step_of_unknown_outcome_is_settled_before_it_is_undone() -> None:
    drive = given_up()
    (settle,) = drive.last.commands
    assert (settle.head.kind, settle.head.activity, settle.body) == (CommandKind.SETTLE, "sagabus.settle", b"null")
    assert (settle.head.id, settle.head.target, settle.head.inbox_id) == ("O-1:r1:1:settle", "O-1:r1:1", "O-1:r1:1")
    drive.settled(1)
    (undo,) = drive.last.commands
    assert (undo.head.id, undo.head.target, undo.head.activity) == ("O-1:r1:1:undo", "O-1:r1:1", "stock.release")
    assert json.loads(undo.body) == {"order": "O-1", "ref": "ref-1"}, "the output that settle brought"
    assert (settle.head.issued, undo.head.issued) == (drive.step(1).do.issued, drive.now)


def test_u1_what_never_happened_is_not_undone() -> None:
    drive = given_up()
    drive.never(1)
    assert drive.step(1).outcome is Outcome.NEVER
    assert drive.last.short == ["do 2 stock.reserve"]


def test_u1_used_up_retries_leave_an_unknown_outcome() -> None:
    drive = Drive(tried(1)).start()
    drive.failed(1)
    assert drive.status == SagaStatus.COMPENSATING
    assert drive.last.short == ["settle 1 sagabus.settle"]
    assert drive.completed(1) == LATE, "settle will tell"
    drive.settled(1)
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.all.short.count("undo 1 stock.release") == 1


def test_u1_the_undos_input_is_stored_when_the_step_completes() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    row = drive.rows[-2]
    assert (row.kind, row.step, row.name) == (Kind.UNDO_INPUT, 1, "stock.release")
    assert json.loads(row.payload or b"") == {"order": "O-1", "ref": "ref-1"}


def test_u1_an_undo_input_that_could_not_be_made_waits_for_a_person() -> None:
    @saga("saga")
    async def uncompensable(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        return Result(refs=[])

    def failing(job: BaseModel, done: BaseModel | None) -> BaseModel:
        raise IndexError("out of luck")

    whole, reserve.fill = reserve.fill, by_function(failing)
    try:
        drive = Drive(uncompensable).start()
        drive.cancel()
        drive.settled(1)
        assert drive.attention == ("step 1: the input of stock.release could not be made: IndexError: out of luck")
        assert (drive.status, drive.step(1).undoing) == (SagaStatus.COMPENSATING, Undoing.BLOCKED)
        assert drive.last.short == []
    finally:
        reserve.fill = whole


def test_u2_an_undo_is_sent_only_for_a_step_known_as_completed() -> None:
    drive = Drive(gathered).start()
    drive.refused(1)
    assert drive.last.short == ["settle 3 sagabus.settle"]
    drive.never(3)
    drive.settled(2)
    assert [one for one in drive.all.short if one.startswith("undo")] == ["undo 2 bank.refund"]
    drive.undone(2)
    assert drive.status == SagaStatus.COMPENSATED


def test_u2_a_refused_step_is_known_not_to_have_happened() -> None:
    drive = Drive(sequential).start()
    drive.refused(1)
    assert drive.all.short == ["do 1 stock.reserve"]
    assert drive.status == SagaStatus.COMPENSATED


# P2: late success.


def test_p2_a_late_success_is_undone_while_the_saga_runs_on() -> None:
    drive = Drive(forgiving).start()
    drive.completed(1)
    drive.refused(2)
    assert drive.completed(2) is None
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.completed(3)
    drive.completed(4)
    assert drive.status == SagaStatus.RUNNING, "U3"
    drive.undone(2)
    assert drive.status == SagaStatus.COMPLETED


def test_p2_a_late_success_is_undone_first_while_the_saga_is_undone() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.completed(2)
    drive.refused(3)
    assert drive.last.short == ["undo 2 bank.refund"]
    assert drive.completed(3) is None
    drive.undone(2)
    assert drive.last.short == ["undo 1 stock.release"], "ship has no compensation"

    drive = compensating()
    drive.completed(2)
    drive.undone(1)
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.undone(2)
    assert drive.status == SagaStatus.COMPENSATED


def test_p2_a_late_success_is_the_last_completion_so_it_is_undone_before_the_earlier_ones() -> None:
    drive = Drive(of(reserve, charge, book)).start()
    drive.completed(1)
    drive.completed(2)
    drive.refused(3)
    assert drive.completed(3) is None
    assert drive.last.short == [], "one at a time"
    drive.undone(2)
    assert drive.last.short == ["undo 3 post.unbook"]
    drive.undone(3)
    assert drive.last.short == ["undo 1 stock.release"]


def test_p2_a_late_success_after_the_end_is_for_a_person() -> None:
    drive = Drive(sequential).start()
    drive.refused(1)
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.completed(1) is None
    assert drive.attention == "step 1 (stock.reserve) succeeded after the saga had ended"
    assert (drive.status, drive.last.short) == (SagaStatus.COMPENSATED, [])


def test_p2_a_late_success_without_a_compensation_changes_nothing_but_history() -> None:
    drive = Drive(forgiving).start()
    drive.completed(1)
    drive.completed(2)
    drive.completed(3)
    drive.refused(4)
    assert drive.completed(4) is None
    drive.undone(2)
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED


def test_a_step_void_of_output_is_undone_from_its_input() -> None:
    @saga("saga")
    async def booking(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(book(order="B-7"))
        await ctx.call(check(order=order.order))
        return Result(refs=[])

    drive = Drive(booking).start()
    drive.completed(1)
    drive.refused(2)
    assert json.loads(drive.last.commands[0].body) == {"order": "B-7"}


def _completed_and_failed(do: Activity[..., Job, Done]) -> Drive:
    """A saga of this one step, which has completed; then its code has raised."""

    @saga("saga")
    async def failing(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(do(order=order.order))
        raise ValueError("undo this")

    drive = Drive(failing).start()
    drive.completed(1)
    return drive


def test_an_undo_input_that_is_too_large_or_cannot_be_made_waits_for_a_person() -> None:
    class Large(BaseModel):
        order: str
        ref: str

    service = Service("large")
    undo = service.compensation("undo", Large)
    do = service.activity(
        "do", Job, Done, compensation=undo,
        compensate_with=lambda job, done: Large(order=job.order, ref=done.ref * MAX_PAYLOAD),
    )  # fmt: skip

    drive = _completed_and_failed(do)
    assert drive.attention.startswith("step 1: the input of large.undo could not be made: MessageInvalid: ")
    assert drive.last.short == []
    assert drive.status == SagaStatus.COMPENSATING


def test_a_system_exit_in_the_making_of_an_undo_input_ends_no_process() -> None:
    def leaves(job: Job, done: Done) -> Job:
        raise SystemExit(3)

    service = Service("leaving")
    undo = service.compensation("undo", Job)
    do = service.activity("do", Job, Done, compensation=undo, compensate_with=leaves)

    drive = _completed_and_failed(do)
    assert drive.attention.startswith("step 1: the input of leaving.undo could not be made: SystemExit: 3")

"""A saga comes back from its rows: timers, copies, attention, its end, and what is wrong with us."""

from __future__ import annotations

import pytest

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga import forward
from sagabus.coordinator.core.saga.admission import BLOCKED
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.program import Program
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.core.saga.status import SagaStatus, Undoing
from tests.core.kit import SECOND, Drive
from tests.core.restored import forget_all
from tests.core.services import (
    Order,
    Result,
    charge,
    count,
    paid,
    reserve,
)
from tests.core.shapes import awaiting, impatient, sequential, sleepy
from tests.core.situations import of
from tests.core.wire import an_input


def test_h3_timers_of_a_blocked_saga_fire_when_it_goes_on_if_still_pending() -> None:
    drive = Drive(sleepy).start()
    drive.completed(1)
    drive.reload(of(charge))
    rows = len(drive.rows)
    assert drive.fire(TimerKind.SLEEP, 1) == BLOCKED
    assert drive.fire(TimerKind.SLEEP, 1) == BLOCKED
    assert len(drive.rows) == rows, "nothing is written, and nothing grows"
    drive.timers.clear()  # as the queue in memory: it is empty now
    drive.reload(sleepy)
    assert drive.due["sleep 1"] < 0, "armed again, and due"
    drive.fire(TimerKind.SLEEP, 1)
    assert drive.last.short == ["do 2 bank.charge"]


def test_h3_an_answer_that_came_while_blocked_comes_before_the_timeout() -> None:
    drive = Drive(impatient).start()
    drive.reload(of(charge))
    assert drive.fire(TimerKind.TIMEOUT, 1) == BLOCKED
    drive.completed(1)
    drive.reload(impatient)
    assert drive.last.short == ["do 2 stock.reserve"]
    drive.completed(2)
    assert drive.result == {"refs": ["ref-1", "ref-2"]}


def test_a_blocked_saga_sends_no_copies() -> None:
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    assert drive.fire(TimerKind.RESEND, 1) == BLOCKED
    drive.saga.resend_outstanding(now=drive.now)
    assert drive.commit().short == []
    copy = drive.restored()
    assert copy.drain().timers_set == {}, "a blocked saga that is loaded arms no copies"


def test_after_a_recovery_copies_are_due_as_they_were_first() -> None:
    drive = Drive(sequential).start()
    drive.reload()
    assert list(drive.due) == ["resend 1"]
    assert drive.due["resend 1"] == pytest.approx(30, abs=0.01)
    drive.now += 100 * SECOND
    drive.fire(TimerKind.RESEND, 1)
    assert drive.due == {"resend 1": 30}
    drive.reload()
    assert drive.due["resend 1"] < 0, "overdue copies go at once"
    drive.fire(TimerKind.RESEND, 1)
    assert drive.last.short == ["do 1 stock.reserve"]
    assert drive.last.commands[0].head.attempt == 1


def test_recovery_goes_on_with_an_undo_as_an_undo() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.completed(2)
    drive.refused(3)
    drive.reload()
    assert drive.step(2).undoing is Undoing.SENT
    drive.undo_failed(2)
    drive.reload()
    drive.fire(TimerKind.UNDO_RETRY, 2)
    drive.reload()
    drive.undone(2)
    drive.reload()
    assert drive.state.steps[1].undoing is Undoing.SENT
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED


# Attention.


def test_attention_is_numbered_without_gaps_and_told_once_for_a_reason() -> None:
    drive = Drive(sequential).start()
    for _ in range(2):
        drive.take(an_input(Kind.NOTICE, ref="replies", payload=b"records were lost"))
    drive.take(an_input(Kind.NOTICE, ref="requests", payload=b"and others"))
    drive.reload(of(charge))
    assert drive.attention.startswith("history has command")
    drive.reload(sequential)
    assert drive.attention == "and others", "the block is gone; what was to be looked at before it still is"
    drive.completed(1)
    assert [event.sequence for event in drive.all.lifecycle] == [1, 2, 3, 4, 5, 6]
    assert drive.all.told == [
        "saga.started", "saga.attention", "saga.attention", "saga.attention", "saga.attention", "step.completed",
    ]  # fmt: skip


def test_attention_that_stands_survives_a_block_that_fails_to_replay() -> None:
    drive = Drive(sequential).start()
    drive.take(an_input(Kind.NOTICE, payload=b"look here"))
    drive.reload(of(charge))
    told = drive.attention
    drive.reload(of(count))
    assert drive.attention == told, "blocked already: the reason that is stored stands"


def test_u6_a_history_that_is_too_long_is_attention_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sagabus.coordinator.core.saga.saga.MAX_ROWS", 4)
        drive = Drive(sequential).start()
        drive.completed(1)
        assert drive.attention == ""
        drive.completed(2)
        assert drive.attention == "its history has more than 4 rows; let it end, and go on in another saga"
        drive.completed(3)
        assert (drive.status, drive.all.told.count("saga.attention")) == ("completed", 1)
        forget_all()


def test_a_closed_saga_keeps_its_result_whatever_the_code_is() -> None:
    drive = Drive(sequential).start()
    for step in (1, 2, 3):
        drive.completed(step)
    drive.reload(of(charge))
    assert (drive.status, drive.result) == ("completed", {"refs": ["ref-1", "ref-2", "ref-3"]})
    drive.reload(sequential)
    assert (drive.status, drive.result) == ("completed", {"refs": ["ref-1", "ref-2", "ref-3"]})


def test_the_error_of_a_saga_stays_what_it_was_when_it_ended() -> None:
    @saga("saga")
    async def addressing(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        raise ValueError(f"at {id(ctx)}")

    drive = Drive(addressing).start()
    drive.completed(1)
    error = drive.error
    drive.reload()
    assert drive.error == error
    drive.undone(1)
    assert drive.all.lifecycle[-1].body["error"] == error


# Faults of ours.


def test_h1_a_fault_of_the_core_stops_one_saga_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    drive = Drive(sequential).start()
    with monkeypatch.context() as patch:
        patch.setattr(forward, "completed", _broken)
        saga = drive.restored()
        saga.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"x"}'), now=drive.now)
        assert saga.state.attention is not None
        assert saga.state.attention.startswith("sagabus itself failed, please report it: ZeroDivisionError: ")
        assert " in _broken, line " in saga.state.attention
    with monkeypatch.context() as patch:
        patch.setattr(forward, "called", _broken)
        assert "ZeroDivisionError" in (drive.restored().state.attention or "")
    drive.reload()
    drive.completed(1)
    assert drive.last.short == ["do 2 bank.charge"]


def _broken(*_: object) -> None:
    print(1 / 0)


def test_an_operators_verb_of_a_later_version_blocks() -> None:
    drive = Drive(sequential).start()
    drive.take(an_input(Kind.OPERATOR, name="odd"))
    assert drive.attention == "the operator's verb odd is not known to this version"


def test_eviction_leaves_no_trace_in_history() -> None:
    drive = Drive(awaiting).start()
    drive.saga.evict()
    drive.saga.evict()
    effects = drive.saga.drain()
    assert (effects.rows, effects.messages) == ([], [])
    drive.reload()
    drive.event(paid, {"amount": 2})
    assert drive.last.short == ["do 2 bank.charge"]


def test_an_input_for_code_that_was_evicted_blocks_instead_of_being_lost() -> None:
    drive = Drive(sequential).start()
    drive.saga.evict()
    assert isinstance(drive.saga, Saga)
    assert drive.saga.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"x"}'), now=drive.now) is None
    assert drive.state.attention == "the saga's code is not in memory"


def test_the_log_of_a_saga_is_silent_while_it_is_replayed(caplog: pytest.LogCaptureFixture) -> None:
    @saga("saga")
    async def chatty(ctx: SagaContext, order: Order) -> Result:
        ctx.log.warning("first")
        await ctx.call(reserve(order=order.order))
        ctx.log.warning("second")
        await ctx.call(charge(order=order.order))
        return Result(refs=[ctx.id])

    drive = Drive(chatty).start()
    drive.reload()
    drive.completed(1)
    drive.reload()
    assert caplog.messages == ["O-1: first", "O-1: second"]
    assert [(line.saga_id, line.run) for line in caplog.records] == [("O-1", "r1")] * 2  # type: ignore[attr-defined]


def test_a_program_that_is_not_being_pumped_refuses_its_context() -> None:
    kept: list[SagaContext] = []

    @saga("saga")
    async def leaking(ctx: SagaContext, order: Order) -> Result:
        kept.append(ctx)
        await ctx.call(reserve(order=order.order))
        return Result(refs=[])

    drive = Drive(leaking).start()
    assert isinstance(drive.saga.program, Program)
    for use in (kept[0].now, kept[0].random, kept[0].uuid, lambda: kept[0].call(reserve(order="x"))):
        with pytest.raises(BaseException, match=r"can only be used|was evicted"):
            use()

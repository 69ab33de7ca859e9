"""U8: a saga is ended without undo; what it leaves behind is told, then and when it is heard of later."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga import termination
from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED, CLOSED, DUPLICATE, LATE
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus
from tests.core.kit import Definition, Drive
from tests.core.services import Done, Order, Result, book, check, paid, reserve
from tests.core.shapes import awaiting, gathered, impatient, sequential, tidy
from tests.core.situations import compensating, given_up, of


def terminated(drive: Drive) -> Drive:
    assert drive.operate("terminate", reason="we undo it by hand") is None
    assert (drive.status, drive.stored.status, drive.due) == ("terminated", "terminated", {})
    assert (drive.saga.program, drive.last.short) == (None, [])
    return drive


def left(drive: Drive) -> list[tuple[int, str, str]]:
    return [(one["step"], one["activity"], one["outstanding"]) for one in drive.error["outstanding"]]


def test_u8_a_terminated_saga_is_closed_at_once_and_undoes_nothing() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    terminated(drive)
    assert drive.last.told == ["saga.terminated"]
    said = drive.last.lifecycle[0]
    assert said.cause == drive.rows[-1].ref
    assert said.body == {
        "saga": "saga", "version": 1, "status": "terminated", "error": {
            "code": "sagabus.terminated", "message": "we undo it by hand", "outstanding": [
                {"step": 1, "activity": "stock.reserve", "outstanding": "undo"},
                {"step": 2, "activity": "bank.charge", "outstanding": "open"},
            ],
        },
    }  # fmt: skip
    assert drive.error == said.body["error"]
    assert drive.state.closed_at == drive.now
    drive.reload()
    assert (drive.last.short, drive.last.told) == ([], [])


def between_attempts() -> Drive:
    drive = Drive(sequential).start()
    drive.failed(1)
    return drive


def cancelled() -> Drive:
    """Steps 1 and 3 are unknown: 3 is being settled, 1 is in the plan."""
    drive = Drive(gathered).start()
    drive.completed(2)
    drive.cancel()
    return drive


def failing_undo() -> Drive:
    drive = compensating()
    drive.undo_refused(1)
    assert drive.attention
    return drive


def nothing_to_undo() -> Drive:
    """What has no compensation is nobody's to undo."""
    drive = Drive(of(check, book, reserve)).start()
    drive.completed(1)
    drive.completed(2)
    drive.refused(3)
    drive.undone(2)
    return drive


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (between_attempts, [(1, "open")]),
        (cancelled, [(1, "unknown"), (2, "undo"), (3, "unknown")]),
        (compensating, [(1, "undo")]),
        (failing_undo, [(1, "undo")]),
        (given_up, [(1, "unknown")]),  # step 2 is held: it was never sent
    ],
)
def test_u8_what_is_outstanding_is_listed(make: Callable[[], Drive], expected: list[tuple[int, str]]) -> None:
    drive = terminated(make())
    assert [(step, why) for step, _, why in left(drive)] == expected
    assert drive.attention == "", "its causes are gone with it"


def test_u8_why_it_was_being_undone_is_not_lost() -> None:
    drive = terminated(compensating())
    assert drive.error["cause"]["code"] == "no"
    assert "cause" not in terminated(Drive(sequential).start()).error


def test_u8_a_saga_that_has_nothing_left_has_an_empty_list() -> None:
    @saga("saga")
    async def waiting(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(check(order=order.order))
        await ctx.event(paid)
        return Result(refs=[])

    drive = Drive(waiting).start()
    drive.completed(1)
    assert left(terminated(drive)) == []
    assert nothing_to_undo().status == SagaStatus.COMPENSATED


def test_u8_the_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termination, "MOST_LISTED", 2)
    drive = terminated(Drive(gathered).start())
    assert [step for step, _, _ in left(drive)] == [1, 2]
    assert drive.error["more"] == 1
    assert json.loads(drive.stored.error or b"") == drive.error


def test_u8_its_code_learns_nothing_of_it() -> None:
    drive = terminated(Drive(tidy).start())
    assert drive.all.short == ["do 1 stock.reserve"], "its `finally` calls bank.check"
    assert "ended" not in drive.kinds


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("how", [Drive.completed, Drive.settled])
def test_u8_what_is_heard_of_later_to_have_happened_needs_an_operator_once(
    how: Callable[[Drive, int], str | None], restarted: bool
) -> None:
    drive = terminated(given_up() if how is Drive.settled else Drive(sequential).start())
    if restarted:
        drive.reload()
    assert how(drive, 1) is None
    assert list(drive.state.concerns) == [Concern(ConcernKind.LATE_SUCCESS, 1)]
    assert "succeeded after the saga had ended" in drive.attention
    assert (drive.last.short, drive.step(1).outcome) == ([], Outcome.COMPLETED)
    assert drive.kinds[-1] == "undo.input 1", "what its undo would have been given stands in history"
    for again in (Drive.completed, Drive.settled):
        if again is Drive.completed or drive.step(1).settle:
            assert again(drive, 1) in (DUPLICATE, LATE)
    assert drive.operate("acknowledge", 1) is None
    assert (drive.attention, drive.status) == ("", "terminated")


def test_u8_a_late_success_of_another_output_than_was_heard_of_is_a_contradiction() -> None:
    drive = terminated(Drive(sequential).start())
    drive.completed(1)
    assert drive.completed(1, Done(ref="another")) is None
    assert {kind for kind, _ in drive.state.concerns} == {ConcernKind.LATE_SUCCESS, ConcernKind.CONTRADICTION}


def test_u8_other_answers_are_late() -> None:
    drive = terminated(Drive(sequential).start())
    assert [drive.refused(1), drive.failed(1)] == [LATE, LATE]
    drive = terminated(given_up())
    assert [drive.never(1), drive.unsettled(1), drive.refused(1)] == [LATE] * 3
    drive = terminated(compensating())
    assert [drive.undone(1), drive.undo_failed(1), drive.undo_refused(1)] == [LATE] * 3
    assert drive.completed(1) == DUPLICATE
    assert (drive.attention, drive.kinds[-1]) == ("", "operator")


def test_p2_a_step_that_was_said_to_have_failed_and_has_happened_needs_an_operator() -> None:
    drive = terminated(compensating())
    assert drive.completed(2) is None
    assert list(drive.state.concerns) == [Concern(ConcernKind.LATE_SUCCESS, 2)]


def test_u9_a_reply_to_what_was_never_sent_is_attention() -> None:
    drive = terminated(given_up())
    assert drive.completed(7) is None
    assert list(drive.state.concerns) == [Concern(ConcernKind.HISTORY_LOST, 7)]


def test_b6_a_late_success_that_cannot_be_read_is_for_a_person_and_not_asked_for_again() -> None:
    drive = terminated(Drive(sequential).start())
    from sagabus.coordinator.core.saga.history import Kind

    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"x":1}')) == "reply.unreadable"
    assert list(drive.state.concerns) == [Concern(ConcernKind.LATE_SUCCESS, 1)]
    assert "has completed, and its output cannot be read: " in drive.attention


def test_u8_a_paused_saga_is_terminated_at_once_and_what_was_kept_is_known() -> None:
    drive = Drive(gathered).start()
    drive.operate("pause")
    drive.completed(1)
    drive.refused(2)
    terminated(drive)
    assert not drive.stored.paused
    assert [(step, why) for step, _, why in left(drive)] == [(1, "undo"), (3, "open")]
    assert drive.last.told == ["step.completed", "step.failed", "saga.terminated"]
    assert drive.completed(1) == DUPLICATE


def test_p2_a_late_success_that_was_kept_is_listed_and_not_undone() -> None:
    for drive in (compensating(), given_up_and_refused()):
        drive.operate("pause")
        drive.completed(2)
        terminated(drive)
        assert (2, "undo") in [(step, why) for step, _, why in left(drive)]


def given_up_and_refused() -> Drive:
    """A running saga whose step 2 was refused, and is waited for no more."""
    drive = Drive(of_two_tries()).start()
    drive.refused(2)
    assert drive.status == SagaStatus.RUNNING
    return drive


def of_two_tries() -> Definition:
    import asyncio

    @saga("saga")
    async def trying(ctx: SagaContext, order: Order) -> Result:
        await asyncio.gather(*(ctx.call(reserve(order=order.order)) for _ in range(2)), return_exceptions=True)
        return Result(refs=[])

    return trying


def test_u8_what_is_closed_has_its_reason() -> None:
    drive = Drive(sequential).start()
    drive.operate("terminate", ref="t")
    assert drive.operate("terminate", ref="t") == DUPLICATE
    assert drive.operate("terminate") == CLOSED
    assert [drive.operate("pause"), drive.operate("resume"), drive.operate("complete", 1, output={})] == [CLOSED] * 3
    assert drive.cancel() == CANCEL_REJECTED
    assert drive.event(paid, {"amount": 1}) == CLOSED
    drive.reload()
    assert drive.operate("terminate", ref="t") == DUPLICATE


def test_u8_a_completed_saga_is_not_terminated() -> None:
    drive = Drive(of(check)).start()
    drive.completed(1)
    assert drive.operate("terminate") == CLOSED
    assert drive.status == SagaStatus.COMPLETED


def test_s8_what_is_parked_stays_a_concern() -> None:
    from sagabus.coordinator.core.saga.history import Kind
    from tests.core.wire import an_input

    drive = Drive(sequential).start()
    drive.take(an_input(Kind.NOTICE, name=ConcernKind.PARKED, payload=b"a message is parked"))
    terminated(drive)
    assert list(drive.state.concerns) == [Concern(ConcernKind.PARKED)]


def test_l4_nothing_of_a_terminated_saga_runs_after_a_restart() -> None:
    drive = Drive(awaiting).start()
    drive.completed(1)
    terminated(drive)
    drive.reload()
    assert (drive.saga.program, drive.last.short, drive.due) == (None, [], {})


def test_p2_a_terminated_saga_whose_code_is_gone_still_hears_of_a_late_success() -> None:
    drive = terminated(Drive(impatient).start())
    drive.reload(keep_code=False)
    assert drive.failed(1) == LATE
    assert drive.completed(1) is None
    assert list(drive.state.concerns) == [Concern(ConcernKind.LATE_SUCCESS, 1)]
    assert "succeeded after the saga had ended" in drive.attention
    assert (drive.last.told, drive.state.blocked) == (["step.completed", "saga.attention"], 0)
    assert [drive.completed(1), drive.completed(1, Done(ref="another"))] == [DUPLICATE, None]
    assert Concern(ConcernKind.CONTRADICTION, 1) in drive.state.concerns
    for code in (impatient, None):
        drive.reload(code, keep_code=False)
        assert set(drive.state.concerns) == {
            Concern(ConcernKind.LATE_SUCCESS, 1), Concern(ConcernKind.CONTRADICTION, 1),
        }  # fmt: skip
    assert drive.operate("acknowledge", 1) is None
    assert (drive.attention, drive.status) == ("", "terminated")
    drive.reload(impatient)
    assert (drive.attention, drive.step(1).outcome) == ("", Outcome.COMPLETED)


def test_u8_a_terminate_beats_a_timer_of_the_same_turn() -> None:
    drive = Drive(impatient).start()
    due = drive.timers
    terminated(drive)
    assert not due
    assert drive.fire(TimerKind.TIMEOUT, 1) == "stale"

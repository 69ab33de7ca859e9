"""U8: a blocked saga is ended from its rows, whatever it is blocked by and wherever it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sagabus.contracts import ActivityTimedOut, declared
from sagabus.contracts.replies import INBOX_EXPIRED
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga import forward, undo
from sagabus.coordinator.core.saga.admission import UNREADABLE
from sagabus.coordinator.core.saga.codeless import no_contracts
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.program import Blocked, Program
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from tests.core.kit import Drive
from tests.core.services import Order, Result, charge, check, count, paid, reserve
from tests.core.shapes import awaiting, gathered, sequential, sleepy, tidy
from tests.core.situations import compensating, given_up, of
from tests.core.test_blocked import spinning, strict
from tests.core.test_operator import verb
from tests.core.wire import Sent, an_input


@saga("saga")
async def keeping(ctx: SagaContext, order: Order) -> Result:
    """Leaves its first step as it is when it gives it up."""
    with suppress(ActivityTimedOut):
        await ctx.call(reserve(order=order.order), timeout=5, abandon="keep")
    return Result(refs=[(await ctx.call(charge(order=order.order))).ref])


@saga("saga")
async def last_minute(ctx: SagaContext, order: Order) -> Result:
    """Ends while its only step, which it has given up, is being settled."""
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            await ctx.call(reserve(order=order.order))
    return Result(refs=[])


Block = Callable[[Drive, pytest.MonkeyPatch], None]


# Kinds of blocks.


def missing(drive: Drive, patch: pytest.MonkeyPatch) -> None:
    drive.reload(keep_code=False)


def diverged(drive: Drive, patch: pytest.MonkeyPatch) -> None:
    drive.reload(of(count, check))


def start_unreadable(drive: Drive, patch: pytest.MonkeyPatch) -> None:
    drive.reload(strict)


def spun(drive: Drive, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Program, "pump", spinning)
    drive.reload()


def fault(drive: Drive, patch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("ours")

    drive.may_fail = True
    patch.setattr(Saga, "_start", fails)
    drive.reload()


BLOCKS: dict[ConcernKind, list[Block]] = {
    ConcernKind.BLOCKED: [missing, start_unreadable],
    ConcernKind.DIVERGED: [diverged],
    ConcernKind.SPUN: [spun],
    ConcernKind.FAULT: [fault],
}
ALL_BLOCKS = [pytest.param(kind, block, id=block.__name__) for kind, blocks in BLOCKS.items() for block in blocks]


# Where it stands: a saga, what it sends from its cancel on, and its row's end.


def no_step() -> Drive:
    return Drive(of(result=False)).start()


def one_open() -> Drive:
    return Drive(of(reserve, result=False)).start()


def one_completed() -> Drive:
    drive = Drive(of(reserve, result=False)).start()
    drive.completed(1)
    return drive


def completed_and_open() -> Drive:
    drive = Drive(sequential).start()
    drive.completed(1)
    return drive


def between_attempts() -> Drive:
    drive = completed_and_open()
    drive.failed(2)
    return drive


UNDO_1, UNDO_2 = "undo 1 stock.release", "undo 2 bank.refund"
SETTLE_1, SETTLE_2, SETTLE_3 = (f"settle {number} sagabus.settle" for number in (1, 2, 3))
PLACES: list[tuple[Callable[[], Drive], list[str], str]] = [
    (no_step, [], "cancelled"),
    (one_open, [SETTLE_1, UNDO_1], "cancelled"),
    (one_completed, [UNDO_1], "cancelled"),
    (completed_and_open, [SETTLE_2, UNDO_2, UNDO_1], "cancelled"),
    (between_attempts, [SETTLE_2, UNDO_2, UNDO_1], "cancelled"),
    (given_up, [SETTLE_1, UNDO_1], "cancelled"),
    (compensating, [UNDO_1], "compensated"),
]
ALL_PLACES = [pytest.param(*place, id=place[0].__name__) for place in PLACES]


def answer(drive: Drive, sent: Sent) -> None:
    """As a participant that has done all that it was told."""
    assert (drive.settled if sent.head.kind == "settle" else drive.undone)(sent.head.step) is None


@pytest.mark.parametrize("restarts", [False, True], ids=["", "with restarts"])
@pytest.mark.parametrize(("begin", "sends", "ends"), ALL_PLACES)
@pytest.mark.parametrize(("kind", "block"), ALL_BLOCKS)
def test_u8_a_blocked_saga_is_cancelled_wherever_it_stands(
    kind: ConcernKind, block: Block, begin: Callable[[], Drive], sends: list[str], ends: str, restarts: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    drive = begin()
    code = drive.code
    with monkeypatch.context() as patch:
        block(drive, patch)
        assert [concern.kind for concern in drive.state.concerns] == [kind]
        before = len(drive.all.commands)
        if restarts:
            drive.reload()
        assert drive.cancel("enough") is None
        codes: list[Any] = [None, code, of(check)]
        while drive.last.commands:
            if restarts:
                sent = drive.last.commands
                drive.reload(codes[0], keep_code=codes[0] is not None)
                assert (drive.last.short, drive.state.blocked) == ([], 0)
                codes.append(codes.pop(0))
                drive.last.commands[:] = sent
            answer(drive, drive.last.commands[0])
    assert drive.all.short[before:] == sends
    assert (drive.status, drive.attention, drive.timers) == (ends, "", {})
    assert drive.kinds.count("codeless") == 1


@pytest.mark.parametrize(("kind", "block"), ALL_BLOCKS)
def test_u8_a_cancel_without_code_says_that_finally_did_not_run(
    kind: ConcernKind, block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = Drive(tidy).start()
    drive.completed(1)
    with monkeypatch.context() as patch:
        block(drive, patch)
        drive.cancel("enough")
    said = "it was ended without its code: its own `finally` did not run"
    assert drive.error == {"code": "sagabus.cancelled", "message": f"enough; {said}", "codeless": True}
    row = next(row for row in drive.rows if row.kind is Kind.CODELESS)
    assert row.name == kind
    assert b"its own `finally` did not run" in (row.payload or b"")
    assert drive.last.short == [SETTLE_2], "and no command of its `finally`"
    drive.never(2)
    drive.undone(1)
    assert (drive.status, drive.all.told[-1]) == ("cancelled", "saga.cancelled")


def test_u8_a_saga_of_a_name_that_nobody_has_is_cancelled_at_once() -> None:
    drive = Drive(None, name="mistyped").start()
    drive.reload()
    assert drive.cancel() is None
    assert (drive.status, drive.attention) == ("cancelled", "")
    assert drive.kinds == ["started", "blocked 1", "cancel", "codeless", "ended"]
    assert drive.last.told == ["saga.attention_cleared", "saga.cancelled"]
    drive.reload(sequential)
    assert (drive.status, drive.last.told, drive.state.blocked) == ("cancelled", [], 0)


def test_u8_a_cancel_in_the_turn_in_which_the_saga_stops_is_carried_out_at_its_next_load() -> None:
    """Its history is not in memory then."""
    drive = Drive(None)
    drive.offer(an_input(Kind.STARTED, name="saga", ref="start", payload=b"{}"))
    drive.offer(an_input(Kind.CANCEL, ref="cancel"))
    drive.commit()
    assert (drive.status, drive.saga.wants_its_history) == ("running", True)
    drive.reload()
    assert (drive.status, drive.saga.wants_its_history) == ("cancelled", False)
    assert drive.kinds == ["started", "blocked 1", "cancel", "codeless", "ended"]


def test_u8_a_cancel_that_itself_stops_the_code_ends_nothing_until_it_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its `finally` may run when it is mended; who knows that it is blocked may end it all the same."""
    drive = Drive(sequential).start()
    with monkeypatch.context() as patch:
        patch.setattr(Program, "pump", spinning)
        drive.cancel()
        drive.reload()
        assert (drive.status, drive.saga.wants_its_history) == ("running", False)
        assert drive.take(an_input(Kind.CANCEL, ref="cancel-2")) is None
    assert (drive.status, drive.last.short) == ("compensating", [SETTLE_1])
    drive.never(1)
    assert drive.status == SagaStatus.CANCELLED


# What was kept undecided.


def test_u8_what_was_kept_while_it_was_blocked_counts() -> None:
    drive = Drive(gathered).start()
    drive.reload(of(count))
    drive.completed(2)
    drive.refused(3)
    drive.event(paid, {"amount": 1})
    drive.cancel()
    assert drive.last.short == [SETTLE_1], "the outcomes of the others are known"
    assert drive.kinds[-5:] == ["cancel", "codeless", "undo.input 2", "ended", "settle 1"]
    drive.reload()
    drive.settled(1)
    assert drive.last.short == [UNDO_1]
    drive.undone(1)
    assert drive.last.short == [UNDO_2]
    drive.undone(2)
    assert drive.status == SagaStatus.CANCELLED
    assert [drive.step(number).outcome for number in (1, 2, 3)] == [
        Outcome.COMPLETED, Outcome.COMPLETED, Outcome.FAILED,
    ]  # fmt: skip


def test_u8_an_undo_whose_contract_is_not_at_hand_waits_for_an_operator() -> None:
    drive = Drive(sequential).start()
    drive.declared = no_contracts
    drive.reload(keep_code=False)
    drive.completed(1)
    drive.cancel()
    assert drive.last.short == []
    assert list(drive.state.concerns) == [Concern(ConcernKind.UNDO, 1)]
    assert "no contract of stock.reserve is declared in this coordinator" in drive.attention
    assert drive.step(1).undoing is Undoing.BLOCKED
    drive.reload(sequential)
    assert drive.step(1).undoing is Undoing.BLOCKED, "what was decided without it stays so"
    assert verb(drive, "skip") is None
    assert (drive.status, drive.attention) == ("cancelled", "")


def test_u8_an_undo_is_made_by_whatever_contract_is_at_hand_and_that_is_remembered() -> None:
    drive = Drive(sequential).start()
    drive.reload(keep_code=False)
    drive.cancel()
    drive.settled(1)
    assert drive.last.short == [UNDO_1]
    assert drive.last.commands[0].body == b'{"order":"O-1","ref":"ref-1"}'
    drive.declared = no_contracts
    drive.reload()
    drive.saga.resend_outstanding(now=drive.now)
    drive.commit()
    assert drive.last.commands[0].body == b'{"order":"O-1","ref":"ref-1"}', "the copy is the same"
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED


def test_u8_what_nothing_undoes_needs_nobody() -> None:
    drive = Drive(of(count, result=False)).start()
    drive.reload(keep_code=False)
    drive.completed(1)
    drive.cancel()
    assert (drive.status, drive.attention) == ("cancelled", "")


def test_p2_an_output_that_no_contract_at_hand_reads_is_not_taken_and_asked_for_again() -> None:
    drive = Drive(gathered).start()
    drive.reload(keep_code=False)
    drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"other":1}'))
    drive.completed(2)
    drive.cancel()
    assert drive.last.short == [SETTLE_3]
    drive.reload()
    drive.never(3)
    assert drive.last.short == [SETTLE_1]
    assert drive.take(drive.reply(Kind.SETTLE_COMPLETED, 1, b'{"other":1}')) == UNREADABLE
    assert list(drive.state.concerns) == [Concern(ConcernKind.SETTLE, 1)]
    drive.reload()
    drive.settled(1)
    assert (drive.last.short, drive.attention) == ([UNDO_1], "")
    drive.undone(1)
    drive.undone(2)
    assert drive.status == SagaStatus.CANCELLED


def test_p2_without_a_contract_an_output_is_taken_as_it_is() -> None:
    drive = Drive(sequential).start()
    drive.declared = no_contracts
    drive.reload(keep_code=False)
    drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b"no JSON"))
    drive.cancel()
    assert (list(drive.state.concerns), drive.last.short) == ([Concern(ConcernKind.UNDO, 1)], [])
    drive.declared = declared.activities
    drive.reload()
    assert verb(drive, "skip") is None
    assert drive.status == SagaStatus.CANCELLED


def test_u8_an_output_that_stopped_the_saga_is_undone_with_what_its_first_reader_made() -> None:
    """B: a contract that was deployed since does not read what another one did; the input of the undo is a row."""
    drive = completed_and_open()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forward, "_output", unreadable)
        drive.reload()
        assert drive.attention == "unreadable"
        drive.cancel()
    assert drive.last.short == [SETTLE_2]
    drive.never(2)
    assert drive.last.short == [UNDO_1]
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED


def unreadable(*_: object) -> None:
    raise Blocked("unreadable", "output_unreadable 1")


# It is like any other from there on.


def test_u8_operators_retry_skip_and_acknowledge_in_a_saga_without_code() -> None:
    drive = completed_and_open()
    drive.reload(keep_code=False)
    drive.cancel()
    drive.unsettled(2, INBOX_EXPIRED)
    assert verb(drive, "retry", 2) is None
    assert drive.last.short == [SETTLE_2]
    drive.unsettled(2, INBOX_EXPIRED)
    drive.reload()
    assert drive.take(an_input(Kind.OPERATOR, 2, name="skip", ref="skip-2", payload=b"{}")) is None
    assert drive.last.short == [UNDO_1]
    drive.undo_refused(1)
    drive.reload()
    assert verb(drive, "retry", 1) is None
    assert drive.last.commands[0].head.attempt == 2
    drive.undone(1)
    assert (drive.status, drive.attention) == ("cancelled", "")
    assert drive.completed(2) is None, "its settle was skipped, and it has happened after all"
    assert list(drive.state.concerns) == [Concern(ConcernKind.HAPPENED_AFTER_SKIP, 2)]
    drive.reload()
    assert verb(drive, "acknowledge", 2) is None
    assert drive.attention == ""


def test_u8_what_an_operator_was_told_before_still_counts_when_it_goes_on() -> None:
    """A retry is of use since nobody answered for an hour, which was told before the saga was blocked."""
    drive = given_up()
    for _ in range(130):
        drive.fire(TimerKind.RESEND, 1)
    assert list(drive.state.concerns) == [Concern(ConcernKind.SETTLE, 1)]
    drive.reload(keep_code=False)
    drive.cancel()
    assert verb(drive, "retry") is None
    drive.never(1)
    assert (drive.status, drive.attention) == ("cancelled", "")


def test_u8_no_timer_of_its_code_is_left() -> None:
    for code, keys in ((sleepy, [TimerKey(TimerKind.SLEEP, 1)]), (awaiting, [TimerKey(TimerKind.SAGA, 0)])):
        drive = Drive(code).start()
        drive.completed(1)
        assert list(drive.timers) == keys
        drive.reload(keep_code=False)
        drive.cancel()
        assert list(drive.timers) == [TimerKey(TimerKind.RESEND, 1)]
        drive.undone(1)
        assert (drive.status, drive.timers) == ("cancelled", {})


def test_u8_matching_code_that_comes_back_meanwhile_changes_nothing() -> None:
    drive = completed_and_open()
    drive.reload(keep_code=False)
    drive.cancel()
    drive.reload(sequential)
    assert (drive.saga.program, drive.last.short, drive.last.told) == (None, [], [])
    drive.never(2)
    drive.reload(sequential)
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED


def test_u7_an_end_that_was_decided_before_stands() -> None:
    drive = compensating()
    drive.reload(keep_code=False)
    assert drive.cancel() is None
    assert drive.last.short == [UNDO_1], "a copy: it goes on"
    drive.undone(1)
    assert (drive.status, drive.error["code"]) == ("compensated", "no")


def test_u5_a_late_success_stays_before_what_is_to_be_settled() -> None:
    drive = Drive(gathered).start()
    drive.refused(1)
    assert drive.last.short == [SETTLE_3]
    drive.completed(1)
    drive.reload(keep_code=False)
    drive.cancel()
    drive.never(3)
    assert drive.last.short == [UNDO_1]
    drive.undone(1)
    assert drive.last.short == [SETTLE_2]
    drive.never(2)
    assert drive.status == SagaStatus.COMPENSATED


def test_u4_a_command_that_was_held_back_is_never_sent() -> None:
    drive = given_up()
    drive.reload(keep_code=False)
    drive.never(1)
    drive.cancel()
    assert (drive.status, drive.last.short) == ("cancelled", [])
    assert drive.step(2).outcome is Outcome.NEVER


def test_u7_a_saga_that_had_come_to_its_end_and_waits_for_a_settle_completes() -> None:
    drive = Drive(last_minute).start()
    drive.fire(TimerKind.SLEEP, 1)
    assert drive.kinds[-2:] == ["ended", "settle 1"]
    drive.reload(keep_code=False)
    drive.cancel()
    assert drive.last.short == [SETTLE_1], "a copy: it goes on"
    drive.never(1)
    assert (drive.status, drive.result) == ("completed", {"refs": []})


def test_u1_a_step_that_its_author_leaves_as_it_is_is_not_settled() -> None:
    drive = Drive(keeping).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert drive.last.short == ["do 2 bank.charge"]
    drive.reload(keep_code=False)
    drive.cancel()
    assert drive.last.short == [SETTLE_2]
    drive.never(2)
    assert drive.status == SagaStatus.CANCELLED


def test_u8_a_history_that_only_a_later_release_knows_is_not_ended() -> None:
    drive = Drive(sequential).start()
    later = Row(len(drive.rows) + 1, drive.now, Kind.UNKNOWN, name="child", sequence=1)
    drive.rows.append(later)
    drive.reload()
    assert drive.cancel() is None
    drive.reload()
    assert (drive.status, drive.kinds[-1]) == ("running", "cancel"), "it is kept"
    drive.rows.remove(later)


def test_u6_a_fault_on_the_way_back_is_attention_and_is_tried_again_when_it_is_asked_for_again() -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("ours")

    drive = completed_and_open()
    drive.reload(keep_code=False)
    drive.completed(2)
    drive.may_fail = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(undo, "begin", fails)
        drive.cancel()
    assert [concern.kind for concern in drive.state.concerns] == [ConcernKind.FAULT]
    rows = len(drive.rows)
    drive.reload()
    assert (len(drive.rows), drive.last.short) == (rows, [])
    assert drive.take(an_input(Kind.CANCEL, ref="cancel-2")) is None
    assert (drive.last.short, drive.attention) == ([UNDO_2], "")
    drive.reload()
    drive.undone(2)
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED


# Termination.


@pytest.mark.parametrize(("begin", "sends", "ends"), ALL_PLACES)
@pytest.mark.parametrize(("kind", "block"), ALL_BLOCKS)
def test_u8_a_blocked_saga_is_terminated_wherever_it_stands(
    kind: ConcernKind, block: Block, begin: Callable[[], Drive], sends: list[str], ends: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    drive = begin()
    with monkeypatch.context() as patch:
        block(drive, patch)
        drive.all.commands.clear()
        assert verb(drive, "terminate") is None
        assert (drive.status, drive.attention, drive.timers, drive.all.short) == ("terminated", "", {}, [])
        assert drive.last.told[-1] == "saga.terminated"
        drive.reload()
    drive.reload(sequential)
    assert (drive.status, drive.last.told) == ("terminated", [])
    left = {int(sent.split()[1]) for sent in sends}
    assert {one["step"] for one in drive.error["outstanding"]} >= left


# What operators had asked for before.


@pytest.mark.parametrize("end", ["cancel", "terminate"])
def test_u8_a_paused_saga_that_is_blocked_is_ended_and_is_paused_no_more(end: str) -> None:
    drive = Drive(of(reserve, charge)).start()
    drive.completed(1)
    drive.operate("pause")
    drive.completed(2)
    drive.reload(keep_code=False)
    assert (drive.cancel() if end == "cancel" else drive.operate("terminate")) is None
    assert not drive.state.paused
    assert drive.state.completions == [1, 2], "what was kept counts first"
    drive.reload()
    if end == "terminate":
        assert [one["outstanding"] for one in drive.error["outstanding"]] == ["undo", "undo"]
        return
    drive.undone(2)
    assert drive.last.short == [UNDO_1]
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED


def test_u8_a_step_that_an_operator_has_completed_is_not_settled() -> None:
    """Nothing undoes it, so that its own row is all that tells of it."""
    drive = Drive(of(reserve, check, charge)).start()
    drive.completed(1)
    assert drive.operate("complete", 2, output=None) is None
    drive.reload(keep_code=False)
    drive.cancel()
    assert drive.last.short == ["settle 3 sagabus.settle"]
    drive.never(3)
    assert drive.last.short == [UNDO_1]
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED


def test_u8_a_copy_of_what_was_asked_before_counts_once_in_a_saga_without_code() -> None:
    drive = completed_and_open()
    drive.operate("pause", ref="p")
    drive.operate("pause", ref="q")
    drive.reload(keep_code=False)
    drive.cancel(ref="c")
    drive.reload()
    assert [drive.operate("pause", ref=ref) for ref in ("p", "q")] == ["duplicate", "duplicate"]
    assert drive.cancel(ref="c") == "duplicate"

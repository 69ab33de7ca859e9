"""What an open saga waits for, told from rows alone, for sagas that the core itself has brought there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sagabus.contracts import event
from sagabus.contracts.names import CommandKind, RunId, SagaId
from sagabus.contracts.replies import INBOX_EXPIRED
from sagabus.coordinator import SagaContext
from sagabus.coordinator import saga as defined
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind, Concerns, concerns_json
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.events import (
    MOST_NAMES,
    UNKNOWN,
    AwaitedEvent,
    Events,
    events_json,
    read_events,
)
from sagabus.coordinator.http.wait_views import events_of
from sagabus.coordinator.http.waits import _NOT_STORED, Wait, WaitKind, kept_events, stands_still, waits_of
from sagabus.coordinator.store.recent import Recent
from sagabus.coordinator.store.rows import SagaRow, TimerRow
from tests.coordinator.saga_rows import saga
from tests.core import shapes
from tests.core.kit import SECOND, T0, Definition, Drive
from tests.core.restored import forget_all
from tests.core.services import Order, Paid, Result, paid
from tests.core.shapes import sequential
from tests.core.situations import compensating, given_up, one_step
from tests.core.world import World


@defined("saga")
async def two_events(ctx: SagaContext, order: Order) -> Result:
    for _ in range(2):
        await ctx.event(paid)
    return Result(refs=[])


def stored(drive: Drive) -> SagaRow:
    state = drive.state
    return saga(
        status=state.status, attention=state.attention,
        concerns=concerns_json(state.concerns) if state.concerns else None, paused=state.paused,
        decided=state.blocked - 1 if state.blocked else None,
    )  # fmt: skip


def recent(drive: Drive, *, most: int = 1_000) -> Recent:
    timers = [TimerRow(3, SagaId("ORD-1"), RunId("r1"), kind, number, due) for (kind, number), due in
              sorted(drive.timers.items()) if kind is not TimerKind.RESEND]  # fmt: skip
    rows = drive.rows[-most:]
    events = read_events(events_json(drive.stored.events))
    return Recent(rows, len(rows) == len(drive.rows), timers, True, events)


def waits(drive: Drive, *, most: int = 1_000) -> list[Wait]:
    told = waits_of(stored(drive), recent(drive, most=most))
    assert told.is_complete == (most >= len(drive.rows))
    return [*told.waits]


def kept(drive: Drive) -> dict[str, int | None]:
    found = recent(drive)
    return {one.name: one.kept for one in events_of(found.rows, kept_events(stored(drive), found))}


def only(drive: Drive) -> Wait:
    (wait,) = waits(drive)
    return wait


def test_c4_a_step_in_flight_is_told_with_its_service_attempt_age_and_time_limit() -> None:
    drive = Drive(one_step(timeout=60)).start()
    sent = drive.now
    drive.failed(1)
    drive.fire(TimerKind.RETRY, 1)
    wait = only(drive)
    assert wait.step is not None
    assert (wait.kind, wait.command, wait.attempt) == (WaitKind.ANSWER, CommandKind.DO, 2)
    assert (wait.step.service, wait.since, wait.due) == ("stock", drive.now, sent + 60 * SECOND)
    assert wait.words == "stock has not answered step 1 (stock.reserve), attempt 2"


def test_c4_the_next_retry_is_told_with_its_time_and_why() -> None:
    drive = Drive(one_step()).start()
    drive.failed(1, "bank_closed")
    wait = only(drive)
    assert (wait.kind, wait.attempt, wait.since) == (WaitKind.RETRY, 2, drive.now)
    assert wait.due == next(due for key, due in drive.timers.items() if key.kind is TimerKind.RETRY)
    assert "step 1 (stock.reserve) is tried again, attempt 2: bank_closed: " in wait.words


def test_c4_an_undo_in_flight_and_its_next_attempt_are_told() -> None:
    drive = compensating()
    wait = only(drive)
    assert (wait.kind, wait.command, wait.attempt, wait.since) == (WaitKind.ANSWER, CommandKind.UNDO, 1, drive.now)
    assert wait.words == "stock has not answered the undo of step 1 (stock.release), attempt 1"
    drive.undo_failed(1)
    wait = only(drive)
    assert (wait.kind, wait.command, wait.attempt) == (WaitKind.RETRY, CommandKind.UNDO, 2)
    assert wait.due is not None
    drive.fire(TimerKind.UNDO_RETRY, 1)
    assert (only(drive).attempt, only(drive).since) == (2, drive.now)


def test_c4_a_settle_and_the_step_that_is_held_behind_it_are_told() -> None:
    drive = given_up()
    settle, held = waits(drive)
    assert (settle.command, settle.words) == (
        CommandKind.SETTLE, "stock has not said whether step 1 (stock.reserve) has happened",
    )  # fmt: skip
    assert (held.kind, held.words) == (
        WaitKind.HELD, "step 2 (stock.reserve) is not sent yet: it waits for the outcome of step 1 at stock",
    )  # fmt: skip
    drive.unsettled(1)
    settle, held = waits(drive)
    assert (settle.kind, settle.due is None, held.kind) == (WaitKind.RETRY, False, WaitKind.HELD)
    drive.fire(TimerKind.UNDO_RETRY, 1)
    assert [wait.kind for wait in waits(drive)] == [WaitKind.ANSWER, WaitKind.HELD]


@pytest.mark.parametrize("settling", [False, True])
def test_c4_what_is_not_tried_again_by_itself_waits_for_an_operator(settling: bool) -> None:
    drive = given_up() if settling else Drive(one_step()).start()
    drive.unsettled(1, INBOX_EXPIRED) if settling else drive.failed(1, INBOX_EXPIRED)
    wait = waits(drive)[0]
    assert (wait.kind, wait.since) == (WaitKind.OPERATOR, drive.now)
    assert INBOX_EXPIRED in wait.words


def test_c4_code_that_stands_still_waits_for_an_operator() -> None:
    drive = Drive(None).start()
    wait = only(drive)
    assert (wait.kind, wait.since) == (WaitKind.OPERATOR, drive.now)
    assert wait.words.startswith("its code cannot go on: blocked: no definition")


def test_c4_what_is_parked_waits_for_an_operator() -> None:
    """Beside the command that is not answered: it was never published."""
    concerns = Concerns([(Concern(ConcernKind.PARKED), "too large")])
    row = saga(attention="too large", concerns=concerns_json(concerns))
    rows = Drive(one_step()).start().rows
    parked, answer = waits_of(row, Recent(rows, True, (), True)).waits
    assert (parked.kind, answer.kind) == (WaitKind.OPERATOR, WaitKind.ANSWER)
    assert parked.words == "what it sends is kept until it is released: too large"


def test_c4_a_wait_for_an_event_is_told_by_name_and_before_the_timer_that_limits_it() -> None:
    drive = Drive(shapes.awaiting).start()
    answer, awaited, timeout = waits(drive)
    assert (answer.kind, timeout.kind) == (WaitKind.ANSWER, WaitKind.TIMEOUT)
    assert (awaited.kind, awaited.event, awaited.since) == (WaitKind.EVENT, "payment.confirmed", drive.now)
    assert awaited.words == "its code waits for the event payment.confirmed"
    drive.event(paid, Paid(amount=3))
    assert {wait.kind for wait in waits(drive)} == {WaitKind.ANSWER, WaitKind.TIMEOUT}


def test_c4_a_wait_begins_when_the_code_begins_to_wait_whatever_comes_meanwhile() -> None:
    drive = Drive(two_events).start()
    began = drive.now
    drive.event(event("order.strayed", Paid), Paid(amount=1))
    drive.event(paid, {"amount": "unreadable"})
    wait = only(drive)
    assert (wait.event, wait.since, drive.now > began) == ("payment.confirmed", began, True)
    drive.event(paid, Paid(amount=2))
    assert only(drive).since == drive.now, "the next wait, for an event of the same name"


def test_c4_an_event_that_nobody_waits_for_is_told_to_be_kept_until_it_is_taken() -> None:
    drive = Drive(shapes.awaiting).start()
    drive.event(paid, Paid(amount=1))
    drive.event(paid, Paid(amount=2))
    drive.event(event("payment.confirmd", Paid), Paid(amount=3))
    assert kept(drive) == {"payment.confirmed": 1, "payment.confirmd": 1}
    drive = Drive(two_events).start()
    drive.event(paid, Paid(amount=1))
    assert kept(drive) == {"payment.confirmed": 0}


def test_c4_of_very_many_kept_names_the_first_are_known() -> None:
    drive = Drive(two_events).start()
    for number in range(MOST_NAMES + 2):
        drive.event(event(f"order.strayed_{number:02}", Paid), Paid(amount=1))
    assert [*kept(drive).values()] == [1] * MOST_NAMES + [None] * 2


def test_c4_what_a_release_has_written_that_stores_no_events_is_not_certain() -> None:
    """Its rows stand behind the row that the stored events take account of."""
    name = f"({_NOT_STORED})"
    drive = Drive(two_events).start()
    drive.event(paid, Paid(amount=1))
    for events in (None, UNKNOWN, Events(1, (AwaitedEvent("payment.confirmed", drive.now),))):
        drive.stored = replace(drive.stored, events=events)
        wait = only(drive)
        assert (wait.event, wait.words) == (None, f"its code waits for an event {name}")
    drive = Drive(shapes.awaiting).start()
    drive.completed(1)
    drive.stored = replace(drive.stored, events=UNKNOWN)
    assert waits(drive)[0].words == f"its code may wait for an event {name}"
    assert kept(drive) == {}
    drive.reload()
    assert drive.stored.events == Events(len(drive.rows), (AwaitedEvent("payment.confirmed", T0 + 1_000),))


def test_c4_a_saga_that_sleeps_is_not_suspected_to_wait_for_an_event() -> None:
    drive = Drive(shapes.sleepy).start()
    drive.completed(1)
    assert {wait.kind for wait in waits(drive)} <= {WaitKind.TIMER, WaitKind.TIMEOUT}
    assert drive.stored.events is None, "what the normal path writes is null"


def test_c4_a_saga_that_stands_still_or_is_undone_waits_for_no_event() -> None:
    drive = Drive(two_events).start()
    drive.event(event("order.strayed", Paid), Paid(amount=1))
    drive.operate("pause")
    assert ([wait.kind for wait in waits(drive)], kept(drive)) == ([WaitKind.OPERATOR], {"order.strayed": None})
    drive.operate("resume")
    assert ([wait.kind for wait in waits(drive)], kept(drive)) == ([WaitKind.EVENT], {"order.strayed": 1})
    drive.operate("terminate")
    assert (drive.stored.events, waits(drive)) == (None, [])


def test_c4_a_sleep_is_told_with_its_end() -> None:
    drive = Drive(shapes.sleepy).start()
    drive.completed(1)
    sleep = waits(drive)[0]
    assert (sleep.kind, sleep.due) == (WaitKind.TIMER, drive.now + 3_600 * SECOND)


def test_c4_of_a_long_history_the_latest_rows_tell_and_it_is_said_that_more_may_be_missing() -> None:
    drive = Drive(shapes.sequential).start()
    drive.completed(1)
    assert [wait.words for wait in waits(drive, most=2)] == ["bank has not answered step 2 (bank.charge), attempt 1"]
    drive = Drive(shapes.gathered).start()
    assert len(waits(drive, most=2)) == 2


@pytest.mark.parametrize("code", shapes.ALL, ids=[body._body.__name__ for body in shapes.ALL])
@given(data=st.data(), actions=st.integers(0, 25))
@settings(max_examples=10, phases=(Phase.explicit, Phase.generate), database=None)
def test_c4_an_open_saga_never_waits_for_nothing(code: Definition, data: st.DataObject, actions: int) -> None:
    """And what is told of its steps is what the core knows."""
    try:
        world = World.of(code, lambda n: data.draw(st.integers(0, n - 1)), forgetful=False)
        for _ in range(actions):
            world.happen()
            check(world.drive)
    finally:
        forget_all()


def check(drive: Drive) -> None:
    told, state = waits(drive), drive.state
    if state.is_closed:
        assert told == []
        return
    assert told
    asked = {(wait.step.number, wait.command) for wait in told if wait.step and wait.kind is WaitKind.ANSWER}
    steps = state.steps.values()
    assert asked == {(step.number, step.unanswered) for step in steps if step.unanswered is not None}
    held = {wait.step.number for wait in told if wait.step and wait.kind is WaitKind.HELD}
    assert held == {step.number for step in steps if step.held}
    program = drive.saga.program
    waited = set() if program is None or stands_still(stored(drive)) else {*program.mailbox._waiters}
    assert {wait.event for wait in told if wait.kind is WaitKind.EVENT} == waited


def test_an_answer_that_a_blocked_saga_keeps_is_not_waited_for_any_more() -> None:
    drive = Drive(sequential).start()
    drive.reload(keep_code=False)
    assert [wait.kind for wait in waits(drive)] == [WaitKind.OPERATOR, WaitKind.ANSWER]
    drive.completed(1)
    assert [wait.kind for wait in waits(drive)] == [WaitKind.OPERATOR]

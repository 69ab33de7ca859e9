"""The cure of each kind of concern is tried on a saga that has it: each of its commands is applied, and ends it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import INBOX_EXPIRED, NO_HANDLER
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga import saga as saga_module
from sagabus.coordinator.core.saga import unconsumed
from sagabus.coordinator.core.saga.admission import NO_USE, UNREADABLE
from sagabus.coordinator.core.saga.concern import (
    ACKNOWLEDGEABLE,
    BROKEN_ANSWER,
    MOST_STORED,
    RELEASED,
    STOPS,
    Concern,
    ConcernKind,
    Concerns,
    concerns_json,
)
from sagabus.coordinator.core.saga.cure import CURES, cure_of, cure_of_any
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import Undoing
from tests.core.kit import Drive
from tests.core.restored import forget_all
from tests.core.services import Order, Paid, Result, charge, paid, reserve
from tests.core.shapes import awaiting, sequential
from tests.core.situations import compensating, given_up, of
from tests.core.test_codeless import diverged, fault, missing, spun
from tests.core.test_stuck import on_an_event, reserving_and_waiting
from tests.core.wire import an_input

HOUR = 3_600
COMMAND = re.compile(r"`sagabus ([^`]+)`")

Make = Callable[[pytest.MonkeyPatch], Drive]


def started(patch: pytest.MonkeyPatch) -> Drive:
    return Drive(sequential).start()


def completed(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    for number in (1, 2, 3):
        drive.completed(number)
    return drive


def step(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    drive.failed(1, NO_HANDLER)
    return drive


def step_unreadable(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b"[]")) == UNREADABLE
    return drive


def step_refused_unreadably(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    assert drive.take(drive.reply(Kind.STEP_REFUSED, 1, b"null")) == UNREADABLE
    return drive


def step_answered_brokenly(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    assert drive.take(an_input(Kind.NOTICE, 1, name=ConcernKind.STEP, ref=BROKEN_ANSWER, payload=b"no type")) is None
    return drive


def step_that_cannot_be_told(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    drive.failed(1, INBOX_EXPIRED)
    return drive


def undo(patch: pytest.MonkeyPatch) -> Drive:
    drive = compensating()
    drive.undo_refused(1)
    return drive


def undo_without_input(patch: pytest.MonkeyPatch) -> Drive:
    def fails(*_: object) -> None:
        raise IndexError("out of luck")

    patch.setattr(reserve, "fill", fails)
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.refused(2)
    assert drive.step(1).undoing is Undoing.BLOCKED
    return drive


def settle(patch: pytest.MonkeyPatch) -> Drive:
    drive = given_up()
    drive.unsettled(1)
    return drive


def settle_that_cannot_be_told(patch: pytest.MonkeyPatch) -> Drive:
    drive = given_up()
    drive.unsettled(1, INBOX_EXPIRED)
    return drive


def late_success(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    drive.refused(1)
    drive.completed(1)
    return drive


def undo_after_skip(patch: pytest.MonkeyPatch) -> Drive:
    drive = undo(patch)
    drive.operate("skip", 1)
    drive.undone(1)
    return drive


def happened_after_skip(patch: pytest.MonkeyPatch) -> Drive:
    drive = settle(patch)
    drive.operate("skip", 1)
    drive.settled(1)
    return drive


def history_lost(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    drive.take(drive.reply(Kind.STEP_COMPLETED, 7, b"null"))
    return drive


def reply_attempt(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    drive.failed(1, attempt=7)
    return drive


def unasked(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    drive.never(1)
    return drive


def contradiction(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    drive.completed(1)
    drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"another"}'))
    return drive


def pause(patch: pytest.MonkeyPatch) -> Drive:
    drive = started(patch)
    drive.failed(1, again_after=2 * HOUR)
    return drive


def records_lost(patch: pytest.MonkeyPatch) -> Drive:
    return told(started(patch), ConcernKind.RECORDS_LOST)


def parked(patch: pytest.MonkeyPatch) -> Drive:
    return told(started(patch), ConcernKind.PARKED)


def parked_and_closed(patch: pytest.MonkeyPatch) -> Drive:
    return told(completed(patch), ConcernKind.PARKED)


def told(drive: Drive, kind: ConcernKind) -> Drive:
    drive.take(an_input(Kind.NOTICE, name=kind, ref="orders", payload=b"so it is"))
    return drive


def event_unreadable(patch: pytest.MonkeyPatch) -> Drive:
    drive = Drive(awaiting).start()
    drive.event(paid, {"amount": "much"})
    return drive


def events(patch: pytest.MonkeyPatch) -> Drive:
    patch.setattr(unconsumed, "MAX_EVENTS", 1)
    drive = started(patch)
    for amount in range(2):
        drive.event(paid, Paid(amount=amount))
    return drive


def rows(patch: pytest.MonkeyPatch) -> Drive:
    patch.setattr(saga_module, "MAX_ROWS", 2)
    drive = started(patch)
    drive.completed(1)
    return drive


def rows_and_closed(patch: pytest.MonkeyPatch) -> Drive:
    patch.setattr(saga_module, "MAX_ROWS", 3)
    return completed(patch)


def bytes_of_history(patch: pytest.MonkeyPatch) -> Drive:
    patch.setattr(saga_module, "MAX_HISTORY_BYTES", 30)
    drive = started(patch)
    drive.completed(1)
    return drive


def stopped(block: Callable[[Drive, pytest.MonkeyPatch], None]) -> Make:
    def made(patch: pytest.MonkeyPatch) -> Drive:
        drive = started(patch)
        drive.completed(1)
        block(drive, patch)
        return drive

    return made


def stuck(patch: pytest.MonkeyPatch) -> Drive:
    drive = Drive(reserving_and_waiting(on_an_event)).start()
    drive.completed(1)
    return drive


def stuck_after_its_cancel(patch: pytest.MonkeyPatch) -> Drive:
    @saga("saga")
    async def waits_in_finally(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order))
        finally:
            await asyncio.Event().wait()
        return Result(refs=[])

    drive = Drive(waits_in_finally).start()
    drive.cancel()
    return drive


def more(patch: pytest.MonkeyPatch) -> Drive:
    """Closed, its code gone: all that is known of its concerns is what is stored."""
    listed = Concerns((Concern(ConcernKind.HISTORY_LOST, number), "lost") for number in range(MOST_STORED + 2))
    return stored(completed(patch), listed)


def other(patch: pytest.MonkeyPatch) -> Drive:
    return stored(completed(patch), Concerns([(Concern(ConcernKind.OTHER), "old words")]))


def stored(drive: Drive, concerns: Concerns) -> Drive:
    drive.stored = replace(drive.stored, concerns=concerns_json(concerns))
    drive.reload(of(charge))
    return drive


CASES: dict[ConcernKind, list[Make]] = {
    ConcernKind.STEP: [
        step,
        step_unreadable,
        step_refused_unreadably,
        step_answered_brokenly,
        step_that_cannot_be_told,
    ],
    ConcernKind.UNDO: [undo, undo_without_input],
    ConcernKind.SETTLE: [settle, settle_that_cannot_be_told],
    ConcernKind.LATE_SUCCESS: [late_success],
    ConcernKind.UNDO_AFTER_SKIP: [undo_after_skip],
    ConcernKind.HAPPENED_AFTER_SKIP: [happened_after_skip],
    ConcernKind.HISTORY_LOST: [history_lost],
    ConcernKind.REPLY_ATTEMPT: [reply_attempt],
    ConcernKind.UNASKED: [unasked],
    ConcernKind.CONTRADICTION: [contradiction],
    ConcernKind.PAUSE: [pause],
    ConcernKind.RECORDS_LOST: [records_lost],
    ConcernKind.PARKED: [parked, parked_and_closed],
    ConcernKind.EVENT_UNREADABLE: [event_unreadable],
    ConcernKind.EVENTS: [events],
    ConcernKind.ROWS: [rows, rows_and_closed],
    ConcernKind.BYTES: [bytes_of_history],
    ConcernKind.BLOCKED: [stopped(missing)],
    ConcernKind.DIVERGED: [stopped(diverged)],
    ConcernKind.SPUN: [stopped(spun)],
    ConcernKind.STUCK: [stuck, stuck_after_its_cancel],
    ConcernKind.FAULT: [stopped(fault)],
    ConcernKind.MORE: [more],
    ConcernKind.OTHER: [other],
}
"""Each makes a saga that has this concern."""

ALL = [pytest.param(kind, make, id=f"{kind}-{make.__name__}") for kind, makes in CASES.items() for make in makes]


@contextmanager
def in_trouble(make: Make, kind: ConcernKind) -> Iterator[tuple[Drive, Concern]]:
    with pytest.MonkeyPatch.context() as patch:
        drive = make(patch)
        yield drive, next(one for one in drive.state.concerns if one.kind is kind)
        forget_all()  # what is patched counts other limits


def commands(drive: Drive, concern: Concern) -> list[str]:
    """Those of its cure that are for a saga as it is now."""
    now, _, _ = drive.state.cure_of(concern).partition("when the saga has ended")
    now, _, _ = now.partition("when it has ended")
    return COMMAND.findall(now)


def type_(drive: Drive, command: str) -> str | None:
    """What the command sends; None if it is applied."""
    words = command.split()
    number = int(words[words.index("--step") + 1]) if "--step" in words else 0
    match words[0]:
        case "dead-letters":
            assert words[1:3] == ["unpark", drive.id]
            return drive.take(an_input(Kind.NOTICE, name=RELEASED, payload=b"it is cured"))
        case "cancel":
            assert words[1] == drive.id
            return drive.cancel("WHY")
        case verb:
            assert words[1] == drive.id
            if "--output" in words:
                return drive.operate(verb, number, output={"ref": "ref"})
            return drive.operate(verb, number)


def afterwards(drive: Drive) -> None:
    """What the services do then: they answer."""
    if drive.saga.wants_its_history:
        drive.reload()
    while drive.last.commands:
        sent = drive.last.commands[0]
        answer = {CommandKind.DO: drive.completed, CommandKind.UNDO: drive.undone, CommandKind.SETTLE: drive.never}
        answer[sent.head.kind](sent.head.step)


def test_each_kind_has_a_cure_and_a_saga_to_try_it_on() -> None:
    assert list(CURES) == list(ConcernKind)
    assert set(CASES) == set(ConcernKind)


@pytest.mark.parametrize(("kind", "make"), ALL)
def test_each_command_of_a_cure_is_applied_and_ends_the_concern(kind: ConcernKind, make: Make) -> None:
    with in_trouble(make, kind) as (drive, concern):
        choices = len(commands(drive, concern))
    for choice in range(choices):
        with in_trouble(make, kind) as (drive, concern):
            command = commands(drive, concern)[choice]
            assert type_(drive, command) is None, f"{command} is refused"
            afterwards(drive)
            if drive.state.is_closed and concern in drive.state.concerns:
                (command,) = commands(drive, concern)
                assert type_(drive, command) is None, f"{command} is refused"
            assert concern not in drive.state.concerns, command


@pytest.mark.parametrize(("kind", "make"), ALL)
def test_an_acknowledgement_that_ends_nothing_is_refused_with_the_cure_that_does(kind: ConcernKind, make: Make) -> None:
    with in_trouble(make, kind) as (drive, concern):
        if kind in ACKNOWLEDGEABLE or "acknowledge" in " ".join(commands(drive, concern)):
            return
        cure = drive.state.cure_of(concern)
        assert drive.operate("acknowledge", concern.number) == NO_USE
        (refusal,) = drive.last.rejections
        assert refusal.body["error"]["message"].endswith(f"; the cure of `{kind}`: {cure}")
        assert concern in drive.state.concerns


def test_the_cure_of_a_concern_is_in_its_lifecycle_event() -> None:
    drive = Drive(sequential).start()
    drive.failed(1, NO_HANDLER)
    error = drive.last.lifecycle[-1].body["error"]
    assert (error["concern"], error["step"]) == ("step", 1)
    assert error["cure"] == drive.state.cure_of(Concern(ConcernKind.STEP, 1))
    assert "`sagabus complete O-1 --step 1 --output JSON --reason WHY`" in error["cure"]


def test_an_id_in_a_cure_can_be_pasted_into_a_shell() -> None:
    assert "`sagabus cancel 'O 1{x}' --reason WHY`" in cure_of(Concern(ConcernKind.SPUN), id="O 1{x}")
    assert "`sagabus cancel ID --reason WHY`" in cure_of_any(ConcernKind.SPUN)


@pytest.mark.parametrize("kind", STOPS)
def test_of_a_closed_saga_no_cure_names_a_verb_that_is_refused(kind: ConcernKind) -> None:
    assert COMMAND.findall(cure_of(Concern(kind), id="O-1", closed=True)) == []


@pytest.mark.parametrize("kind", ConcernKind)
def test_of_a_closed_saga_a_cure_asks_for_nothing_that_is_refused(kind: ConcernKind) -> None:
    cure = cure_of(Concern(kind), id="O-1", closed=True)
    assert {command.split()[0] for command in COMMAND.findall(cure)} <= {"acknowledge", "dead-letters"}
    assert "sent again" not in cure


@pytest.mark.parametrize("ended", [Drive.cancel, partial(Drive.operate, verb="terminate")], ids=["cancel", "terminate"])
@pytest.mark.parametrize("make", [event_unreadable, records_lost])
def test_what_only_another_message_could_cure_goes_with_the_end(make: Make, ended: Callable[[Drive], object]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        drive = make(patch)
        assert drive.attention
        ended(drive)
        afterwards(drive)
        assert (drive.state.is_closed, drive.attention) == (True, "")
        assert [one.type for one in drive.all.lifecycle].count("sagabus.saga.attention_cleared") == 1

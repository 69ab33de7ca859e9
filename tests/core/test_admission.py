"""Every input in every state of a step: what counts, what is counted by which word, and what proves lost history."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

import pytest

from sagabus.coordinator.core.saga import closed
from sagabus.coordinator.core.saga.admission import (
    CANCEL_REJECTED,
    CLOSED,
    DUPLICATE,
    FOREIGN,
    LATE,
    OLD_ATTEMPT,
    REPLIES,
    SETTLE_REPLIES,
    STALE,
    STEP_REPLIES,
    UNDO_REPLIES,
    UNREADABLE,
    answers_nothing,
    denial,
)
from sagabus.coordinator.core.saga.concern import ConcernKind, Concerns
from sagabus.coordinator.core.saga.effects import Effects, TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.journal import Journal
from sagabus.coordinator.core.saga.program import Code
from sagabus.coordinator.core.saga.replay import restore
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.core.saga.standing import Standing
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import CLOSED as CLOSED_STATUSES
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from sagabus.coordinator.core.saga.step import Exchange
from sagabus.coordinator.core.saga.stopped import Stop, StoppedSaga
from sagabus.coordinator.core.saga.termination import HAPPENED
from tests.core import shapes
from tests.core.kit import Definition, Drive
from tests.core.restored import forget_all
from tests.core.shapes import sequential
from tests.core.situations import compensating
from tests.core.wire import an_input
from tests.core.world import World

O, U = Outcome, Undoing  # noqa: E741
LOST: Final = "lost history"


def state_with(
    outcome: Outcome = Outcome.SENT, undoing: Undoing = Undoing.NONE, *, attempt: int = 2, settled: bool = False
) -> SagaState:
    """One step at `stock`, whose second attempt is under way."""
    state = Drive(sequential).start().state
    step = state.steps[1]
    step.outcome, step.undoing, step.do.attempt = outcome, undoing, attempt
    step.settle = Exchange(1) if settled or undoing is Undoing.SETTLING else None
    undone = undoing in (Undoing.SENT, Undoing.PAUSED, Undoing.SKIPPED, Undoing.DONE)
    step.undo = Exchange(1, attempt=attempt) if undone else None
    return state


def word(state: SagaState, kind: Kind, *, attempt: int = 2, service: str = "stock", step: int = 1) -> str | None:
    arrival = an_input(kind, step, attempt, service, "ref", b"null")
    assert answers_nothing(state, arrival) <= (denial(state, arrival) is None), "what proves a loss is never dropped"
    return LOST if answers_nothing(state, arrival) else denial(state, arrival)


@pytest.mark.parametrize(
    ("outcome", "current", "older", "failure", "old_failure"),
    [
        (O.SENT, None, None, None, OLD_ATTEMPT),
        (O.PAUSED, None, None, DUPLICATE, DUPLICATE),
        (O.COMPLETED, DUPLICATE, DUPLICATE, LATE, LATE),
        (O.FAILED, None, None, LATE, LATE),
        (O.UNKNOWN, LATE, LATE, LATE, LATE),
        (O.NEVER, None, None, LATE, LATE),
    ],
)
def test_p2_replies_to_a_step(
    outcome: Outcome, current: str | None, older: str | None, failure: str | None, old_failure: str | None
) -> None:
    state = state_with(outcome)
    assert word(state, Kind.STEP_COMPLETED) == current
    assert word(state, Kind.STEP_COMPLETED, attempt=1) == older
    for kind in (Kind.STEP_FAILED, Kind.STEP_REFUSED):
        assert word(state, kind) == failure
        assert word(state, kind, attempt=1) == old_failure
    for kind in STEP_REPLIES:
        assert word(state, kind, attempt=3) == LOST


@pytest.mark.parametrize(
    ("undoing", "done", "failure", "old_failure"),
    [
        (U.NONE, LOST, LOST, LOST),
        (U.SETTLING, LOST, LOST, LOST),
        (U.BLOCKED, LOST, LOST, LOST),
        (U.SENT, None, None, OLD_ATTEMPT),
        (U.PAUSED, None, DUPLICATE, DUPLICATE),
        (U.DONE, DUPLICATE, DUPLICATE, DUPLICATE),
        (U.SKIPPED, None, DUPLICATE, DUPLICATE),  # done after all: for a person to see (U8)
    ],
)
def test_p2_replies_to_an_undo(
    undoing: Undoing, done: str | None, failure: str | None, old_failure: str | None
) -> None:
    state = state_with(O.COMPLETED, undoing)
    assert word(state, Kind.UNDO_COMPLETED) == done
    assert word(state, Kind.UNDO_COMPLETED, attempt=1) == done
    for kind in (Kind.UNDO_FAILED, Kind.UNDO_REFUSED):
        assert word(state, kind) == failure
        assert word(state, kind, attempt=1) == old_failure
    for kind in UNDO_REPLIES:
        assert word(state, kind, attempt=3) == LOST


@pytest.mark.parametrize(
    ("undoing", "settled", "expected"),
    [
        (U.NONE, False, LOST), (U.SENT, False, LOST), (U.DONE, False, LOST), (U.SETTLING, True, None),
        (U.SENT, True, DUPLICATE), (U.PAUSED, True, DUPLICATE), (U.BLOCKED, True, DUPLICATE), (U.DONE, True, DUPLICATE),
    ],
)  # fmt: skip
def test_u9_replies_to_a_settle(undoing: Undoing, settled: bool, expected: str | None) -> None:
    state = state_with(O.UNKNOWN, undoing, settled=settled)
    for kind in SETTLE_REPLIES:
        assert word(state, kind) == expected


def test_u9_a_step_that_was_never_called_or_never_sent() -> None:
    state = state_with()
    state.steps[1].do.issued = 0
    for kind in REPLIES:
        assert word(state, kind) == LOST
        assert word(state, kind, step=2) == LOST


def test_only_a_steps_own_service_answers_for_it() -> None:
    state = state_with()
    assert word(state, Kind.STEP_COMPLETED, service="bank") == FOREIGN
    assert word(state, Kind.STEP_COMPLETED, service="") is None


@pytest.mark.parametrize("status", list(SagaStatus))
def test_u7_a_cancel(status: SagaStatus) -> None:
    state = state_with()
    state.standing = Standing(Concerns(), status)
    assert denial(state, an_input(Kind.CANCEL)) == (None if status is SagaStatus.RUNNING else CANCEL_REJECTED)
    state.ending = SagaStatus.CANCELLED
    assert denial(state, an_input(Kind.CANCEL)) == CANCEL_REJECTED
    state.answered.add("ann-1")
    assert denial(state, an_input(Kind.CANCEL, ref="ann-1")) == DUPLICATE
    state.ending = SagaStatus.COMPLETED
    assert denial(state, an_input(Kind.CANCEL)) == CANCEL_REJECTED


@pytest.mark.parametrize("status", list(SagaStatus))
def test_h5_an_event(status: SagaStatus) -> None:
    state = state_with()
    state.standing = Standing(Concerns(), status)
    assert denial(state, an_input(Kind.EVENT, ref="1")) == (CLOSED if status in CLOSED_STATUSES else None)
    state.seen_events.add("1")
    assert denial(state, an_input(Kind.EVENT, ref="1")) == DUPLICATE


def test_h3_a_timer_counts_while_it_is_pending() -> None:
    state = state_with()
    assert denial(state, an_input(Kind.TIMER, 1, name=TimerKind.TIMEOUT)) == STALE
    state.timers[TimerKey(TimerKind.TIMEOUT, 1)] = 5
    assert denial(state, an_input(Kind.TIMER, 1, name=TimerKind.TIMEOUT)) is None
    assert denial(state, an_input(Kind.TIMER, 2, name=TimerKind.TIMEOUT)) == STALE


@pytest.mark.parametrize("kind", [Kind.STARTED, Kind.NOTICE, Kind.BLOCKED, Kind.RESUMED, Kind.OPERATOR])
def test_other_inputs_always_count(kind: Kind) -> None:
    assert denial(state_with(), an_input(kind)) is None


def test_what_is_denied_leaves_no_row_and_no_effect() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    rows = list(drive.rows)
    assert drive.completed(1) == DUPLICATE
    assert (drive.rows, drive.last.short, drive.last.told) == (rows, [], [])


# A saga whose code cannot follow its history: the rows alone have to tell.


@pytest.mark.parametrize("code", shapes.ALL, ids=[body._body.__name__ for body in shapes.ALL])
def test_p2_u9_of_a_closed_saga_the_rows_tell_what_its_code_would(code: Definition) -> None:
    """But for steps that were held back and never sent: of those the rows do not know."""
    for seed in range(6):
        rows_agree(ended(code, Random(seed)))
        forget_all()


@pytest.mark.parametrize("verb", ["retry", "skip"])
def test_u8_the_rows_tell_what_an_operator_led_to(verb: str) -> None:
    drive = compensating()
    drive.undo_failed(1)
    drive.take(an_input(Kind.OPERATOR, 1, name=verb, ref="v1", payload=b'{"reason":"seen to"}'))
    if verb == "retry":
        drive.undone(1)
    assert drive.state.is_closed
    rows_agree(drive)


def rows_tell(rows: list[Row], input: Input, *, closed: bool, status: SagaStatus | None = None) -> str | None:
    status = status or (SagaStatus.COMPLETED if closed else SagaStatus.RUNNING)
    state = Drive(sequential).start().state
    state.standing = Standing(Concerns(), status)
    return StoppedSaga(state, Stop(ConcernKind.BLOCKED, ""), rows, fingerprint="").denial(input)


def rows_agree(drive: Drive) -> None:
    seen: set[tuple[Kind, str]] = set()
    for arrival in replies(drive):
        told = rows_tell(drive.rows, arrival, closed=True, status=drive.state.status)
        expected = denial(drive.state, arrival)
        for reason in (None, FOREIGN, UNREADABLE):
            assert (told == reason) == (expected == reason), arrival
        news = (arrival.kind, closed_heard(drive, arrival))
        if told is None and news not in seen:  # one of each sort, since three sagas are made for each
            seen.add(news)
            heard_alike(drive, arrival)


def closed_heard(drive: Drive, arrival: Input) -> str:
    of_step = [row for row in drive.rows if row.step == arrival.step]
    return closed.heard(of_step, arrival, terminated=drive.status == SagaStatus.TERMINATED)


def heard_alike(drive: Drive, arrival: Input) -> None:
    """With and without its code the same is to be seen to, and told; and its code knows it later."""
    contract = drive.contracts.get(arrival.step)
    output = b'{"ref":"another"}' if contract is not None and contract.output is not None else b"null"
    arrival = arrival._replace(payload=output if arrival.kind in HAPPENED else arrival.payload)
    by_code, by_rows = drive.restored(), restored(drive, drive.rows, code=None)
    words = [saga.take(arrival, now=drive.now) for saga in (by_code, by_rows)]
    assert words in ([None, None], [DUPLICATE, DUPLICATE]), arrival
    assert not by_rows.state.blocked
    effects = by_rows.drain()
    assert told(by_code.drain()) == told(effects), arrival
    later = restored(drive, [*drive.rows, *effects.rows], code=drive.code)
    assert later.stopped is None, arrival
    assert by_code.state.concerns == by_rows.state.concerns == later.state.concerns, arrival
    for saga in (by_code, by_rows, later):
        saga.evict()


def restored(drive: Drive, rows: list[Row], *, code: Code | None) -> Saga:
    state = drive.fresh()
    state.standing = drive.stored.standing()
    return restore(state, code, rows, status=drive.stored.status, now=drive.now)


def told(effects: Effects) -> list[str]:
    return [dict(message.headers)["ce_type"].decode() for message in effects.messages]


def ended(code: Definition, random: Random) -> Drive:
    """After some of what can happen to it."""
    world = World.of(code, random.randrange, forgetful=random.random() < 0.5)
    for _ in range(random.randrange(40)):
        world.happen()
    world.settle_down()
    assert world.drive.state.is_closed
    return world.drive


def replies(drive: Drive) -> Iterator[Input]:
    """Whatever anybody could answer, to a step that was never called as well; none of them has come before."""
    steps = drive.state.steps
    for number in (*(number for number, step in steps.items() if step.do.issued), len(steps) + 1):
        step = steps.get(number)
        attempts = max(step.do.attempt, step.undo.attempt if step.undo else 0) + 1 if step else 1
        for kind in sorted(REPLIES):
            for attempt in range(1, attempts + 1):
                for service in (step.service if step else "stock", "bakery", ""):
                    for body in (b'{"another":1}', b"no JSON"):
                        yield an_input(kind, number, attempt, service, "new", body)


def rows_of(*arrivals: Input) -> list[Row]:
    journal = Journal()
    return [journal.taken(arrival, 0) for arrival in arrivals]


EVENT, VERB = an_input(Kind.EVENT, name="paid", ref="e1"), an_input(Kind.OPERATOR, name="retry", ref="v1")


@pytest.mark.parametrize(
    ("arrival", "open", "closed"),
    [
        (EVENT, DUPLICATE, DUPLICATE),
        (VERB, DUPLICATE, DUPLICATE),
        (an_input(Kind.EVENT, name="paid", ref="e2"), None, CLOSED),
        (an_input(Kind.EVENT, name="paid", ref="v1"), None, CLOSED),
        (an_input(Kind.OPERATOR, name="retry", ref="v2"), None, CLOSED),
        (an_input(Kind.CANCEL), None, CANCEL_REJECTED),
        (an_input(Kind.NOTICE), None, None),
    ],
)
def test_h1_what_the_rows_tell_of_other_inputs(arrival: Input, open: str | None, closed: str | None) -> None:
    rows = rows_of(EVENT, VERB)
    assert rows_tell(rows, arrival, closed=False) == open
    assert rows_tell(rows, arrival, closed=True) == closed


def test_h1_an_open_saga_keeps_every_reply_once() -> None:
    first = an_input(Kind.STEP_FAILED, 1, 1, "stock", "r1", b"broken")
    rows = rows_of(first)
    assert rows_tell(rows, first, closed=False) == DUPLICATE
    assert rows_tell(rows, an_input(Kind.STEP_FAILED, 1, 2, "stock", "r2", b"broken"), closed=False) is None
    assert rows_tell(rows, an_input(Kind.STEP_COMPLETED, 1, 1, "stock", "r3", b"broken"), closed=False) is None

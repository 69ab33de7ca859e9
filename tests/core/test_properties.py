"""The promise, for sagas of all shapes in a random world: each ends, and is undone exactly as far as it should be."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED, DUPLICATE, LATE, OLD_ATTEMPT
from sagabus.coordinator.core.saga.concern import ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from sagabus.coordinator.core.saga.stuck import STUCK
from tests.core import shapes
from tests.core.kit import Definition
from tests.core.restored import ENDS, forget_all
from tests.core.world import World

EXAMPLES = 25
"""For each shape. To hunt, raise it: each costs about a tenth of a second."""

MOST_ACTIONS = 40


@pytest.mark.parametrize("code", shapes.ALL, ids=[body._body.__name__ for body in shapes.ALL])
@given(data=st.data(), forgetful=st.booleans(), actions=st.integers(0, MOST_ACTIONS))
@settings(max_examples=EXAMPLES)
def test_the_promise(code: Definition, data: st.DataObject, forgetful: bool, actions: int) -> None:
    try:
        world = World.of(code, lambda n: data.draw(st.integers(0, n - 1)), forgetful=forgetful)
        for _ in range(actions):
            world.happen()
            assert STUCK not in world.drive.state.concerns
        world.settle_down()
        check(world)
    finally:
        forget_all()


def check(world: World) -> None:
    drive = world.drive
    check_pauses(drive.rows)
    assert drive.state.is_closed, f"{drive.status}, blocked {drive.state.blocked}, {drive.attention}"
    concerns = drive.state.concerns
    assert all(concern.kind is ConcernKind.LATE_SUCCESS for concern in concerns), concerns
    late = {concern.number for concern in concerns}
    if drive.status == SagaStatus.TERMINATED:
        check_left_behind(world, late)
        return
    check_effects(world, late)
    check_order(drive.rows)
    check_one_at_a_time(drive.rows)
    check_duplicates(world)
    drive.check_count()


def check_effects(world: World, late: set[int]) -> None:
    """What the participants have done, against what the saga says."""
    for number, step in world.drive.state.steps.items():
        assert step.outcome is not Outcome.UNKNOWN
        assert world.undone[number] <= world.done[number] <= 1
        happened = bool(world.done[number])
        if number not in late:
            assert happened == (step.outcome is Outcome.COMPLETED)
        if step.contract.compensation is None or number in late:
            assert not world.undone[number]
        elif world.drive.status == SagaStatus.COMPLETED:
            assert bool(world.undone[number]) == (step.undoing is Undoing.DONE and happened)
        else:
            assert bool(world.undone[number]) == happened, f"step {number}"


def check_left_behind(world: World, late: set[int]) -> None:
    """U8: what has happened and is not undone is told, when it ended or when it was heard of."""
    drive = world.drive
    told = {one["step"] for one in drive.error["outstanding"]} | late
    for number, step in drive.state.steps.items():
        assert world.undone[number] <= world.done[number] <= 1
        if step.contract.compensation is not None and world.done[number] > world.undone[number]:
            assert number in told, f"step {number}"
    assert (drive.state.timers, drive.saga.program, drive.state.paused) == ({}, None, False)
    drive.check_count()


def check_order(rows: list[Row]) -> None:
    """U5: what was known as completed when the code ended is undone in reverse order. Known it is with the row of its
    undo's input: an answer that was kept while the saga was paused counts later, or not at all."""
    ended = next(row.seq for row in rows if row.kind is Kind.ENDED)
    undone_before = {row.step for row in rows if row.kind is Kind.UNDO and row.seq < ended}
    known = [row.step for row in rows if row.kind in (Kind.UNDO_INPUT, Kind.ON_ROLLBACK) and row.seq < ended]
    undos = [row.step for row in rows if row.kind is Kind.UNDO and row.seq > ended and row.step in known]
    assert len(set(undos)) == len(undos)
    if undos:
        assert undos == [step for step in reversed(known) if step not in undone_before]


def check_pauses(rows: list[Row]) -> None:
    """U8: while it is paused nothing begins; what is decided then is of an undo that had begun."""
    paused = False
    for row, after in pairwise(rows):
        if row.kind is Kind.OPERATOR:
            paused = row.name == "pause" or (paused and row.name not in ("resume", "terminate"))
        elif row.kind is Kind.CANCEL:
            paused = False
        if paused:
            assert after.kind not in (Kind.COMMAND, Kind.PUBLISH, Kind.START, Kind.SETTLE, Kind.ENDED), after
            assert after.kind is not Kind.TIMER or after.name == TimerKind.UNDO_RETRY, after
            assert after.kind is not Kind.UNDO or after.step == row.step, after


def check_one_at_a_time(rows: list[Row]) -> None:
    """On the way back nothing more begins to be settled or undone while something else is."""
    ended = next((row.seq for row in rows if row.kind is Kind.ENDED and row.name != "completed"), len(rows))
    under_way: set[int] = set()
    begun: set[int] = set()
    for row in rows:
        if row.kind in (Kind.SETTLE, Kind.UNDO):
            assert row.seq < ended or not under_way or row.step in begun
            under_way.add(row.step)
            begun.add(row.step)
        elif row.kind in ENDS or (row.kind, row.name) == (Kind.OPERATOR, "complete"):
            under_way.discard(row.step)


def check_duplicates(world: World) -> None:
    """Whatever was answered once changes nothing when it comes again."""
    drive = world.drive
    rows, status = len(drive.rows), drive.status
    for arrival in world.answered:
        assert drive.take(arrival) in (DUPLICATE, LATE, OLD_ATTEMPT), arrival
    assert (len(drive.rows), drive.status, drive.last.short) == (rows, status, [])


@pytest.mark.parametrize("code", shapes.ALL, ids=[body._body.__name__ for body in shapes.ALL])
@given(data=st.data(), forgetful=st.booleans(), before=st.integers(0, 25), meanwhile=st.integers(0, 8))
@settings(max_examples=EXAMPLES)
def test_u8_the_promise_to_a_saga_that_is_blocked_anywhere_and_cancelled(
    code: Definition, data: st.DataObject, forgetful: bool, before: int, meanwhile: int
) -> None:
    try:
        world = World.of(code, lambda n: data.draw(st.integers(0, n - 1)), forgetful=forgetful)
        for _ in range(before):
            world.happen()
        drive = world.drive
        if not drive.state.is_closed:
            drive.reload(keep_code=False)
            for _ in range(meanwhile):
                world.happen()
            if drive.cancel("it is blocked") == CANCEL_REJECTED:
                drive.reload(code)  # past its pivot: its code is deployed again
            world.collect()
        world.settle_down()
        assert drive.state.is_closed, f"{drive.status}, blocked {drive.state.blocked}, {drive.attention}"
        assert all(concern.kind is ConcernKind.LATE_SUCCESS for concern in drive.state.concerns)
        late = {concern.number for concern in drive.state.concerns}
        if drive.status == SagaStatus.TERMINATED:
            check_left_behind(world, late)
            return
        check_effects(world, late)
        check_one_at_a_time(drive.rows)
    finally:
        forget_all()

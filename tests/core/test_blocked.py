"""H1: a blocked saga keeps its inputs, says why it is blocked, and goes on when it can."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel, field_validator

from sagabus.contracts import SagaType
from sagabus.contracts.errors import MessageInvalid
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga import forward
from sagabus.coordinator.core.saga.concern import RELEASED, Concern, ConcernKind, Concerns
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.program import Blocked, Intent, Program, Spun
from sagabus.coordinator.core.saga.replay import restore
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.core.saga.step import Step
from tests.core.kit import SECOND, Definition, Drive
from tests.core.services import (
    Order,
    Result,
    charge,
    count,
    paid,
    reserve,
)
from tests.core.shapes import ALL, gathered, sequential
from tests.core.situations import changed, of
from tests.core.wire import an_input


def test_h1_inputs_are_kept_while_blocked_and_decided_upon_when_matching_code_is_back() -> None:
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    assert drive.state.blocked == 3
    assert drive.completed(1) is None
    assert drive.last.short == []
    assert drive.kinds[-2:] == ["blocked 3", "step.completed 1"]
    drive.reload(of(charge))
    assert drive.kinds[-2:] == ["blocked 3", "step.completed 1"], "still blocked, for the same reason: nothing new"
    drive.reload(sequential)
    assert drive.kinds[-4:] == ["step.completed 1", "resumed", "undo.input 1", "command 2"]
    assert drive.last.short == ["do 2 bank.charge"]
    assert drive.last.told == ["saga.attention_cleared", "step.completed"]
    assert [event.cause for event in drive.last.lifecycle] == [None, drive.rows[-4].ref]
    assert drive.last.commands[0].cause == "O-1:r1:1:step.completed:1", "the message that was kept"
    assert drive.attention == ""
    drive.completed(2)
    drive.completed(3)
    assert drive.status == SagaStatus.COMPLETED


def test_h1_a_cancel_that_a_release_has_kept_is_decided_by_matching_code() -> None:
    """Older releases kept it until then."""
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    drive.rows.append(Row(len(drive.rows) + 1, drive.now, Kind.CANCEL, ref="cancel", payload=b"now", sequence=2))
    drive.reload(sequential)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    assert drive.kinds[-4:] == ["cancel", "resumed", "ended", "settle 1"]
    drive.never(1)
    assert drive.status == SagaStatus.CANCELLED


@pytest.mark.parametrize("blocked_again", [False, True])
def test_h1_what_is_set_aside_as_the_saga_goes_on_is_found_by_a_replay(blocked_again: bool) -> None:
    """Its notice stands in its place."""
    drive = Drive(of(reserve, charge)).start()
    drive.reload(of(charge))
    drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"nonsense": 1}'))
    drive.event(paid, {"amount": 1})
    if blocked_again:
        drive.reload(of(charge, reserve))
    drive.reload(of(reserve, charge))
    assert drive.kinds[-1] == "notice 1"
    assert "its output cannot be read" in drive.attention
    drive.reload()
    drive.cancel("now")
    drive.never(1)
    assert drive.status == SagaStatus.CANCELLED


def test_h1_what_came_twice_while_blocked_counts_once() -> None:
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    drive.completed(1)
    drive.completed(1)
    assert drive.kinds.count("step.completed 1") == 1
    drive.reload(sequential)
    assert drive.last.short == ["do 2 bank.charge"]
    drive.reload()
    assert drive.attention == ""


def test_h1_a_turn_that_blocks_keeps_what_comes_later_in_the_same_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    drive = Drive(gathered).start()
    monkeypatch.setattr(forward, "_output", _unreadable)
    drive.offer(drive.reply(Kind.STEP_COMPLETED, 2, b'{"ref":"y"}'))
    drive.offer(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"x"}'))
    drive.commit()
    assert drive.kinds[-3:] == ["step.completed 2", "blocked 5", "step.completed 1"]
    assert drive.last.told == ["saga.attention"]
    assert drive.saga.program is None, "its code is let go"
    drive.saga.resend_outstanding(now=drive.now)
    assert drive.commit().short == [], "nor are copies sent of what is only half known"


KEPT = {"addresses", "definition", "version", "trace", "id", "run", "_name", "input_hash", "started_at", "now", "cause"}
"""Who it is, and the time; all else of a state follows from what was decided."""
OF_THE_STOP = {"standing", "kept", "sequence", "journal", "effects", "staged", "blocked", "spun", "_known_timers"}


@pytest.mark.parametrize("code", ALL, ids=[body._body.__name__ for body in ALL])
def test_h1_a_failing_input_leaves_nothing_at_all_behind(code: Definition, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fields a state has or will have: it fails at the very end, when all was decided."""
    drive = Drive(code).start()
    before, seq, sequence = drive.state.standing, drive.state.journal.seq, drive.state.sequence
    decide = Saga._go_on

    def fails(saga: Saga) -> None:
        decide(saga)
        raise Blocked("at the end")

    with monkeypatch.context() as patch:
        patch.setattr(Saga, "_go_on", fails)
        drive.offer(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"x"}'))
    state, pristine = drive.state, drive.fresh()
    for slot in set(SagaState.__slots__) - KEPT - OF_THE_STOP:
        assert getattr(state, slot) == getattr(pristine, slot), slot
    assert state.standing == before._replace(concerns=Concerns([(Concern(ConcernKind.BLOCKED), "at the end")]))
    effects = drive.saga.drain()
    assert [row.kind for row in effects.rows] == [Kind.STEP_COMPLETED, Kind.BLOCKED]
    assert [row.seq for row in effects.rows] == [seq + 1, seq + 2]
    assert (len(effects.messages), state.sequence) == (1, sequence + 1), "that it is on attention"
    assert not effects.timers_set
    assert not effects.timers_cleared


def test_h1_a_half_decided_input_leaves_nothing_behind() -> None:
    """The reply is taken and its event told, the next step called; then the code spins."""
    spinning = True

    @saga("saga")
    async def spinner(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order), timeout=60)
        first = asyncio.create_task(ctx.call(charge(order=order.order), timeout=60))
        while spinning:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return Result(refs=[(await first).ref])

    drive = Drive(spinner).start()
    drive.completed(1)
    assert drive.last.told == ["saga.attention"]
    assert drive.last.short == []
    assert drive.kinds[-2:] == ["step.completed 1", "blocked 3"]
    assert drive.due == {"resend 1": 29.999, "timeout 1": 59.999}, "as before the input"
    assert "the saga's code does not come to rest: 100000 callbacks" in drive.attention
    spinning = False
    drive.reload(changed(spinner))
    assert drive.kinds[-4:] == ["blocked 3", "resumed", "undo.input 1", "command 2"]
    assert drive.last.told == ["saga.attention_cleared", "step.completed"]
    drive.completed(2)
    assert drive.status == SagaStatus.COMPLETED


def test_h1_a_cancel_that_blocks_leaves_no_trace_in_the_sagas_row() -> None:
    hanging = True

    @saga("saga")
    async def restless(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order))
        finally:
            while hanging:  # noqa: ASYNC110
                await asyncio.sleep(0)
        return Result(refs=[])

    drive = Drive(restless).start()
    drive.cancel()
    assert (drive.error, drive.status) == (None, "running")
    assert "does not come to rest" in drive.attention
    hanging = False
    drive.reload(changed(restless))
    assert drive.error["code"] == "sagabus.cancelled"
    drive.never(1)
    assert drive.status == SagaStatus.CANCELLED


def test_l10_an_endless_sleep_0_is_attention_and_never_undone() -> None:
    @saga("saga")
    async def endless(ctx: SagaContext, order: Order) -> Result:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    drive = Drive(endless).start()
    assert drive.kinds == ["started", "blocked 1"]
    assert drive.status == SagaStatus.RUNNING
    assert drive.all.told == ["saga.attention"]


def spinning(program: Program, now: int) -> list[Intent]:
    raise Spun("the code computed for 3 s")


def test_l10_code_that_spun_is_not_run_again_until_it_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    drive = Drive(sequential).start()

    def never(program: Program, now: int) -> list[Intent]:
        raise AssertionError("it was run")

    with monkeypatch.context() as patch:
        patch.setattr(Program, "pump", spinning)
        drive.completed(1)
    assert list(drive.state.concerns) == [Concern(ConcernKind.SPUN)]
    with monkeypatch.context() as patch:
        patch.setattr(Program, "pump", never)
        drive.reload()
        drive.take(drive.reply(Kind.STEP_COMPLETED, 2, b"null"))
        drive.reload()
    assert (list(drive.state.concerns), drive.kinds[-1]) == ([Concern(ConcernKind.SPUN)], "step.completed 2")
    drive.reload(changed(sequential))
    assert drive.last.short == ["do 2 bank.charge"]


def test_l10_other_code_that_spins_too_is_told_and_not_run_again_either(monkeypatch: pytest.MonkeyPatch) -> None:
    drive = Drive(sequential).start()
    pump = Program.pump
    with monkeypatch.context() as patch:
        patch.setattr(Program, "pump", spinning)
        drive.completed(1)

    def spins_later(program: Program, now: int) -> list[Intent]:
        return spinning(program, now) if program.steps and program.loop._ready else pump(program, now)

    monkeypatch.setattr(Program, "pump", spins_later)
    drive.reload(changed(sequential))
    assert (drive.kinds[-2:], drive.last.told) == (
        ["resumed", "blocked 3"],
        ["saga.attention_cleared", "saga.attention"],
    )
    rows = len(drive.rows)
    drive.reload(changed(sequential))
    assert (len(drive.rows), drive.last.told) == (rows, [])
    saga = restore_once(drive, again=False)
    assert (saga.state.blocked, saga.state.attention, saga.program) == (3, drive.attention, None)


def restore_once(drive: Drive, *, again: bool) -> Saga:
    state = drive.fresh()
    state.standing = drive.stored.standing()
    return restore(state, drive.code, drive.rows, status=drive.stored.status, now=drive.now, again=again)


class Odd(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt("ctrl-c"), SystemExit(3), GeneratorExit("gone"), Odd("odd")])
def test_u6_a_base_exception_is_attention_and_never_undone(error: BaseException) -> None:
    @saga("saga")
    async def dying(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        raise error

    drive = Drive(dying).start()
    drive.completed(1)
    assert drive.attention == f"the saga's code raised {type(error).__name__}: {error}"
    assert drive.kinds[-1] == "blocked 3"
    assert drive.last.short == []


def test_a_saga_that_blocks_again_at_a_later_input_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    output = forward._output

    def of_step_2(state: SagaState, step: Step, row: Row) -> BaseModel | None:
        if step.number == 2:
            raise Blocked("step 2: unreadable")
        return output(state, step, row)

    monkeypatch.setattr(forward, "_output", of_step_2)
    drive = Drive(gathered).start()
    drive.reload(of(charge))
    drive.completed(1)
    drive.completed(2)
    drive.completed(3)
    drive.reload(gathered)
    assert drive.kinds[-3:] == ["resumed", "undo.input 1", "blocked 7"]
    assert drive.attention == "step 2: unreadable"
    assert drive.last.told == ["saga.attention_cleared", "step.completed", "saga.attention"]
    drive.reload(gathered)
    assert drive.last.told == []
    assert drive.kinds[-1] == "blocked 7"


def test_a_saga_that_blocked_twice_comes_back_with_all_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    drive = Drive(gathered).start()
    drive.reload(of(charge))
    drive.completed(1)
    with monkeypatch.context() as patch:
        patch.setattr(forward, "_output", _unreadable)
        drive.completed(2)
        drive.reload(gathered)
        assert drive.attention == "unreadable"
        drive.completed(3)
    drive.reload()
    assert drive.last.told == ["saga.attention_cleared", *["step.completed"] * 3]
    assert drive.last.short == ["do 4 post.book"]
    drive.reload()
    drive.completed(4)
    assert drive.result == {"refs": ["ref-1", "ref-2", "ref-3"]}


def test_h1_one_of_several_kept_replies_that_nobody_can_read_is_set_aside_alike_by_each_replay() -> None:
    drive = Drive(gathered).start()
    drive.reload(of(charge))
    drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b"[]"))
    drive.completed(2)
    drive.reload(gathered)
    assert drive.kinds[-3:] == ["resumed", "notice 1", "undo.input 2"]
    drive.reload()
    drive.completed(1)
    drive.completed(3)
    assert (drive.last.short, drive.attention) == (["do 4 post.book"], "")


def _unreadable(*_: object) -> None:
    raise Blocked("unreadable")


def test_what_is_decided_after_a_block_has_the_time_of_going_on() -> None:
    times: list[float] = []

    @saga("saga")
    async def timing(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(60)
        await ctx.call(charge(order=order.order), timeout=60)
        return Result(refs=[])

    drive = Drive(timing).start()
    drive.reload(of(charge))
    drive.completed(1)
    drive.now += 3600 * SECOND
    drive.reload(timing)
    drive.reload()
    assert set(times) == {3600.001}
    assert drive.due == {"sleep 1": 60}
    drive.fire(TimerKind.SLEEP, 1)
    drive.reload()
    drive.completed(2)
    assert drive.status == SagaStatus.COMPLETED


# A definition that is missing, or cannot read its input.


def test_a_start_without_a_definition_waits_on_attention() -> None:
    drive = Drive(None).start()
    assert drive.attention == "no definition 'saga' version 1 in this coordinator"
    assert drive.kinds == ["started", "blocked 1"]
    drive.reload()
    drive.reload()
    assert drive.kinds == ["started", "blocked 1"], "trying in vain leaves no rows"
    drive.reload(sequential)
    assert drive.all.told == ["saga.attention", "saga.attention_cleared", "saga.started"]
    assert drive.last.short == ["do 1 stock.reserve"]


def test_a_definition_that_nobody_has_may_be_called_anything() -> None:
    name = 'x","status":"completed","é\\'
    drive = Drive(None, name=name).start()
    assert (drive.last.lifecycle[0].body["saga"], drive.last.lifecycle[0].body["status"]) == (name, "running")


def test_a_definition_that_goes_missing_blocks_the_running_saga() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.reload(None, keep_code=False)
    assert drive.attention.startswith("no definition 'saga'")
    drive.completed(2)
    drive.reload(sequential)
    assert drive.last.short == ["do 3 post.ship"]


def test_a_saga_on_its_way_back_is_blocked_by_a_missing_definition_and_goes_on() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.refused(2)
    drive.reload(None, keep_code=False)
    assert (drive.status, drive.error["code"]) == ("compensating", "no")
    drive.undone(1)
    drive.reload(sequential)
    assert drive.status == SagaStatus.COMPENSATED


def test_another_reason_for_the_same_block_is_told() -> None:
    drive = Drive(None).start()
    drive.reload(strict)
    assert drive.attention.startswith("start of saga: input.day: Field required")
    assert drive.kinds == ["started", "blocked 1", "resumed", "blocked 1"]
    drive.reload(strict)
    assert len(drive.kinds) == 4
    drive.reload(sequential)
    assert drive.last.short == ["do 1 stock.reserve"]
    drive.reload()


class Strict(BaseModel):
    day: int

    @field_validator("day")
    @classmethod
    def odd(cls, day: int) -> int:
        assert 1 // day is not None
        return day


@saga(SagaType("saga", Strict, Result))
async def strict(ctx: SagaContext, input: Strict) -> Result:
    return Result(refs=[])


@pytest.mark.parametrize("day", [b"{}", b'{"day":0}', b'{"day":"x"}', b'{"day":NaN}'])
def test_an_input_that_the_definition_cannot_read_blocks(day: bytes) -> None:
    drive = Drive(strict)
    body = b'{"type":"start","saga":"saga","input":%b}' % day
    drive.take(an_input(Kind.STARTED, name="saga", payload=body))
    assert drive.attention.endswith("; deploy a definition that reads it")
    with pytest.raises(MessageInvalid):
        strict.read_input(body)


def test_s8_a_closed_saga_whose_code_is_gone_is_told_what_is_parked_and_released() -> None:
    drive = Drive(sequential).start()
    drive.refused(1)
    assert drive.status == SagaStatus.COMPENSATED
    drive.reload(of(charge, count))
    drive.take(an_input(Kind.NOTICE, name=ConcernKind.PARKED, payload=b"parked"))
    assert (drive.attention, drive.state.blocked) == ("parked", 0)
    drive.reload()
    drive.take(an_input(Kind.NOTICE, name=RELEASED, ref="released", payload=b"cured"))
    assert (drive.attention, drive.state.blocked) == ("", 0)
    drive.reload(sequential)
    assert (drive.attention, drive.kinds[-2:]) == ("", ["notice", "notice"])

"""H1 and what surrounds it: a saga comes back from its rows, or is blocked in words and loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from sagabus.contracts import SagaType
from sagabus.contracts.errors import MessageInvalid
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core import forward
from sagabus.coordinator.core.decide import Saga
from sagabus.coordinator.core.effects import TimerKind
from sagabus.coordinator.core.history import Arrival, Kind
from sagabus.coordinator.core.objection import BLOCKED
from sagabus.coordinator.core.program import Blocked, Program
from sagabus.coordinator.core.status import SagaStatus, Undoing
from tests.core.kit import SECOND, Definition, Drive
from tests.core.shapes import awaiting, gathered, impatient, sequential, sleepy
from tests.core.trade import Order, Result, charge, check, count, paid, reserve, ship

Body = Callable[[SagaContext, Order], Coroutine[Any, Any, Result]]


def of(*steps: Any, result: bool = True) -> Definition:
    """A saga that makes these steps, one after the other."""

    @saga("saga")
    async def made(ctx: SagaContext, order: Order) -> Result:
        for step in steps:
            await ctx.call(step(order=order.order))
        if not result:
            await ctx.event(paid)
        return Result(refs=[])

    return made


# Divergence.


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            of(reserve, charge), of(reserve, ship),
            "history has command bank.charge (number 2) at row 5, the code now makes command post.ship (number 2)",
        ),
        (
            of(reserve, charge), of(reserve, result=False),
            "history has command bank.charge (number 2) at row 5, the code does nothing there",
        ),
        (
            of(reserve, charge), of(reserve),
            "history has command bank.charge (number 2) at row 5, the code now makes ended completed",
        ),
        (
            of(check, result=False), gathered,
            "history has command bank.check (number 1) at row 2, the code now makes command stock.reserve (number 1)",
        ),
    ],
)  # fmt: skip
def test_code_changed_under_a_running_saga_is_noticed_with_the_first_difference(
    before: Definition, after: Definition, words: str
) -> None:
    drive = Drive(before).start()
    drive.completed(1)
    drive.reload(after)
    assert drive.attention == words
    assert drive.status == SagaStatus.RUNNING
    assert drive.last.told == ["saga.attention"]
    assert drive.last.short == []
    assert drive.kinds[-1].startswith("blocked")


def test_code_that_makes_more_than_its_history_is_noticed() -> None:
    drive = Drive(of(check, charge)).start()
    drive.reload(gathered_checks)
    assert drive.attention == "history has nothing more, the code now makes command bank.check (number 2)"


@saga("saga")
async def gathered_checks(ctx: SagaContext, order: Order) -> Result:
    await asyncio.gather(ctx.call(check(order=order.order)), ctx.call(check(order=order.order)))
    return Result(refs=[])


def test_code_that_decides_earlier_than_its_history_is_noticed() -> None:
    drive = Drive(of(check, check)).start()
    drive.completed(1)
    drive.reload(gathered_checks)
    assert drive.attention == (
        "history has command bank.check (number 2) at row 4, the code now makes it before step.completed bank "
        "(number 1) at row 3"
    )


def test_code_that_decides_later_than_its_history_is_noticed() -> None:
    drive = Drive(gathered_checks).start()
    drive.completed(1)
    drive.reload(of(check, check))
    assert drive.attention == "history has command bank.check (number 2) at row 3, the code does nothing there"


def test_code_that_no_longer_sleeps_is_noticed() -> None:
    @saga("saga")
    async def napping(ctx: SagaContext, order: Order) -> Result:
        await asyncio.sleep(60)
        await ctx.event(paid)
        return Result(refs=[])

    drive = Drive(napping).start()
    drive.fire(TimerKind.SLEEP, 1)
    drive.reload(of(result=False))
    assert drive.attention == "history has timer sleep (number 1) at row 2, the code has no use for it now (stale)"


def test_the_message_of_an_unchanged_code_is_none() -> None:
    drive = Drive(gathered).start()
    drive.completed(2)
    drive.reload(gathered)
    assert drive.attention == ""


# Matching code is back.


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
    assert drive.attention == ""
    drive.completed(2)
    drive.completed(3)
    assert drive.status == SagaStatus.COMPLETED


def test_h1_a_cancel_is_kept_while_blocked() -> None:
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    assert drive.cancel("now") is None
    assert drive.status == SagaStatus.RUNNING
    drive.reload(sequential)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.never(1)
    assert drive.status == SagaStatus.CANCELLED


def test_h1_what_came_twice_while_blocked_counts_once() -> None:
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    drive.completed(1)
    drive.completed(1)
    drive.cancel()
    drive.cancel()
    drive.reload(sequential)
    assert drive.last.short == ["do 2 bank.charge", "settle 2 sagabus.settle"]
    drive.reload()
    assert drive.attention == ""


def test_h1_a_turn_that_blocks_keeps_what_comes_later_in_the_same_turn() -> None:
    drive = Drive(gathered).start()
    drive.offer(drive.reply(Kind.STEP_COMPLETED, 2, b'{"unreadable":1}'))
    drive.offer(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"x"}'))
    drive.commit()
    assert drive.kinds[-3:] == ["step.completed 2", "blocked 5", "step.completed 1"]
    assert drive.last.told == ["saga.attention"]


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
    drive.reload()
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
    drive.reload()
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


def test_a_saga_that_blocks_again_at_a_later_input_says_so() -> None:
    drive = Drive(gathered).start()
    drive.reload(of(charge))
    drive.completed(1)
    drive.take(drive.reply(Kind.STEP_COMPLETED, 2, b"[]"))
    drive.completed(3)
    drive.reload(gathered)
    assert drive.kinds[-3:] == ["resumed", "undo.input 1", "blocked 7"]
    assert drive.attention.startswith("step 2: output of bank.charge")
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


# Timers and copies.


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


# A definition that is missing, or cannot read its input.


def test_a_start_without_a_definition_waits_on_attention() -> None:
    drive = Drive(None).start()
    assert drive.attention == "no definition 'saga' (version 1) here; deploy a coordinator that has it"
    assert drive.kinds == ["started", "blocked 1"]
    drive.reload()
    drive.reload()
    assert drive.kinds == ["started", "blocked 1"], "trying in vain leaves no rows"
    drive.reload(sequential)
    assert drive.all.told == ["saga.attention", "saga.attention_cleared", "saga.started"]
    assert drive.last.short == ["do 1 stock.reserve"]


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
        return 1 // day


@saga(SagaType("saga", Strict, Result))
async def strict(ctx: SagaContext, input: Strict) -> Result:
    return Result(refs=[])


@pytest.mark.parametrize("day", [b"{}", b'{"day":0}', b'{"day":"x"}', b'{"day":NaN}'])
def test_an_input_that_the_definition_cannot_read_blocks(day: bytes) -> None:
    drive = Drive(strict)
    body = b'{"type":"start","saga":"saga","input":%b}' % day
    drive.take(Arrival(Kind.STARTED, name="saga", payload=body))
    assert drive.attention.endswith("; deploy a definition that reads it")
    with pytest.raises(MessageInvalid):
        strict.read_input(body)


# Attention.


def test_attention_is_numbered_without_gaps_and_told_once_for_a_reason() -> None:
    drive = Drive(sequential).start()
    for _ in range(2):
        drive.take(Arrival(Kind.NOTICE, payload=b"records were lost"))
    drive.take(Arrival(Kind.NOTICE, payload=b"and others"))
    drive.reload(of(charge))
    drive.reload(sequential)
    drive.completed(1)
    assert [event.sequence for event in drive.all.lifecycle] == [1, 2, 3, 4, 5, 6]
    assert drive.all.told == [
        "saga.started", "saga.attention", "saga.attention", "saga.attention", "saga.attention_cleared",
        "step.completed",
    ]  # fmt: skip


def test_attention_that_stands_survives_a_block_that_fails_to_replay() -> None:
    drive = Drive(sequential).start()
    drive.take(Arrival(Kind.NOTICE, payload=b"look here"))
    drive.reload(of(charge))
    told = drive.attention
    drive.reload(of(count))
    assert drive.attention == told, "blocked already: the reason that is stored stands"


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
        saga.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"x"}'), now=drive.now, cause="x")
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
    drive.take(Arrival(Kind.OPERATOR, name="skip"))
    assert drive.attention == "the operator's verb skip is not known to this version"


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
    assert drive.saga.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"x"}'), now=drive.now, cause="x") is None
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

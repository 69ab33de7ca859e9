"""How a saga's code ends, and what it has told the world until then."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel, field_serializer

from sagabus.contracts import ActivityFailed, SagaType
from sagabus.contracts.envelope import MAX_PAYLOAD, rfc3339
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import SagaStatus
from tests.core.kit import Definition, Drive
from tests.core.services import (
    Order,
    Result,
    charge,
    check,
    keyless,
    paid,
    reserve,
    told,
)
from tests.core.shapes import sequential
from tests.core.wire import an_input


def publishing(note: str = "", *, key: str | None = None) -> Definition:
    @saga("saga")
    async def saga_that_tells(ctx: SagaContext, order: Order) -> Result:
        ctx.publish(told(order=order.order, note=note), key=key)
        ctx.publish(keyless(order=order.order))
        return Result(refs=[])

    return saga_that_tells


def test_a_result_of_another_type_than_declared_undoes() -> None:
    @saga("saga")
    async def confused(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        return order  # type: ignore[return-value]  # on purpose

    drive = Drive(confused).start()
    drive.completed(1)
    assert (drive.status, drive.last.short) == (SagaStatus.COMPENSATING, ["undo 1 stock.release"])
    assert drive.error == {
        "code": "sagabus.saga_raised", "message": "saga saga returned Order, declared is Result", "type": "TypeError",
        "at": f"test_end.py:{confused._body.__code__.co_firstlineno}",
    }  # fmt: skip


def test_an_exception_that_says_nothing_is_told_by_its_name() -> None:
    @saga("saga")
    async def mute(ctx: SagaContext, order: Order) -> Result:
        raise TimeoutError

    drive = Drive(mute).start()
    assert (drive.error["message"], drive.error["type"]) == ("TimeoutError", "TimeoutError")


def test_a_result_that_is_too_large_undoes() -> None:
    @saga("saga")
    async def verbose(ctx: SagaContext, order: Order) -> Result:
        return Result(refs=["x" * MAX_PAYLOAD])

    drive = Drive(verbose).start()
    assert drive.status == SagaStatus.COMPENSATED
    assert f"the limit is {MAX_PAYLOAD}" in drive.error["message"]


@pytest.mark.parametrize("error", [KeyError(1), SystemExit(3)], ids=["KeyError", "SystemExit"])
def test_a_result_whose_serializer_fails_undoes(error: BaseException) -> None:
    class Strange(BaseModel):
        value: int

        @field_serializer("value")
        def never(self, value: int) -> int:
            if value == 1:
                raise error
            return value

    @saga(SagaType("saga", Order, Strange))
    async def strange(ctx: SagaContext, order: Order) -> Strange:
        return Strange(value=1)

    assert Drive(strange).start().status == SagaStatus.COMPENSATED


def test_a_saga_may_have_no_result() -> None:
    @saga("saga")
    async def silent(ctx: SagaContext, order: Order) -> None:
        await ctx.call(check(order=order.order))

    drive = Drive(silent).start()
    drive.completed(1)
    assert (drive.status, drive.state.result) == (SagaStatus.COMPLETED, b"null")


def test_words_that_cannot_be_written_are_written_as_well_as_they_can() -> None:
    class Speechless(Exception):
        def __str__(self) -> str:
            raise OSError

    @saga("saga")
    async def raising(ctx: SagaContext, order: Order) -> Result:
        if order.order == "surrogate":
            raise ValueError("\ud800" + "x" * 10_000)
        raise Speechless

    drive = Drive(raising).start(Order(order="surrogate"))
    assert drive.error["message"].startswith("?xxx")
    assert drive.error["message"].endswith("… (10001 characters)")
    assert Drive(raising).start().error["message"] == "(it does not say: OSError)"


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ([ValueError("this")], "this"),
        (
            [ExceptionGroup("inner", [ValueError("this"), KeyError("that")]), OSError()],
            "this (and 2 more: KeyError, OSError)",
        ),
        ([ValueError("this"), *[KeyError("that")] * 3], "this (and 3 more: 3 × KeyError)"),
        (
            [ValueError("this"), KeyError(), OSError(), TypeError(), IndexError(), EOFError(), MemoryError()],
            "this (and 6 more: KeyError, OSError, TypeError, IndexError, EOFError, …)",
        ),
    ],
    ids=["one", "nested", "alike", "many"],
)  # fmt: skip
def test_of_a_group_of_errors_the_first_leaf_speaks_and_names_the_others(errors: list[Exception], words: str) -> None:
    @saga("saga")
    async def grouping(ctx: SagaContext, order: Order) -> Result:
        raise ExceptionGroup("outer", errors)

    assert (error := Drive(grouping).start().error)["message"] == words
    assert error["type"] == "ValueError"


def test_of_a_group_of_failed_steps_each_is_named() -> None:
    @saga("saga")
    async def both(ctx: SagaContext, order: Order) -> Result:
        failed = []
        for one in (reserve, charge):
            try:
                await ctx.call(one(order=order.order))
            except ActivityFailed as error:
                failed.append(error)
        raise ExceptionGroup("both", failed)

    drive = Drive(both).start()
    drive.refused(1)
    drive.refused(2, "no_money")
    assert (drive.error["code"], drive.error["message"]) == ("no", "no happened (and 1 more: no_money of bank.charge)")
    assert drive.error["activity"] == "stock.reserve"


def test_a_result_of_a_subclass_with_more_fields_undoes() -> None:
    class Wider(Result):
        hidden: str = "h"

    @saga("saga")
    async def wide(ctx: SagaContext, order: Order) -> Result:
        return Wider(refs=[])

    drive = Drive(wide).start()
    assert drive.status == SagaStatus.COMPENSATED
    assert (
        "the result of saga is declared as Result, and Wider has more: whoever reads it would not get hidden"
        in (drive.error["message"])
    )


# Domain events.


def test_an_event_is_published_in_the_turn_and_once() -> None:
    drive = Drive(publishing()).start()
    first, second = drive.last.events
    assert (first.topic, first.key, json.loads(first.value or b"")) == (
        "stock.events", b"O-1", {"order": "O-1", "note": ""},
    )  # fmt: skip
    headers = dict(first.headers)
    assert (headers["ce_id"], headers["ce_type"], headers["ce_causationid"]) == (
        b"O-1:r1:publish:1", b"stock.told", b"start",
    )  # fmt: skip
    assert headers["ce_time"] == rfc3339(drive.now)
    assert (second.topic, second.key) == ("bank.events", b"O-1")
    drive.reload()
    assert drive.last.events == []


def test_the_key_of_an_event_may_be_given() -> None:
    assert Drive(publishing(key="another")).start().last.events[0].key == b"another"


@pytest.mark.parametrize("code", [publishing("x" * MAX_PAYLOAD), publishing(key="\ud800"), publishing("\ud800")])
def test_an_event_that_cannot_be_sent_is_refused_where_it_is_made(code: Definition) -> None:
    drive = Drive(code).start()
    assert drive.last.events == []
    assert drive.status == SagaStatus.COMPENSATED


def test_what_the_code_raised_is_told_to_the_log_with_its_line_once_and_not_on_replay() -> None:
    @saga("saga")
    async def mistyped(ctx: SagaContext, order: Order) -> Result:
        done = await ctx.call(reserve(order=order.order))
        return Result(refs=[done.reff])  # type: ignore[attr-defined]  # on purpose

    drive = Drive(mistyped).start()
    drive.offer(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"R"}'))
    ((words, raised),) = drive.saga.state.effects.raised or drive.saga.state.staged.raised
    line = mistyped._body.__code__.co_firstlineno + 3
    assert words == f"its code has raised AttributeError at test_end.py:{line}: 'Done' object has no attribute 'reff'"
    assert raised.__traceback__ is not None
    drive.commit()
    assert drive.error == {
        "code": "sagabus.saga_raised", "message": "'Done' object has no attribute 'reff'", "type": "AttributeError",
        "at": f"test_end.py:{line}",
    }  # fmt: skip
    copy = drive.restored()
    assert copy.drain().raised == []
    copy.evict()


def test_what_the_code_raises_while_it_is_cancelled_is_told_to_the_log() -> None:
    @saga("saga")
    async def careless(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order))
        finally:
            raise KeyError("careless")

    drive = Drive(careless).start()
    drive.offer(an_input(Kind.CANCEL, ref="c", payload=b"stop"))
    ((words, _),) = drive.saga.state.effects.raised or drive.saga.state.staged.raised
    assert words.startswith("its code has raised KeyError at test_end.py:")
    drive.commit()
    assert drive.error["code"] == "sagabus.cancelled"


def test_a_step_that_fails_is_no_fault_of_the_code() -> None:
    drive = Drive(sequential).start()
    drive.offer(drive.reply(Kind.STEP_REFUSED, 1, b'{"code":"sold_out","message":"none"}'))
    assert drive.saga.state.effects.raised == drive.saga.state.staged.raised == []
    drive.commit()
    assert drive.error["code"] == "sold_out"


@pytest.mark.parametrize("way", ["timeout", "wait_for"])
def test_a_timeout_says_which_event_did_not_come_and_where_it_was_waited_for(way: str) -> None:
    @saga("saga")
    async def waiting(ctx: SagaContext, order: Order) -> Result:
        if way == "wait_for":
            await asyncio.wait_for(ctx.event(paid), 60)
        async with asyncio.timeout(60):
            await ctx.event(paid)
        return Result(refs=[])

    drive = Drive(waiting).start()
    drive.now = drive.timers[TimerKey(TimerKind.SLEEP, 1)]
    drive.offer(an_input(Kind.TIMER, step=1, name=TimerKind.SLEEP))
    (words,) = drive.saga.state.effects.log or drive.saga.state.staged.log
    assert drive.saga.state.effects.raised == drive.saga.state.staged.raised == []
    drive.commit()
    line = waiting._body.__code__.co_firstlineno + (3 if way == "wait_for" else 5)
    assert drive.error == {
        "code": "sagabus.saga_raised", "message": "TimeoutError while it waited for event payment.confirmed",
        "type": "TimeoutError", "at": f"test_end.py:{line}",
    }  # fmt: skip
    assert words == f"its code has raised TimeoutError at test_end.py:{line}: {drive.error['message']}"


def test_an_error_is_told_as_it_was_stored_whatever_line_it_is_on_now() -> None:
    def raising(lines: str) -> Definition:
        source = f"{lines}async def broken(ctx, order):\n    raise ValueError('no')\n"
        made: dict[str, Any] = {}
        exec(compile(source, "/srv/broken.py", "exec"), {"__name__": "broken"}, made)
        return saga(SagaType("saga", Order, Result))(made["broken"])

    drive = Drive(raising("")).start()
    assert drive.error["at"] == "broken.py:2"
    drive.reload(raising("\n\n"))
    assert (drive.error["at"], drive.attention) == ("broken.py:2", "")

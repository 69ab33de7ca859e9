"""Handlers that raise, say and return what nobody expects: an attempt that failed, never a shard that stands still."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, JsonValue

from sagabus.contracts.envelope import Message
from sagabus.contracts.replies import HANDLER_ERROR, HANDLER_PANICKED, ReplyKind, kept_failure, read_failure
from sagabus.messaging.background import PartDied
from sagabus.participants import Refused, TryAgain
from tests.participants.service_fixture import BOOK, Effect, Reply, Saga, ServiceFixture, Take, shop
from tests.support.conditions import until


class Rate(BaseModel):
    value: float
    more: JsonValue = None


class RateSet(BaseModel):
    value: float


class Panic(BaseException):
    """As of a library in another language."""


class Speechless(Exception):
    def __str__(self) -> str:
        raise OSError("no words")


class PanicsWhenAsked(Exception):
    def __str__(self) -> str:
        raise Panic("in its words")


class Half(Refused):
    """An author's own, which has not called `super().__init__`."""

    def __init__(self, sku: str) -> None:
        self.sku = sku


class Trap:
    def __str__(self) -> str:
        raise ZeroDivisionError


odd = shop.activity("odd", Take, Rate)
odd_outside = shop.activity("odd_outside", Take, Rate)
rate_set = shop.event("rate_set", RateSet)

KINDS = pytest.mark.parametrize("outside", [False, True], ids=["transactional", "external"])


async def answered(fixture: ServiceFixture, act: Callable[[Any], Any], *, outside: bool) -> Reply:
    """The reply of a handler that has an effect and then does this; another command of the batch completes."""
    activity = odd_outside if outside else odd

    @fixture.handles(activity, transaction=not outside)
    async def handler(command: Take, ctx: Any) -> Rate:
        if ctx.saga_id == "B":
            return Rate(value=1)
        if not outside:
            ctx.session.add(Effect(what="odd"))
        result: Rate = act(ctx)
        return result

    tenure = await fixture.take()
    commands: list[Message] = [Saga(name).command(activity, BOOK) for name in ("A", "B")]
    replies = await fixture.turn(tenure, *commands)
    if outside:
        await until(lambda: len(fixture.processor.externals.ended([tenure])) == 2, what="both handlers have ended")
        replies = await fixture.turn(tenure)
    by_saga = {reply.message.saga_id: reply for reply in replies}
    assert by_saga["B"].kind == ReplyKind.COMPLETED
    assert await fixture.effects() == []
    return by_saga["A"]


def raising(error: BaseException) -> Callable[[Any], Any]:
    def act(ctx: Any) -> Any:
        raise error

    return act


@KINDS
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("bad \udcff"), HANDLER_ERROR, "bad ?"),
        (Speechless(), HANDLER_ERROR, "(it does not say: OSError)"),
        (PanicsWhenAsked(), HANDLER_ERROR, "(it does not say: Panic)"),
        (ExceptionGroup("two \udcff", [ValueError("a"), KeyError("b")]), HANDLER_ERROR, "ValueError: a; KeyError: 'b'"),
        (ExceptionGroup("one", [ExceptionGroup("in one", [ValueError("sole")])]), HANDLER_ERROR, "sole"),
        (Half("sku"), HANDLER_ERROR, "sku"),
        (KeyError("citrate"), HANDLER_ERROR, "KeyError: 'citrate'"),
        (Panic("at the disco"), HANDLER_PANICKED, "at the disco"),
        (GeneratorExit("of its own"), HANDLER_PANICKED, "of its own"),
        (BaseExceptionGroup("both", [Panic("x"), ValueError("y")]), HANDLER_PANICKED, "Panic: x; ValueError: y"),
        (asyncio.CancelledError("of its own"), HANDLER_ERROR, "of its own"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_whatever_a_handler_raises_is_a_failed_attempt(
    fixture: ServiceFixture, error: BaseException, code: str, words: str, outside: bool
) -> None:
    reply = await answered(fixture, raising(error), outside=outside)
    assert (reply.kind, reply.code) == (ReplyKind.FAILED, code)
    assert words in reply.failure.message


@KINDS
async def test_an_enormous_text_is_cut(fixture: ServiceFixture, outside: bool) -> None:
    reply = await answered(fixture, raising(ValueError("x" * 2_000_000)), outside=outside)
    assert reply.failure.message.endswith("(2000000 characters)")
    assert len(reply.failure.message) <= 1_000


@KINDS
@pytest.mark.parametrize(
    "error",
    [
        Refused("no\udcff", "bad \udcff", **{"k\udcff": "v\udcff"}),
        Refused(5, object()),  # type: ignore[arg-type]
        Refused("no", "no", thing=Trap()),  # type: ignore[arg-type]
        Refused("no", "no", number=10**400),
        Refused("no", "no", deep=[[[[]]]]),
        Refused("n" * 5_000, "m" * 2_000_000),
        Refused("no room left", "no"),
        Refused("sagabus.no_handler", "no"),
        Refused("no", "no", large="x" * 2_000_000),
        ExceptionGroup("of a TaskGroup", [Refused("no", "no")]),
    ],
    ids=["surrogates", "no text", "trap", "number", "nested", "long", "spaces", "ours", "large", "group"],
)
async def test_whatever_a_refusal_says_it_is_a_refusal(
    fixture: ServiceFixture, error: Exception, outside: bool
) -> None:
    reply = await answered(fixture, raising(error), outside=outside)
    assert reply.kind == ReplyKind.REFUSED
    assert kept_failure(ReplyKind.REFUSED, body := reply.body) is body, "every coordinator takes it as it is"
    assert reply.failure.code.startswith(("n", "5", "sagabus_no"))


@KINDS
async def test_details_nested_too_deep_are_sent_as_text(fixture: ServiceFixture, outside: bool) -> None:
    deep: Any = []
    for _ in range(150):
        deep = [deep]
    reply = await answered(fixture, raising(TryAgain("later", after=5, deep=deep)), outside=outside)
    assert (reply.code, reply.failure.again_after) == ("try_again", 5.0)
    assert str(reply.failure.details["deep"]).startswith("[[[")


# B5: what could not be read back is refused before the commit.


@KINDS
@pytest.mark.parametrize(
    "output",
    [Rate(value=math.inf), Rate(value=math.nan), Rate(value=1, more=[math.inf]), Rate(value=1, more=10**400)],
    ids=["infinity", "NaN", "within", "too large a number"],
)
async def test_an_output_that_nobody_could_read_is_a_failed_attempt(
    fixture: ServiceFixture, output: Rate, outside: bool
) -> None:
    reply = await answered(fixture, lambda ctx: output, outside=outside)
    assert (reply.kind, reply.code) == (ReplyKind.FAILED, HANDLER_ERROR)
    assert reply.failure.details == {"type": "WrongOutput"}
    assert "Rate" in reply.failure.message or "larger than any double" in reply.failure.message


@KINDS
async def test_an_output_nested_too_deep_is_a_failed_attempt(fixture: ServiceFixture, outside: bool) -> None:
    deep: JsonValue = None
    for _ in range(150):
        deep = [deep]
    reply = await answered(fixture, lambda ctx: Rate(value=1, more=deep), outside=outside)
    assert (reply.code, "nested deeper" in reply.failure.message) == (HANDLER_ERROR, True)


@KINDS
async def test_an_output_that_passed_its_rules_by_is_a_failed_attempt(fixture: ServiceFixture, outside: bool) -> None:
    reply = await answered(fixture, lambda ctx: Rate.model_construct(value="x"), outside=outside)
    assert (reply.code, "value: Input should be a valid number" in reply.failure.message) == (HANDLER_ERROR, True)


@KINDS
async def test_an_event_that_nobody_could_read_is_a_failed_attempt(fixture: ServiceFixture, outside: bool) -> None:
    def act(ctx: Any) -> Rate:
        ctx.publish(rate_set(value=math.inf))
        return Rate(value=1)

    reply = await answered(fixture, act, outside=outside)
    assert (reply.code, "RateSet: value" in reply.failure.message) == (HANDLER_ERROR, True)


class Wider(Rate):
    hidden: str = "h"


class Named(Rate):
    def name(self) -> str:
        return "a subclass without fields of its own"


@KINDS
async def test_an_output_of_a_subclass_with_fields_that_nobody_would_get_is_a_failed_attempt(
    fixture: ServiceFixture, outside: bool
) -> None:
    reply = await answered(fixture, lambda ctx: Wider(value=1), outside=outside)
    assert (reply.kind, reply.code) == (ReplyKind.FAILED, HANDLER_ERROR)
    assert "is declared as Rate, and Wider has more: whoever reads it would not get hidden" in reply.failure.message


async def test_an_output_of_a_subclass_without_more_fields_is_the_declared_model(fixture: ServiceFixture) -> None:
    reply = await answered(fixture, lambda ctx: Named(value=1), outside=True)
    assert (reply.kind, reply.body) == (ReplyKind.COMPLETED, b'{"value":1.0,"more":null}')


# The end of the process is said aloud, and is a failed attempt to whoever meets the command again.


def poisonous(fixture: ServiceFixture, error: BaseException, *, outside: bool) -> Any:
    """A handler that ends the process for saga A alone; the activity."""
    activity = odd_outside if outside else odd

    @fixture.handles(activity, transaction=not outside)
    async def handler(command: Take, ctx: Any) -> Rate:
        if not outside:
            ctx.session.add(Effect(what=ctx.saga_id))
            await ctx.session.flush()
        if ctx.saga_id == "A":
            raise error
        return Rate(value=1)

    return activity


ENDS = pytest.mark.parametrize("error", [SystemExit(7), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])


@ENDS
@pytest.mark.parametrize("together", [True, False], ids=["in a batch", "alone"])
async def test_p3_a_handler_ends_its_process_once_and_the_others_go_on(
    fixture: ServiceFixture, error: BaseException, caplog: pytest.LogCaptureFixture, together: bool
) -> None:
    activity, kind = poisonous(fixture, error, outside=False), type(error).__name__
    sagas = ("B", "A", "C") if together else ("A",)
    first = await fixture.take()
    records = fixture.records(first, *(Saga(name).command(activity, BOOK) for name in sagas))
    with caplog.at_level(logging.CRITICAL), pytest.raises(type(error)):
        await fixture.processor.turn({first: records})
    assert caplog.messages == [
        f"the handler of shop.odd raised {kind}: this process ends (saga A, command A:r1:1, attempt 1)"
    ]
    assert (await fixture.inbox(), await fixture.effects()) == ([("A:r1:1", "failed", 1)], [])

    fixture.processor = fixture.new_side()
    second = await fixture.take()
    assert second.places == first.places, "no record counts as taken in"
    await fixture.left(second)
    await fixture.processor.turn({second: records})
    replies = {message.saga_id: message for message in await fixture.left(second)}
    failed = read_failure(replies.pop("A").value)
    assert (failed.code, failed.details) == (HANDLER_PANICKED, {"type": kind})
    assert failed.message.startswith(f"the handler ended its process: {kind}")
    assert sorted(replies) == sorted({*sagas} - {"A"}) == sorted(await fixture.effects())

    with pytest.raises(type(error)):  # another attempt is another one
        await fixture.turn(second, Saga("A").command(activity, BOOK, attempt=2))
    assert ("A:r1:1", "failed", 2) in await fixture.inbox()


async def test_p3_a_fenced_process_that_is_ended_by_a_handler_writes_nothing(
    fixture: ServiceFixture, caplog: pytest.LogCaptureFixture
) -> None:
    tenure = await fixture.take()

    @fixture.handles(odd)
    async def handler(command: Take, ctx: Any) -> Rate:
        tenure.ended = True  # as another process has acquired the shard
        raise SystemExit(7)

    with caplog.at_level(logging.CRITICAL), pytest.raises(SystemExit):
        await fixture.turn(tenure, Saga("A").command(odd, BOOK))
    assert await fixture.inbox() == []
    assert "command A:r1:1 will do so again: that it failed is not stored" in caplog.messages[-1]


@ENDS
async def test_p3_an_external_handler_ends_its_process_once(fixture: ServiceFixture, error: BaseException) -> None:
    activity, kind = poisonous(fixture, error, outside=True), type(error).__name__
    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").command(activity, BOOK))
    await until(lambda: bool(fixture.processor.externals.ended([tenure])), what="the job has an outcome")
    assert fixture.supervisor.death is None, "it waits until that is committed"
    reply = (await fixture.turn(tenure))[0]
    assert (reply.code, reply.failure.details) == (HANDLER_PANICKED, {"type": kind})
    assert await fixture.inbox() == [("A:r1:1", "failed", 1)]
    await until(lambda: fixture.supervisor.death is not None, what="the supervisor has heard")
    assert isinstance(fixture.supervisor.death, PartDied)
    assert str(fixture.supervisor.death).startswith(f"the handler of shop.odd_outside has died of {kind}")


async def test_p3_an_external_handler_that_ends_the_loop_has_failed_too(fixture: ServiceFixture) -> None:
    """Out of a task of the handler's own a SystemExit ends the loop at once, and cancels all turns."""
    activity = poisonous(fixture, SystemExit(7), outside=True)
    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").command(activity, BOOK))
    await until(lambda: bool(fixture.processor.externals.ended([tenure])), what="the job has an outcome")
    await fixture.processor.externals.stop()  # cancels, as the end of the loop does
    assert await fixture.inbox() == [("A:r1:1", "failed", 1)]
    assert fixture.supervisor.death is not None


async def test_an_external_handler_ends_its_process_though_its_shard_is_gone(fixture: ServiceFixture) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    @fixture.handles(odd_outside, transaction=False)
    async def handler(command: Take, ctx: Any) -> Rate:
        begun.set()
        try:
            await goes_on.wait()
        except asyncio.CancelledError:
            raise SystemExit(7) from None
        return Rate(value=1)

    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").command(odd_outside, BOOK))
    await begun.wait()
    fixture.processor.lost(tenure)
    await until(lambda: fixture.supervisor.death is not None, what="the supervisor has heard")
    assert await fixture.inbox() == [("A:r1:1", "started", 1)]

"""H5: waits that want certain events only (`where=`), and streams of events."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import pytest
from pydantic import BaseModel, Field

from sagabus.contracts import event
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.loop.loop import SagaLoop, SagaTask
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.events import AwaitedEvent, KeptEvent, events_json, read_events
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.journal import Journal
from sagabus.coordinator.core.saga.mailbox import Arrival, Mailbox
from sagabus.coordinator.core.saga.program import Program
from sagabus.coordinator.core.saga.reading import read
from sagabus.coordinator.core.saga.status import SagaStatus
from tests.core.kit import T0, Definition, Drive
from tests.core.services import Order, Paid, Result, charge, paid, reserve


@saga("saga")
async def large_then_any(ctx: SagaContext, order: Order) -> Result:
    large = await ctx.event(paid, where=lambda payment: payment.amount >= 10)
    any = await ctx.event(paid)
    return Result(refs=[str(large.amount), str(any.amount)])


def pay(drive: Drive, *amounts: int) -> None:
    for amount in amounts:
        drive.event(paid, Paid(amount=amount))


def test_h5_an_event_that_is_not_wanted_stays_for_other_waits() -> None:
    drive = Drive(large_then_any).start()
    pay(drive, 1, 2)
    assert drive.status == SagaStatus.RUNNING
    pay(drive, 10)
    assert drive.result == {"refs": ["10", "1"]}


def test_h5_the_oldest_that_is_wanted_comes_first() -> None:
    @saga("saga")
    async def late(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        even = [await ctx.event(paid, where=lambda payment: payment.amount % 2 == 0) for _ in range(2)]
        return Result(refs=[str(each.amount) for each in (*even, await ctx.event(paid))])

    drive = Drive(late).start()
    pay(drive, 1, 2, 3, 4)
    drive.completed(1)
    assert drive.result == {"refs": ["2", "4", "1"]}


def three(*conditions: int) -> Definition:
    """Three waits at once, each for amounts from here on; the results in their order."""

    @saga("saga")
    async def waiting(ctx: SagaContext, order: Order) -> Result:
        def wait(least: int) -> Any:
            return ctx.event(paid, where=lambda payment: payment.amount >= least) if least else ctx.event(paid)

        done = await asyncio.gather(*map(wait, conditions))
        return Result(refs=[str(each.amount) for each in done])

    return waiting


@pytest.mark.parametrize(
    ("conditions", "amounts", "refs"),
    [
        ((5, 3, 0), (4, 1, 9), ["9", "4", "1"]),
        ((0, 3, 5), (9, 9, 9), ["9", "9", "9"]),
        ((3, 3, 3), (3, 4, 5), ["3", "4", "5"]),
        ((5, 0, 0), (5, 1, 2), ["5", "1", "2"]),
    ],
)
def test_h5_the_first_to_wait_that_wants_it_is_the_first_served(
    conditions: tuple[int, ...], amounts: tuple[int, ...], refs: list[str]
) -> None:
    drive = Drive(three(*conditions)).start()
    pay(drive, *amounts)
    assert drive.result == {"refs": refs}


def test_h5_what_where_raises_is_raised_at_the_wait_and_the_event_stays() -> None:
    @saga("saga")
    async def careless(ctx: SagaContext, order: Order) -> Result:
        other = asyncio.create_task(ctx.event(paid, where=lambda payment: payment.amount == 0))
        try:
            await ctx.event(paid, where=lambda payment: 1 // payment.amount == 7)
        except ZeroDivisionError as error:
            notes = error.__notes__
        return Result(refs=[*notes, str((await other).amount), str((await ctx.event(paid)).amount)])

    drive = Drive(careless).start()
    pay(drive, 2, 0)
    note = "while `where` of a wait looked at event payment.confirmed"
    assert drive.result == {"refs": [note, "0", "2"]}


def test_h5_what_where_raises_at_a_kept_event_is_raised_too_and_undoes() -> None:
    @saga("saga")
    async def careless(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        await ctx.event(paid, where=lambda payment: 1 // payment.amount == 7)
        return Result(refs=[])

    drive = Drive(careless).start()
    pay(drive, 0)
    drive.completed(1)
    assert (drive.status, drive.error["type"]) == (SagaStatus.COMPENSATING, "ZeroDivisionError")
    assert drive.error["at"].startswith("test_event_conditions.py:")


@pytest.mark.parametrize("raised", [StopIteration, asyncio.CancelledError], ids=lambda one: one.__name__)
@pytest.mark.parametrize("before", [True, False], ids=["kept", "comes"])
def test_h5_what_means_something_else_to_a_task_is_told_as_an_error(raised: type[BaseException], before: bool) -> None:
    @saga("saga")
    async def odd(ctx: SagaContext, order: Order) -> Result:
        def where(payment: Paid) -> bool:
            raise raised

        await ctx.call(reserve(order=order.order))
        await ctx.event(paid, where=where)
        return Result(refs=[])

    drive = Drive(odd).start()
    if before:
        pay(drive, 1)
        drive.completed(1)
    else:
        drive.completed(1)
        pay(drive, 1)
    assert (drive.status, drive.error["message"]) == ("compensating", f"`where` raised {raised.__name__}")


def test_h5_a_where_that_is_to_be_awaited_is_refused() -> None:
    async def later(payment: Paid) -> bool:
        raise AssertionError

    def hiding(payment: Paid) -> Any:
        return later(payment)

    @saga("saga")
    async def hidden(ctx: SagaContext, order: Order) -> Result:
        await ctx.event(paid, where=hiding)
        return Result(refs=[])

    drive = Drive(hidden).start()
    pay(drive, 1)
    assert drive.error["message"] == "`where` gave something to be awaited; it has to answer at once"


@pytest.mark.parametrize("way", ["event", "events"])
def test_h5_what_is_no_condition_and_what_is_no_type_is_refused_at_once(way: str) -> None:
    async def later(payment: Paid) -> bool:
        raise AssertionError

    wrong: list[tuple[Any, Any]] = [(paid, 7), (paid, later), (paid(amount=1), None), ("payment.confirmed", None)]

    @saga("saga")
    async def mistaken(ctx: SagaContext, order: Order) -> Result:
        refs = []
        for type, where in wrong:
            with pytest.raises(TypeError) as refused:
                getattr(ctx, way)(type, where=where)
            refs.append(str(refused.value))
        return Result(refs=refs)

    refs = Drive(mistaken).start().result["refs"]
    assert refs[:2] == [
        "ctx.event(payment.confirmed, where=7): give a function of the event's data, or a lambda",
        "ctx.event(payment.confirmed): where= is an async function; give one that answers at once",
    ]
    assert [ref.partition(", not ")[0] for ref in refs[2:]] == [
        "ctx.event() takes a type of event, as Service.event() or event() makes it"
    ] * 2


def test_h5_an_unreadable_event_is_set_aside_by_the_first_wait_that_looks_at_it() -> None:
    drive = Drive(large_then_any).start()
    drive.event(paid, {"amount": "much"})
    assert drive.attention.startswith("an event was set aside: event payment.confirmed: data.amount: ")
    drive.event(paid, {"amount": "more"})
    pay(drive, 1)
    assert drive.attention, "it has got none that it wants"
    pay(drive, 10)
    assert (drive.attention, drive.result) == ("", {"refs": ["10", "1"]})


def test_h5_the_row_says_that_certain_events_only_are_awaited() -> None:
    drive = Drive(three(5, 5, 0)).start()
    began = drive.now
    pay(drive, 1)
    events = drive.stored.events
    assert events is not None
    assert (events.awaited, events.kept) == ((AwaitedEvent("payment.confirmed", began, True),), ())
    pay(drive, 2)
    events = drive.stored.events
    assert events is not None
    assert events.kept == (KeptEvent("payment.confirmed", 1),)
    assert read_events(events_json(events)) == events


def test_h5_a_wait_for_certain_events_is_not_stuck_and_a_cancel_ends_it() -> None:
    drive = Drive(large_then_any).start()
    pay(drive, 1)
    assert drive.attention == ""
    drive.cancel()
    assert drive.status == SagaStatus.CANCELLED


# What is read, and how often.


def numbers() -> Iterator[int]:
    return itertools.count(1)


class Numbered(BaseModel):
    """Reads the same bytes as another value each time."""

    amount: int
    drawn: int = Field(default_factory=partial(next, numbers()))


drawn = event("payment.confirmed", Numbered)


@saga("saga")
async def even_twice(ctx: SagaContext, order: Order) -> Result:
    """Which one it takes depends on what was drawn when it was read."""
    waits = [asyncio.create_task(ctx.event(drawn, where=lambda one: one.drawn % 2 == 0)) for _ in range(2)]
    found = [await wait for wait in waits]
    return Result(refs=[f"{one.amount} {one.drawn % 2}" for one in (*found, await ctx.event(drawn))])


def test_h5_an_event_is_read_once_for_a_model_and_what_was_read_stands_in_history_though_no_wait_wanted_it() -> None:
    """`Drive` replays after each arrival, in which the same bytes would be read as other values."""
    drive = Drive(even_twice).start()
    for amount in range(6):
        drive.event(drawn, {"amount": amount})
        if drive.status != SagaStatus.RUNNING:
            break
    assert [ref.endswith(" 0") for ref in drive.result["refs"][:2]] == [True, True]
    reads = [row.step for row in drive.rows if row.kind is Kind.READ]
    events = [row for row in drive.rows if row.kind is Kind.EVENT]
    assert reads == list(range(1, len(events) + 1)), "each once, in the order of reading"


def test_h5_reads_of_waits_without_a_condition_are_numbered_as_they_always_were() -> None:
    @saga("saga")
    async def plain(ctx: SagaContext, order: Order) -> Result:
        first = await ctx.event(drawn)
        await ctx.event(paid)
        second = await ctx.event(drawn)
        return Result(refs=[str(first.amount), str(second.amount)])

    drive = Drive(plain).start()
    for amount in range(3):
        drive.event(drawn, {"amount": amount})
    assert drive.result == {"refs": ["0", "2"]}
    assert [row.step for row in drive.rows if row.kind is Kind.READ] == [1, 3], "the second one was read as it came"


@pytest.mark.parametrize("waits_first", [True, False])
def test_h5_each_wait_is_asked_about_each_event_at_most_once(waits_first: bool) -> None:
    many = 100
    asked: list[tuple[int, int]] = []

    @saga("saga")
    async def crowded(ctx: SagaContext, order: Order) -> Result:
        def wanted(number: int, payment: Paid) -> bool:
            asked.append((number, payment.amount))
            return payment.amount == number

        if not waits_first:
            await ctx.call(reserve(order=order.order))
        done = await asyncio.gather(*(ctx.event(paid, where=partial(wanted, number)) for number in range(many)))
        return Result(refs=[str(each.amount) for each in done])

    body = b'{"type":"start","saga":"saga","input":{}}'
    journal = Journal()
    reads = partial(read, journal)
    program = Program(crowded, body, id="O-1", run="r1", started_at=T0, read=reads, journal=journal)
    program.pump(T0)
    for amount in reversed(range(many)):
        program.deliver("payment.confirmed", b'{"data":{"amount":%d}}' % amount)
        if waits_first:
            program.pump(T0)
    if not waits_first:
        program.complete(1, None)
        program.pump(T0)
    assert program.main.result().refs == [str(number) for number in range(many)]
    assert len(asked) == len(set(asked)) == many * (many + 1) / 2
    assert program._events_read == many, "each event is read once"


# Against a model that looks at everything each time.


class Reference:
    """Waits are (number, divisor), events are numbers; both in their order."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.waits: dict[int, int] = {}
        self.taken: dict[int, int] = {}

    def deliver(self, event: int) -> None:
        self._to_waits(event, behind=-1)

    def _to_waits(self, event: int, *, behind: int) -> int | None:
        for wait, divisor in self.waits.items():
            if wait > behind and event % divisor == 0:
                del self.waits[wait]
                self.taken[wait] = event
                return wait
        self.kept = sorted([*self.kept, event])
        return None

    def wait(self, wait: int, divisor: int) -> None:
        found = next((event for event in self.kept if event % divisor == 0), None)
        if found is None:
            self.waits[wait] = divisor
        else:
            self.kept.remove(found)
            self.taken[wait] = found

    def deliver_and_cancel(self, event: int) -> int | None:
        """Whoever got it is cancelled before it could go on."""
        self.deliver(event)
        got = next((wait for wait, taken in self.taken.items() if taken == event), None)
        if got is not None:
            del self.taken[got]
            self._to_waits(event, behind=got)
        return got


@pytest.mark.parametrize("seed", range(40))
def test_h5_events_go_to_waits_as_if_each_looked_at_all(seed: int) -> None:
    random, loop, reference = Random(seed), SagaLoop(), Reference()
    mailbox = Mailbox(loop)
    tasks: dict[int, SagaTask[Arrival]] = {}
    events, now = itertools.count(1), itertools.count(1)
    for number in range(120):
        match random.choice(("wait", "deliver", "deliver", "cancel", "both")):
            case "wait":
                divisor = random.choice((1, 2, 3, 5))
                look = None if divisor == 1 else (lambda one, divisor=divisor: int(one.body) % divisor == 0)
                tasks[number] = loop.start(mailbox.take("e", since=loop.now, look=look))
                reference.wait(number, divisor)
            case "deliver":
                event = next(events)
                mailbox.deliver("e", b"%d" % event)
                reference.deliver(event)
            case "cancel" if reference.waits:
                wait = random.choice(list(reference.waits))
                loop.cancel(tasks[wait])
                del reference.waits[wait]
            case "both":
                event = next(events)
                mailbox.deliver("e", b"%d" % event)
                got = reference.deliver_and_cancel(event)
                if got is not None and mailbox._new:
                    loop.call(tasks[got].cancel)  # runs behind what shows the event
                elif got is not None:
                    loop.cancel(tasks[got])
        loop.pump(next(now))
        done = {wait: task for wait, task in tasks.items() if task.done() and not task.cancelled()}
        assert {wait: int(task.result().body) for wait, task in done.items()} == reference.taken
        assert [int(one.body) for one in mailbox._untaken.get("e", [])] == reference.kept
        assert mailbox.count == len(reference.kept)
    loop.evict()


# Streams.


@saga("saga")
async def two_of_a_stream(ctx: SagaContext, order: Order) -> Result:
    refs = []
    async for payment in ctx.events(paid):
        refs.append(str(payment.amount))
        if len(refs) == 2:
            break
    await ctx.call(charge(order=order.order))
    return Result(refs=[*refs, str((await ctx.event(paid)).amount)])


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_h5_a_stream_is_left_without_losing_an_event(at: int) -> None:
    drive = Drive(two_of_a_stream).start()
    pay(drive, *range(at))
    drive.reload()
    pay(drive, *range(at, 3))
    drive.completed(1)
    assert drive.result == {"refs": ["0", "1", "2"]}


def test_h5_a_timeout_around_a_stream_ends_it_and_the_next_event_stays() -> None:
    @saga("saga")
    async def for_a_while(ctx: SagaContext, order: Order) -> Result:
        refs = []
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                async for payment in ctx.events(paid, where=lambda payment: payment.amount % 2 == 1):
                    await ctx.call(reserve(order=str(payment.amount)))
                    refs.append(str(payment.amount))
        return Result(refs=[*refs, "|", *[str((await ctx.event(paid)).amount) for _ in range(2)]])

    drive = Drive(for_a_while).start()
    pay(drive, 1, 2, 3)
    drive.completed(1)
    drive.completed(2)
    drive.fire(TimerKind.SLEEP, 1)
    pay(drive, 5)
    assert drive.result == {"refs": ["1", "3", "|", "2", "5"]}


def test_h5_a_stream_can_be_asked_again_after_a_timeout() -> None:
    @saga("saga")
    async def patient(ctx: SagaContext, order: Order) -> Result:
        payments, silent = ctx.events(paid), 0
        while True:
            try:
                async with asyncio.timeout(60):
                    return Result(refs=[str(silent), str((await anext(payments)).amount)])
            except TimeoutError:
                silent += 1

    drive = Drive(patient).start()
    drive.fire_next()
    drive.fire_next()
    pay(drive, 7)
    assert drive.result == {"refs": ["2", "7"]}


def test_h5_two_streams_share_in_their_order() -> None:
    @saga("saga")
    async def shared(ctx: SagaContext, order: Order) -> Result:
        async def collect() -> list[str]:
            stream = ctx.events(paid)
            return [str((await anext(stream)).amount) for _ in range(2)]

        return Result(refs=[ref for refs in await asyncio.gather(collect(), collect()) for ref in refs])

    drive = Drive(shared).start()
    pay(drive, 0, 1, 2, 3)
    assert drive.result == {"refs": ["0", "2", "1", "3"]}

"""Each kind of bad record at a participant: how it ends, and that the next good command of its batch is carried out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from sagabus.contracts.envelope import Message
from sagabus.contracts.reasons import FATES, Fate
from sagabus.participants import ActivityContext, ExternalContext, TryAgain
from tests.core.wire import altered
from tests.hostile.seeds import HUGE
from tests.participants.service_fixture import (
    BOOK,
    Effect,
    Saga,
    ServiceFixture,
    Take,
    Taken,
    batch,
    charge,
    note,
    opened,
    take_item,
)

BAD = Saga("BAD")


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ServiceFixture]:
    """Handlers that store what they are given: PostgreSQL has its own idea of what text is."""
    async with opened(database) as fixture:

        @fixture.handles(take_item)
        async def take(command: Take, ctx: ActivityContext) -> Taken:
            ctx.session.add(Effect(what=f"{ctx.saga_id} {command.item[:20]}"))
            await ctx.session.flush()
            return Taken(item=command.item, left=1)

        yield fixture


def command(**headers: bytes | None) -> Message:
    """A good command with these headers instead; `drop` is the value for one that is not there."""
    message = BAD.command(take_item, BOOK)
    kept: Any = tuple((name, value) for name, value in message.headers if name not in headers)
    given: Any = (one for one in headers.items() if one[1] != DROP)
    return altered(message, headers=(*kept, *given))


DROP: Final = b"drop"


def body(value: bytes | None) -> Message:
    return altered(BAD.command(take_item, BOOK), value=value)


BROKEN: Final[dict[str, tuple[str, Message]]] = {
    "no headers": ("headers.missing", altered(command(), headers=())),
    **{f"no {name}": ("headers.missing", command(**{name: DROP})) for name in (
        "ce_id", "ce_type", "ce_source", "ce_subject", "ce_run", "ce_step", "ce_attempt", "ce_issued", "ce_replyto",
        "ce_replypartition",
    )},
    "a null header": ("headers.missing", command(ce_run=None)),
    "an empty header": ("headers.missing", command(ce_id=b"")),
    "what stands for a batch": ("batch.too_large", command(**{"x-dlt-cut-batch": b"2 to 4"})),
    "a header that is not UTF-8": ("headers.not_utf8", command(ce_type=b"\xff\xfe")),
    "a header with a NUL": ("headers.invalid", command(ce_id=b"a\0b")),
    "an id of 301 characters": ("headers.too_long", command(ce_id=b"x" * 301)),
    "an id of 300 emoji and one": ("headers.too_long", command(ce_id="\N{GRINNING FACE}".encode() * 301)),
    "a source of 301 characters": ("headers.too_long", command(ce_source=b"x" * 301)),
    "a step beyond 32 bits": ("headers.invalid", command(ce_step=b"2147483648")),
    "an attempt beyond 64 bits": ("headers.invalid", command(ce_attempt=b"9223372036854775808")),
    "an attempt of -1": ("headers.invalid", command(ce_attempt=b"-1")),
    "an attempt in words": ("headers.invalid", command(ce_attempt=b"first")),
    "a time that is none": ("headers.invalid", command(ce_issued=b"yesterday")),
    "a time without a zone": ("headers.invalid", command(ce_issued=b"2026-01-01T00:00:00")),
    "a partition beyond 32 bits": ("headers.invalid", command(ce_replypartition=b"2147483648")),
    "a reply to no topic": ("headers.invalid", command(ce_replyto=b"no topic")),
    "a reply to the folder above": ("headers.invalid", command(ce_replyto=b"..")),
    **{f"a reply to {topic}": ("command.reply_topic", command(ce_replyto=topic.encode())) for topic in (
        "shop.commands", "payment.commands", "__consumer_offsets", "sagabus.replies.payment", ".replies.shop",
        "replies.shop", "sagabus.replies.shop.commands",
    )},
    "a saga id of 201 characters": ("saga_id.invalid", command(ce_subject=b"x" * 201)),
    "a saga id with a slash": ("saga_id.invalid", command(ce_subject=b"a/b")),
    "a settle of nothing": ("headers.missing", command(ce_type=b"sagabus.settle")),
    "an undo of nothing": ("headers.invalid", command(ce_compensates=b"")),
    "an activity that nobody handles": ("no_handler", command(ce_type=b"shop.teleport")),
    "an empty value": ("refused", body(b"")),
    "a null value": ("refused", body(None)),
    "not JSON": ("refused", body(b"\x00\xff please")),
    "nested 10,000 deep": ("refused", body(b"[" * 10_000 + b"]" * 10_000)),
    "two megabytes": ("refused", body(HUGE)),
    "NaN": ("refused", body(b'{"item":"a","count":NaN}')),
    "1e999": ("refused", body(b'{"item":"a","count":1,"more":1e999}')),
    "5,000 digits": ("refused", body(b'{"item":"a","count":' + b"9" * 5_000 + b"}")),
    "a lone surrogate": ("refused", body(b'{"item":"\\ud800"}')),
    "an input that does not validate": ("refused", body(b'{"count":1}')),
    "a NUL for PostgreSQL": ("failed", body(b'{"item":"a\\u0000b"}')),
    "a field twice": ("completed", body(b'{"item":"x","item":"book"}')),
    "no key": ("completed", altered(command(), key=None)),
    "an odd header": ("completed", command(**{"\\xff": b"\xff"})),
    "partition 2147483647": ("completed", command(ce_replypartition=b"2147483647")),
    "300 emoji": ("completed", command(ce_id="\N{GRINNING FACE}".encode() * 300)),
    "a trace of a megabyte": ("completed", command(traceparent=b"x" * 1_000_000)),
}  # fmt: skip


async def test_a_bad_record_stops_nobody(fixture: ServiceFixture) -> None:
    """Every kind in its own turn, between two good commands of one batch: they have their effects, once each."""
    tenure = await fixture.take()
    for number, (name, (word, message)) in enumerate(BROKEN.items()):
        bad = _numbered(message, number)
        fixture.processor.counts.clear()
        before = len(await fixture.rows("SELECT 1 FROM sagabus_shop.dead_letter"))
        given = fixture.records(tenure, *batch(f"A{number}"), bad, *batch(f"B{number}"))
        await fixture.processor.turn({tenure: given})
        replies = [m for m in await fixture.left(tenure) if m.topic != "sagabus.dead-letters"]
        assert fixture.processor.counts == Counter({"completed": 2}) + Counter({word: 1}), name
        letters = await fixture.rows("SELECT reason, value FROM sagabus_shop.dead_letter ORDER BY id OFFSET $1", before)
        assert [tuple(row) for row in letters] == ([(word, bad.value)] if FATES[word] is Fate.DEAD_LETTER else []), name
        assert len(replies) == 3 - len(letters), name
    effects = Counter(what.split(" ")[0] for what in await fixture.effects())
    good = {f"{side}{n}": 1 for n in range(len(BROKEN)) for side in "AB"}
    assert {what: n for what, n in effects.items() if what in good} == good


def _numbered(message: Message, number: int) -> Message:
    """Of a saga of its own, so that its id has not been heard of."""
    saga = b"BAD%d" % number
    headers: Any = ((name, value.replace(b"BAD", saga) if value else value) for name, value in message.headers)
    return altered(message, headers=tuple(headers))


async def test_copies_are_counted_for_what_they_are(fixture: ServiceFixture) -> None:
    tenure = await fixture.take()
    first = BAD.command(take_item, BOOK)
    await fixture.turn(tenure, first, first, BAD.command(take_item, Take(item="other")), BAD.command(note, BOOK))
    assert fixture.processor.counts == Counter({"completed": 1, "answered": 1, "id_reused": 2})
    await fixture.turn(tenure, Saga("S").settle(), Saga("S").command(take_item, BOOK), Saga("S").settle(), BAD.settle())
    assert fixture.processor.counts - Counter({"completed": 1, "id_reused": 2}) == Counter(
        {"buried": 1, "settled": 1, "answered": 3}
    )


async def test_p5_what_the_inbox_has_forgotten_is_counted(fixture: ServiceFixture) -> None:
    tenure = await fixture.take()
    tenure.pruned_before = datetime(2100, 1, 1, tzinfo=UTC)
    await fixture.turn(tenure, *batch("A"))
    assert fixture.processor.counts == Counter({"inbox_expired": 1})
    assert await fixture.effects() == []


async def test_handlers_outside_are_counted_when_they_begin(fixture: ServiceFixture) -> None:
    go = asyncio.Event()

    @fixture.handles(charge, transaction=False)
    async def outside(command: Take, ctx: ExternalContext) -> Taken:
        await go.wait()
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    asked = BAD.command(charge, BOOK)
    await fixture.turn(tenure, asked, asked, BAD.settle())
    go.set()
    await fixture.processor.externals.drain(10)
    replies = await fixture.turn(tenure)
    assert fixture.processor.counts == Counter({"started": 1, "awaited": 2})
    assert len(replies) == 2  # to the command, and to its settle


async def test_p1_an_attempt_that_begins_as_the_one_before_ends_is_not_lost(fixture: ServiceFixture) -> None:
    """The end of the first and the second attempt meet in one transaction; the second's outcome was never written."""
    calls: list[int] = []

    @fixture.handles(charge, transaction=False)
    async def outside(command: Take, ctx: ExternalContext) -> Taken:
        calls.append(ctx.attempt)
        if ctx.attempt == 1:
            raise TryAgain("later")
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    await fixture.turn(tenure, BAD.command(charge, BOOK))
    await fixture.processor.externals.drain(10)
    await fixture.turn(tenure, BAD.command(charge, BOOK, attempt=2))
    await fixture.processor.externals.drain(10)
    await fixture.turn(tenure)
    await fixture.turn(tenure, BAD.command(charge, BOOK, attempt=2))
    assert calls == [1, 2]
    assert await fixture.inbox() == [("BAD:r1:1", "completed", 2)]


async def test_nothing_is_counted_that_was_not_committed(fixture: ServiceFixture) -> None:
    tenure = await fixture.take()
    await fixture.take()
    with pytest.raises(Exception, match="shard"):
        await fixture.turn(tenure, *batch("A"), command(ce_id=b""))
    assert fixture.processor.counts == Counter()

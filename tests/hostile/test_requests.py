"""Each kind of bad record at a coordinator: how it ends, and that the next good one of its batch is taken in.

Sections 5 and 12 of the wire format's promise: a dead letter with a stable reason and the record byte for byte, or a
counted word, or attention; and nobody else's saga changes.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from sagabus.contracts.envelope import Message, unpack_headers
from sagabus.contracts.reasons import FATES, Fate
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing.kept_part import kept
from sagabus.messaging.shards.tenure import Tenure
from sagabus.shop.expense_approval import expense_approval
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_fixture import REQUESTS, Given, ShardFixture, headers_of, of_shard, types
from tests.hostile.seeds import HUGE
from tests.support.postgres import PostgresServer

SHARD: Final = 1
ORDER, ENDED, NEW, GOOD = (of_shard(SHARD, f"ORD-{n}0") for n in (1, 2, 3, 4))
EXPENSE = of_shard(SHARD, "EXP-")
TABLES = "saga, history, timer, early_request, started_id, outbox, dead_letter"


def order(id: str, **changes: Any) -> dict[str, Any]:
    return {
        "order_id": id, "customer_email": "a@b", "items": [{"product_id": "P", "quantity": 1, "unit_price": "29.99"}],
        "shipping_address": {"street": "s", "city": "c", "postal_code": "p", "country": "Japan"}, **changes,
    }  # fmt: skip


def start(id: str, **changes: Any) -> bytes:
    return json.dumps({"type": "start", "saga": "order_processing", "input": order(id, **changes)}).encode()


@dataclass
class Ground:
    """A shard with a saga at its first step, which has failed once, and one that has ended.

    first, second: the command's two attempts. done: the command of the saga that has ended.
    """

    fixture: ShardFixture
    tenure: Tenure
    first: Message
    second: Message
    done: Message

    def given(self, key: str | bytes | None, value: bytes | None, *headers: tuple[str, bytes | None]) -> Given:
        return self.at(REQUESTS, key, value, *headers)

    def at(self, topic: str, key: str | bytes | None, value: bytes | None, *headers: tuple[str, Any]) -> Given:
        offset = self.fixture.ends.get(topic, 0)
        self.fixture.ends[topic] = offset + 1
        return Given(topic, SHARD, offset, key.encode() if isinstance(key, str) else key, value, headers)

    def asked(self, key: str, **body: Any) -> Given:
        return self.given(key, json.dumps(body).encode())

    def reply(self, cause: str, *, kind: str = "completed", attempt: str = "1", service: str = "inventory") -> Given:
        body = json.dumps({"code": "again", "message": "m"}).encode()
        return self.at(
            f"sagabus.replies.{service}", ORDER, body, ("ce_causationid", cause.encode()),
            ("ce_attempt", attempt.encode()), ("ce_type", f"sagabus.reply.{kind}".encode()),
        )  # fmt: skip

    @property
    def cause(self) -> str:
        return headers_of(self.first)["ce_id"]

    async def picture(self) -> list[tuple[Any, ...]]:
        """All that is known of the two sagas."""
        rows = await self.fixture.rows(
            "SELECT s.id, s.run, status, attention, result, error, closed_at, h.seq, h.kind, h.payload "
            "FROM sagabus.saga s JOIN sagabus.history h USING (id, run) ORDER BY s.id, s.run, seq"
        )
        return [tuple(row) for row in rows if row["id"] in (ORDER, ENDED)]


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as url:
        asyncio.run(migrate(url, "sagabus"))
        yield url


@pytest.fixture
async def ground(url: str) -> AsyncIterator[Ground]:
    pool = Database(url)
    async with pool.transaction() as connection:
        await connection.execute("TRUNCATE " + ", ".join(f"sagabus.{name}" for name in TABLES.split(", ")))
        await connection.execute("DELETE FROM sagabus.shard")
    fixture = ShardFixture(pool, (order_processing, expense_approval), SHARD)
    tenure = await fixture.take()
    left = await fixture.turn(tenure, *(fixture.request(id, **json.loads(start(id))) for id in (ORDER, ENDED)))
    commands = {message.saga_id: message for message in left if message.topic == "inventory.commands"}
    first, done = commands[ORDER], commands[ENDED]
    await fixture.turn(tenure, fixture.reply(done, "refused", {"code": "out_of_stock", "message": "none"}))
    await fixture.turn(tenure, fixture.reply(first, "failed", {"code": "sagabus.handler_error", "message": "broken"}))
    fixture.now += 10
    (second,) = await fixture.turn(tenure)
    fixture.processor.counts.clear()
    yield Ground(fixture, tenure, first, second, done)
    fixture.processor.lost(tenure)
    await pool.stop()


Make = Callable[[Ground], Given]

NOTHING: Final[dict[str, tuple[str, Make]]] = {
    "no key": ("saga_id.missing", lambda g: g.given(None, start(NEW))),
    "a key that is not UTF-8": ("saga_id.invalid", lambda g: g.given(b"\xff\xfe", start(NEW))),
    "a key with a NUL": ("saga_id.invalid", lambda g: g.given("a\0b", start(NEW))),
    "a key of 201 characters": ("saga_id.invalid", lambda g: g.given("x" * 201, start(NEW))),
    "a key with a slash": ("saga_id.invalid", lambda g: g.given("a/b", start(NEW))),
    "key and body differ": ("saga_id.differs", lambda g: g.asked(NEW, type="cancel", saga_id=ORDER)),
    "a header that is not UTF-8": ("headers.not_utf8", lambda g: g.given(NEW, start(NEW), ("ce_id", b"\xff"))),
    "a header with a NUL": ("headers.invalid", lambda g: g.given(NEW, start(NEW), ("ce_id", b"a\0b"))),
    "an id of 301 characters": ("headers.too_long", lambda g: g.given(NEW, start(NEW), ("ce_id", b"x" * 301))),
    "an id of a megabyte": ("headers.too_long", lambda g: g.given(NEW, start(NEW), ("ce_id", b"x" * 1_000_000))),
    "what stands for a batch": ("batch.too_large", lambda g: g.given(None, None, ("x-dlt-cut-batch", b"2 to 4"))),
    "an empty value": ("payload.invalid", lambda g: g.given(NEW, b"")),
    "a null value": ("payload.invalid", lambda g: g.given(NEW, None)),
    "not JSON": ("payload.not_json", lambda g: g.given(NEW, b"\x00\x01 order please")),
    "an array": ("payload.invalid", lambda g: g.given(NEW, b"[]")),
    "nested 10,000 deep": ("payload.too_deep", lambda g: g.given(NEW, b"[" * 10_000 + b"]" * 10_000)),
    "two megabytes": ("payload.too_large", lambda g: g.given(NEW, HUGE)),
    "NaN": ("payload.not_json", lambda g: g.given(NEW, b'{"type":"start","saga":"order_processing","input":NaN}')),
    "Infinity": ("payload.not_json", lambda g: g.given(NEW, b'{"type":"cancel","reason":"r","x":-Infinity}')),
    "1e999": ("payload.not_json", lambda g: g.given(NEW, b'{"type":"start","saga":"none","input":{"x":1e999}}')),
    "5,000 digits": ("payload.not_json", lambda g: g.given(NEW, b'{"type":"cancel","x":' + b"9" * 5_000 + b"}")),
    "a lone surrogate": ("payload.not_json", lambda g: g.given(NEW, b'{"type":"cancel","reason":"\\ud800"}')),
    "a NUL in a saga's name": ("request.name", lambda g: g.asked(NEW, type="start", saga="a\0b", input={})),
    "a NUL in an event's name": ("request.name", lambda g: g.asked(ORDER, type="event", name="a\0b", data={})),
    "a NUL in an event's id": ("payload.invalid", lambda g: g.asked(ORDER, type="event", name="a", event_id="a\0b")),
    "an event's name of 301 characters": ("request.name", lambda g: g.asked(ORDER, type="event", name="x" * 301)),
    "an unknown type": ("request.type", lambda g: g.asked(ORDER, type="explode")),
    "a ce_type that says otherwise": (
        "request.type", lambda g: g.given(ORDER, b'{"type":"cancel"}', ("ce_type", b"sagabus.event")),
    ),
    "a start without a name": ("request.incomplete", lambda g: g.asked(NEW, type="start", input={})),
    "an event without a name": ("request.incomplete", lambda g: g.asked(ORDER, type="event", data={})),
    "an input that does not validate": ("payload.invalid", lambda g: g.given(NEW, start(NEW, items=[]))),
    "a start without input": ("payload.invalid", lambda g: g.asked(NEW, type="start", saga="order_processing")),
    "the same start again": ("start.same", lambda g: g.given(ORDER, start(ORDER))),
    "the same start with null headers": (
        "start.same", lambda g: g.given(ORDER, start(ORDER), ("ce_id", None), ("ce_type", None), ("traceparent", None)),
    ),
    "the same start with an odd header": ("start.same", lambda g: g.given(ORDER, start(ORDER), ("\\xff", b"\xff"))),
    "the same start with a field twice": (
        "start.same", lambda g: g.given(ORDER, b'{"type":"cancel",' + start(ORDER)[1:]),
    ),
    "the same id with another input": (
        "start.other_input", lambda g: g.given(ORDER, start(ORDER, customer_email="other@b")),
    ),
    "the same start to a saga that has ended": ("start.same", lambda g: g.given(ENDED, start(ENDED))),
    "an event before its start": ("early.kept", lambda g: g.asked(NEW, type="event", name="x", data="a\0b")),
    "a cancel before its start": ("early.kept", lambda g: g.asked(NEW, type="cancel", reason="r")),
    "an event to a saga that has ended": ("saga.closed", lambda g: g.asked(ENDED, type="event", name="x")),
    "an operator's step beyond 32 bits": (
        "payload.invalid", lambda g: g.asked(ORDER, type="retry", step=2**31, reason="r", actor="a"),
    ),
    "an operator's step 0": ("payload.invalid", lambda g: g.asked(ORDER, type="skip", step=0, reason="r", actor="a")),
    "a completion without an output": (
        "request.incomplete", lambda g: g.asked(ORDER, type="complete", step=1, reason="r"),
    ),
    "a pause without a reason": ("request.incomplete", lambda g: g.asked(ORDER, type="pause", actor="a")),
    "a terminate of another run": (
        "request.no_saga", lambda g: g.asked(ORDER, type="terminate", run="another", reason="r"),
    ),
    "a skip without a reason": ("request.incomplete", lambda g: g.asked(ORDER, type="skip", step=1, actor="a")),
    "a cancel of a run that is not there": ("request.no_saga", lambda g: g.asked(ORDER, type="cancel", run="other")),
    "a skip of a run that is not there": (
        "request.no_saga", lambda g: g.asked(ORDER, type="skip", step=1, reason="r", run="other"),
    ),
    "a cancel of a run that is no text": ("request.run", lambda g: g.asked(ORDER, type="cancel", run=5)),
    "a skip to nobody": ("request.no_saga", lambda g: g.asked(NEW, type="skip", step=1, reason="r", actor="a")),
    "an operator's long name": ("payload.invalid", lambda g: g.asked(ORDER, type="pause", reason="r", actor="x" * 301)),
    "a reply to nobody": ("reply.no_saga", lambda g: g.reply(f"{NEW}:run:1")),
    "a reply to another run": ("reply.no_saga", lambda g: g.reply(f"{ORDER}:another:1")),
    "a reply without a cause": ("headers.missing", lambda g: g.at("sagabus.replies.inventory", ORDER, b"null")),
    "a reply to what is no command": ("reply.causation", lambda g: g.reply("42")),
    "a reply to a step beyond 32 bits": ("reply.causation", lambda g: g.reply(f"{ORDER}:run:9999999999")),
    "a reply to two commands": (
        "headers.repeated", lambda g: doubled(g.reply(g.cause), "ce_causationid", headers_of(g.done)["ce_id"]),
    ),
    "a request of two types": (
        "headers.repeated",
        lambda g: g.given(ORDER, b'{"type":"cancel"}', ("ce_type", b"sagabus.start"), ("ce_type", b"sagabus.cancel")),
    ),
    "a reply of no kind, to what has ended": (
        "reply.type", lambda g: g.reply(headers_of(g.done)["ce_id"], kind="maybe"),
    ),
    "a reply of no kind, to another run": ("reply.type", lambda g: g.reply(f"{ORDER}:run:1", kind="maybe")),
    "a reply of another service": ("reply.foreign", lambda g: g.reply(g.cause, service="payment")),
    "a failure of an older attempt": ("old_attempt", lambda g: g.reply(g.cause, kind="failed")),
    "a refusal of an older attempt": ("old_attempt", lambda g: g.reply(g.cause, kind="refused")),
    "a refusal that came twice": (
        "duplicate", lambda g: g.fixture.reply(g.done, "refused", {"code": "out_of_stock", "message": "none"}),
    ),
    "a failure after the end": ("late", lambda g: g.fixture.reply(g.done, "failed", {"code": "x"})),
}  # fmt: skip
"""What changes no saga, with the word that it is counted by."""


REFUSED: dict[str, tuple[str, str, Make]] = {
    "a cancel to a saga that has ended": (
        "cancel.rejected", "cancel.rejected", lambda g: g.asked(ENDED, type="cancel", reason="r", actor="a"),
    ),
    "an operator's step that was never called": (
        "request.refused", "request.no_use", lambda g: g.asked(ORDER, type="retry", step=7, reason="r", actor="a"),
    ),
    "a resume of a saga that is not paused": (
        "request.refused", "saga.not_paused", lambda g: g.asked(ORDER, type="resume", reason="r", actor="a"),
    ),
    "an output that does not fit": (
        "request.refused", "output.invalid",
        lambda g: g.asked(ORDER, type="complete", step=1, reason="r", actor="a", output={"x": 1}),
    ),
    "a skip to a saga that has ended": (
        "request.refused", "saga.closed", lambda g: g.asked(ENDED, type="skip", step=1, reason="r", actor="a"),
    ),
}  # fmt: skip
"""Verbs that change nothing: how each is counted, and the code of its refusal."""


@pytest.mark.parametrize(("word", "code", "make"), REFUSED.values(), ids=REFUSED)
async def test_u8_a_verb_that_changes_nothing_leaves_its_refusal_and_no_dead_letter(
    ground: Ground, word: str, code: str, make: Make
) -> None:
    fixture, record = ground.fixture, make(ground)
    counted = "SELECT count(*) FROM sagabus.history"
    before = (await fixture.rows(counted))[0][0]
    left = await fixture.turn(ground.tenure, record, record)
    assert fixture.processor.counts == Counter({word: 1, "duplicate": 1})
    assert (await fixture.rows(counted))[0][0] == before + 1
    (row,) = await fixture.rows("SELECT payload FROM sagabus.history WHERE kind = 'notice' AND name = 'refused'")
    said = json.loads(row["payload"])
    assert (said["code"], said["reason"], said["actor"]) == (code, "r", "a")
    told = "sagabus.cancel.rejected" if word == "cancel.rejected" else "sagabus.request.refused"
    assert types(left[-1:]) == [told]
    assert await fixture.rows("SELECT 1 FROM sagabus.dead_letter") == []


@pytest.mark.parametrize(("reason", "make"), NOTHING.values(), ids=NOTHING)
async def test_a_bad_record_changes_nothing_and_stops_nobody(ground: Ground, reason: str, make: Make) -> None:
    before = await ground.picture()
    left = await stops_nobody(ground, reason, make(ground))
    assert types(left[-2:]) == ["sagabus.saga.started", "inventory.reserve_inventory"]
    assert await ground.picture() == before


BROKEN: Final[dict[str, tuple[str, Make]]] = {
    "of no kind": ("reply.type", lambda g: g.reply(g.cause, kind="maybe")),
    "never, to a step": ("reply.kind", lambda g: g.reply(g.cause, kind="never")),
    "with an attempt beyond 64 bits": ("headers.invalid", lambda g: g.reply(g.cause, attempt="1" + "0" * 18)),
    "with an attempt of -1": ("headers.invalid", lambda g: g.reply(g.cause, attempt="-1")),
    "of two types": (
        "headers.repeated", lambda g: doubled(g.reply(g.cause, attempt="2"), "ce_type", "sagabus.reply.refused"),
    ),
}  # fmt: skip
"""Replies that count for nothing, and that say which command they answer."""


@pytest.mark.parametrize(("reason", "make"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_reply_changes_nothing_but_that_its_saga_is_told(
    ground: Ground, reason: str, make: Make
) -> None:
    before, record = await ground.picture(), make(ground)
    await stops_nobody(ground, reason, record)
    after = [row for row in await ground.picture() if row[8] != "notice"]
    assert [(*row[:3], *row[4:]) for row in after] == [(*row[:3], *row[4:]) for row in before]
    attention = (await ground.fixture.saga(ORDER))["attention"]
    assert attention.startswith(
        "step 1 (inventory.reserve_inventory): an answer counts for nothing, and is a dead letter"
    )
    assert reason in attention


def doubled(record: Given, name: str, value: str) -> Given:
    """The record with one header twice."""
    return replace(record, headers=(*record.headers, (name, value.encode())))


async def stops_nobody(ground: Ground, reason: str, record: Given) -> Sequence[Message]:
    """What leaves with it. It is counted, and a dead letter where its reason says so; what comes behind it goes on."""
    fixture = ground.fixture
    left = await fixture.turn(ground.tenure, record, ground.given(GOOD, start(GOOD)))
    assert fixture.processor.counts == Counter({reason: 1, "applied": 1})
    assert (await fixture.saga(GOOD))["status"] == "running"
    letters = await fixture.rows('SELECT reason, key, value, headers, topic, "offset" FROM sagabus.dead_letter')
    assert [tuple(row) for row in letters] == ([_letter(reason, record)] if FATES[reason] is Fate.DEAD_LETTER else [])
    assert [m.topic for m in left].count("sagabus.dead-letters") == len(letters)
    return left


def _letter(reason: str, record: Given) -> tuple[Any, ...]:
    key, headers, value = kept(record)
    packed = b"".join(_packed(name, value) for name, value in headers)
    return reason, key, value, packed, record.topic, record.offset


def _packed(name: str, value: bytes | None) -> bytes:
    key = name.encode()
    tail = (-1).to_bytes(4, signed=True) if value is None else len(value).to_bytes(4) + value
    return len(key).to_bytes(4) + key + tail


LOST: Final[dict[str, Make]] = {
    "a step that was never called": lambda g: g.reply(g.cause.removesuffix(":1") + ":7"),
    "step 0": lambda g: g.reply(g.cause.removesuffix(":1") + ":0"),
    "an attempt that was never made": lambda g: g.reply(g.cause, kind="failed", attempt="3"),
    "an attempt of 18 digits": lambda g: g.reply(g.cause, kind="failed", attempt="9" * 18),
    "an undo that was never sent": lambda g: g.reply(g.cause + ":undo"),
    "a settle that was never sent": lambda g: g.reply(g.cause + ":settle", kind="never"),
    "an undo after the end": lambda g: g.reply(headers_of(g.done)["ce_id"] + ":undo"),
}


@pytest.mark.parametrize("make", LOST.values(), ids=LOST)
async def test_u9_a_reply_to_what_was_never_sent_is_for_a_person(ground: Ground, make: Make) -> None:
    fixture, record = ground.fixture, make(ground)
    left = await fixture.turn(ground.tenure, record, ground.given(GOOD, start(GOOD)))
    assert fixture.processor.counts == Counter({"applied": 2})
    saga = await fixture.saga(dict(record.headers)["ce_causationid"].decode().split(":")[0])
    assert "history was lost" in saga["attention"]
    assert types(left)[0] == "sagabus.saga.attention"
    assert (await fixture.saga(GOOD))["status"] == "running"


async def test_a_start_of_an_unknown_definition_waits_on_attention(ground: Ground) -> None:
    fixture = ground.fixture
    body = {"type": "start", "saga": "not_here", "input": {"any": "thing"}}
    for _ in range(2):
        await fixture.turn(ground.tenure, ground.asked(NEW, **body), ground.given(GOOD, start(GOOD)))
    assert fixture.processor.counts == Counter({"applied": 2, "start.same": 2})
    assert "no definition 'not_here'" in (await fixture.saga(NEW))["attention"]


async def test_a_start_that_waited_for_its_definition_is_the_same_one_afterwards(ground: Ground) -> None:
    fixture = ground.fixture
    tenure = await fixture.crash(expense_approval)
    await fixture.turn(tenure, ground.given(NEW, start(NEW)))
    tenure = await fixture.crash(order_processing, expense_approval)
    await fixture.turn(tenure, ground.given(NEW, start(NEW)))
    assert fixture.processor.counts == Counter({"start.same": 1})
    fixture.processor.lost(tenure)


async def test_what_a_closed_saga_hears_late_changes_nothing_without_its_definition(ground: Ground) -> None:
    fixture, before = ground.fixture, await ground.picture()
    tenure = await fixture.crash(expense_approval)
    refusal = {"code": "out_of_stock", "message": "none"}
    records = (
        fixture.reply(ground.done, "refused", refusal), fixture.reply(ground.done, "failed", refusal),
        fixture.reply(ground.done, "refused", refusal, service="payment"), ground.asked(ENDED, type="event", name="x"),
    )  # fmt: skip
    await fixture.turn(tenure, *records)
    words = {"duplicate": 1, "late": 1, "reply.foreign": 1, "saga.closed": 1}
    assert fixture.processor.counts == Counter(words)
    assert [row for row in await ground.picture() if row[0] == ENDED] == [row for row in before if row[0] == ENDED]
    fixture.processor.lost(tenure)


async def test_p2_a_late_success_is_seen_without_the_definition_too(ground: Ground) -> None:
    fixture = ground.fixture
    tenure = await fixture.crash(expense_approval)
    await fixture.turn(tenure, fixture.reply(ground.done, "completed", {"reservation_id": "R", "total_amount": "1.00"}))
    assert "succeeded after the saga had ended" in (await fixture.saga(ENDED))["attention"]
    tenure = await fixture.crash(order_processing)
    again = fixture.reply(ground.done, "completed", {"reservation_id": "R", "total_amount": "1.00"})
    await fixture.turn(tenure, again)
    assert fixture.processor.counts == Counter({"duplicate": 1})
    assert "succeeded after the saga had ended" in (await fixture.saga(ENDED))["attention"]
    fixture.processor.lost(tenure)


async def test_what_was_kept_is_accounted_for_once_its_saga_starts(ground: Ground) -> None:
    fixture = ground.fixture
    early = [
        ground.asked(EXPENSE, type="event", name="approvals.decided", event_id=n, data={}) for n in ("a", "a", "b")
    ]
    await fixture.turn(ground.tenure, *early, ground.asked(NEW, type="cancel"))
    asked = {"expense_id": EXPENSE, "approver": "Ann", "manager": "Bo"}
    await fixture.turn(ground.tenure, ground.asked(EXPENSE, type="start", saga="expense_approval", input=asked))
    assert fixture.processor.counts == Counter({"early.kept": 4, "applied": 1})
    assert fixture.processor.kept_counts == Counter({"applied": 2, "duplicate": 1})
    fixture.now += 4_000
    await fixture.turn(ground.tenure)
    assert fixture.processor.kept_counts["early.expired"] == 1
    assert sum(fixture.processor.kept_counts.values()) == fixture.processor.counts["early.kept"]


async def test_nothing_is_counted_that_was_not_committed(ground: Ground) -> None:
    fixture = ground.fixture
    await fixture.take()
    with pytest.raises(Exception, match="shard"):
        await fixture.turn(ground.tenure, ground.given(GOOD, start(GOOD)), ground.given(None, b""))
    assert fixture.processor.counts == Counter()


async def test_s12_a_record_without_an_id_of_its_own_is_forwarded_with_one(ground: Ground) -> None:
    elsewhere = of_shard(2, "ORD-")
    for headers in ((), (("ce_id", None),), (("ce_id", b""),)):
        record = ground.given(elsewhere, b'{"type":"cancel"}', *headers)
        (message,) = await ground.fixture.turn(ground.tenure, record)
        assert dict(message.headers)["ce_id"] == f"{REQUESTS}:{SHARD}:{record.offset}".encode()
    assert ground.fixture.processor.counts == Counter({"forwarded": 3})


async def test_a_history_of_a_later_release_stops_its_own_saga_alone(ground: Ground) -> None:
    fixture = ground.fixture
    await fixture.rows(f"UPDATE sagabus.history SET kind = 'teleported' WHERE id = '{ORDER}' AND kind = 'step.failed'")
    tenure = await fixture.crash()
    await fixture.turn(tenure, ground.reply(ground.cause, attempt="2"), ground.given(GOOD, start(GOOD)))
    assert "'teleported', which only a later release knows" in (await fixture.saga(ORDER))["attention"]
    assert (await fixture.saga(GOOD))["attention"] is None
    fixture.processor.lost(tenure)


async def test_a_timer_of_a_later_release_stops_no_shard(ground: Ground) -> None:
    fixture = ground.fixture
    await fixture.rows(
        "INSERT INTO sagabus.timer (shard, id, run, kind, number, due) "
        f"SELECT shard, id, run, 'teleport', 1, now() FROM sagabus.saga WHERE id = '{ORDER}'"
    )
    tenure = await fixture.crash()
    await fixture.turn(tenure, ground.given(GOOD, start(GOOD)))
    assert fixture.processor.counts == Counter({"applied": 1})
    fixture.processor.lost(tenure)


async def test_what_an_older_release_kept_and_this_one_does_not_read_is_a_dead_letter(ground: Ground) -> None:
    fixture = ground.fixture
    await fixture.turn(ground.tenure, ground.asked(NEW, type="cancel"))
    await fixture.rows("UPDATE sagabus.early_request SET value = 'nonsense'")
    tenure = await fixture.crash()
    await fixture.turn(tenure, ground.given(NEW, start(NEW)))
    assert (await fixture.saga(NEW))["status"] == "running"
    assert fixture.processor.kept_counts == Counter({"payload.not_json": 1})
    assert [row["reason"] for row in await fixture.rows("SELECT reason FROM sagabus.dead_letter")] == [
        "payload.not_json"
    ]
    fixture.processor.lost(tenure)


async def test_what_is_no_trace_does_not_spread(ground: Ground) -> None:
    """Each message of a saga bears the trace of its start."""
    good = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    for id, headers in (
        (NEW, (good, ("tracestate", b"x" * 2_000))),
        (GOOD, (("traceparent", b"\xff"), ("tracestate", b"a\0"))),
    ):
        _, command = await ground.fixture.turn(ground.tenure, ground.given(id, start(id), *headers))
        traces = [(name, value) for name, value in command.headers if name.startswith("trace")]
        assert traces == ([good] if id == NEW else [])


def test_dead_letters_unpack_as_they_came() -> None:
    headers: Any = (("a", None), ("", b""), ("a", b"\xff"))
    assert unpack_headers(b"".join(_packed(*one) for one in headers)) == headers

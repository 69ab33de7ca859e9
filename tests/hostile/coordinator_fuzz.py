"""A coordinator's shard under fire: good sagas and mutated records in one stream, the account held against the tables.

Every batch is a turn of production code on a real PostgreSQL. Some sagas are witnesses: nothing is made from their
records, so they have to go through as if nothing else were there.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, Final
from uuid import UUID

from sagabus.contracts.envelope import Message
from sagabus.contracts.reasons import Fate
from sagabus.coordinator import SagaContext, saga
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.shards.tenure import Tenure
from sagabus.shop.expense_approval import expense_approval
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_fixture import PARTITIONS, REQUESTS, Given, ShardFixture
from tests.coordinator.shard_fixture import TOPICS as SHOP
from tests.hostile.bench import Posted, of_fate, same
from tests.hostile.mutation import Mutator
from tests.hostile.odd_contracts import Odd, keep, odd_event
from tests.hostile.seeds import Draft, records

SHARD: Final = 1
TOPICS: Final = (*SHOP, "sagabus.replies.odds")
EPOCH: Final = 40
"""Batches until all tables are emptied, so that a long run costs what a short one does."""

CRASH_EVERY: Final = 7
"""Batches until another process takes the shard: whatever was fed is then replayed."""

POOL: Final = 400
"""Records that mutations are made from."""

TABLES: Final = "saga", "history", "timer", "early_request", "started_id", "outbox", "outbox_parked", "dead_letter"
FROM_RECORDS: Final = ("started", "event", "cancel", "operator", "step.%", "undo._%ed", "settle.%")
OURS: Final = """
    SELECT id, attention FROM sagabus.saga WHERE attention LIKE 'sagabus itself failed%'
    OR attention LIKE 'history has %' OR attention LIKE '%not in memory%'"""
"""No input may break the core, and the same code follows every history that it has made."""

WITNESSED: Final = [
    "started", "command", "step.completed", "undo.input", "command", "step.completed", "undo.input", "command",
    "step.completed", "ended",
]  # fmt: skip

OUTPUTS: Final[dict[str, Any]] = {
    "inventory.reserve_inventory": {"reservation_id": "RES-1", "total_amount": "29.99"},
    "payment.process_payment": {"transaction_id": "T-1", "amount": "29.99", "status": "charged"},
    "shipping.ship_order": {"tracking_number": "TRACK-1", "status": "sent"},
    "odds.keep": {"value": {"kept": 1.5}},
}
FAILURES: Final = [
    {"code": "out_of_stock", "message": "none left"},
    {"code": "sagabus.handler_error", "message": "broken", "details": {"n": 1}},
    {"code": "try_again", "message": "later", "again_after": 1.5},
    {"code": "late", "again_after": 1e308},
    {"code": "early", "again_after": -1e308},
    {"code": "sagabus.no_handler", "message": "nobody"},
    {"code": "sagabus.id_reused", "message": "another input"},
]


@saga("odd")
async def odd(ctx: SagaContext, given: Odd) -> Odd:
    kept = await ctx.call(keep.of(given))
    await ctx.event(odd_event)
    return kept


class CoordinatorFuzz:
    """`batch` makes and feeds one; `check` compares. seed: the same one gives the same records."""

    def __init__(self, database: Database, seed: int) -> None:
        self.records = 0
        self.witnesses = 0
        self.seen: Counter[str] = Counter()
        self._random = Random(f"coordinator {seed}")
        self._mutator = Mutator(self._random, TOPICS)
        runs = Random(f"runs {seed}")
        self._desk = ShardFixture(
            database, (order_processing, expense_approval, odd), SHARD, topics=TOPICS,
            ids=lambda: UUID(int=runs.getrandbits(128)),
        )  # fmt: skip
        self._posted = Posted()
        self._tenure: Tenure | None = None
        self._batches = 0
        self._empty()

    def _empty(self) -> None:
        self._ids = itertools.count(1)
        self._pool: list[Draft] = [one for one in records() if one.topic in TOPICS]
        self._waiting: list[Message] = []
        self._witness: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()

    async def batch(self, size: int) -> list[Draft]:
        """The records of the next batch; `turn` takes them in."""
        if self._batches % EPOCH == 0:
            await self._begin()
        elif self._batches % CRASH_EVERY == 0:
            await self.retake()
        self._batches += 1
        self._desk.now += self._random.choice((0.01, 0.5, 2, 40))
        good = self._good(size // 4)
        witness = self._witnesses()
        self._pool = (self._pool + good)[-POOL:]
        bad = [self._bad() for _ in range(size - len(good) - len(witness))]
        return self._mixed(witness, [*good, *bad])

    async def turn(self, drafts: Sequence[Draft]) -> None:
        """One production turn, and what follows for the next one."""
        side, tenure = self._desk.processor, self._tenure
        assert tenure is not None
        side.counts.clear()
        side.kept_counts.clear()
        await side.turn({tenure: [self._placed(draft) for draft in drafts]})
        self.records += len(drafts)
        now = side.counts.copy()
        self._counts += now
        self.seen += now
        self._kept += side.kept_counts
        same(sum(now.values()), len(drafts), "records of the turn", "account")
        left = await self._posted.take(tenure)
        self._waiting = [*self._waiting, *(m for m in left if m.topic.endswith(".commands"))][-2_000:]

    async def retake(self) -> None:
        """Another process takes the shard."""
        await self.close()
        self._tenure = await self._desk.crash()
        self._tenure.relay.start(self._posted, on_end=lambda: None)

    async def close(self) -> None:
        if self._tenure is not None:
            self._desk.processor.lost(self._tenure)
            await self._tenure.relay.stop()

    async def _begin(self) -> None:
        async with self._desk.database.transaction() as connection:
            await connection.execute("TRUNCATE " + ", ".join(f"sagabus.{table}" for table in TABLES))
        self._empty()
        await self.retake()

    # What is sent.

    def _good(self, count: int) -> list[Draft]:
        starts = [
            self._start(self._random.choice(("order_processing", "expense_approval", "odd"))) for _ in range(count)
        ]
        self._random.shuffle(self._waiting)
        answered, self._waiting = self._waiting[:count], self._waiting[count:]
        return [
            *starts[: max(count // 4, 1)],
            *(self._answer(command) for command in answered if not self._mine(command)),
        ]

    def _mine(self, command: Message) -> bool:
        """A witness's command is answered by `_witnesses`."""
        if command.saga_id in self._witness:
            self._waiting.append(command)
            return True
        return False

    def _start(self, name: str) -> Draft:
        id = self._new_id("EXP-" if name == "expense_approval" else "ORD-")
        body = {"type": "start", "saga": name, "input": _input(name, id)}
        headers = (("ce_id", f"start-{id}".encode()),) if self._random.random() < 0.5 else ()
        return Draft(REQUESTS, id.encode(), json.dumps(body).encode(), headers)

    def _new_id(self, prefix: str) -> str:
        return next(id for n in self._ids if partition_of((id := f"{prefix}{n}").encode(), PARTITIONS) == SHARD)

    def _answer(self, command: Message) -> Draft:
        asked = _asked(command)
        kind = self._random.choice(("completed", "completed", "completed", "refused", "failed", "never"))
        body = OUTPUTS.get(asked["ce_type"]) if kind == "completed" else self._random.choice(FAILURES)
        return _reply(command, kind, body)

    def _bad(self) -> Draft:
        base = self._random.choice(self._pool)
        if self._random.random() < 0.15:
            return base
        if self._random.random() < 0.2:
            base = self._told(base)
        return self._mutator.mutate(base, self._pool)

    def _told(self, of: Draft) -> Draft:
        """An event, a cancel or an operator's verb for somebody of the pool."""
        event = {"type": "event", "name": self._random.choice(("approvals.decided", "odd.happened")), "data": {
            "approved": True, "by": "x", "value": 1,
        }}  # fmt: skip
        other = {"type": self._random.choice(("cancel", "retry", "skip", "resume")), "reason": "fuzz", "step": 1}
        body = event if self._random.random() < 0.7 else other
        return Draft(REQUESTS, of.key, json.dumps(body).encode(), (("ce_id", f"{self._random.random()}".encode()),))

    def _witnesses(self) -> list[Draft]:
        mine = [command for command in self._waiting if command.saga_id in self._witness]
        self._waiting = [command for command in self._waiting if command.saga_id not in self._witness]
        drafts = [_reply(command, "completed", OUTPUTS[_asked(command)["ce_type"]]) for command in mine]
        if self._batches % EPOCH <= EPOCH - 5:
            start = self._start("order_processing")
            self._witness[(start.key or b"").decode()] = self._batches
            drafts.append(start)
        return drafts

    def _mixed(self, witness: list[Draft], others: list[Draft]) -> list[Draft]:
        drafts = [*witness, *others]
        self._random.shuffle(drafts)
        return drafts

    def _placed(self, draft: Draft) -> Given:
        offset = self._desk.ends.get(draft.topic, 0)
        self._desk.ends[draft.topic] = offset + 1
        return Given(draft.topic, SHARD, offset, draft.key, draft.value, draft.headers)  # type: ignore[arg-type]

    # What must be true.

    async def check(self, where: str) -> None:
        """Raises Broken."""
        letters = {row["reason"]: row["n"] for row in await self._rows(
            "SELECT reason, count(*) AS n FROM sagabus.dead_letter GROUP BY reason"
        )}  # fmt: skip
        same(
            Counter(letters),
            of_fate(self._counts, Fate.DEAD_LETTER) + of_fate(self._kept, Fate.DEAD_LETTER),
            "dead letters",
            where,
        )
        kinds = " OR ".join(f"kind LIKE '{kind}'" for kind in FROM_RECORDS)
        taken = await self._number(f"SELECT count(*) FROM sagabus.history WHERE {kinds}")
        same(taken, self._counts["applied"] + self._kept["applied"], "inputs in history", where)
        started = await self._number("SELECT count(*) FROM sagabus.history WHERE kind = 'started'")
        same(await self._number("SELECT count(*) FROM sagabus.saga"), started, "sagas", where)
        early = await self._number("SELECT count(*) FROM sagabus.early_request")
        same(early, of_fate(self._counts, Fate.KEPT).total() - self._kept.total(), "kept requests", where)
        same([tuple(row) for row in await self._rows(OURS)], [], "sagas that were stopped by a fault of ours", where)
        await self._check_witnesses(where)

    async def _check_witnesses(self, where: str) -> None:
        """A witness is through four batches after its start: completed, and nothing else is in its history."""
        due = [id for id, batch in self._witness.items() if batch + 4 <= self._batches]
        for row in await self._rows(
            "SELECT s.id, status, attention, array_agg(kind ORDER BY seq) AS kinds FROM sagabus.saga s "
            "JOIN sagabus.history h USING (id, run) WHERE s.id = ANY ($1::text[]) GROUP BY s.id, s.run", due,
        ):  # fmt: skip
            found = row["status"], row["attention"], row["kinds"]
            same(found, ("completed", None, WITNESSED), f"witness {row['id']}", where)
            del self._witness[row["id"]]
            self.witnesses += 1
        same([id for id in due if id in self._witness], [], "witnesses that were lost", where)

    async def _number(self, sql: str) -> int:
        return int((await self._rows(sql))[0][0])

    async def _rows(self, sql: str, *arguments: Any) -> list[Any]:
        async with self._desk.database.transaction() as connection:
            return list(await connection.fetch(sql, *arguments))


def _input(name: str, id: str) -> dict[str, Any]:
    if name == "expense_approval":
        return {"expense_id": id, "approver": "Ann", "manager": "Bo"}
    if name == "odd":
        return {"value": {"a": [1, 2.5, None, "x"]}, "number": 1.5}
    return {
        "order_id": id, "customer_email": "a@b", "items": [{"product_id": "P", "quantity": 1, "unit_price": "29.99"}],
        "shipping_address": {"street": "s", "city": "c", "postal_code": "p", "country": "Japan"},
    }  # fmt: skip


def _asked(command: Message) -> dict[str, str]:
    """Headers of ours; those of a trace are anybody's bytes."""
    return {name: value.decode() for name, value in command.headers if name.startswith("ce_")}


def _reply(command: Message, kind: str, body: Any) -> Draft:
    asked = _asked(command)
    id, attempt = asked["ce_id"], asked["ce_attempt"]
    headers = {
        "ce_causationid": id, "ce_attempt": attempt, "ce_type": f"sagabus.reply.{kind}",
        "ce_id": f"{id}:{attempt}:reply",
    }  # fmt: skip
    packed = tuple((name, text.encode()) for name, text in headers.items())
    return Draft(asked["ce_replyto"], command.saga_id.encode(), json.dumps(body).encode(), packed)

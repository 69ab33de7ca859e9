"""A participant's shard under fire: good commands and mutated ones in one stream, the account against the inbox."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, Final

from sagabus.contracts.envelope import Message
from sagabus.contracts.reasons import Fate
from sagabus.contracts.replies import ReplyKind
from sagabus.messaging.shards.tenure import Tenure
from sagabus.participants import ActivityContext, ExternalContext, Refused, TryAgain
from sagabus.participants.command_processor import CommandProcessor
from sagabus.participants.handlers.outcome import HandlerOutcome
from sagabus.participants.received import ReceivedCommand
from tests.hostile.bench import Posted, of_fate, same
from tests.hostile.mutation import Mutator
from tests.hostile.seeds import Draft, records
from tests.participants.service_fixture import (
    BOOK,
    Effect,
    Given,
    Saga,
    ServiceFixture,
    Take,
    Taken,
    charge,
    give_back,
    note,
    take_item,
)

EPOCH: Final = 40
"""Batches until the tables are emptied, so that a long run costs what a short one does."""

CRASH_EVERY: Final = 7
"""Batches until another process takes the shard. What ran outside a transaction has ended by then."""

POOL: Final = 400
TOPIC: Final = "shop.commands"
TABLES: Final = "inbox", "outbox", "outbox_parked", "dead_letter"


class Watching(ServiceFixture):
    """A fixture that hears of each handler's outcome."""

    outcomes: Counter[ReplyKind]

    def new_side(self) -> CommandProcessor:
        return CommandProcessor(
            service="shop", namespace="sagabus", handlers=self.handlers, sessions=self.sessions,
            resources="resources", clock=lambda: self.now, watcher=self._heard,
        )  # fmt: skip

    def _heard(self, command: ReceivedCommand, outcome: HandlerOutcome) -> None:
        self.outcomes[outcome.kind] += 1


class ParticipantFuzz:
    """As `CoordinatorFuzz`. What a handler does follows from the saga's id, so the same seed gives the same run."""

    def __init__(self, fixture: Watching, seed: int) -> None:
        self.records = 0
        self.witnesses = 0
        self.seen: Counter[str] = Counter()
        self._random = Random(f"participant {seed}")
        self._mutator = Mutator(self._random, (TOPIC,))
        self._desk = fixture
        self._posted = Posted()
        self._tenure: Tenure | None = None
        self._batches = 0
        self._number = 0
        self._empty()
        _declare(fixture)

    def _empty(self) -> None:
        self._counts: Counter[str] = Counter()
        self._pool: list[Draft] = [draft for draft in records() if draft.topic == TOPIC]
        self._witness: list[str] = []
        self._desk.outcomes = Counter()

    async def batch(self, size: int) -> list[Draft]:
        if self._batches % EPOCH == 0:
            await self._begin()
        elif self._batches % CRASH_EVERY == 0:
            await self.check(f"before a crash, batch {self._batches}")
            await self.retake()
        self._batches += 1
        good = [draft for _ in range(size // 8) for draft in self._good()]
        self._pool = (self._pool + good)[-POOL:]
        bad = [self._mutated() for _ in range(max(0, size - len(good) - 2))]
        drafts = [*good, *bad, *self._witnesses()]
        self._random.shuffle(drafts)
        return drafts

    async def turn(self, drafts: Sequence[Draft]) -> None:
        side, tenure = self._desk.processor, self._tenure
        assert tenure is not None
        side.counts.clear()
        given = [Given(d.value, d.headers, 0, key=d.key) for d in drafts]  # type: ignore[arg-type]
        await side.turn({tenure: self._desk.records(tenure, *given)})
        self.records += len(drafts)
        now = side.counts.copy()
        self._counts += now
        self.seen += now
        same(sum(now.values()), len(drafts), "records of the turn", "account")
        await side.externals.drain(60)
        await self._posted.take(tenure)

    async def retake(self) -> None:
        await self.close()
        self._desk.processor = self._desk.new_side()
        self._tenure = await self._desk.take()
        self._tenure.relay.start(self._posted, on_end=lambda: None)

    async def close(self) -> None:
        if self._tenure is not None:
            self._desk.processor.lost(self._tenure)
            await self._desk.processor.externals.stop()
            await self._tenure.relay.stop()

    async def _begin(self) -> None:
        tables = ", ".join(f"sagabus_shop.{table}" for table in TABLES)
        await self.close()
        async with self._desk.database.transaction() as connection:
            await connection.execute(f"TRUNCATE {tables}, effect RESTART IDENTITY")
        await self.retake()
        self._empty()

    # What is sent.

    def _good(self) -> list[Draft]:
        """Commands of one saga, in the order in which its coordinator might send them."""
        saga, random = Saga(self._new_id()), self._random
        made: list[Message] = []
        for step, activity in enumerate(random.sample((take_item, note, charge), random.randint(1, 2)), 1):
            attempts = random.choice((1, 1, 2))
            made += [saga.command(activity, BOOK, step=step, attempt=n) for n in range(1, attempts + 1)]
        if random.random() < 0.3:
            made.append(saga.settle())
        if random.random() < 0.3:
            made.append(saga.undo(give_back, BOOK))
        return [_draft(message) for message in made]

    def _mutated(self) -> Draft:
        base = self._random.choice(self._pool)
        return base if self._random.random() < 0.15 else self._mutator.mutate(base, self._pool)

    def _witnesses(self) -> list[Draft]:
        """A step and a copy of it, which nothing else is made from."""
        id = self._new_id("WIT-")
        self._witness.append(f"{id}:r1:1")
        return [_draft(Saga(id).command(take_item, BOOK))] * 2

    def _new_id(self, prefix: str = "ORD-") -> str:
        self._number += 1
        return f"{prefix}{self._number}"

    # What must be true.

    async def check(self, where: str) -> None:
        """Raises Broken."""
        await self._desk.processor.turn({self._tenure: []})  # type: ignore[dict-item]    # outcomes of handlers outside
        letters = await self._counted("SELECT reason, count(*) AS n FROM sagabus_shop.dead_letter GROUP BY reason")
        same(letters, of_fate(self._counts, Fate.DEAD_LETTER), "dead letters", where)
        states = await self._counted("SELECT state AS reason, count(*) AS n FROM sagabus_shop.inbox GROUP BY state")
        completed = self._desk.outcomes[ReplyKind.COMPLETED]
        same(states["completed"], completed, "completed commands", where)
        same(states.keys() - {"completed", "refused", "failed", "tombstone"}, set(), "states of the inbox", where)
        same(len(await self._desk.effects()), completed, "effects", where)
        await self._check_witnesses(where)

    async def _check_witnesses(self, where: str) -> None:
        """Carried out once, answered twice."""
        found = await self._desk.rows(
            "SELECT what, count(*) AS n FROM effect WHERE what = ANY ($1::text[]) GROUP BY what", self._witness
        )
        same({row["what"]: row["n"] for row in found}, dict.fromkeys(self._witness, 1), "witnesses", where)
        self.witnesses += len(self._witness)
        self._witness = []

    async def _counted(self, sql: str) -> Counter[str]:
        return Counter({row["reason"]: row["n"] for row in await self._desk.rows(sql)})


def _draft(message: Message) -> Draft:
    return Draft(TOPIC, message.key, message.value, message.headers)


def _declare(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def take(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.idempotency_key))
        await ctx.session.flush()
        _may_fail(ctx)
        return Taken(item=command.item, left=1)

    @fixture.handles(give_back)
    @fixture.handles(note)
    async def nothing(command: Take, ctx: ActivityContext) -> None:
        ctx.session.add(Effect(what=ctx.idempotency_key))

    @fixture.handles(charge, transaction=False)
    async def outside(command: Take, ctx: ExternalContext) -> Taken:
        _may_fail(ctx)
        async with ctx.transaction() as session:
            session.add(Effect(what=ctx.idempotency_key))
        return Taken(item=command.item, left=0)


def _may_fail(ctx: Any) -> None:
    """One in seven refuses, one in seven fails its first attempt."""
    number = sum(ctx.saga_id.encode()) % 7
    if ctx.saga_id.startswith("WIT-"):
        return
    if number == 0:
        raise Refused("out_of_stock", "no more")
    if number == 1 and ctx.attempt == 1:
        raise TryAgain("later", after=1)
    if number == 2 and ctx.attempt == 1:
        raise ValueError("broken")


@contextmanager
def quiet() -> Iterator[None]:
    """Thousands of failing handlers would fill the log."""
    logger = logging.getLogger("sagabus")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)

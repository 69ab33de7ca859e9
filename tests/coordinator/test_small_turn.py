"""A small turn is one statement, and does what its transaction would do: the same rows, or none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from sagabus.contracts.envelope import Message
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store import SagaExists, SagaKey, SagaMissing, SagaRow, StartedId, Store, TimerRef, Writes
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.small_turn import SmallTurn
from sagabus.coordinator.store.tables import coordinator_tables
from sagabus.messaging.postgres import connecting
from sagabus.messaging.postgres.connecting import Unanswered
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.shards.shard_row import Claim, Fenced, acquire
from sagabus.messaging.shards.single_statement import MOST_BYTES, MOST_ROWS
from sagabus.messaging.shards.tenure import Log, Tenure
from sagabus.messaging.shards.turn import Turn
from tests.coordinator.saga_rows import AT, saga
from tests.messaging.shards_fixture import Given, message
from tests.support.conditions import until

LETTERS = DeadLetters(topic="dead-letters", by="sagabus")
TABLES = ("shard", "outbox", "saga", "history", "timer", "started_id")


@dataclass
class Place:
    database: Database
    url: str

    async def take(self, shard: int = 0, token: UUID | None = None) -> Tenure:
        claim = Claim(cluster="cluster", generation=1, partitions=4)
        async with self.database.transaction() as connection:
            tenure = await acquire(connection, "sagabus", shard, claim, token=token or uuid4())
        tenure.locate({"in": Log("in-id", 0, 0)})
        return tenure

    def turn(self, *tenures: Tenure, sends: int = 0) -> Turn:
        turn = Turn(
            {one: [Given(offset=one.offsets["in"])] for one in tenures}, schema="sagabus", dead_letters=LETTERS, at=1
        )
        for number in range(sends):
            turn.send(tenures[number % len(tenures)], message(number))
        return turn

    async def small(self, turn: Turn, writes: Writes) -> None:
        small = SmallTurn.of(turn, writes)
        assert small is not None
        await self.database.write(partial(small.write, schema="sagabus"))

    async def large(self, turn: Turn, writes: Writes) -> None:
        async with self.database.transaction() as connection:
            await turn.write(connection)
            await Store("sagabus").write(connection, writes)

    async def rows(self) -> dict[str, list[tuple[object, ...]]]:
        """All there is, but for the time of the last beat."""
        found = {}
        async with self.database.transaction() as connection:
            for name in TABLES:
                rows = await connection.fetch(f"SELECT * FROM sagabus.{name} ORDER BY 1, 2, 3")
                hidden = ("beat_at", "backend_pid", "backend_start")
                found[name] = [tuple(value for key, value in row.items() if key not in hidden) for row in rows]
        return found

    async def clear(self) -> None:
        names = [table.fullname for table in coordinator_tables("sagabus").sorted_tables]
        async with self.database.transaction() as connection:
            await connection.execute(f"TRUNCATE {', '.join(names)}")


@pytest.fixture
async def place(database: str) -> AsyncIterator[Place]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield Place(pool, database)
    await pool.stop()


def history(key: SagaKey, *numbers: int) -> list[Row]:
    return [
        Row(seq, AT + seq, Kind.COMMAND, 1, 2**40, f"näme\0{seq}", "ref", bytes([seq]) * 9 or None) for seq in numbers
    ]


def some(random: Random, before: list[SagaRow]) -> tuple[Writes, list[SagaRow]]:
    """What a turn may have decided, after others have made these sagas; and those that are there then."""
    writes, ids = Writes(), [SagaId(f"saga {random.random()}") for _ in range(random.randrange(3))]
    writes.new_sagas += [saga(id, "r") for id in ids]
    writes.presumed_new += ids[: random.randrange(3)]
    changed = random.sample(before, random.randrange(min(3, len(before)) + 1))
    closed: dict[str, Any] = (
        {"status": SagaStatus.COMPLETED, "error": b"\xff", "attention": "a\0b", "closed_at": AT}
        if random.random() < 0.4
        else {}
    )
    writes.changed_sagas += [replace(row, sequence=row.sequence + 1, **closed) for row in changed]
    for row in (*writes.new_sagas, *writes.changed_sagas):
        first = 10 * row.sequence
        writes.history.add(row.key, history(row.key, *range(first, first + random.randrange(4))), row.sequence)
        for number in range(random.randrange(3)):
            due = random.choice((None, AT, AT + 10**9))
            writes.timers[TimerRef(0, row.id, row.run, "resend", number)] = due
    unchanged = [row for row in before if row not in changed]
    return writes, [*unchanged, *writes.new_sagas, *writes.changed_sagas]


@pytest.mark.parametrize("seed", range(6))
async def test_one_statement_writes_what_a_transaction_writes(place: Place, seed: int) -> None:
    made = []
    for write in (place.small, place.large):
        await place.clear()
        random, sagas = Random(seed), list[SagaRow]()
        tenures = [await place.take(shard, UUID(int=shard)) for shard in (2, 0)]
        for _ in range(8):
            turn = place.turn(*random.sample(tenures, random.choice((1, 2))), sends=random.randrange(4))
            writes, sagas = some(random, sagas)
            await write(turn, writes)
            turn.committed()
        made.append(await place.rows())
    assert made[0] == made[1]
    assert all(made[0][name] for name in TABLES if name != "started_id")


async def test_s1_of_two_shards_one_is_lost_and_nothing_is_written(place: Place) -> None:
    old, other = await place.take(0), await place.take(1)
    await place.take(0)
    before = await place.rows()
    with pytest.raises(Fenced, match="1 instead of 2"):
        await place.small(place.turn(old, other, sends=2), _all_kinds())
    assert await place.rows() == before


async def test_s1_a_shard_that_is_acquired_while_the_statement_waits_is_lost(place: Place) -> None:
    """The statement has seen the row as it was: what counts is the row as it became."""
    tenure = await place.take()
    other = await asyncpg.connect(place.url)
    try:
        held = other.transaction()
        await held.start()
        await other.execute("UPDATE sagabus.shard SET token = $1, turn = turn + 1", uuid4())
        writing = asyncio.create_task(place.small(place.turn(tenure, sends=2), _all_kinds()))

        async def waits() -> bool:
            return bool(await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await until(waits)
        await held.commit()
        with pytest.raises(Fenced):
            await writing
    finally:
        await other.close()
    rows = await place.rows()
    assert [rows[name] for name in TABLES[1:]] == [[]] * len(TABLES[1:])


async def test_h2_what_was_presumed_new_and_is_known_has_nothing_written(place: Place) -> None:
    closed = saga("closed", "r0", status=SagaStatus.COMPLETED, closed_at=AT)
    removed = StartedId(SagaId("removed"), RunId("r0"), b"hash", AT, 1)
    tenure = await place.take()
    async with place.database.transaction() as connection:
        await Store("sagabus").write(connection, Writes(new_sagas=[closed], started_ids=[removed]))
    before = await place.rows()
    for known in ("closed", "removed"):
        writes = Writes(new_sagas=[saga("new"), saga(known)], presumed_new=[SagaId("new"), SagaId(known)])
        writes.history.add(SagaKey(SagaId("new"), RunId("r1")), history(SagaKey(SagaId("new"), RunId("r1")), 1), 1)
        with pytest.raises(SagaExists):
            await place.small(place.turn(tenure, sends=1), writes)
        assert await place.rows() == before


async def test_a_saga_whose_row_is_gone_or_there_already_has_nothing_written(place: Place) -> None:
    tenure = await place.take()
    async with place.database.transaction() as connection:
        await Store("sagabus").write(connection, Writes(new_sagas=[saga("there")]))
    before = await place.rows()
    with pytest.raises(SagaMissing):
        await place.small(place.turn(tenure, sends=1), Writes(changed_sagas=[saga("there"), saga("gone")]))
    with pytest.raises(SagaExists):
        await place.small(place.turn(tenure, sends=1), Writes(new_sagas=[saga("there", "r9"), saga("new")]))
    assert await place.rows() == before


async def test_an_answer_that_does_not_come_is_an_unknown_commit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been written: only another tenure can tell."""
    tenure = await place.take()
    monkeypatch.setattr(connecting, "COMMIT_SECONDS", 0.2)
    other = await asyncpg.connect(place.url)
    try:
        held = other.transaction()
        await held.start()
        await other.execute("LOCK TABLE sagabus.history")
        turn = place.turn(tenure, sends=1)
        with pytest.raises(Unanswered):
            await place.small(turn, _all_kinds())
        await held.rollback()
    finally:
        await other.close()
    assert (tenure.next_position, tenure.relay.depth) == (1, 0)
    new = await place.take()
    await place.small(place.turn(new, sends=1), Writes())
    with pytest.raises(Fenced):
        await place.small(place.turn(tenure, sends=1), Writes())


async def test_what_is_large_or_rare_is_no_small_turn(place: Place) -> None:
    tenure = await place.take()
    assert SmallTurn.of(place.turn(tenure), Writes()) is not None
    assert SmallTurn.of(place.turn(tenure, sends=MOST_ROWS + 1), Writes()) is None
    large = Message.of(topic="out", key=b"k", value=bytes(MOST_BYTES + 1), headers=(), saga_id="S", partition=0)
    turn = place.turn(tenure)
    turn.send(tenure, large)
    assert SmallTurn.of(turn, Writes()) is None
    assert SmallTurn.of(place.turn(tenure), Writes(ended_losses=[0])) is None
    letter = place.turn(tenure)
    letter.dead_letter(tenure, Given(), reason="test", message="…")
    assert SmallTurn.of(letter, Writes()) is None
    again = Writes(changed_sagas=[saga("one", "r1", status=SagaStatus.CONTINUED)], new_sagas=[saga("one", "r2")])
    assert SmallTurn.of(place.turn(tenure), again) is None, "the first makes room for the second"
    tenure.relay.position = 1
    assert SmallTurn.of(Turn({tenure: []}, schema="sagabus", dead_letters=LETTERS, at=1), Writes()) is None
    tenure.ended = True
    with pytest.raises(Fenced):
        SmallTurn.of(place.turn(tenure), Writes())


def _all_kinds() -> Writes:
    writes = Writes(new_sagas=[saga("new")], timers={TimerRef(0, SagaId("new"), RunId("r1"), "resend", 1): AT})
    key = SagaKey(SagaId("new"), RunId("r1"))
    writes.history.add(key, history(key, 1, 2), 1)
    return writes

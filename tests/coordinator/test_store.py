"""What is written comes back as it was, all of it or nothing; a read costs the same however many sagas there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields, replace
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts.envelope import pack_headers
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.events import UNKNOWN, read_events
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store import (
    EarlyRef,
    EarlyRequest,
    Reads,
    SagaExists,
    SagaKey,
    SagaMissing,
    SagaRow,
    StartedId,
    Store,
    TimerRef,
    TimerRow,
    Writes,
)
from sagabus.coordinator.store import columns as store_columns
from sagabus.coordinator.store.copy_format import NewHistory
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.open_page import OpenPage
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.coordinator.store.recent import RecentReads
from sagabus.coordinator.store.rows import TimerCursor
from sagabus.coordinator.store.saga_list import Filter, SagaList
from sagabus.coordinator.store.wire import LATEST
from sagabus.messaging.postgres.connecting import SESSION
from sagabus.messaging.postgres.database import Connection, Database
from sagabus.messaging.postgres.text import storable
from tests.coordinator.saga_rows import AT, saga
from tests.support.conditions import until


@dataclass(frozen=True, slots=True)
class Parts:
    connection: Connection
    store: Store
    reads: Reads
    operators: OperatorReads

    async def write(self, writes: Writes) -> None:
        async with self.connection.transaction():
            await self.store.write(self.connection, writes.encoded())

    async def saga(self, id: str) -> SagaRow:
        return (await self.reads.sagas(self.connection, [SagaId(id)]))[SagaId(id)]

    async def timers(self, shard: int, *, until: int = LATEST) -> list[TimerRow]:
        """All of them, one page after the other, in pages of two."""
        after, found = TimerCursor(0, "", "", "", 0), list[TimerRow]()
        while page := await self.reads.timers(self.connection, shard, after=after, until=until, most=2):
            found += page
            after = page[-1].cursor
        return found

    async def early(self, shard: int) -> list[EarlyRequest]:
        """All that the counts tell of."""
        counts = await self.reads.early_counts(self.connection, shard, after="", most=9)
        found = await self.reads.early(self.connection, shard, [one.saga_id for one in counts], most=99)
        assert sum(one.kept for one in counts) == len(found)
        return found


@pytest.fixture
async def parts(database: str) -> AsyncIterator[Parts]:
    await migrate(database, "sagabus")
    pool = Database(database)
    async with pool.transaction() as connection:
        pass
    connection = await asyncpg.connect(database, server_settings=dict(SESSION))
    yield Parts(connection, Store("sagabus"), Reads("sagabus"), OperatorReads(pool, "sagabus"))
    await connection.close()
    await pool.stop()


FULL: dict[str, Any] = {
    "status": SagaStatus.COMPENSATED, "result": b"null", "error": b'{"code": "x"}',
    "attributes": b'{"city": "B\xc3\xa4rn"}',
    "parent_id": SagaId("PARENT"), "parent_run": RunId("p1"), "parent_step": 2, "parent_shard": 7,
    "attention": "look here", "concerns": b'[{"kind": "rows"}]', "decided": 12, "paused": True,
    "trace": b"\0\1packed", "closed_at": AT + 1, "events": b'{"row": 7}',
}  # fmt: skip


async def test_a_saga_comes_back_as_it_was_written(parts: Parts) -> None:
    written = [saga("plain"), saga("full", **FULL)]
    await parts.write(Writes(new_sagas=written))
    found = await parts.reads.sagas(parts.connection, [SagaId("plain"), SagaId("full"), SagaId("unknown")])
    assert found == {row.id: row for row in written}
    assert await parts.reads.runs(parts.connection, [written[1].key, SagaKey(SagaId("full"), RunId("other"))]) == {
        written[1].key: written[1]
    }


async def test_a_saga_that_an_older_release_has_written_says_that_its_events_are_not_known(parts: Parts) -> None:
    """It names no column that it does not know."""
    await parts.write(Writes(new_sagas=[saga("new"), saga("older")]))
    names = ", ".join(name for name in store_columns.SAGA if name != "events")
    await parts.connection.execute(f"""
        WITH older AS (DELETE FROM sagabus.saga WHERE id = 'older' RETURNING {names})
        INSERT INTO sagabus.saga ({names}) SELECT {names} FROM older WHERE pg_sleep(0) IS NOT NULL""")
    assert read_events((await parts.saga("older")).events) == UNKNOWN
    assert (await parts.saga("new")).events is None


async def test_a_changed_saga_has_all_its_changes_and_keeps_the_rest(parts: Parts) -> None:
    await parts.write(Writes(new_sagas=[saga("one", shard=5), saga("two")]))
    changes = {name: value for name, value in FULL.items() if name not in store_columns.FIXED}
    changed = saga("one", shard=5, version=2, fingerprint="new", sequence=9, last_now=AT + 5, **changes)
    await parts.write(Writes(changed_sagas=[replace(changed, sequence=8), changed]))
    assert await parts.saga("one") == changed
    assert await parts.saga("two") == saga("two")


def test_columns_stand_in_the_order_of_the_fields() -> None:
    def names(row: type[Any]) -> list[str]:
        return [one.name.removeprefix("packed_") for one in fields(row)]

    assert list(store_columns.SAGA) == names(SagaRow)
    assert list(store_columns.TIMER) == names(TimerRow) == [*TimerRef._fields, "due"]
    assert list(store_columns.EARLY) == names(EarlyRequest)
    assert list(store_columns.EARLY_KEY) == list(EarlyRef._fields)
    assert list(store_columns.STARTED) == names(StartedId)
    assert list(store_columns.HISTORY) == names(Row)


ROWS = [
    Row(1, AT, Kind.STARTED, name="order_processing", ref="requests:0:17", payload=b'{"order_id": "\\u0000"}'),
    Row(2, AT, Kind.COMMAND, step=1, name="inventory.reserve_inventory", payload=b"\xff not JSON"),
    Row(3, AT + 1, Kind.STEP_FAILED, step=1, attempt=10**18, name="", ref="ä€𝄞", payload=b""),
    Row(4, AT + 10**12, Kind.TIMER, step=2**31 - 1, name="sleep", payload=None),
]


async def test_history_comes_back_in_order_each_saga_its_own(parts: Parts) -> None:
    one, two, none = (SagaKey(SagaId(id), RunId("r")) for id in ("one", "two", "none"))
    await parts.write(Writes(history=NewHistory((one, ROWS[:2], 2), (two, ROWS[:1], 1))))
    await parts.write(Writes(history=NewHistory((one, ROWS[2:], 5))))
    found = await parts.reads.histories(parts.connection, [two, one, none], most=9)
    assert found == {
        one: [replace(row, sequence=2) for row in ROWS[:2]] + [replace(row, sequence=5) for row in ROWS[2:]],
        two: [replace(ROWS[0], sequence=1)],
        none: [],
    }


async def test_people_read_times_as_times(parts: Parts) -> None:
    await parts.write(
        Writes(history=NewHistory((SagaKey(SagaId("one"), RunId("r")), ROWS[:1], 1)), new_sagas=[saga("one")])
    )
    await parts.connection.execute("SET timezone = 'UTC'")
    sql = "SELECT at::text, started_at::text FROM sagabus.history JOIN sagabus.saga USING (id)"
    assert tuple(await parts.connection.fetchrow(sql) or ()) == ("2026-09-21 14:13:20.123457+00",) * 2


async def test_times_are_exact_to_the_microsecond(parts: Parts) -> None:
    times = [0, 1, 999_999, AT, AT + 1, 2**53 - 1]
    one = SagaId("one"), RunId("r")
    await parts.write(Writes(timers={TimerRef(0, *one, "sleep", n): due for n, due in enumerate(times)}))
    assert [timer.due for timer in await parts.timers(0)] == times


async def test_a_row_written_twice_is_refused(parts: Parts) -> None:
    """Two turns that both believe to own a saga cannot both append."""
    writes = Writes(history=NewHistory((SagaKey(SagaId("one"), RunId("r")), ROWS[:1], 1)))
    await parts.write(writes)
    with pytest.raises(asyncpg.UniqueViolationError):
        await parts.write(writes)


async def test_what_postgres_cannot_store_stops_nobody(parts: Parts) -> None:
    """NUL and lone surrogates come from other people's ids and errors; a refused row would stop its shard for good."""
    hostile = "a\0b\ud800"
    row = Row(1, AT, Kind.EVENT, name=hostile, ref=hostile)
    await parts.write(
        Writes(
            new_sagas=[saga("one", definition=hostile, attention=hostile, attributes=b'{"a": "\\u0000"}')],
            history=NewHistory((SagaKey(SagaId("one"), RunId("r1")), [row], 1)),
            timers={TimerRef(1, SagaId("one"), RunId("r1"), "sleep", 1): 10**30},
        )
    )
    found = await parts.saga("one")
    assert (found.definition, found.attention) == ("a\ufffdb?",) * 2
    assert found.attributes == '{"a": "\ufffd"}'.encode()
    assert (await parts.reads.histories(parts.connection, [found.key], most=9))[found.key][0].ref == "a\ufffdb?"
    assert (await parts.timers(1))[0].due // 10**9 == LATEST // 10**9


@given(st.text(st.characters(codec=None)))
def test_storable_text_is_left_as_it_is(text: str) -> None:
    stored = storable(text)
    assert "\0" not in stored
    assert stored.encode().decode() == stored
    if "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text):
        assert stored == text


async def test_s12_a_saga_that_is_there_already_is_not_made_again(parts: Parts) -> None:
    await parts.write(Writes(new_sagas=[saga("one")]))
    for again in (saga("one", shard=9), saga("one", "r2")):
        with pytest.raises(SagaExists) as caught:
            await parts.write(Writes(new_sagas=[saga("two"), again], history=NewHistory((again.key, ROWS[:1], 1))))
        assert caught.value.keys == (again.key,)
    assert set(await parts.reads.sagas(parts.connection, [SagaId("one"), SagaId("two")])) == {"one"}
    assert await parts.saga("one") == saga("one")


async def test_h2_of_what_is_presumed_new_none_is_made_if_one_is_known(parts: Parts) -> None:
    """Closed with another run, or removed: neither has a key that conflicts."""
    closed = saga("closed", "r0", status=SagaStatus.COMPLETED, closed_at=AT)
    removed = StartedId(SagaId("removed"), RunId("r0"), b"hash", AT, 1)
    await parts.write(Writes(new_sagas=[closed], started_ids=[removed]))
    for known in ("closed", "removed"):
        new = [saga("new"), saga(known)]
        with pytest.raises(SagaExists):
            await parts.write(Writes(new_sagas=new, presumed_new=[row.id for row in new]))
    assert set(await parts.reads.sagas(parts.connection, [SagaId("new"), SagaId("removed")])) == set()
    await parts.write(Writes(new_sagas=[saga("new"), saga("other")], presumed_new=[SagaId("new")]))
    assert await parts.saga("new") == saga("new")


async def test_a_run_that_ends_makes_room_for_the_next_in_one_transaction(parts: Parts) -> None:
    await parts.write(Writes(new_sagas=[saga("one", "r1")]))
    ended = saga("one", "r1", status=SagaStatus.CONTINUED, closed_at=AT)
    await parts.write(Writes(changed_sagas=[ended], new_sagas=[saga("one", "r0")]))
    assert await parts.saga("one") == saga("one", "r0")


async def test_the_open_run_comes_before_the_newest(parts: Parts) -> None:
    closed = {"status": SagaStatus.COMPLETED, "closed_at": AT + 9}
    rows = [saga("one", "a", started_at=AT + 1, **closed), saga("one", "b"), saga("two", "a", **closed)]
    rows += [saga("two", "b", started_at=AT + 1, **closed), saga("two", "c", started_at=AT - 1, **closed)]
    last, first = {"status": SagaStatus.COMPLETED, "closed_at": AT}, {"status": SagaStatus.CONTINUED, "closed_at": AT}
    rows += [saga("three", "b", **last), saga("three", "c", **first)]
    rows += [saga("four", "a", **first), saga("four", "b", **last)]
    await parts.write(Writes(new_sagas=rows))
    found = await parts.reads.sagas(parts.connection, [SagaId(id) for id in ("one", "two", "three", "four")])
    assert {id: row.run for id, row in found.items()} == {"one": "b", "two": "b", "three": "b", "four": "b"}
    for id in found:
        assert await parts.operators.saga(id) == found[id]


async def test_a_change_of_a_saga_that_is_gone_is_refused(parts: Parts) -> None:
    await parts.write(Writes(new_sagas=[saga("one")]))
    with pytest.raises(SagaMissing):
        await parts.write(Writes(changed_sagas=[saga("one", sequence=2), saga("gone")]))
    assert await parts.saga("one") == saga("one")


async def test_timers_are_set_moved_and_cleared(parts: Parts) -> None:
    def ref(number: int, kind: str = "sleep", shard: int = 3) -> TimerRef:
        return TimerRef(shard, SagaId("one"), RunId("r"), kind, number)

    await parts.write(Writes(timers={ref(1): AT + 5, ref(2): AT + 5, ref(1, "retry"): AT, ref(1, shard=4): AT}))
    await parts.write(Writes(timers={ref(2): AT + 7, ref(1, "retry"): None, ref(9): None}))
    assert await parts.timers(3) == [TimerRow(*ref(1), AT + 5), TimerRow(*ref(2), AT + 7)]
    assert await parts.timers(4) == [TimerRow(*ref(1, shard=4), AT)]


async def test_h3_timers_come_in_the_order_of_due_and_number(parts: Parts) -> None:
    due = {(2, "b"): AT, (1, "c"): AT, (3, "a"): AT - 1}
    await parts.write(
        Writes(timers={TimerRef(0, SagaId(id), RunId("r"), "sleep", number): at for (number, id), at in due.items()})
    )
    assert [timer.number for timer in await parts.timers(0)] == [3, 2, 1]
    assert [timer.number for timer in await parts.timers(0, until=AT - 1)] == [3]


async def test_h3_pages_of_timers_that_are_due_together_leave_none_out(parts: Parts) -> None:
    refs = [TimerRef(0, SagaId(f"S-{n % 3}"), RunId("r"), kind, n) for n in range(7) for kind in ("sleep", "timeout")]
    await parts.write(Writes(timers=dict.fromkeys(refs, AT)))
    found = await parts.timers(0)
    assert [timer.ref for timer in found] == sorted(refs)


async def test_early_requests_are_counted_by_id_with_whether_their_saga_is_there(parts: Parts) -> None:
    kept = [_early(id, number, at=AT + number) for number, id in enumerate(("b", "a", "b", "c"), 1)]
    await parts.write(Writes(early_added=kept, new_sagas=[saga("b")]))
    counts = await parts.reads.early_counts(parts.connection, 3, after="", most=2)
    assert counts == [("a", 1, 2, AT + 2, False), ("b", 2, 3, AT + 1, True)]
    assert [one.saga_id for one in await parts.reads.early_counts(parts.connection, 3, after="b", most=2)] == ["c"]
    assert await parts.reads.early(parts.connection, 3, [SagaId("b"), SagaId("c")], most=2) == [kept[0], kept[2]]


def _early(id: str, number: int, *, at: int) -> EarlyRequest:
    return EarlyRequest(3, SagaId(id), number, at, "sagabus.requests", 3, number, 0, None, b"", b"x")


async def test_a_saga_has_its_history_in_pages(parts: Parts) -> None:
    key = saga("one").key
    rows = [Row(number, AT, Kind.EVENT, name="e", ref=str(number)) for number in range(1, 6)]
    await parts.write(Writes(new_sagas=[saga("one")], history=NewHistory((key, rows, 1))))
    first = (await parts.reads.histories(parts.connection, [key], most=2))[key]
    rest = await parts.reads.history_page(parts.connection, key, after=2, most=9)
    assert [row.seq for row in first] == [1, 2]
    assert [row.seq for row in rest] == [3, 4, 5]


async def test_an_early_request_comes_back_as_the_record_that_it_was(parts: Parts) -> None:
    @dataclass(frozen=True)
    class Read:
        topic: str = "sagabus.requests"
        partition: int = 3
        offset: int = 2**40
        timestamp: int = AT // 1000
        key: bytes | None = None
        value: bytes | None = b"\xff\0"
        headers: tuple[tuple[str, bytes], ...] = (("ce_id", b"1"), ("ce_id", b"\0"), ("", b""))

    first, second, other = (
        EarlyRequest.of(Read(), shard=shard, saga_id=SagaId(id), number=number, at=AT)
        for shard, id, number in ((3, "one", 2), (3, "two", 1), (4, "one", 3))
    )
    await parts.write(Writes(early_added=[first, second, other]))
    assert await parts.early(3) == [second, first]
    assert all(getattr(first, one.name) == getattr(Read(), one.name) for one in fields(Read))
    passing = EarlyRequest.of(Read(), shard=3, saga_id=SagaId("one"), number=9, at=AT)
    await parts.write(Writes(early_added=[passing], early_removed=[first.ref, passing.ref]))
    assert await parts.early(3) == [second]
    assert await parts.early(4) == [other]


async def test_h2_an_id_is_known_beyond_its_saga(parts: Parts) -> None:
    old, new = (StartedId(SagaId("one"), RunId(run), run.encode(), AT, 1) for run in ("r1", "r2"))
    await parts.write(Writes(started_ids=[old]))
    await parts.write(Writes(started_ids=[old, new]))
    assert await parts.reads.started_ids(parts.connection, [SagaId("one"), SagaId("two")]) == {SagaId("one"): new}


async def test_s6_the_open_sagas_of_a_shard_are_found(parts: Parts) -> None:
    rows = [saga(f"o{n}", shard=n % 2) for n in range(6)]
    rows.append(saga("o9", shard=1, status=SagaStatus.COMPLETED, closed_at=AT))
    await parts.write(Writes(new_sagas=rows))
    first, second, none = [
        await parts.reads.open_page(parts.connection, 1, after=after, most=2, fingerprints=[])
        for after in ("", "o3", "o5")
    ]
    assert (first, second) == (OpenPage(2, "o3", ["o1", "o3"]), OpenPage(1, "o5", ["o5"]))  # type: ignore[list-item]
    assert none == OpenPage(0, "", [])


async def test_h1_the_blocked_sagas_of_a_shard_are_found(parts: Parts) -> None:
    rows = [saga("blocked", decided=4, attention="no code"), saga("going on", attention="else")]
    rows.append(saga("elsewhere", shard=4, decided=4, attention="no code"))
    await parts.write(Writes(new_sagas=rows))
    assert await parts.reads.blocked_ids(parts.connection, 3, after="", most=9) == ["blocked"]
    await parts.write(Writes(changed_sagas=[saga("blocked")]))
    assert await parts.reads.blocked_ids(parts.connection, 3, after="", most=9) == []


async def test_nothing_to_write_is_no_statement(parts: Parts) -> None:
    seen: list[str] = []
    await parts.write(Writes(new_sagas=[saga("one")]))  # asyncpg has asked for the types that it needs
    parts.connection.add_query_logger(lambda query: seen.append(query.query))
    await parts.store.write(parts.connection, Writes())
    await asyncio.sleep(0)  # asyncpg tells its loggers in the loop's next round
    assert seen == []
    await parts.store.write(parts.connection, Writes(new_sagas=[saga("two")]))
    await asyncio.sleep(0)
    assert len(seen) == 1


async def test_s4_all_is_computed_before_the_transaction_begins(parts: Parts) -> None:
    """What is encoded no longer follows its source."""
    writes = Writes(new_sagas=[saga("one")], history=NewHistory((saga("one").key, ROWS[:1], 1)))
    encoded = writes.encoded()
    writes.new_sagas.clear()
    writes.history.add(saga("one").key, ROWS[:1], 2)
    async with parts.connection.transaction():
        await parts.store.write(parts.connection, encoded)
    assert await parts.saga("one") == saga("one")


async def test_a_list_is_filtered_and_paged_from_the_newest_on(parts: Parts) -> None:
    rows = [
        saga(
            f"s{n:02}", started_at=AT + n // 3, definition="a" if n % 2 else "b",
            status=SagaStatus.RUNNING if n % 3 else SagaStatus.COMPLETED, attention="look" if n % 5 == 0 else None,
        )
        for n in range(20)
    ]  # fmt: skip
    await parts.write(Writes(new_sagas=rows))
    newest = sorted(rows, key=lambda row: (row.started_at, row.id, row.run), reverse=True)
    cases: list[tuple[Filter, Any]] = [
        (Filter(), lambda row: True),
        (Filter(statuses=[SagaStatus.COMPLETED]), lambda row: row.is_closed),
        (Filter(definition="a"), lambda row: row.definition == "a"),
        (Filter(attention=True), lambda row: row.attention),
        (Filter(attention=True, statuses=[SagaStatus.RUNNING], definition="b"),
         lambda row: row.attention and not row.is_closed and row.definition == "b"),
        (Filter(definition="unknown"), lambda row: False),
    ]  # fmt: skip
    for wanted, right in cases:
        assert await _all_pages(parts.operators, wanted, 4) == [row for row in newest if right(row)], wanted


async def test_a_saga_is_shown_with_history_and_timers(parts: Parts) -> None:
    one = saga("one")
    timer = TimerRef(one.shard, one.id, one.run, "sleep", 1)
    other = TimerRef(one.shard, SagaId("other"), one.run, "sleep", 1)
    await parts.write(Writes(new_sagas=[one], history=NewHistory((one.key, ROWS, 1)), timers={timer: AT, other: AT}))
    assert await parts.operators.saga("one") == one
    details = await parts.operators.details(one)
    assert (details.first, details.timers) == (replace(ROWS[0], sequence=1), [TimerRow(*timer, AT)])
    assert [row.seq for row in await parts.operators.history(one.key)] == [1, 2, 3, 4]
    assert [row.seq for row in await parts.operators.history(one.key, after=1, limit=2)] == [2, 3]
    assert await parts.operators.runs("one") == [one.key]
    assert await parts.operators.saga("one", "another run") is None


async def test_why_a_start_was_rejected_is_found_by_an_index(parts: Parts) -> None:
    """Who waits for a saga that is not there asks for it again and again."""
    asked = pack_headers((("ce_id", b"asked"),))
    letter = """
        INSERT INTO sagabus.dead_letter (shard, reason, message, topic, partition, "offset", timestamp, key, headers)
        SELECT 0, 'payload.invalid', 'no', 'sagabus.requests', 0, n, 0, $1::bytea || $2::bytea, $3
        FROM generate_series(1, $4::int) AS n"""
    await parts.connection.execute(letter, b"ORD-1", b"", asked, 1)
    await parts.connection.execute(letter, b"ORD-2", b"x" * 100_000, asked, 1)
    for number in range(100):
        await parts.connection.execute(letter, b"other", str(number).encode(), asked, 100)
    await parts.connection.execute("ANALYZE sagabus.dead_letter; SET plan_cache_mode = force_generic_plan")
    assert await parts.operators.rejection("ORD-1", "asked") == ("payload.invalid", "no")
    assert await parts.operators.rejection("ORD-1", "other") is None
    plan = await _plan(parts.connection, "rejections", parts.operators._sql["dead_letter.rejections"])
    assert "dead_letter_key" in plan, plan


async def test_readers_leave_a_connection_for_the_turn(parts: Parts, database: str) -> None:
    pool = Database(database, connections=3)
    operators = OperatorReads(pool, "sagabus")
    async with parts.connection.transaction():
        await parts.connection.execute("LOCK TABLE sagabus.saga IN ACCESS EXCLUSIVE MODE")
        readers = [asyncio.create_task(operators.saga("one")) for _ in range(20)]
        waiting = "SELECT count(*) = 2 FROM pg_locks WHERE NOT granted AND relation = 'sagabus.saga'::regclass"
        await until(lambda: parts.connection.fetchval(waiting), what="two readers stand at the lock")
        async with asyncio.timeout(4), pool.transaction() as connection:
            assert await connection.fetchval("SELECT 1") == 1
    assert await asyncio.gather(*readers) == [None] * 20
    await pool.stop()


async def test_reads_use_their_indexes_whatever_the_planner_believes(database: str) -> None:
    """A plan that was made while the tables were small is kept until they are analyzed again: a minute or more.

    With sequential scans discouraged for the session, the plan for a small table is the one for a large table.
    """
    await migrate(database, "sagabus")
    connection = await asyncpg.connect(database, server_settings={**SESSION, "enable_seqscan": "off"})
    await connection.execute("ANALYZE; SET plan_cache_mode = force_generic_plan")
    statements = {
        **Store("sagabus")._sql, **Reads("sagabus")._sql, **OperatorReads(Database(""), "sagabus")._sql,
        **SagaList("sagabus")._sql, **RecentReads("sagabus")._sql,
    }  # fmt: skip
    plans = {name: await _plan(connection, name, sql) for name, sql in statements.items()}
    await connection.close()
    assert {name for name, plan in plans.items() if "Seq Scan" in plan} == set(), plans


async def _plan(connection: Connection, name: str, sql: str) -> str:
    """The generic plan: the one that is kept."""
    count = len((await connection.prepare(sql)).get_parameters())
    await connection.execute(f'PREPARE "{name}" AS {sql}')
    rows = await connection.fetch(f'EXPLAIN EXECUTE "{name}" ({", ".join(["NULL"] * count)})')
    return "\n".join(row[0] for row in rows)


async def _all_pages(operators: OperatorReads, wanted: Filter, limit: int) -> list[SagaRow]:
    rows: list[SagaRow] = []
    page = await operators.page(wanted, limit=limit)
    while page.next is not None:
        assert len(page.sagas) == limit
        rows += page.sagas
        page = await operators.page(wanted, limit=limit, after=page.next)
    return rows + page.sagas

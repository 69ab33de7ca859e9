"""Lists of sagas: each filter, alone and with others, page by page; what a page costs beside 100,000 closed sagas."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sagabus.contracts import codec
from sagabus.coordinator.core.saga.concern import ConcernKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.state import reason_json
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store import SagaRow, Store, Writes, saga_list
from sagabus.coordinator.store.attribute_search import Wanted, path_of
from sagabus.coordinator.store.copy_format import NewHistory
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.coordinator.store.saga_list import EXAMINED, FEW, Filter, ListCursor, SagaList
from sagabus.messaging.postgres.database import Connection, Database
from tests.coordinator.saga_rows import AT, saga

MANY = 100_000
DUE = "2026-01-31T12:00:00Z"
CODES = ("out_of_stock", "sagabus.cancelled", 'odd"code\\\u00e9')


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Database]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield pool
    await pool.stop()


def concerns(kind: ConcernKind) -> bytes:
    return codec.encode_value([{"kind": kind, "number": 1, "words": "look"}])


def rows() -> list[SagaRow]:
    """Sixty sagas that differ in everything that can be asked for."""
    made = []
    for n in range(60):
        status = [SagaStatus.RUNNING, SagaStatus.COMPENSATED, SagaStatus.COMPENSATING][n % 3]
        kind = [None, ConcernKind.UNDO, ConcernKind.PARKED, None][n % 4]
        made.append(
            saga(
                f"{'AB'[n % 2]}-{n:02}", started_at=AT + n // 3, definition="ab"[n % 5 == 0], status=status,
                error=None if status is SagaStatus.RUNNING else reason_json(CODES[n % 7 % 3], "no \0 words"),
                attention="look" if kind else None, concerns=concerns(kind) if kind else None,
                paused=n % 6 == 0 and status is not SagaStatus.COMPENSATED, attributes=attributes(n),
            )
        )  # fmt: skip
    return made


def attributes(n: int) -> bytes | None:
    if n % 3 == 0:
        return None
    stage = ["waiting", "120", 'odd"\u00e9 $.'][n % 5 % 3]
    return codec.encode_value({"stage": stage, "amount": [120, 1.5, None][n % 7 % 3], "vip": n % 2 == 0, "due": DUE})


def has(row: SagaRow, **wanted: Any) -> bool:
    return row.attributes is not None and wanted.items() <= json.loads(row.attributes).items()


def wanted(*given: str) -> tuple[Wanted, ...]:
    return tuple(Wanted(*one.split("=", 1)) for one in given)


def updated(row: SagaRow) -> int:
    return row.started_at + 100 + int(row.id[2:]) % 7


async def stored(pool: Database) -> list[SagaRow]:
    made = rows()
    history = NewHistory(*((row.key, [Row(1, updated(row), Kind.STARTED)], 1) for row in made))
    async with pool.transaction() as connection:
        await Store("sagabus").write(connection, Writes(new_sagas=made, history=history))
    return made


def code_of(row: SagaRow) -> str | None:
    return None if row.error is None else str(json.loads(row.error)["code"])


CASES: list[tuple[Filter, Callable[[SagaRow], Any]]] = [
    (Filter(concern=ConcernKind.UNDO), lambda row: b'"undo"' in (row.concerns or b"")),
    (Filter(concern=ConcernKind.STUCK), lambda row: False),
    (Filter(concern=ConcernKind.UNDO, statuses=[SagaStatus.RUNNING], definition="a"),
     lambda row: b'"undo"' in (row.concerns or b"") and row.status is SagaStatus.RUNNING and row.definition == "a"),
    (Filter(paused=True), lambda row: row.paused),
    (Filter(started_before=AT + 9), lambda row: row.started_at < AT + 9),
    (Filter(started_before=AT + 9, statuses=[SagaStatus.COMPENSATED]),
     lambda row: row.started_at < AT + 9 and row.status is SagaStatus.COMPENSATED),
    (Filter(updated_before=AT + 110), lambda row: updated(row) < AT + 110),
    *((Filter(error=code), lambda row, code=code: code_of(row) == code) for code in CODES),
    (Filter(error="out_of_st"), lambda row: False),
    (Filter(attributes=wanted("stage=waiting")), lambda row: has(row, stage="waiting")),
    (Filter(attributes=wanted("stage=120")), lambda row: has(row, stage="120")),
    (Filter(attributes=wanted('stage=odd"\u00e9 $.')), lambda row: has(row, stage='odd"\u00e9 $.')),
    (Filter(attributes=wanted("amount=120")), lambda row: has(row, amount=120)),
    (Filter(attributes=wanted("amount=1.50")), lambda row: has(row, amount=1.5)),
    (Filter(attributes=wanted("amount=null")), lambda row: has(row, amount=None)),
    (Filter(attributes=wanted("vip=true", "stage=waiting")), lambda row: has(row, stage="waiting", vip=True)),
    (Filter(attributes=wanted("due=2026-01-31T13:00:00+01:00")), lambda row: has(row, due=DUE)),
    (Filter(attributes=wanted("due=2026-01-31T12:00:00Z")), lambda row: has(row, due=DUE)),
    (Filter(attributes=wanted("stage=nobody")), lambda row: False),
    (Filter(attributes=wanted("none=1")), lambda row: False),
    (Filter(attributes=wanted("stage=waiting"), statuses=[SagaStatus.RUNNING], attention=True),
     lambda row: has(row, stage="waiting") and row.status is SagaStatus.RUNNING and row.attention),
    (Filter(attributes=wanted("stage=waiting"), started_before=AT + 9),
     lambda row: has(row, stage="waiting") and row.started_at < AT + 9),
    (Filter(error=CODES[0], attention=True), lambda row: code_of(row) == CODES[0] and row.attention),
]  # fmt: skip

BY_ID: list[tuple[Filter, Callable[[SagaRow], Any]]] = [
    (Filter(paused=True, id_prefix="A"), lambda row: row.paused and row.id.startswith("A")),
    (Filter(id_prefix="A-"), lambda row: row.id.startswith("A-")),
    (Filter(id_prefix="B-1"), lambda row: row.id.startswith("B-1")),
    (Filter(id_prefix="B-11"), lambda row: row.id == "B-11"),
    (Filter(id_prefix="C"), lambda row: False),
    (Filter(id_prefix="A-", attention=True, started_before=AT + 12, statuses=[SagaStatus.RUNNING]),
     lambda row: row.id.startswith("A-") and row.attention and row.started_at < AT + 12
     and row.status is SagaStatus.RUNNING),
    (Filter(id_prefix="A-", attributes=wanted("vip=true")), lambda row: row.id.startswith("A-") and has(row, vip=True)),
    (Filter(id_prefix="A-", error=CODES[1], updated_before=AT + 115),
     lambda row: row.id.startswith("A-") and code_of(row) == CODES[1] and updated(row) < AT + 115),
]  # fmt: skip


@pytest.mark.parametrize(("window", "few"), [(EXAMINED, FEW), (6, FEW), (6, 3)])
async def test_each_filter_finds_its_sagas_page_by_page(
    pool: Database, window: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a window of a few sagas too: pages that hold fewer, or none, and go on. few: sagas with the attributes."""
    monkeypatch.setattr(saga_list, "EXAMINED", window)
    monkeypatch.setattr(saga_list, "FEW", few)
    made = await stored(pool)
    newest = sorted(made, key=lambda row: (row.started_at, row.id, row.run), reverse=True)
    for wanted, right in CASES:
        assert await all_pages(pool, wanted) == [row.id for row in newest if right(row)], wanted
    for wanted, right in BY_ID:
        assert await all_pages(pool, wanted) == sorted(row.id for row in made if right(row)), wanted


async def all_pages(pool: Database, wanted: Filter, *, limit: int = 4) -> list[str]:
    reads, found, after = OperatorReads(pool, "sagabus"), list[str](), None
    while True:
        page = await reads.page(wanted, limit=limit, after=after)
        assert len(page.sagas) <= limit
        found += [row.id for row in page.sagas]
        if page.next is None:
            return found
        assert page.next != after
        after = page.next


SELECTIVE = [
    Filter(error="nobody.has_it"),
    Filter(error="nobody.has_it", statuses=[SagaStatus.COMPLETED]),
    Filter(definition="nobody_has_it"),
    Filter(updated_before=AT - 1),
    Filter(started_before=AT + 50_000),
    Filter(concern=ConcernKind.UNDO),
    Filter(attention=True, statuses=[SagaStatus.RUNNING]),
    Filter(id_prefix="S-0"),
    Filter(paused=True),
    Filter(id_prefix="S-", statuses=[SagaStatus.RUNNING]),
    Filter(statuses=[SagaStatus.RUNNING]),
    Filter(attributes=wanted("stage=waiting")),
    Filter(attributes=wanted("stage=s-1", "number=1")),
    Filter(attributes=wanted("stage=s-1"), statuses=[SagaStatus.RUNNING]),
    Filter(attributes=wanted("stage=s-1"), id_prefix="S-0"),
    Filter(attributes=wanted("stage=nobody")),
    Filter(attributes=wanted("usual=yes")),
    Filter(attributes=wanted("usual=yes"), error="nobody.has_it"),
    Filter(),
]


@pytest.mark.ring("faults")
async def test_a_page_costs_the_same_beside_100_000_closed_sagas(pool: Database) -> None:
    """No node of a plan gives more rows than a page may look at, whatever is asked for."""
    async with pool.transaction() as connection:
        await connection.execute(
            f"""INSERT INTO sagabus.saga (id, run, definition, version, fingerprint, status, shard, sequence, last_now,
                input_hash, started_at, closed_at, error, paused, trace, attributes)
            SELECT 'S-' || n, 'r', 'd', 1, '', CASE n % 2 WHEN 0 THEN 'completed' ELSE 'compensated' END, 0, 1, now(),
                '', at, at, CASE n % 2 WHEN 1 THEN '{{"code":"x"}}'::bytea END, false, '',
                jsonb_build_object('usual', 'yes', 'stage', 's-' || n % 500, 'number', n)
            FROM generate_series(1, {MANY}) AS n,
            LATERAL (SELECT timestamptz 'epoch' + ({AT} + n) * interval '1 microsecond' AS at) AS time"""
        )
        await connection.execute(
            """INSERT INTO sagabus.history (id, run, seq, at, kind, step, attempt, name, ref, sequence)
            SELECT id, run, 1, started_at, 'started', 0, 0, '', '', 1 FROM sagabus.saga"""
        )
        await connection.execute("ANALYZE sagabus.saga; ANALYZE sagabus.history")
        statements = SagaList("sagabus")._sql
        for wanted in SELECTIVE:
            for after in (None, ListCursor(AT + MANY // 2, "S-5", "r")):
                await assert_bounded(connection, statements, wanted, after)


async def assert_bounded(
    connection: Connection, statements: dict[str, str], wanted: Filter, after: ListCursor | None
) -> None:
    window = EXAMINED if wanted.looks_at_each else 51
    path, walk = path_of(wanted.attributes), saga_list._walk(wanted)
    most = len(SagaStatus) * (window + 1)
    if path is not None and not wanted.id_prefix:
        counted = await planned(connection, statements["saga.count_attributes"], path, FEW + 1)
        assert_plan(wanted, counted, most=FEW + 1, but="Bitmap Index Scan")
        if counted["Plans"][0]["Actual Rows"] <= FEW:
            walk, most = "saga.list_by_attributes", most + FEW
    plan = await planned(connection, statements[walk], *saga_list._arguments(wanted, after), 52, window, path)
    assert_plan(wanted, plan, most=most, but="Bitmap Index Scan")
    uses = [node.get("Index Name") for node in nodes(plan)]
    assert ("saga_attributes" in uses) == (walk == "saga.list_by_attributes"), (wanted, uses)


async def planned(connection: Connection, sql: str, *given: Any) -> dict[str, Any]:
    (found,) = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *given)
    plan: dict[str, Any] = json.loads(found[0])[0]["Plan"]
    return plan


def assert_plan(wanted: Filter, plan: dict[str, Any], *, most: int, but: str) -> None:
    """but: a node that reads places alone, and no rows."""
    for node in nodes(plan):
        rows = node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
        assert rows <= most or node["Node Type"] == but, (wanted, node)
        assert node["Node Type"] != "Seq Scan", (wanted, node)


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for below in plan.get("Plans", []) for node in nodes(below))]

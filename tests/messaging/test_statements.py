"""Statements have names, by which pg_stat_activity, metrics and the simulation know them."""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Iterator

import sagabus.coordinator
import sagabus.messaging
import sagabus.participants
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.postgres.statements import name_of, named, named_statements

SCHEMA = "names"


def _of_the_product() -> Iterator[str]:
    """Every statement of every `_statements`, for one schema."""
    for package in (sagabus.messaging, sagabus.coordinator, sagabus.participants):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("migrations.env"):  # runs within Alembic alone
                made = getattr(importlib.import_module(found.name), "_statements", None)
                if made is not None:
                    yield from made(SCHEMA).values()


def test_a_name_is_of_one_text() -> None:
    texts: defaultdict[str, set[str]] = defaultdict(set)
    for sql in _of_the_product():
        if name := name_of(sql):
            texts[name].add(sql)
    assert {name: many for name, many in texts.items() if len(many) > 1} == {}
    assert {"shard_row.acquire", "outbox.park", "history.load", "saga.create", "inbox.store"} <= texts.keys()


def test_what_has_no_name_is_no_statement() -> None:
    verbs = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
    assert [sql for sql in _of_the_product() if not name_of(sql) and sql.lstrip().startswith(verbs)] == []


def test_a_part_of_a_statement_gets_no_name() -> None:
    made = named_statements(lambda schema: {"saga.load": f"\n SELECT {schema}", "open": "EXISTS (SELECT)"})
    assert made("x") == {"saga.load": "/* saga.load */ SELECT x", "open": "EXISTS (SELECT)"}
    assert name_of("SELECT 1") == ""


async def test_postgresql_shows_the_name(database: str) -> None:
    postgres = Database(database)
    sql = named("test.name", "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()")
    try:
        async with postgres.transaction() as connection:
            assert name_of(await connection.fetchval(sql)) == "test.name"
    finally:
        await postgres.stop()

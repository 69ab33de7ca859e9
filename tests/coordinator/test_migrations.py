"""Migrations leave behind what the tables say, once, however many run at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateSchema

from sagabus.contracts.envelope import Message
from sagabus.contracts.names import SagaId
from sagabus.coordinator.core.saga.events import UNKNOWN, read_events
from sagabus.coordinator.store.migrations import head, migrate, schema_is_current, schema_version
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.tables import coordinator_tables
from sagabus.messaging.postgres.plain_view import plain_view
from sagabus.messaging.publishing.outbox import unpublished
from tests.messaging.outbox_of_before import outbox_of_before

CATALOG = """
    SELECT 'column' AS what, table_name || '.' || column_name AS name,
        concat_ws(' ', data_type, collation_name, is_nullable, column_default, identity_generation) AS said
    FROM information_schema.columns WHERE table_schema = $1 AND table_name <> 'alembic_version'
    UNION ALL
    SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename <> 'alembic_version'
    UNION ALL
    SELECT 'constraint', conname, pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN pg_class t ON t.oid = conrelid
    WHERE connamespace = $1::regnamespace AND relname <> 'alembic_version'
    UNION ALL
    SELECT 'comment', relname || '.' || attname, col_description(t.oid, attnum)
    FROM pg_attribute a JOIN pg_class t ON t.oid = attrelid
    WHERE relnamespace = $1::regnamespace AND col_description(t.oid, attnum) IS NOT NULL
    UNION ALL
    SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = $1::regnamespace
    UNION ALL
    SELECT 'view', viewname, definition FROM pg_views WHERE schemaname = $1
    ORDER BY 1, 2
"""


async def test_the_migrated_schema_is_the_one_of_the_tables(database: str, namespace: str) -> None:
    await migrate(database, namespace)
    engine = _engine(database)
    async with engine.connect() as connection:
        differences = await connection.run_sync(_differences, namespace)
    await engine.dispose()
    assert differences == []


async def test_the_same_in_every_word_of_the_catalog(database: str, namespace: str) -> None:
    """Alembic compares neither a partial index's predicate nor a collation."""
    await migrate(database, "migrated")
    engine = _engine(database)
    async with engine.begin() as connection:
        await connection.execute(CreateSchema("made"))
        await connection.run_sync(coordinator_tables("made").create_all)
        for statement in plain_view("made"):
            await connection.exec_driver_sql(statement)
    await engine.dispose()
    plain = await asyncpg.connect(database)
    migrated, made = [await _catalog(plain, schema) for schema in ("migrated", "made")]
    await plain.close()
    assert migrated == made
    assert ("index", "saga_open") in {(what, name) for what, name, _ in made}


async def test_migrating_again_does_nothing(database: str, namespace: str) -> None:
    assert await migrate(database, namespace)
    assert not await migrate(database, namespace)


async def test_runs_at_the_same_time_do_not_collide(database: str, namespace: str) -> None:
    done = await asyncio.gather(*(migrate(database, namespace) for _ in range(4)))
    assert sorted(done) == [False, False, False, True]


async def test_namespaces_live_side_by_side_and_public_stays_empty(database: str, namespace: str) -> None:
    await migrate(database, namespace)
    await migrate(database, f"{namespace}_2")
    plain = await asyncpg.connect(database)
    found = await plain.fetch("SELECT schemaname, count(*) FROM pg_tables WHERE tablename = 'saga' GROUP BY 1")
    in_public = await plain.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    await plain.close()
    assert {row[0] for row in found} == {namespace, f"{namespace}_2"}
    assert in_public == 0


async def test_a_failed_migration_leaves_nothing_behind(database: str, namespace: str) -> None:
    plain = await asyncpg.connect(database)
    await plain.execute(f'CREATE SCHEMA "{namespace}"; CREATE TABLE "{namespace}".timer (n int)')
    with pytest.raises(Exception, match="already exists"):
        await migrate(database, namespace)
    tables = await plain.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", namespace)
    await plain.close()
    assert [row[0] for row in tables] == ["timer"]


async def test_a_schema_is_current_or_not(database: str, namespace: str) -> None:
    plain = await asyncpg.connect(database)
    async with plain.transaction():
        assert not await schema_is_current(plain, namespace)
        assert await plain.fetchval("SELECT 1") == 1, "the transaction goes on"
    await migrate(database, namespace)
    assert await schema_is_current(plain, namespace)
    assert await schema_version(plain, namespace) == head()
    await plain.execute(f"UPDATE \"{namespace}\".alembic_version SET version_num = 'of_a_later_release'")
    assert not await schema_is_current(plain, namespace)
    await plain.close()


async def test_sagas_of_before_the_column_of_events_say_that_theirs_are_not_known(database: str) -> None:
    await migrate(database, "sagabus")
    plain = await asyncpg.connect(database)
    await plain.execute(outbox_of_before("sagabus"))
    await plain.execute("""
        DROP INDEX sagabus.saga_attributes;
        ALTER TABLE sagabus.saga DROP COLUMN events;
        UPDATE sagabus.alembic_version SET version_num = '0005';
        INSERT INTO sagabus.saga (id, run, definition, version, fingerprint, status, shard, sequence, last_now,
            input_hash, started_at, paused, trace)
        VALUES ('ORD-1', 'r1', 'order', 1, '', 'running', 1, 1, now(), '', now(), false, '')""")
    assert await migrate(database, "sagabus")
    (found,) = (await Reads("sagabus").sagas(plain, [SagaId("ORD-1")])).values()
    await plain.close()
    assert read_events(found.events) == UNKNOWN


async def test_messages_of_before_the_column_of_records_are_still_there(database: str) -> None:
    await migrate(database, "sagabus")
    plain = await asyncpg.connect(database)
    await plain.execute(outbox_of_before("sagabus"))
    await plain.execute("""
        DROP INDEX sagabus.saga_attributes;
        UPDATE sagabus.alembic_version SET version_num = '0006';
        INSERT INTO sagabus.outbox (shard, position, saga_id, topic, key, headers, value)
        VALUES (1, 7, 'ORD-1', 'out', 'ORD-1', '', '{}')""")
    assert await migrate(database, "sagabus")
    found = await unpublished(plain, "sagabus", 1, 0)
    await plain.close()
    assert found == [(7, Message.of("out", b"ORD-1", b"{}", (), "ORD-1"))]


async def test_a_role_without_the_right_to_make_schemas_may_migrate_its_own(database: str, namespace: str) -> None:
    plain = await asyncpg.connect(database)
    await plain.execute(f"CREATE ROLE {namespace} LOGIN PASSWORD 'p'; CREATE SCHEMA s AUTHORIZATION {namespace}")
    scheme, _, rest = database.partition("://")
    assert await migrate(f"{scheme}://{namespace}:p@{rest.rpartition('@')[2]}", "s")
    await plain.execute(f"DROP OWNED BY {namespace}; DROP ROLE {namespace}")
    await plain.close()


def _engine(url: str) -> AsyncEngine:
    return create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"), poolclass=NullPool)


def _differences(connection: Connection, schema: str) -> list[Any]:
    def ours(name: str | None, kind: str, parents: Any) -> bool:
        return name == schema if kind == "schema" else name != "alembic_version"

    options = {"include_schemas": True, "include_name": ours, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), coordinator_tables(schema)))


async def _catalog(connection: asyncpg.Connection[asyncpg.Record], schema: str) -> list[tuple[str, str, str]]:
    found = await connection.fetch(CATALOG, schema)
    return [(row["what"], row["name"], row["said"].replace(f"{schema}.", "")) for row in found]

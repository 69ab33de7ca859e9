"""docs/postgresql.md: its statements for two roles give the services what they need, and no more."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import pytest

from sagabus.coordinator.store import coordinator_tables
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.postgres import condition
from sagabus.messaging.postgres.database import Database
from tests.support.postgres import PostgresServer

PAGE: Final = (Path(__file__).parents[2] / "docs" / "postgresql.md").read_text()
PASSWORDS: Final = {"shop_owner": "one-secret", "shop_service": "another-secret"}


@pytest.fixture
def roles(postgres: PostgresServer, database: str) -> Iterator[dict[str, str]]:
    """The address of each role of the page; the roles have names of their own here."""
    suffix, name = secrets.token_hex(4), urlsplit(database).path[1:]
    found = re.search(r"```sql before\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    sql = re.sub(r"\b(shop_owner|shop_service)\b", rf"\1_{suffix}", found[1]).replace(
        "DATABASE shop", f'DATABASE "{name}"'
    )
    postgres.psql(sql, database=name)
    yield {
        role: f"postgresql://{role}_{suffix}:{password}@127.0.0.1:{postgres.port}/{name}"
        for role, password in PASSWORDS.items()
    }
    for role in PASSWORDS:
        postgres.psql(f"DROP OWNED BY {role}_{suffix} CASCADE; DROP ROLE {role}_{suffix}", database=name)


async def test_the_two_roles_of_the_page_are_enough(roles: dict[str, str], namespace: str) -> None:
    await migrate(roles["shop_owner"], namespace)
    database = Database(roles["shop_service"])
    tables = [table.name for table in coordinator_tables(namespace).sorted_tables]
    async with database.transaction() as connection:
        assert await condition.missing_rights(connection, namespace, tables) == []
        assert not await condition.may_make_schemas(connection)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction() as connection:
            await connection.execute(f'DROP TABLE "{namespace}".saga')
    await database.stop()

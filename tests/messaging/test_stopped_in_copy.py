"""S4 with a process of its own, stopped in its COPY by SIGSTOP: no timeout of PostgreSQL's frees the shard's row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.messaging.shards_fixture import FIRST, Given, Shards, opened
from tests.support.conditions import until
from tests.support.processes import Child


@pytest.fixture
async def shards(database: str, namespace: str) -> AsyncIterator[Shards]:
    async with opened(database, namespace) as one:
        yield one


@pytest.fixture
async def stopped(shards: Shards, database: str, namespace: str, run_folder: Path) -> AsyncIterator[Child]:
    """It has sent the first rows of its COPY, and stands still."""
    arguments = (database, namespace)
    with Child.python("tests.messaging.copying_process", *arguments, folder=run_folder) as child:
        await child.says("in the copy")
        child.pause()
        await until(lambda: _waits(shards), what="the server waits for the rest of the rows")
        yield child


async def test_s4_who_takes_the_shard_frees_it_from_a_process_stopped_in_copy(shards: Shards, stopped: Child) -> None:
    assert await _locked(shards)
    tenure = await shards.take(claim=replace(FIRST, generation=2))
    assert not await _waits(shards)
    await shards.write({tenure: [Given(offset=0)]})
    stopped.resume()
    await stopped.says("not committed")
    assert await stopped.ended() == 0, stopped.report()
    assert await shards.rows("outbox") == []
    assert (await shards.rows("shard"))[0]["token"] == tenure.token


async def _locked(shards: Shards) -> bool:
    """Whether the shard's row is in somebody's hands."""
    async with shards.database.transaction() as connection:
        free = f'SELECT shard FROM "{shards.schema}".shard FOR NO KEY UPDATE SKIP LOCKED'
        return await connection.fetchval(free) is None


async def _waits(shards: Shards) -> bool:
    async with shards.database.transaction() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND wait_event = 'ClientRead'"
        return bool(await connection.fetchval(f"{query} AND datname = current_database()"))

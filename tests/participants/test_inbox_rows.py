"""Rows of the inbox: found by whatever key they have, and written as they were put."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final

import asyncpg

from sagabus.contracts.envelope import pack_headers
from sagabus.messaging.shards.tenure import Tenure
from sagabus.participants.inbox.decision import KINDS, InboxRow, State
from sagabus.participants.inbox.store import Inbox, InboxRows
from sagabus.participants.received import Key
from tests.participants.service_fixture import ServiceFixture

AT: Final = datetime(2026, 7, 8, 9, 10, 11, 123_456, tzinfo=UTC)
ODD: Final = ("A:r:1", '"', "\\", "'", "a\nb", "{}", "\x01", "ä", "€", "\U0001f600", "x" * 300)
KEYS: Final[list[Key]] = [*product(("/sagabus/shop", *ODD[1:4]), ODD)]
HEADERS: Final = (("ce_id", b"A"), ("x", b"\0\xff"))


def row(number: int, key: Key, state: State) -> InboxRow:
    digest = None if state is State.TOMBSTONE else bytes(range(16))
    reply = None if state in (State.STARTED, State.TOMBSTONE) else b"\0" * number
    return InboxRow(*key, f"shop.ä{number % 3}", state, 2**40 + number, digest, reply)


async def held(
    fixture: ServiceFixture, tenure: Tenure, inbox: Inbox, at: datetime | None, *puts: InboxRow
) -> InboxRows:
    """What the inbox knows of all KEYS; with these written behind it."""
    async with fixture.database.transaction() as connection:
        rows = await inbox.hold(connection, [tenure], dict.fromkeys(KEYS, tenure.shard))
        for one in puts:
            rows.put(one, body=b"\xff{}", headers=HEADERS if one.state is State.STARTED else None)
        if at is not None:
            await inbox.store(connection, rows, at)
    return rows


async def stored_rows(fixture: ServiceFixture) -> list[asyncpg.Record]:
    async with fixture.database.transaction() as connection:
        return await connection.fetch("SELECT * FROM sagabus_shop.inbox")


async def test_new_rows_are_written_as_they_were_put(fixture: ServiceFixture) -> None:
    tenure, inbox = await fixture.take(), Inbox("sagabus_shop")
    wanted = {key: row(number, key, [*State][number % len(State)]) for number, key in enumerate(KEYS)}
    found = await held(fixture, tenure, inbox, None)
    assert {found.row(key) for key in KEYS} == {None}
    await held(fixture, tenure, inbox, AT, *wanted.values())
    found = await held(fixture, tenure, inbox, None)
    assert {key: found.row(key) for key in KEYS} == wanted
    stored = {(one["source"], one["id"]): one for one in await stored_rows(fixture)}
    for key, one in wanted.items():
        started = one.state is State.STARTED
        assert stored[key]["reply_kind"] == KINDS.get(one.state)
        assert stored[key]["command"] == (b"\xff{}" if started else None)
        assert stored[key]["headers"] == (pack_headers(HEADERS) if started else None)
        assert (stored[key]["shard"], stored[key]["at"]) == (tenure.shard, AT)


async def test_rows_may_be_older_than_postgresqls_first_year(fixture: ServiceFixture) -> None:
    tenure, inbox, at = await fixture.take(), Inbox("sagabus_shop"), datetime(1970, 1, 1, tzinfo=UTC)
    await held(fixture, tenure, inbox, at, row(0, KEYS[0], State.COMPLETED))
    await held(fixture, tenure, inbox, at + timedelta(days=9_999), row(1, KEYS[1], State.FAILED))
    assert sorted(one["at"] for one in await stored_rows(fixture)) == [at, at + timedelta(days=9_999)]

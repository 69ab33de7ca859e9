"""examples/plain_participant.py answers as our own participant does: the page on the wire is enough to build one."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import pytest

from examples import plain_participant as plain
from sagabus.contracts import codec
from sagabus.contracts.commands import Addresses, CommandHead, command_message, read_command
from sagabus.contracts.envelope import Message, source_of
from sagabus.contracts.names import CommandKind, RunId, SagaId
from sagabus.contracts.replies import ReplyKind, read_failure
from sagabus.participants.inbox.decision import Act, Answer, Decision, InboxRow, State, judge
from sagabus.shop.contracts import Address, ShipOrder
from tests.core.wire import as_read

DIGEST: Final = b"its value's"
SHIP: Final = ShipOrder(
    order_id="ORD-2", address=Address(street="1-2-3 Dogenzaka", city="Shibuya", postal_code="150-0001", country="Japan")
)
NOWHERE: Final = SHIP.model_copy(update={"address": SHIP.address.model_copy(update={"country": "Atlantis"})})
ROW_ATTEMPT: Final = 2
STATES: Final = (None, State.COMPLETED, State.REFUSED, State.TOMBSTONE)


def command(kind: CommandKind, attempt: int, body: bytes) -> Message:
    addresses = Addresses("sagabus", source_of("sagabus"), SagaId("ORD-2"), RunId("r"), 0)
    activity = "sagabus.settle" if kind is CommandKind.SETTLE else "shipping.ship_order"
    return command_message(
        addresses, service="shipping", activity=activity, step=3, kind=kind, attempt=attempt, issued=1, time=1,
        cause="c", body=body, partition=0,
    )  # fmt: skip


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(database)
    await made.execute(plain.TABLES)
    yield made
    await made.close()


async def answered(connection: asyncpg.Connection, message: Message) -> tuple[str, bytes, int]:
    headers = {name: value.decode() for name, value in message.headers}
    assert plain.fault_of(headers) is None
    return await plain.answer(connection, headers, message.value or b"")


async def bring_into(connection: asyncpg.Connection, state: State | None) -> bytes | None:
    """The inbox row of the step, by a command of attempt 2; its reply."""
    body = codec.encode(NOWHERE if state is State.REFUSED else SHIP)
    if state is None:
        return None
    kind = CommandKind.SETTLE if state is State.TOMBSTONE else CommandKind.DO
    await answered(connection, command(kind, ROW_ATTEMPT, b"null" if state is State.TOMBSTONE else body))
    row = await connection.fetchrow("SELECT state, reply FROM inbox")
    assert row is not None
    assert row["state"] == state
    reply: bytes | None = row["reply"]
    return reply


def expected(decision: Decision, stored: bytes | None, body: bytes) -> tuple[str, bytes | str]:
    """Kind, and the value or the failure's code."""
    match decision:
        case Answer():
            is_stored = decision.outcome.body in (stored, b"null")
            return decision.outcome.kind, decision.outcome.body if is_stored else read_failure(
                decision.outcome.body
            ).code
        case Act.BURY:
            return ReplyKind.NEVER, b"null"
        case _:
            return (ReplyKind.REFUSED, "address_not_served") if b"Atlantis" in body else (ReplyKind.COMPLETED, b"")


@pytest.mark.parametrize("asks", ["the same", "another value", "settle"])
async def test_the_inbox_answers_as_ours(connection: asyncpg.Connection, asks: str) -> None:
    for state, attempt in itertools.product(STATES, (1, 2, 3)):
        await connection.execute("DELETE FROM inbox")
        stored = await bring_into(connection, state)
        same = codec.encode(NOWHERE if state is State.REFUSED else SHIP)
        body = {"the same": same, "another value": codec.encode(SHIP) + b" ", "settle": b"null"}[asks]
        message = command(CommandKind.SETTLE if asks == "settle" else CommandKind.DO, attempt, body)
        digest = b"another" if asks == "another value" else DIGEST
        decision = decided(read_command(as_read(message)), digest, state, stored)

        kind, value, of_attempt = await answered(connection, message)
        wanted, said = expected(decision, stored, body)
        assert (kind, of_attempt) == (wanted, decision.attempt if isinstance(decision, Answer) else attempt), (
            state,
            attempt,
        )
        if isinstance(said, str):
            assert read_failure(value).code == said
        elif said:
            assert value == said


def decided(head: CommandHead, digest: bytes, state: State | None, stored: bytes | None) -> Decision:
    """By our own inbox."""
    name = "shipping.ship_order"
    row = None if state is None else InboxRow(head.source, head.inbox_id, name, state, ROW_ATTEMPT, DIGEST, stored)
    return judge(head, digest, row, pruned_before=None)


def test_a_header_that_says_two_things_makes_no_command() -> None:
    headers = [*command(CommandKind.DO, 1, b"{}").headers]
    assert plain.repeated([*headers, *headers]) is None
    assert plain.repeated([*headers, ("other", b"x"), ("other", b"y")]) is None, "nobody reads it"
    assert plain.repeated([*headers, ("ce_type", b"x")]) == (
        "headers.repeated", "headers stand twice with different values: ce_type",
    )  # fmt: skip


async def test_a_parcel_is_sent_once(connection: asyncpg.Connection) -> None:
    message = command(CommandKind.DO, 1, codec.encode(SHIP))
    assert await answered(connection, message) == await answered(connection, message)
    assert await connection.fetchval("SELECT count(*) FROM parcel") == 1


async def test_an_unknown_activity_is_not_stored(connection: asyncpg.Connection) -> None:
    headers = {name: value.decode() for name, value in command(CommandKind.DO, 1, b"{}").headers}
    kind, value, _ = await plain.answer(connection, headers | {"ce_type": "shipping.fly"}, b"{}")
    assert (kind, read_failure(value).code) == ("failed", "sagabus.no_handler")
    assert await connection.fetchval("SELECT count(*) FROM inbox") == 0

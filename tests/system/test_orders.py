"""A thousand orders and a hundred approvals through separate processes, on a real Kafka and a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg

from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.system import accounts
from tests.system.deployment import Deployment, until_all_ended
from tests.system.orders import send_by_crc32, send_orders, some_orders

STOCK = 1_000_000


async def test_s12_every_order_ends_and_the_ledgers_balance_whoever_hashed_the_key(
    kafka_installation: KafkaInstallation, database: str, tmp_path: Path
) -> None:
    orders = some_orders(1_000)
    approvals = [f"EXP-{number}" for number in range(1, 101)]
    with KafkaBroker(kafka_installation, tmp_path / "kafka") as broker:
        async with Deployment(kafka=broker.address, database=database, folder=tmp_path / "services") as deployment:
            connection = await asyncpg.connect(database)
            await connection.execute("UPDATE inventory_stock SET free = $1", STOCK)
            await deployment.coordinator()
            await deployment.all_participants()

            await send_orders(broker.address, orders)
            send_by_crc32(broker.address, [(id, start(id)) for id in approvals])
            send_by_crc32(broker.address, [(id, answer(id)) for id in approvals])
            await until_all_ended(connection, len(orders) + len(approvals), within=120)

            await accounts.check_statuses(connection, orders)
            await accounts.check_ledgers(connection, orders)
            await accounts.check_stock(connection, STOCK)
            await check_approvals(connection, approvals)
            check_forwarded(broker.address, at_least=len(approvals))
            told = accounts.read_all(broker.address, ["sagabus.events", *accounts.EVENT_TOPICS])
            accounts.check_sequences(told, [*(order.id for order in orders), *approvals])
            accounts.check_domain_events(told, orders)
            assert not accounts.read_all(broker.address, ["sagabus.dead-letters"]).records
            await connection.close()


def check_forwarded(kafka: str, *, at_least: int) -> None:
    """S12. What librdkafka's CRC32 had put elsewhere came to its saga's partition, each record once."""
    found = [
        headers["ce_forwarded"]
        for headers, _ in accounts.records_of(kafka, ["sagabus.requests"])
        if "ce_forwarded" in headers
    ]
    assert len(found) == len(set(found)) >= at_least


def start(id: str) -> dict[str, Any]:
    expense = {"expense_id": id, "approver": "Ann", "manager": "Bo"}
    return {"type": "start", "saga": "expense_approval", "input": expense}


def answer(id: str) -> dict[str, Any]:
    """Every third is cancelled, the others are approved or not."""
    number = int(id.removeprefix("EXP-"))
    if number % 3 == 0:
        return {"type": "cancel", "reason": "no longer needed"}
    return {"type": "event", "name": "approvals.decided", "data": {"approved": number % 2 == 0, "by": "Ann"}}


async def check_approvals(connection: asyncpg.Connection[asyncpg.Record], ids: list[str]) -> None:
    rows = await connection.fetch("SELECT id, status, result FROM sagabus.saga WHERE id LIKE 'EXP-%'")
    found = {row["id"]: (row["status"], (row["result"] or b"").decode()) for row in rows}
    assert found == {id: expected(id) for id in ids}


def expected(id: str) -> tuple[str, str]:
    number = int(id.removeprefix("EXP-"))
    if number % 3 == 0:
        return "cancelled", ""
    approved = "true" if number % 2 == 0 else "false"
    return "completed", f'{{"approved":{approved},"escalated":false}}'

"""What can never be published, and what cannot be understood, on a real Kafka: one saga waits, the others do not.

Separate processes. The cure is an operator's, by the commands that the messages name.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from sagabus.commands.main import parser
from sagabus.commands.subcommand import Exit
from tests.support.conditions import until
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.system import accounts
from tests.system.deployment import Deployment
from tests.system.orders import REQUESTS, Fate, Order, send_orders

LIMIT = 4_000
"""Bytes that inventory.commands takes: enough for an order's command, not for one of a hundred items."""

Command = Callable[..., Awaitable[str]]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.mark.ring("faults")
async def test_s8_one_saga_parks_and_one_letter_is_dead_and_both_are_cured(
    kafka_installation: KafkaInstallation,
    database: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def command(*words: str) -> str:
        """`sagabus dead-letters`, in this process: a start of Python for each would take longer than all the rest."""
        capsys.readouterr()
        options = parser(["dead-letters"]).parse_args(["dead-letters", *words])
        assert await options.subcommand.run(options) == Exit.DONE
        return capsys.readouterr().out

    monkeypatch.setenv("SAGABUS_DATABASE", database)
    with KafkaBroker(kafka_installation, tmp_path / "kafka") as broker:
        async with Deployment(kafka=broker.address, database=database, folder=tmp_path / "services") as deployment:
            monkeypatch.setenv("SAGABUS_KAFKA", broker.address)
            connection = await asyncpg.connect(database)
            await connection.execute("UPDATE inventory_stock SET free = 1000000")
            await deployment.coordinator()
            await deployment.all_participants()
            await send(broker.address, "EXP-1", approval("EXP-1"))  # so the coordinator knows the topic that will go
            await until(lambda: has_asked(connection, "EXP-1"), within=60)

            limit(broker, LIMIT)
            broker.delete_topics("approvals.commands")
            orders = [Order(number, Fate.COMPLETED) for number in range(1, 22)]
            large, others = orders[0], orders[1:]
            await send(broker.address, "EXP-2", approval("EXP-2"))
            await send(broker.address, large.id, of_many_items(large))
            await send_orders(broker.address, others)
            await send(broker.address, "ORD-90", b'{"type": "start", "saga": "order_processing", "input": {')

            await until(lambda: ended(connection, others), within=60, what="the other sagas have ended")
            await parked_visibly(command, connection, large.id, "inventory.commands", "too_large")
            await parked_visibly(command, connection, "EXP-2", "approvals.commands", "unknown_topic")
            await a_letter_is_repaired(command, connection, tmp_path)

            limit(broker, 1_000_000)
            await deployment.make_topics()
            await command("unpark", large.id, "--reason", "the limit is higher")
            await command("unpark", "--all", "--topic", "approvals.commands", "--reason", "made again")
            await until(lambda: ended(connection, orders), within=60, what="the order that was parked has ended")
            await until(lambda: has_asked(connection, "EXP-2"), within=60)
            await until(lambda: on_attention(connection, 0), within=30)
            assert json.loads(await command("parked", "--json")) == []

            await accounts.check_ledgers(connection, [*orders, Order(90, Fate.COMPLETED)])
            told = accounts.read_all(broker.address, ["sagabus.events"])
            accounts.check_sequences(told, [*(order.id for order in orders), "EXP-1", "EXP-2", "ORD-90"])
            await connection.close()


async def a_letter_is_repaired(command: Command, connection: Connection, folder: Path) -> None:
    """Listed, shown, repaired, sent again: its saga completes."""
    await until(lambda: letters(connection, 1), within=30)
    (letter,) = json.loads(await command("list", "--json"))["letters"]
    assert (letter["reason"], letter["key"]) == ("payload.not_json", "ORD-90")
    assert "usual cure: replay it repaired" in await command("show", str(letter["id"]))
    repaired = folder / "ORD-90.json"
    repaired.write_text(json.dumps(Order(90, Fate.COMPLETED).request))
    await command("replay", str(letter["id"]), "--value", str(repaired))
    await until(lambda: ended(connection, [Order(90, Fate.COMPLETED)]), within=30, what="ORD-90 has ended")
    assert await letters(connection, 0)


async def parked_visibly(command: Command, connection: Connection, saga: str, topic: str, reason: str) -> None:
    await until(lambda: on_attention(connection, 2), within=60)
    attention = await connection.fetchval("SELECT attention FROM sagabus.saga WHERE id = $1", saga)
    assert f"a message to {topic} can never be published: {reason}" in attention
    listed = json.loads(await command("parked", "--topic", topic, "--json"))
    assert [one["saga_id"] for one in listed] == [saga]
    assert reason in listed[0]["reason"]


def approval(id: str) -> dict[str, Any]:
    expense = {"expense_id": id, "approver": "Ann", "manager": "Bo"}
    return {"type": "start", "saga": "expense_approval", "input": expense}


def of_many_items(order: Order) -> dict[str, Any]:
    request = order.request
    request["input"]["items"][:1] = [{"product_id": "PROD-1", "quantity": 1, "unit_price": 0.01}] * 99
    return request


async def send(kafka: str, key: str, value: dict[str, Any] | bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    await producer.send_and_wait(REQUESTS, raw, key=key.encode())
    await producer.stop()


def limit(broker: KafkaBroker, size: int) -> None:
    """Of what inventory.commands takes."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "inventory.commands", incremental_configs=[entry])
    admin = broker.admin()
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)


async def ended(connection: Connection, orders: list[Order]) -> bool:
    ids = [order.id for order in orders]
    completed = "SELECT count(*) FROM sagabus.saga WHERE id = ANY ($1) AND status = 'completed'"
    return bool(await connection.fetchval(completed, ids) == len(ids))


async def has_asked(connection: Connection, saga: str) -> bool:
    asked = "SELECT count(*) FROM sagabus.history WHERE id = $1 AND kind = 'step.completed'"
    return bool(await connection.fetchval(asked, saga) == 1)


async def on_attention(connection: Connection, count: int) -> bool:
    found = await connection.fetchval("SELECT count(*) FROM sagabus.saga WHERE attention IS NOT NULL")
    return bool(found == count)


async def letters(connection: Connection, count: int) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM sagabus.dead_letter") == count)

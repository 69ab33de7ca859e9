"""migrate, topics, coordinator and participant: a deployment of separate processes on a real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest

from sagabus.client import SagaClient
from sagabus.commands.main import main
from sagabus.commands.subcommand import Exit
from sagabus.shop.contracts import Address, Order, OrderItem, order_processing
from tests.support.kafka_broker import KafkaBroker
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.processes import Child

SHOP = [f"sagabus.shop.{name}" for name in ("inventory", "payment", "shipping")]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SAGABUS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def settings(kafka: str, database: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Of a deployment of this test's own, in this process and for its children."""
    settings = {
        "SAGABUS_KAFKA": kafka,
        "SAGABUS_DATABASE": database,
        "SAGABUS_NAMESPACE": namespace,
        "SAGABUS_PARTITIONS": "4",
        "SAGABUS_HTTP": f"127.0.0.1:{free_port()}",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return settings


@pytest.fixture
def shop_topics(kafka_broker: KafkaBroker) -> Iterator[None]:
    """Topics of services bear no namespace: none is there before, none afterwards."""

    def theirs() -> list[str]:
        return [
            name for name in kafka_broker.topics() if name.partition(".")[0] in ("inventory", "payment", "shipping")
        ]

    if theirs():
        kafka_broker.delete_topics(*theirs())
    yield
    if theirs():
        kafka_broker.delete_topics(*theirs())


def order(order_id: str) -> Order:
    item = OrderItem(product_id="PROD-1", quantity=2, unit_price=Decimal("29.99"))
    address = Address(street="1-2-3", city="Shibuya", postal_code="150-0001", country="Japan")
    return Order(order_id=order_id, customer_email="a@b", items=[item], shipping_address=address)


@pytest.mark.usefixtures("settings")
def test_migrate_makes_the_schemas_and_may_be_repeated(
    database: str, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["migrate"]) == Exit.DONE
    assert capsys.readouterr().out == f"schema {namespace}: tables are made\n"
    assert main(["migrate", "sagabus.shop.inventory", "--json"]) == Exit.DONE
    second = json.loads(capsys.readouterr().out)
    service = "sagabus_inventory"
    assert second == {"schema": namespace, "changed": False, "participants": [service], "made": [service]}
    assert main(["migrate", "sagabus.shop.inventory"]) == Exit.DONE
    assert capsys.readouterr().out == "".join(
        f"schema {schema}: tables are up to date\n" for schema in (namespace, "sagabus_inventory")
    )


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(("option", "there"), [([], False), (["--tables"], True)])
def test_migrate_leaves_business_tables_to_their_owner_unless_asked(
    database: str, option: list[str], there: bool
) -> None:
    assert main(["migrate", *option, "sagabus.shop.inventory"]) == Exit.DONE
    assert asyncio.run(_has(database, "inventory_ledger")) is there
    assert asyncio.run(_has(database, "sagabus_inventory.inbox"))


async def _has(database: str, table: str) -> bool:
    connection = await asyncpg.connect(database)
    found = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table)
    await connection.close()
    return bool(found)


@pytest.mark.usefixtures("settings")
def test_a_role_that_may_not_make_schemas_is_told_so_in_one_message(
    database: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    role = f"guest_{secrets.token_hex(4)}"
    postgres.psql(f"CREATE ROLE {role} LOGIN PASSWORD 'guest'")
    monkeypatch.setenv("SAGABUS_DATABASE", re.sub(r"//.*@", f"//{role}:guest@", database))
    try:
        assert main(["migrate"]) == Exit.REFUSED
    finally:
        postgres.psql(f"DROP ROLE {role}")
    said = capsys.readouterr().err
    assert "permission denied" in said
    assert len(said.splitlines()) == 1


@pytest.mark.usefixtures("settings", "shop_topics")
def test_s11_topics_are_made_once_and_another_number_is_refused_with_the_cure(
    kafka_broker: KafkaBroker, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["topics", "sagabus.shop.contracts", "--json"]) == Exit.DONE
    made = json.loads(capsys.readouterr().out)
    assert {topic["partitions"] for topic in made.values()} == {4}
    own = {f"{namespace}.{name}" for name in ("requests", "events", "dead-letters", "replies.sagabus")}
    theirs = {f"{s}.{n}" for s in ("inventory", "payment", "shipping") for n in ("commands", "events")}
    replies = {f"{namespace}.replies.{service}" for service in ("inventory", "payment", "shipping")}
    assert made.keys() == own | theirs | replies
    assert kafka_broker.topics() >= made.keys()
    assert main(["topics", "sagabus.shop.contracts"]) == Exit.DONE
    assert "inventory.commands: is there, 4 partitions" in capsys.readouterr().out
    monkeypatch.setenv("SAGABUS_PARTITIONS", "6")
    assert main(["topics", "sagabus.shop.contracts"]) == Exit.REFUSED
    assert "set SAGABUS_PARTITIONS=4" in capsys.readouterr().err


@pytest.mark.usefixtures("settings", "shop_topics")
@pytest.mark.parametrize("command", [["coordinator", "sagabus.shop.order_processing"], ["participant", *SHOP]])
def test_a_service_without_its_tables_or_topics_names_the_command(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == Exit.USAGE
    assert "sagabus migrate" in capsys.readouterr().err
    assert main(["migrate", *SHOP]) == Exit.DONE
    assert main(command) == Exit.USAGE
    assert "sagabus topics" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["coordinator", "participant", "migrate", "topics"])
def test_missing_settings_are_named_before_anything_is_reached(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *SHOP]) == Exit.USAGE
    said = capsys.readouterr().err
    assert "is not set" in said
    assert "Traceback" not in said


def test_embedded_outside_a_host_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SAGABUS_KAFKA", "embedded")
    monkeypatch.setenv("SAGABUS_DATABASE", "embedded:data")
    assert main(["coordinator", "sagabus.shop.order_processing"]) == Exit.USAGE
    assert "no host runs here" in capsys.readouterr().err


@pytest.mark.usefixtures("shop_topics")
async def test_orders_go_through_separate_processes_which_drain_on_sigterm(
    settings: Mapping[str, str], run_folder: Path
) -> None:
    def run(*words: str) -> Child:
        return Child.python("sagabus.commands.main", *words, folder=run_folder, name=words[0], settings=settings)

    for preparation in (run("migrate", "--tables", *SHOP), run("topics", *SHOP)):
        assert await preparation.ended() == Exit.DONE, preparation.report()
    with run("coordinator", "sagabus.shop.order_processing") as coordinator, run("participant", *SHOP) as participants:
        async with SagaClient(http=f"http://{settings['SAGABUS_HTTP']}") as client:
            handles = [await client.start(order_processing.of(order(f"ORD-{n}")), id=f"ORD-{n}") for n in range(20)]
            results = [await handle.result(timeout=60) for handle in handles]
        assert [result.confirmation_number for result in results] == [f"TRACK-ORD-{n}" for n in range(20)]
        for service in (coordinator, participants):
            service.terminate()
        for service in (coordinator, participants):
            assert await service.ended() == Exit.DONE, service.report()
            assert "Traceback" not in service.stderr

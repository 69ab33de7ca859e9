"""Starting sagas, talking to them and hearing of their ends, from a program that knows contracts and nothing else."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel

from sagabus.client import NoSuchSaga, SagaClient, SagaFailed, SagaHandle, StartRejected
from sagabus.contracts import SagaType
from sagabus.contracts.errors import MessageInvalid
from sagabus.messaging.embedded.run_file import read_run
from sagabus.messaging.settings import SettingsError
from sagabus.shop.approval import Expense, Outcome, decided, expense_approval
from sagabus.shop.contracts import Address, Order, OrderItem, OrderResult, order_processing
from tests.support.conditions import until
from tests.support.dev_host import DevHost


def order(order_id: str, *, country: str = "Japan", quantity: int = 2) -> Order:
    item = OrderItem(product_id="PROD-1", quantity=quantity, unit_price=Decimal("29.99"))
    address = Address(street="1-2-3", city="Shibuya", postal_code="150-0001", country=country)
    return Order(order_id=order_id, customer_email="a@b", items=[item], shipping_address=address)


def expense(id: str) -> Expense:
    return Expense(expense_id=id, approver="ann", manager="max")


async def test_a_result_is_of_the_declared_type(client: SagaClient) -> None:
    handle = await client.start(order_processing.of(order("ORD-1")), id="ORD-1")
    result = await handle.result(timeout=30)
    assert result == OrderResult(
        order_id="ORD-1", status="completed", total_amount=Decimal("59.98"), confirmation_number="TRACK-ORD-1"
    )
    assert (await client.saga("ORD-1").result(timeout=30))["confirmation_number"] == "TRACK-ORD-1"


async def test_an_equal_start_is_the_same_saga(client: SagaClient) -> None:
    first = await client.start(order_processing.of(order("ORD-2")), id="ORD-2")
    second = await client.start(order_processing.of(order("ORD-2")), id="ORD-2")
    assert await first.result(timeout=30) == await second.result(timeout=30)


async def test_another_input_under_the_same_id_is_rejected(client: SagaClient) -> None:
    first = await client.start(order_processing.of(order("ORD-3")), id="ORD-3")
    await first.result(timeout=30)
    other = await client.start(order_processing.of(order("ORD-3", quantity=5)), id="ORD-3")
    with pytest.raises(StartRejected, match="ORD-3"):
        await other.result(timeout=30)


class Loose(BaseModel):
    order_id: str


async def test_a_start_that_the_coordinator_rejects_is_heard_of(client: SagaClient) -> None:
    """Its contract is another one there: the request is a dead letter, and no saga will ever come of it."""
    other: SagaType[..., Loose, OrderResult] = SagaType("order_processing", Loose, OrderResult)
    handle = await client.start(other.of(Loose(order_id="ORD-9")), id="ORD-9")
    with pytest.raises(StartRejected, match=r"ORD-9 was rejected: payload\.invalid"):
        await handle.result(timeout=30)


async def test_a_saga_that_was_undone_says_why(client: SagaClient) -> None:
    handle = await client.start(order_processing.of(order("ORD-4", country="Atlantis")), id="ORD-4")
    with pytest.raises(SagaFailed) as failure:
        await handle.result(timeout=30)
    error = failure.value
    assert (error.saga_id, error.status, error.code) == ("ORD-4", "compensated", "address_not_served")
    assert "Atlantis" in error.message


async def test_the_wait_can_run_out_while_the_saga_goes_on(client: SagaClient) -> None:
    handle = await client.start(expense_approval.of(expense("EXP-1")), id="EXP-1")
    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.3)
    await client.send("EXP-1", decided(approved=False, by="ann"))
    assert await handle.result(timeout=30) == Outcome(approved=False, escalated=False)


async def test_an_event_that_came_before_its_saga_counts_once(client: SagaClient) -> None:
    for _ in range(2):
        await client.send("EXP-2", decided(approved=True, by="ann"), event_id="decision")
    handle = await client.start(expense_approval.of(expense("EXP-2")), id="EXP-2")
    assert await handle.result(timeout=30) == Outcome(approved=True, escalated=False)


async def test_a_cancelled_saga_says_so(client: SagaClient) -> None:
    handle = await client.start(expense_approval.of(expense("EXP-3")), id="EXP-3")
    await client.cancel("EXP-3", reason="left the company")
    with pytest.raises(SagaFailed) as failure:
        await handle.result(timeout=30)
    assert (failure.value.status, failure.value.message) == ("cancelled", "left the company")


async def test_one_client_serves_many_tasks(client: SagaClient) -> None:
    async def place(id: str) -> OrderResult:
        handle: SagaHandle[OrderResult] = await client.start(order_processing.of(order(id)), id=id)
        return await handle.result(timeout=60)

    ids = [f"ORD-{number}" for number in range(100, 120)]
    assert [result.order_id for result in await asyncio.gather(*map(place, ids))] == ids


async def test_what_was_never_started_has_no_result(client: SagaClient) -> None:
    handle = client.saga("ORD-404")
    with pytest.raises((NoSuchSaga, TimeoutError)):
        await handle.result(timeout=1)


async def test_an_id_that_cannot_be_one_is_refused_at_once(client: SagaClient) -> None:
    with pytest.raises(MessageInvalid, match="saga id"):
        await client.start(order_processing.of(order("ORD-1")), id="no spaces")


@pytest.mark.usefixtures("client")
async def test_without_the_coordinators_address_a_result_cannot_be_had(host: DevHost) -> None:
    run = read_run(host.folder / ".sagabus")
    assert run is not None
    address = run.kafka
    async with SagaClient(address) as blind:
        handle = await blind.start(order_processing.of(order("ORD-5")), id="ORD-5")
        with pytest.raises(SettingsError, match="SAGABUS_URL is not set"):
            await handle.result()
    async with SagaClient(address, http=host.url) as seeing:
        assert (await seeing.saga("ORD-5").result(timeout=30))["status"] == "completed"


def test_without_kafka_the_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAGABUS_KAFKA", raising=False)
    with pytest.raises(SettingsError, match="SAGABUS_KAFKA is not set"):
        SagaClient()
    with pytest.raises(SettingsError, match="no host runs here"):
        SagaClient("embedded")


@pytest.mark.ring("faults")
async def test_a_wait_outlives_a_restart_and_so_does_the_saga(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with DevHost(folder) as host:
        async with SagaClient("embedded") as client:
            handle = await client.start(expense_approval.of(expense("EXP-1")), id="EXP-1")
            waiting = asyncio.create_task(handle.result(timeout=60))
            await until(lambda: "asked ann about EXP-1" in host.process.stderr, what="the saga is under way")
            await asyncio.to_thread(host.stop)
            await asyncio.to_thread(host.start)
            async with SagaClient("embedded") as other:
                await other.send("EXP-1", decided(approved=True, by="ann"))
            assert await waiting == Outcome(approved=True, escalated=False)
    assert host.process.stderr.count("asked ann about EXP-1") == 1

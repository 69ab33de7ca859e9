"""A web service that starts sagas: it imports contracts and the client, never the coordinator."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sagabus.client import SagaClient, SagaFailed

from .approval import decided
from .contracts import Order, OrderResult, order_processing


@asynccontextmanager
async def client() -> AsyncGenerator[SagaClient, None]:
    async with SagaClient() as one:
        yield one


async def place(client: SagaClient, order: Order) -> OrderResult | None:
    handle = await client.start(order_processing.of(order), id=order.order_id)
    try:
        return await handle.result(timeout=30)
    except SagaFailed as failed:
        print(failed.saga_id, failed.status, failed.code, failed.message)
        return None


async def decide(client: SagaClient, expense_id: str) -> None:
    await client.send(expense_id, decided(approved=True, by="me"), event_id="1")
    await client.cancel(expense_id, reason="changed my mind")

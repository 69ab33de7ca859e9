"""One client, used by very many tasks at once, on a real broker: everybody's request is published, and once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from sagabus.client import ClientMisuse, SagaClient
from sagabus.contracts import names
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.shop.approval import decided, expense_approval
from tests.client.test_client import expense
from tests.messaging.clusters import read, real_kafka
from tests.support.dev_host import DevHost

MANY = 10_000


@pytest.fixture
async def shared(kafka: str, namespace: str) -> AsyncIterator[SagaClient]:
    await real_kafka(kafka).create_topics({names.requests_topic(namespace): TopicSpec(12)})
    async with SagaClient(kafka, namespace=namespace) as client:
        yield client


async def test_ten_thousand_concurrent_starts_are_as_many_requests(
    shared: SagaClient, kafka: str, namespace: str
) -> None:
    async def start(number: int) -> None:
        await shared.start(expense_approval.of(expense(f"EXP-{number}")), id=f"EXP-{number}")

    begun = time.monotonic()
    async with asyncio.timeout(120):  # a guard against hanging: it takes some seconds
        await asyncio.gather(*map(start, range(MANY)))
    print(f"{MANY} starts in {time.monotonic() - begun:.2f} s")
    keys = await published(kafka, namespace)
    assert Counter(keys) == {f"EXP-{number}": 1 for number in range(MANY)}


async def test_concurrent_events_of_one_saga_keep_the_order_of_their_calls(
    shared: SagaClient, kafka: str, namespace: str
) -> None:
    calls = [
        shared.send(f"EXP-{number % 7}", decided(approved=True, by=str(number)), event_id=str(number))
        for number in range(1_000)
    ]
    await asyncio.gather(*calls)
    order: dict[str, list[int]] = {}
    for records in (await read(real_kafka(kafka), names.requests_topic(namespace))).values():
        for record in records:
            ids = [int(value or b"") for name, value in record.headers if name == "ce_id"]
            order.setdefault((record.key or b"").decode(), []).extend(ids)
    assert order == {f"EXP-{saga}": list(range(saga, 1_000, 7)) for saga in range(7)}


async def test_callers_that_stop_waiting_harm_nobody(shared: SagaClient, kafka: str, namespace: str) -> None:
    """Every other one is cancelled while it waits."""
    calls = [asyncio.create_task(shared.cancel(f"S-{number}", reason="r")) for number in range(2_000)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends[::2])
    assert [end for end in ends[1::2] if end is not None] == []
    assert {f"S-{number}" for number in range(1, 2_000, 2)} <= set(await published(kafka, namespace))


async def test_leaving_waits_for_what_is_being_published(shared: SagaClient, kafka: str, namespace: str) -> None:
    async with SagaClient(kafka, namespace=namespace) as client:
        calls = [asyncio.create_task(client.cancel(f"S-{number}", reason="r")) for number in range(1_000)]
        await shared.cancel("other", reason="r")
    await asyncio.gather(*calls)
    assert {f"S-{number}" for number in range(1_000)} <= set(await published(kafka, namespace))


async def test_a_closed_client_says_so(kafka: str, namespace: str) -> None:
    client = SagaClient(kafka, namespace=namespace)
    async with client:
        pass
    with pytest.raises(ClientMisuse, match="was closed: use it inside its `async with` block"):
        await client.cancel("S", reason="r")
    with pytest.raises(ClientMisuse, match="was closed"):
        await client.saga("S").result()


async def test_a_client_belongs_to_one_event_loop(shared: SagaClient) -> None:
    def elsewhere() -> None:
        asyncio.run(shared.cancel("S", reason="r"))

    with pytest.raises(ClientMisuse, match="another event loop: make one client for each event loop"):
        await asyncio.to_thread(elsewhere)
    await shared.cancel("S", reason="r")


async def test_two_hundred_starts_at_once_over_http_are_all_accepted(host: DevHost) -> None:
    """On the embedded bus and database."""
    count = 200
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=host.url, timeout=60, limits=limits) as http:

        async def start(number: int) -> int:
            body = {
                "saga": "expense_approval",
                "id": f"EXP-{90_000 + number}",
                "input": expense(f"EXP-{90_000 + number}").model_dump(),
            }
            return (await http.post("/api/v1/sagas", json=body)).status_code

        assert await asyncio.gather(*map(start, range(count))) == [202] * count


async def published(kafka: str, namespace: str) -> list[str]:
    """The keys of all requests."""
    found = await read(real_kafka(kafka), names.requests_topic(namespace))
    return [(record.key or b"").decode() for records in found.values() for record in records]

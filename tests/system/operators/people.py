"""Operators who ask over HTTP, of either coordinator, or on the topic; and what each was told.

Whoever hears nothing, because the coordinator has died, asks the other one again with the same id.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import httpx
from confluent_kafka import KafkaException, Producer

from tests.support.conditions import until
from tests.system.operators.verb_plan import Ask, Way
from tests.system.orders import REQUESTS

API: Final = "/api/v1/sagas"
UNREACHABLE: Final = 503
"""The coordinator is being started or stopped, or its Kafka or its database is not to be reached."""

TIMEOUT: Final = 30.0
"""Seconds of one call. A verb's answer is there after five."""


@dataclass(frozen=True)
class Answer:
    """What a caller was told. outcome: applied, kept or unknown; empty with an error. code: of the error."""

    status: int
    outcome: str = ""
    code: str = ""

    @classmethod
    def of(cls, response: httpx.Response) -> Answer:
        body = response.json()
        error = body.get("error") or {}
        return cls(response.status_code, str(body.get("outcome") or ""), str(error.get("code") or ""))


@dataclass
class People:
    """asked: all requests by id. told: the answers to each, of every copy. met_dead: asks of a coordinator that was
    not there, or that died while it was asked."""

    coordinators: Sequence[httpx.AsyncClient]
    kafka: str
    asked: dict[str, Ask] = field(default_factory=dict)
    told: defaultdict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    met_dead: int = 0

    def __post_init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": self.kafka, "partitioner": "murmur2_random", "log_level": 0})

    async def ask(self, asks: Iterable[Ask]) -> None:
        """All at once. Returns when each has been answered, or published."""
        asks = [*asks]
        self.asked.update((one.id, one) for one in asks)
        await asyncio.gather(*(
            self._over_http(one, one.to + copy) for one in asks if one.way is Way.HTTP for copy in range(one.copies)
        ))  # fmt: skip
        for one in asks:
            if one.way is Way.TOPIC:
                run = {} if one.run is None else {"run": one.run}
                self.publish(one.saga, {"type": one.verb, **one.fields, **run}, id=one.id, copies=one.copies)

    async def look_up(self, one: Ask) -> Answer:
        """What a coordinator says of a request that was made before."""
        return Answer.of(await self._answered("GET", f"{API}/{one.saga}/requests/{one.id}", one.to))

    async def sagas(self, status: str) -> list[dict[str, Any]]:
        """As the list has them, with what each waits for."""
        response = await self._answered("GET", API, 0, params={"status": status, "limit": 500})
        assert response.is_success, response.text
        page = response.json()
        assert page["next"] is None
        found: list[dict[str, Any]] = page["sagas"]
        return found

    def publish(self, saga: str, body: Mapping[str, Any], *, id: str, copies: int = 1) -> None:
        """A request on the topic."""
        headers: list[tuple[str, str | bytes | None]] = [("ce_id", id.encode())]
        for _ in range(copies):
            self._producer.produce(REQUESTS, json.dumps(body).encode(), saga.encode(), headers=headers)
        self._producer.poll(0)

    def reply(self, topic: str, partition: int, saga: str, command: str, body: Mapping[str, Any]) -> None:
        """A participant's word that this command has completed."""
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_id", f"{command}:said".encode()), ("ce_type", b"sagabus.reply.completed"),
            ("ce_causationid", command.encode()), ("ce_attempt", b"1"),
        ]  # fmt: skip
        self._producer.produce(topic, json.dumps(body).encode(), saga.encode(), partition, headers=headers)
        self._producer.poll(0)

    def flush(self) -> None:
        """Returns when Kafka has acknowledged everything."""
        if left := self._producer.flush(TIMEOUT):
            raise KafkaException(f"{left} records are not acknowledged after {TIMEOUT:g} s")

    async def _over_http(self, one: Ask, to: int) -> None:
        params = {} if one.run is None else {"run": one.run}
        body = {**one.fields, "request_id": one.id}
        response = await self._answered("POST", f"{API}/{one.saga}/{one.verb}", to, params=params, json=body)
        self.told[one.id].append(Answer.of(response))

    async def _answered(self, method: str, path: str, to: int, **options: Any) -> httpx.Response:
        """By whichever coordinator lives, that one first."""
        turns = count(to)

        async def once() -> httpx.Response | None:
            client = self.coordinators[next(turns) % len(self.coordinators)]
            try:
                response = await client.request(method, path, **options)
            except httpx.TransportError:
                self.met_dead += 1
                return None
            return None if response.status_code == UNREACHABLE else response

        return await until(once, what=f"{method} {path} is answered")


@asynccontextmanager
async def people(urls: Iterable[str], kafka: str) -> AsyncIterator[People]:
    """urls: of the coordinators."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=TIMEOUT)) for url in urls
        ]  # fmt: skip
        yield People(clients, kafka)

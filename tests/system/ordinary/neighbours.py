"""A saga of one step every 100 ms, and how long each takes from its request to its end, as the topic of events says."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.support.conditions import until
from tests.system.orders import REQUESTS

EVERY_SECONDS = 0.1
ORDINARY_PAUSE_SECONDS = 0.5
COMPLETED = b"sagabus.saga.completed"
EVENTS = "sagabus.events"


@dataclass
class Neighbour:
    """sent, ended: by the monotonic clock; ended is None while it is open."""

    sent: float
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """Until its end, or until now."""
        return (time.monotonic() if self.ended is None else self.ended) - self.sent


class Neighbours:
    """`start` and `stop`. Their ids differ in all digits, so they are spread over all shards."""

    def __init__(self, kafka: str, *, prefix: str = "ONE") -> None:
        self.sagas: dict[str, Neighbour] = {}
        self._prefix = prefix
        self._producer = AIOKafkaProducer(bootstrap_servers=kafka)
        self._consumer = AIOKafkaConsumer(EVENTS, bootstrap_servers=kafka, auto_offset_reset="latest")
        self._sending: asyncio.Task[None] | None = None
        self._hearing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._producer.start()
        await self._consumer.start()
        for place in self._consumer.assignment():
            await self._consumer.position(place)  # "latest" is wherever it is asked first
        self._sending = asyncio.create_task(self._send(), name="neighbours' requests")
        self._hearing = asyncio.create_task(self._hear(), name="neighbours' ends")

    async def stop(self, *, within: float = 60.0) -> None:
        """No new ones; returns when all have ended."""
        await self._end(self._sending)
        await until(lambda: not self.open, within=within, what="all neighbours have ended")

    async def close(self) -> None:
        await self._end(self._sending)
        await self._end(self._hearing)
        await self._producer.stop()
        await self._consumer.stop()

    @property
    def open(self) -> list[str]:
        return [id for id, one in self.sagas.items() if one.ended is None]

    def ended_since(self, moment: float) -> bool:
        """Whether one that was sent after this moment has ended."""
        return any(one.sent >= moment and one.ended is not None for one in self.sagas.values())

    def slowest(self, since: float = 0.0, to: float = float("inf")) -> float:
        """Seconds that one took at most, of those sent between these two moments."""
        return max((one.seconds for one in self.sagas.values() if since <= one.sent < to), default=0.0)

    def stood_still(self, since: float) -> float:
        """Seconds in all, from this moment to now, in which none ended for longer than half a second at a time."""
        ends = sorted(one.ended for one in self.sagas.values() if one.ended is not None and one.ended >= since)
        pauses = (later - earlier for earlier, later in pairwise([since, *ends, time.monotonic()]))
        return sum(pause for pause in pauses if pause > ORDINARY_PAUSE_SECONDS)

    async def _send(self) -> None:
        body = json.dumps({"type": "start", "saga": "one", "input": {"size": 1}}).encode()
        while True:
            id = f"{self._prefix}-{len(self.sagas) + 1}"
            self.sagas[id] = Neighbour(time.monotonic())
            await self._producer.send(REQUESTS, body, key=id.encode())
            await asyncio.sleep(EVERY_SECONDS)

    async def _hear(self) -> None:
        async for record in self._consumer:
            saga = self.sagas.get((record.key or b"").decode())
            if saga is not None and (COMPLETED in dict(record.headers).values()):
                saga.ended = saga.ended or time.monotonic()

    async def _end(self, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

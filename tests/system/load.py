"""A load of orders and approvals that goes on whatever happens, as a careful program's would.

It keeps what was not acknowledged and sends it again, and after a loss of the bus whatever has not been seen to end.
Nothing here imports the product.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from confluent_kafka import KafkaException, Message, Producer

from tests.support.conditions import until
from tests.system.orders import REQUESTS, Answer, Approval, Fate, Order

Item: TypeAlias = Order | Approval

FATES = [Fate.COMPLETED] * 4 + [Fate.NOT_SERVED] * 3 + [Fate.CARD_DECLINED, Fate.OUT_OF_STOCK]
"""As many are undone as not, so that undoing is always under way. One of ten items is an approval."""

DELIVERED = 60.0
"""Seconds of patience for the last acknowledgements."""

TRICKLE = 0.2
"""Of the items that are due, when too many are open."""

TICK = 0.05
"""Seconds between two portions."""

EARLIEST, LATEST_PROMPT, LATE = 0.0, 5.0, 6.0
"""Seconds after the start at which an approval is answered."""


@dataclass
class Load:
    """`rate` items a second; few while so many are open, as somebody at the database says, or not delivered."""

    kafka: str
    seed: int
    rate: float
    most_open: int
    open: Callable[[], int]
    items: dict[str, Item] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    acknowledged: int = 0
    sent_again: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._answers: list[tuple[float, str]] = []
        self._undelivered: list[Callable[[], None]] = []
        self._waiting = 0
        options: dict[str, str | int] = {"bootstrap.servers": self.kafka, "linger.ms": 5, "acks": "all", "log_level": 0}
        options["topic.metadata.refresh.interval.ms"] = 2_000  # a topic may be gone for a while
        self._as_java = Producer({**options, "partitioner": "murmur2_random"})
        self._as_itself = Producer(options)
        self._task: asyncio.Task[None] | None = None

    @property
    def going_on(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def waiting(self) -> int:
        """Requests that Kafka has not acknowledged."""
        return self._waiting

    @property
    def orders(self) -> list[Order]:
        return [item for item in self.items.values() if isinstance(item, Order)]

    @property
    def approvals(self) -> list[Approval]:
        return [item for item in self.items.values() if isinstance(item, Approval)]

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="load")

    async def stop(self) -> None:
        """No new items. Returns when all has been answered, and acknowledged by Kafka."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()):
            raise error
        await until(
            self._all_delivered, within=DELIVERED, every=TICK, what="all is answered, and acknowledged by Kafka"
        )

    def _all_delivered(self) -> bool:
        self._tend()
        return not (self._answers or self._waiting or self._undelivered)

    def cancel(self) -> None:
        """No new items, whatever becomes of the others."""
        if self._task is not None:
            self._task.cancel()

    def send_again(self, closed: Collection[str]) -> None:
        """The bus was lost, and requests with it: whatever has not ended is started and answered once more."""
        for item in self.items.values():
            if item.id not in closed:
                self.sent_again += 1
                self._start(item)

    async def _run(self) -> None:
        last, due = time.monotonic(), 0.0
        while True:
            now = time.monotonic()
            due, last = min(due + (now - last) * self.rate, 2 * self.rate), now
            while due >= 1:
                due -= 1
                if self.open() + self._waiting < self.most_open or self._chance.random() < TRICKLE:
                    self._next()
            self._tend()
            await asyncio.sleep(TICK)

    def burst(self, count: int) -> None:
        """So many new items at once, however many are open."""
        for _ in range(count):
            self._next()

    def _next(self) -> None:
        number = len(self.items) + 1
        item: Item = Order(number, FATES[number % 10 - 1]) if number % 10 else Approval(number, _answer(number))
        self.items[item.id] = item
        self._start(item)

    def _start(self, item: Item) -> None:
        producer = self._as_itself if item.number % 7 == 0 else self._as_java
        self._produce(producer, item.id, item.request)
        if isinstance(item, Approval):
            pause = LATE if item.answer is Answer.LATE else self._chance.uniform(EARLIEST, LATEST_PROMPT)
            heapq.heappush(self._answers, (time.monotonic() + pause, item.id))

    def _tend(self) -> None:
        """Answer what is due, send again what was refused, hear what was acknowledged."""
        while self._answers and self._answers[0][0] <= time.monotonic():
            item = self.items[heapq.heappop(self._answers)[1]]
            assert isinstance(item, Approval)
            self.answered.add(item.id)
            self._produce(self._as_itself if item.number % 7 == 0 else self._as_java, item.id, item.reply)
        again, self._undelivered = self._undelivered, []
        for send in again:
            send()
        self._as_java.poll(0)
        self._as_itself.poll(0)

    def _produce(self, producer: Producer, key: str, body: dict[str, Any]) -> None:
        self._waiting += 1
        send = partial(self._produce, producer, key, body)
        told = partial(self._delivered, send)
        try:
            producer.produce(REQUESTS, json.dumps(body).encode(), key.encode(), on_delivery=told)
        except (KafkaException, BufferError):  # the topic is gone for now, or too much waits
            told("refused", None)

    def _delivered(self, send: Callable[[], None], error: object, _: Message | None) -> None:
        self._waiting -= 1
        if error is None:
            self.acknowledged += 1
        else:
            self._undelivered.append(send)


def _answer(number: int) -> Answer:
    return list(Answer)[number // 10 % 3]

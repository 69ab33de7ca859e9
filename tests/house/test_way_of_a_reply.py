"""The way of a reply through the house is short, and has three forms.

A coordinator runs here on the embedded bus. While it takes in one reply, each function of its houses that gets the
reply or gives it back is noted, also where it lies in a list or in another value. A reply is known by its body: what
has these very bytes in one of its fields is a form of the reply.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from pydantic import BaseModel

from sagabus.contracts import SagaType, Service, names
from sagabus.contracts.commands import read_command
from sagabus.contracts.envelope import source_of
from sagabus.contracts.replies import ReplyKind, reply_message
from sagabus.contracts.requests import start_message
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.history import Input, Row
from sagabus.coordinator.service import Coordinator
from sagabus.coordinator.store.copy_format import NewHistory
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.topic_admin import TopicSpec
from sagabus.messaging.settings import EMBEDDED, OFF, load_settings
from tests.core.wire import Read, as_read
from tests.messaging.clusters import embedded_kafka, read
from tests.support.conditions import until

MODULES: Final = (
    "messaging.bus.shard_consumer",
    "messaging.bus.faststream_broker",
    "messaging.bus.subscription",
    "messaging.shards.ownership",
    "messaging.shards.new_records",
    "messaging.shards.tenures",
    "coordinator.shard.saga_processor",
    "messaging.shards.turn",
    "coordinator.shard.batch",
    "coordinator.shard.intake",
    "coordinator.shard.reading",
    "coordinator.shard.delivery",
    "coordinator.shard.decisions",
    "coordinator.core.saga.saga",
    "coordinator.core.saga.admission",
    "coordinator.core.saga.journal",
    "coordinator.core.saga.forward",
    "coordinator.core.saga.state",
    "coordinator.store.copy_format",
)
"""Modules under `sagabus`, in the order in which a reply meets them. docs/ways.md says what each does with it. Before
you add one, look whether the reply has to go there: whoever follows it next has to read that file too."""

FORMS: Final = {ConsumerRecord, Input, Row}

MOST_MODULES: Final = 20

HOUSES: Final = ("sagabus.contracts.", "sagabus.messaging.", "sagabus.coordinator.")

LEVELS: Final = 5
"""Of values around a reply. The rows in a saga's effects have two, a turn's inputs in its batch four."""

SHOP: Final = Service("shop")


class Words(BaseModel):
    words: str


take: Final = SHOP.activity("take", Words, Words)
taking: Final = SagaType("taking", Words, Words)

OUTPUT: Final = Words(words="so many words that a step does not keep them as they are " * 10)
BODY: Final = OUTPUT.model_dump_json().encode()


@saga(taking)
async def takes(ctx: SagaContext, request: Words) -> Words:
    await ctx.call(take(words=request.words))
    return request


class Trail:
    """What a reply with this body meets, on the thread of the loop, until the store has its row."""

    def __init__(self, body: bytes) -> None:
        self.modules: dict[str, None] = {}
        self.forms: set[type[Any]] = set()
        self.has_ended = False
        self._body = body

    @contextmanager
    def followed(self) -> Iterator[None]:
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, given_back: object) -> None:
        module = str(frame.f_globals.get("__name__", ""))
        if self.has_ended or event not in ("call", "return") or not module.startswith(HOUSES):
            return
        values = [given_back] if event == "return" else _arguments(frame)
        forms = {form for value in values for form in self._forms(value, LEVELS)}
        if forms:
            self.forms |= forms
            self.modules.setdefault(module.removeprefix("sagabus."))
            self.has_ended = frame.f_code is NewHistory.add.__code__

    def _forms(self, value: object, levels: int) -> Iterator[type[Any]]:
        fields = _fields(value)
        plain = isinstance(value, list | tuple | set | frozenset | dict) and not hasattr(value, "_fields")
        if not plain and any(type(field) is bytes and field == self._body for field in fields):
            yield type(value)
        elif levels and (isinstance(value, list | tuple | set | frozenset | dict) or dataclasses.is_dataclass(value)):
            for field in fields:
                yield from self._forms(field, levels - 1)


def _arguments(frame: FrameType) -> list[object]:
    code = frame.f_code
    starred = bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)
    count = code.co_argcount + code.co_kwonlyargcount + starred
    return [frame.f_locals[name] for name in code.co_varnames[:count] if name in frame.f_locals]


def _fields(value: object) -> list[object]:
    if isinstance(value, str | bytes | int | float | type(None) | type):
        return []
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return [*value]
    slots = [name for each in type(value).__mro__ for name in getattr(each, "__slots__", ())]
    found = [getattr(value, name) for name in slots if name != "__dict__" and hasattr(value, name)]
    return [*found, *getattr(value, "__dict__", {}).values()]


@pytest.fixture
def embedded() -> Iterator[Kafka]:
    with embedded_kafka() as kafka:
        yield kafka


@pytest.fixture
def _collector() -> Iterator[None]:
    """A coordinator sets the garbage collector of its process; this one goes on to other tests."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("_collector")
async def test_a_reply_crosses_few_files_in_three_forms(embedded: Kafka, database: str) -> None:
    settings = load_settings(kafka=EMBEDDED, database=database, http=OFF, partitions=1)
    commands, replies = names.commands_topic(SHOP.name), names.replies_topic(settings.namespace, SHOP.name)
    await embedded.create_topics({topic: TopicSpec(1) for topic in (commands, replies)})
    trail = Trail(BODY)
    async with Coordinator([takes], settings=settings, kafka=embedded).running():
        asked = taking(words="a book")
        start = start_message(asked, id="T-1", namespace=settings.namespace, message_id="s", source=b"test", time=0)
        await send(embedded, as_read(start))

        async def called() -> ConsumerRecord | None:
            return next((record for records in (await read(embedded, commands)).values() for record in records), None)

        command = read_command(await until(called, what="the step's command is sent"))
        by = source_of(settings.namespace, SHOP.name)
        reply = reply_message(command, ReplyKind.COMPLETED, BODY, attempt=1, source=by, time=0)
        record = as_read(reply)
        with trail.followed():
            await send(embedded, record)
            await until(lambda: trail.has_ended, what="the reply is a row")
    assert trail.forms == FORMS
    assert list(trail.modules) == list(MODULES)
    assert len(trail.modules) <= MOST_MODULES


async def send(kafka: Kafka, message: Read) -> None:
    """Not by the house's own producer, which is the way out."""
    producer = AIOKafkaProducer(**kafka.connection.aiokafka)
    await producer.start()
    try:
        await producer.send_and_wait(message.topic, message.value, message.key, 0, headers=[*message.headers])
    finally:
        await producer.stop()

"""A participant that is not of our kit: whether a step is done it can say, but of the output it makes no JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from tests.system.observer import Observer

COMMANDS: Final = "abroad.commands"
NO_JSON: Final = b"\xef\xbb\xbf<sent/>"
"""A byte order mark, and XML."""

TICKET: Final = b'{"place": 3, "ticket": "as the stamp says"}'


@dataclass
class Foreigner:
    """It enters what it has undone into the desk's ledger."""

    observer: Observer
    consumer: AIOKafkaConsumer
    producer: AIOKafkaProducer

    async def serve(self) -> None:
        async for record in self.consumer:
            headers = {name: value.decode() for name, value in record.headers}
            await self._reply(record, headers, await self._output(record, headers))

    async def _output(self, record: ConsumerRecord, headers: Mapping[str, str]) -> bytes:
        if headers["ce_type"] == "abroad.send_off":
            return NO_JSON
        if headers["ce_type"] == "sagabus.settle":
            return TICKET
        entry = "INSERT INTO desk_ledger (saga_id, step, what) VALUES ($1, 3, 'bring_back')"
        await self.observer.fetch(entry, record.key.decode())
        return b"null"

    async def _reply(self, record: ConsumerRecord, headers: Mapping[str, str], output: bytes) -> None:
        said = {
            "ce_id": f"{headers['ce_id']}:{headers['ce_attempt']}:reply", "ce_type": "sagabus.reply.completed",
            "ce_causationid": headers["ce_id"], "ce_attempt": headers["ce_attempt"],
            "ce_correlationid": headers["ce_correlationid"],
        }  # fmt: skip
        await self.producer.send_and_wait(
            headers["ce_replyto"], output, record.key, int(headers["ce_replypartition"]),
            headers=[(name, value.encode()) for name, value in said.items()],
        )  # fmt: skip


@asynccontextmanager
async def foreigner(kafka: str, observer: Observer) -> AsyncIterator[None]:
    """It serves until the block is left."""
    consumer = AIOKafkaConsumer(
        COMMANDS, bootstrap_servers=kafka, group_id="foreigner", auto_offset_reset="earliest"
    )  # fmt: skip
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    async with consumer, producer:
        serving = asyncio.create_task(Foreigner(observer, consumer, producer).serve(), name="foreigner")
        try:
            yield
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

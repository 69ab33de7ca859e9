"""FastStream's broker for one subscription. The only place that knows FastStream, which takes half a second to import:
import this module where a subscription begins, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.message import StreamMessage

from sagabus.messaging.bus.kafka_connection import CLIENT


async def make_broker(
    address: str,
    *,
    topics: Sequence[str],
    pattern: str | None,
    listener: ConsumerRebalanceListener,
    max_records: int,
    make_consumer: Callable[..., AIOKafkaConsumer],
    handle: Callable[[Any], Awaitable[None]],
) -> KafkaBroker:
    """Not started, with one batch subscriber that changes nothing about the records.

    FastStream's own parser fails on a header that is null or not UTF-8, before anybody could dead-letter it. Its log
    lines, several for each batch, are off, and so are its producer and its making of topics.
    """
    broker = KafkaBroker(
        address, consumer_only=True, apply_types=False, logger=None, graceful_timeout=None, client_id=CLIENT
    )
    subscriber = broker.subscriber(
        *topics,
        pattern=pattern and pattern.replace("{", "{{").replace("}", "}}"),  # to FastStream a brace is a parameter
        batch=True,
        max_records=max_records,
        listener=listener,
        ack_policy=AckPolicy.MANUAL,
        parser=_as_it_is,
        decoder=_body,
        no_reply=True,
    )
    subscriber(handle)
    await broker.connect()
    broker.config.broker_config.builder = make_consumer
    return broker


async def _as_it_is(records: Any) -> StreamMessage[Any]:
    return StreamMessage(raw_message=records, body=records)


async def _body(message: StreamMessage[Any]) -> Any:
    return message.body

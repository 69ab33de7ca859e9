"""What a client sees of an engine, whichever: where requests go, and which record says that a saga has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from bench.batches import Message


@dataclass(frozen=True)
class Wire:
    """request: of a saga, by its number. completed: the type of the event that ends it."""

    requests: str
    events: str
    partitions: int
    completed: bytes
    request: Callable[[int], Message]

    def ends(self, record: ConsumerRecord) -> bool:
        return any(name == "ce_type" and value == self.completed for name, value in record.headers)

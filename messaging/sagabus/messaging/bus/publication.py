"""What is to be published: a call's messages, and the batches that they travel in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from sagabus.contracts.envelope import Message
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.publish_errors import PublishFailed, PublishRefused, Reason
from sagabus.messaging.bus.record_batch import RecordBatch
from sagabus.messaging.bus.sender import BATCH_BYTES

_record: Final = attrgetter("record")


class Publication:
    """One call of `publish`: published when each of its parts is acknowledged, over with the first error."""

    def __init__(self, parts: int) -> None:
        self.published: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open = parts

    @property
    def over(self) -> bool:
        """Nobody waits for it any more: its caller was cancelled, or has an answer."""
        return self.published.done()

    def acknowledge_part(self) -> None:
        self._open -= 1
        if not self._open and not self.over:
            self.published.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.over:
            self.published.set_exception(error)


@dataclass(slots=True)
class Part:
    """The messages of a publication for one partition. acknowledged: how many of them are; begun: some were sent."""

    publication: Publication
    messages: Sequence[Message]
    since: float
    acknowledged: int = 0
    begun: bool = False

    @property
    def ended(self) -> bool:
        """Nothing of it is left to be sent."""
        return self.publication.over or self.acknowledged == len(self.messages)

    def fail(self, sentence: str) -> None:
        """What was never sent is known not to be published."""
        if self.begun:
            self.publication.fail(PublishFailed(f"not known to be published: {sentence}"))
        else:
            self.publication.fail(KafkaUnreachable(f"not published: {sentence}"))


@dataclass(slots=True)
class Batch:
    """records: what is sent. slices: how many messages of which part, in order."""

    records: RecordBatch
    slices: list[tuple[Part, int]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(count for _, count in self.slices)

    def begin(self) -> None:
        for part, _ in self.slices:
            part.begun = True

    def acknowledge(self) -> None:
        for part, count in self.slices:
            part.acknowledged += count
            if part.acknowledged == len(part.messages):
                part.publication.acknowledge_part()

    def fail(self, sentence: str) -> None:
        for part, _ in self.slices:
            part.fail(sentence)

    def refuse(self, reason: Reason, error: Exception) -> None:
        for part, _ in self.slices:
            refused = PublishRefused(part.messages[part.acknowledged], reason, str(error))
            refused.__cause__ = error
            part.publication.fail(refused)


def next_batch(waiting: Iterable[Part], size: int) -> Batch:
    """Of at most BATCH_BYTES, and not begun anew once it has so many bytes, but at least one message.

    No slice: nobody waits any more.
    """
    batch = Batch(RecordBatch(int(time.time() * 1000)))
    for part in waiting:
        if part.publication.over:
            continue
        left = part.messages[part.acknowledged :]
        taken = batch.records.extend(map(_record, left), most=BATCH_BYTES, enough=size)
        if taken:
            batch.slices.append((part, taken))
        if taken < len(left):
            break
    return batch

"""What can become of a publication besides an acknowledgement.

`PublishRefused`: Kafka will never take this message. `PublishFailed`: it is not known whether it was published ("timed
out" means unknown); send it again, consumers drop equal ids. `KafkaUnreachable` (in `kafka_connection`): nothing was
sent.
"""

from __future__ import annotations

from enum import StrEnum

from sagabus.contracts.envelope import Message
from sagabus.contracts.errors import SagabusError


class Reason(StrEnum):
    """Why a message can never be published."""

    TOO_LARGE = "too_large"
    UNKNOWN_TOPIC = "unknown_topic"
    NOT_AUTHORISED = "not_authorised"
    INVALID = "invalid"


class PublishFailed(SagabusError):
    """It is not known whether these messages were published. The producer goes on."""


class PublishRefused(SagabusError):
    """Kafka will never take `message`, which is the very object that was handed over. The producer goes on.

    Messages to other partitions may have been published, and those before it to its own; none after it there.
    """

    def __init__(self, message: Message, reason: Reason, said: str) -> None:
        super().__init__(f"a message to {message.topic} can never be published: {reason}: {said}")
        self.message = message
        self.reason = reason

    @property
    def topic(self) -> str | None:
        """The topic, if nothing at all can be published to it; None if only this message is refused."""
        return self.message.topic if self.reason in (Reason.UNKNOWN_TOPIC, Reason.NOT_AUTHORISED) else None

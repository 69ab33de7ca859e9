"""Which of Kafka's errors mean that it will never take a message. Apart from `publish_errors`, which clients import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiokafka import errors

from sagabus.messaging.bus.publish_errors import Reason


class InvalidRecordError(errors.BrokerResponseError):  # type: ignore[misc]    # aiokafka has no types
    """INVALID_RECORD, which aiokafka 0.14 does not know: a record without a key on a compacted topic, for one."""

    errno = 87
    message = "INVALID_RECORD"


errors.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)

REFUSALS: Final[Mapping[type[BaseException], Reason]] = {
    errors.MessageSizeTooLargeError: Reason.TOO_LARGE,
    errors.RecordListTooLargeError: Reason.TOO_LARGE,
    errors.InvalidTopicError: Reason.UNKNOWN_TOPIC,
    errors.UnknownTopicOrPartitionError: Reason.UNKNOWN_TOPIC,
    errors.TopicAuthorizationFailedError: Reason.NOT_AUTHORISED,
    errors.InvalidTimestampError: Reason.INVALID,
    errors.PolicyViolationError: Reason.INVALID,
    InvalidRecordError: Reason.INVALID,
}
"""Errors that the same message would meet again. All others count as unknown."""

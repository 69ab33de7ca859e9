"""Kafka's Metadata question in version 10, the first one whose answer has topic ids; aiokafka ends at version 5.

Bytes as Kafka's protocol guide lays them down: https://kafka.apache.org/protocol#The_Messages_Metadata
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from io import BytesIO
from typing import Any, Final

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

UUID_BYTES: Final = 16


class Uuid(AbstractType[str]):  # type: ignore[misc]    # aiokafka has no types
    """Written as stored ids are: base64 without padding, in the standard alphabet (Kafka's tools use the other one)."""

    @classmethod
    def encode(cls, value: str) -> bytes:
        return base64.b64decode(value + "==")

    @classmethod
    def decode(cls, data: BytesIO) -> str:
        raw = data.read(UUID_BYTES)
        if len(raw) != UUID_BYTES:
            raise ValueError("the answer ends within a topic's id")
        return base64.b64encode(raw).decode().rstrip("=")


NO_ID: Final = Uuid.decode(BytesIO(bytes(UUID_BYTES)))
"""Of a topic that is asked for by its name."""


class TopicMetadataAnswer(Response):  # type: ignore[misc]
    """Topics in the order of Kafka's choice; those that there are not have an error code."""

    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _TopicMetadata(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = TopicMetadataAnswer
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicMetadata(Request[_TopicMetadata]):  # type: ignore[misc]
    """About these topics, or about all of them. Makes none."""

    API_KEY = 3

    def __init__(self, names: Collection[str] | None) -> None:
        self._topics: list[tuple[Any, ...]] | None = names if names is None else [(NO_ID, name, {}) for name in names]

    def build(self, request_struct_class: type[_TopicMetadata]) -> _TopicMetadata:
        return request_struct_class(self._topics, False, False, False, {})

"""A Kafka in this process, for demo, development and quick tests: librdkafka's mock cluster, on loopback.

Clients speak to it over TCP as to any broker, from other processes too. It is not for anything that must be kept. Its
limits, each met by measurement (librdkafka 2.16):

- it lives and dies with the process that started it, holds everything in memory, and gets another port at each start;
- its cluster id is made from addresses in memory and can repeat: use `id`, which is random, to tell two of them apart;
- topics appear on their first use with 4 partitions; `create_topics` fails, topic ids do not exist;
- a partition keeps 5 MB and drops its oldest records without a word;
- consumer groups barely work (a first join takes 3 s, a second member is refused): assign partitions by hand;
- a waiting fetch is not woken by a new record: latency is the client's `fetch_max_wait_ms`;
- transactions and access control are not real.

It must never be named by a setting of a real deployment: two processes that ask for one would get two.
"""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException, Producer

from sagabus.contracts.errors import ExitCode, SagabusError

START_TIMEOUT: Final = 10.0
"""Seconds. It takes some milliseconds; a machine under load may take longer."""


class EmbeddedKafkaFailed(SagabusError):
    """The mock cluster did not start."""

    exit_code = ExitCode.UNREACHABLE


class EmbeddedKafka:
    """One mock cluster with one broker. `start` and `stop` may be repeated; each start is a new, empty log."""

    def __init__(self) -> None:
        self._holder: Producer | None = None
        self._address = ""
        self._id = ""

    @property
    def id(self) -> str:
        """Which log this is: random, another one at each start."""
        self._require()
        return self._id

    @property
    def address(self) -> str:
        """For `bootstrap.servers`."""
        self._require()
        return self._address

    def start(self) -> str:
        """The address of a new cluster, or of the one that runs. Raises EmbeddedKafkaFailed."""
        if self._holder is None:
            holder = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 3})
            self._address = _address(holder)
            self._id = uuid.uuid4().hex
            self._holder = holder
        return self._address

    def stop(self) -> None:
        """End the cluster and forget all that was sent to it. Clients find nobody listening."""
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _require(self) -> None:
        if self._holder is None:
            raise EmbeddedKafkaFailed("the embedded bus is not running: call start() first")


def _address(holder: Producer) -> str:
    """Where the mock broker listens: librdkafka gives it a free port, and only the cluster's metadata says which."""
    try:
        brokers = holder.list_topics(timeout=START_TIMEOUT).brokers
    except KafkaException as error:
        raise EmbeddedKafkaFailed(f"the embedded bus did not start: {error}") from error
    broker = next(iter(brokers.values()))
    return f"{broker.host}:{broker.port}"

"""One question to one broker of the cluster, on a connection of its own that ends with the answer.

Nothing is kept from one question to the next but which brokers have answered: a connection that nobody uses cannot
break, and what it knew cannot be out of date. Connecting takes a few milliseconds, and questions are rare.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import AuthenticationFailedError, KafkaError, SaslAuthenticationFailed
from aiokafka.protocol.api import Request

from sagabus.messaging.bus.kafka_connection import KafkaConnection, KafkaRefused, KafkaUnreachable

QUESTION_SECONDS: Final = 10.0
"""For one question to the cluster, all brokers that are tried for it included."""

REFUSALS: Final = (AuthenticationFailedError, SaslAuthenticationFailed, ssl.SSLCertVerificationError)
"""Trying again does not help here."""

FAILURES: Final = (OSError, KafkaError, TimeoutError, ValueError, AssertionError)
"""No answer, or none that can be read: aiokafka raises the last two for bytes that are not Kafka's."""

Host = tuple[str, int]


class BrokerQuestions:
    """Tasks of any event loop may ask at once. Everything raises KafkaUnreachable or KafkaRefused."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        hosts = collect_hosts(connection.address, randomize=False)
        self._hosts: list[Host] = [(host, port) for host, port, _ in hosts]
        """Those that did not answer last are at the end."""

    async def ask(self, question: Request[Any], *, seconds: float = QUESTION_SECONDS, to: Host | None = None) -> Any:
        """The answer, of aiokafka's type, from the first broker that gives one; `to`: from this one alone."""

        async def asked(connection: AIOKafkaConnection) -> Any:
            return await connection.send(question)

        return await self._of_some_broker(asked, [to] if to else [*self._hosts], seconds)

    async def reach(self, *, seconds: float = QUESTION_SECONDS) -> None:
        """Connect and log in, no more."""

        async def nothing(_: AIOKafkaConnection) -> None: ...

        await self._of_some_broker(nothing, [*self._hosts], seconds)

    async def _of_some_broker(self, use: Callable[[AIOKafkaConnection], Any], hosts: list[Host], seconds: float) -> Any:
        reasons = []
        for host in hosts:
            try:
                async with asyncio.timeout(seconds / len(hosts)), self._connected(host, seconds) as connection:
                    return await use(connection)
            except REFUSALS as error:
                words = f"Kafka at {_named(host)}: the login or a certificate is refused"
                raise KafkaRefused(f"{words}: {error}") from error
            except NotImplementedError as error:  # aiokafka and the broker have no version of the question in common
                words = f"Kafka at {_named(host)} has no version of this question that we know"
                raise KafkaRefused(f"{words}; use Kafka 2.8 or a later one: {error}") from error
            except FAILURES as error:
                self._put_last(host)
                reasons.append(f"{_named(host)}: {str(error) or type(error).__name__}")
        raise KafkaUnreachable(f"Kafka is unreachable ({'; '.join(reasons)})")

    @asynccontextmanager
    async def _connected(self, host: Host, seconds: float) -> AsyncIterator[AIOKafkaConnection]:
        options = self._connection.aiokafka
        del options["bootstrap_servers"]
        connection = await create_conn(*host, request_timeout_ms=int(seconds * 1000), **options)
        try:
            yield connection
        finally:
            connection.close()

    def _put_last(self, host: Host) -> None:
        if host in self._hosts:
            self._hosts.remove(host)
            self._hosts.append(host)


def _named(host: Host) -> str:
    return f"{host[0]}:{host[1]}"

"""One question to one broker of the cluster, on a connection that has no other one under way.

Theory of operation. A connection that has answered is kept for KEEP_SECONDS, one to each broker, for the next question:
to connect costs more than to ask, on both sides. Whoever asks takes it out, so nobody else has it, and puts it back
with the answer; whatever else happens closes it. It may have broken since, by a restart of the broker for example: a
question that fails on a kept connection is asked once more on a new one, and only that failure counts. What is kept
ends with the event loop, or earlier by `close_unused`.

It must never answer from memory: what a broker said before may be out of date.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import AuthenticationFailedError, KafkaError, SaslAuthenticationFailed
from aiokafka.protocol.api import Request

from sagabus.messaging.bus.kafka_connection import KafkaConnection, KafkaRefused, KafkaUnreachable

QUESTION_SECONDS: Final = 10.0
"""For one question to the cluster, all brokers that are tried for it included."""

KEEP_SECONDS: Final = 15.0
"""An unused connection is kept for so long. Who owns shards asks every five seconds."""

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
        self._kept: dict[tuple[asyncio.AbstractEventLoop, Host], _Kept] = {}

    async def ask(self, question: Request[Any], *, seconds: float = QUESTION_SECONDS, to: Host | None = None) -> Any:
        """The answer, of aiokafka's type, from the first broker that gives one; `to`: from this one alone.

        It may reach a broker twice: a second time must do no harm.
        """

        async def asked(host: Host) -> Any:
            return await self._asked(host, question)

        return await self._of_some_broker(asked, [to] if to else [*self._hosts], seconds)

    async def reach(self, *, seconds: float = QUESTION_SECONDS) -> None:
        """Connect and log in, no more. Nothing is kept of it."""

        async def reached(host: Host) -> None:
            (await self._connected(host)).close()

        await self._of_some_broker(reached, [*self._hosts], seconds)

    def close_unused(self) -> None:
        """Those that are kept in this event loop."""
        here = asyncio.get_running_loop()
        for kept in [kept for (loop, _), kept in self._kept.items() if loop is here]:
            if (connection := kept.taken()) is not None:
                connection.close()

    async def _of_some_broker(self, ask: Callable[[Host], Awaitable[Any]], hosts: list[Host], seconds: float) -> Any:
        reasons = []
        for host in hosts:
            try:
                async with asyncio.timeout(seconds / len(hosts)):
                    return await ask(host)
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

    async def _asked(self, host: Host, question: Request[Any]) -> Any:
        kept = self._kept.get((asyncio.get_running_loop(), host))
        if kept is not None and (connection := kept.taken()) is not None:
            with suppress(*FAILURES):  # it may have been broken before it was asked
                return await self._answer(host, connection, question)
        return await self._answer(host, await self._connected(host), question)

    async def _answer(self, host: Host, connection: AIOKafkaConnection, question: Request[Any]) -> Any:
        try:
            answer = await connection.send(question)
        except BaseException:  # cancelled too: this answer would come when the next question is asked
            connection.close()
            raise
        self._keep(host, connection)
        return answer

    async def _connected(self, host: Host) -> AIOKafkaConnection:
        options = self._connection.aiokafka
        del options["bootstrap_servers"]
        return await create_conn(*host, request_timeout_ms=int(QUESTION_SECONDS * 1000), **options)

    def _keep(self, host: Host, connection: AIOKafkaConnection) -> None:
        place = (asyncio.get_running_loop(), host)
        if place in self._kept:  # two have asked at once
            connection.close()
        else:
            self._kept[place] = _Kept(connection, forget=lambda: self._kept.pop(place))

    def _put_last(self, host: Host) -> None:
        if host in self._hosts:
            self._hosts.remove(host)
            self._hosts.append(host)


class _Kept:
    """A connection that nobody uses, until somebody takes it, or KEEP_SECONDS are over, or the event loop ends.

    forget: called once, at that moment.
    """

    def __init__(self, connection: AIOKafkaConnection, *, forget: Callable[[], object]) -> None:
        self._connection: AIOKafkaConnection | None = connection
        self._forget = forget
        # A task and no timer: it hears of the loop's end, by its cancellation.
        self._time = asyncio.get_running_loop().create_task(
            asyncio.sleep(KEEP_SECONDS), name="sagabus keeps a connection"
        )
        self._time.add_done_callback(self._over)

    def taken(self) -> AIOKafkaConnection | None:
        """Whoever gets it closes it. None if it is closed already."""
        connection, self._connection = self._connection, None
        if connection is None:
            return None
        self._forget()
        self._time.cancel()
        if connection.connected():
            return connection
        connection.close()
        return None

    def _over(self, _: object) -> None:
        if (connection := self.taken()) is not None:
            connection.close()


def _named(host: Host) -> str:
    return f"{host[0]}:{host[1]}"

"""The client: publishes requests to Kafka, and asks the coordinator's API for results."""

from __future__ import annotations

import asyncio
import time
import uuid
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from pydantic import BaseModel

from sagabus.client.coordinator_api import CoordinatorApi
from sagabus.client.failures import ClientMisuse
from sagabus.client.handle import SagaHandle
from sagabus.contracts import Event, Start
from sagabus.contracts.envelope import Message
from sagabus.contracts.requests import event_message, raw_message, start_message
from sagabus.messaging.service.backing import find_backing
from sagabus.messaging.settings import load_settings

if TYPE_CHECKING:
    from sagabus.messaging.bus.producer import BatchProducer

O = TypeVar("O", bound=BaseModel | None)  # noqa: E741

SOURCE: Final = b"/sagabus/client"


class SagaClient:
    """Starts sagas, sends them events and cancels them, from any asyncio program.

    Use it with `async with`, and share it: any number of tasks of one event loop may use it at once, and what they ask
    for at the same time travels together. What it publishes is acknowledged by all replicas when a method returns; no
    coordinator needs to run. Leaving waits for what is being published. After that, and in another event loop, methods
    raise ClientMisuse.
    """

    def __init__(self, kafka: str | None = None, *, namespace: str | None = None, http: str | None = None) -> None:
        """Without arguments: from SAGABUS_KAFKA, SAGABUS_NAMESPACE, SAGABUS_URL. Raises SettingsError.

        http: the coordinator's address, which results are asked from; nothing else needs it.
        """
        settings = load_settings(require=("kafka",), kafka=kafka, namespace=namespace, url=http)
        self._backing = find_backing(settings)
        self._kafka = self._backing.kafka
        self._producer: BatchProducer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._api: CoordinatorApi | None = None

    async def start(self, start: Start[O], /, *, id: str) -> SagaHandle[O]:
        """Ask for a saga. Asked again with the same id and an equal input, it is the same saga. No coordinator checks
        the name or the input before it is published: `SagaHandle.result` tells of a start that was rejected.

        Raises MessageInvalid for an id or input that no coordinator takes; PublishFailed where it is not known whether
        the request was published (ask again), PublishRefused where Kafka refuses it, KafkaUnreachable.
        """
        envelope = self._envelope(None)
        await self._publish(start_message(start, id=id, **envelope))
        return SagaHandle(id, self._http, start, request=envelope["message_id"])

    def saga(self, id: str, /) -> SagaHandle[Any]:
        """A saga that somebody has started."""
        return SagaHandle(id, self._http)

    async def send(self, saga_id: str, event: Event[BaseModel], /, *, event_id: str | None = None) -> None:
        """Send an event to a saga. It need not have started yet, nor wait for it.

        event_id: sent twice with the same one, the event counts once. Raises like `start`.
        """
        await self._publish(event_message(event, saga_id=saga_id, **self._envelope(event_id)))

    async def cancel(self, saga_id: str, /, *, reason: str) -> None:
        """Ask for the undo of all that a saga has done. One that ends first is not cancelled. Raises like `start`.

        It does not wait for the outcome: a lifecycle event tells that, as the HTTP API does.
        """
        asked = {"type": "cancel", "reason": reason}
        await self._publish(raw_message(asked, saga_id=saga_id, **self._envelope(None)))

    def _envelope(self, message_id: str | None) -> dict[str, Any]:
        return {
            "namespace": self._backing.settings.namespace,
            "message_id": message_id or str(uuid.uuid4()),
            "source": SOURCE,
            "time": time.time_ns() // 1000,
        }

    async def _publish(self, message: Message) -> None:
        self._check_usable()
        if self._producer is None:
            self._producer = self._kafka.producer()
        await self._producer.publish([message])

    def _http(self) -> CoordinatorApi:
        """Made when it is first needed. Raises SettingsError, ClientMisuse."""
        self._check_usable()
        if self._api is None:
            token = self._backing.settings.token.get_secret_value()
            self._api = CoordinatorApi(self._backing.url, token=token)
        return self._api

    def _check_usable(self) -> None:
        """Its connections belong to one event loop. Raises ClientMisuse."""
        if self._closed:
            raise ClientMisuse("this client was closed: use it inside its `async with` block, or make another one")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise ClientMisuse("this client is in use in another event loop: make one client for each event loop")

    async def __aenter__(self) -> Self:
        """Raises KafkaUnreachable."""
        if self._closed:
            self._closed, self._loop = False, None
        self._check_usable()
        if self._producer is None:
            self._producer = self._kafka.producer()
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        producer, self._producer = self._producer, None
        api, self._api = self._api, None
        if producer is not None:
            await producer.stop()
        if api is not None:
            await api.__aexit__(kind, error, trace)

"""The client: publishes requests to Kafka, and asks the coordinator's API for results."""

from __future__ import annotations

import time
import uuid
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from pydantic import BaseModel

from sagabus.client.handle import SagaHandle
from sagabus.contracts import Event, Start
from sagabus.contracts.envelope import Message
from sagabus.contracts.requests import event_message, raw_message, start_message
from sagabus.messaging.publishing.shared_producer import SharedProducer
from sagabus.messaging.service.backing import find_backing
from sagabus.messaging.service.coordinator_api import CoordinatorApi
from sagabus.messaging.settings import load_settings

O = TypeVar("O", bound=BaseModel | None)  # noqa: E741

SOURCE: Final = b"/sagabus/client"


class SagaClient:
    """Starts sagas, sends them events and cancels them, from any asyncio program. Several tasks may share one.

    What it publishes is acknowledged by all replicas when a method returns; it need not wait for a coordinator.
    """

    def __init__(self, kafka: str | None = None, *, namespace: str | None = None, http: str | None = None) -> None:
        """Without arguments: from SAGABUS_KAFKA, SAGABUS_NAMESPACE, SAGABUS_URL. Raises SettingsError.

        http: the coordinator's address, which results are asked from; nothing else needs it.
        """
        settings = load_settings(require=("kafka",), kafka=kafka, namespace=namespace, url=http)
        self._backing = find_backing(settings)
        self._outlet = SharedProducer(self._backing.kafka.producer)
        self._api: CoordinatorApi | None = None

    async def start(self, start: Start[O], /, *, id: str) -> SagaHandle[O]:
        """Ask for a saga. Asked again with the same id and an equal input, it is the same saga.

        Raises MessageInvalid for an id or input that no coordinator takes; PublishFailed where it is not known whether
        the request was published (ask again), PublishRefused where Kafka will not have it, KafkaUnreachable.
        """
        envelope = self._envelope(None)
        await self._publish(start_message(start, id=id, **envelope))
        return SagaHandle(id, self._http, start, request=envelope["message_id"])

    def saga(self, id: str, /) -> SagaHandle[Any]:
        """A saga that somebody has started."""
        return SagaHandle(id, self._http)

    async def send(self, saga_id: str, event: Event[BaseModel], /, *, event_id: str | None = None) -> None:
        """Tell a saga something. It need not have started yet, nor wait for it.

        event_id: sent twice with the same one, the event counts once. Raises like `start`.
        """
        await self._publish(event_message(event, saga_id=saga_id, **self._envelope(event_id)))

    async def cancel(self, saga_id: str, /, *, reason: str) -> None:
        """Ask for the undo of all that a saga has done. One that ends first is not cancelled. Raises like `start`."""
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
        await self._outlet.publish([message])

    def _http(self) -> CoordinatorApi:
        """Made when it is first needed. Raises SettingsError."""
        if self._api is None:
            token = self._backing.settings.token.get_secret_value()
            self._api = CoordinatorApi(self._backing.url, token=token)
        return self._api

    async def __aenter__(self) -> Self:
        await self._outlet.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._outlet.stop()
        api, self._api = self._api, None
        if api is not None:
            await api.__aexit__(kind, error, trace)

"""Start sagas and talk to them from any Python program. It needs Kafka, and for results the coordinator's address.

What its methods raise can be imported from here.

    SagabusError
      your mistake       SettingsError, ClientMisuse, MessageInvalid (an id or an input that no coordinator takes)
      the other side's   SagaFailed, StartRejected, NoSuchSaga, CoordinatorRefused, PublishRefused
      the world's        KafkaUnreachable (nothing was published), PublishFailed (not known: ask again),
                         CoordinatorUnreachable
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagabus.client.client import SagaClient
    from sagabus.client.coordinator_api import CoordinatorRefused, CoordinatorUnreachable, NoSuchSaga
    from sagabus.client.failures import ClientMisuse, SagaFailed, StartRejected
    from sagabus.client.handle import SagaHandle
    from sagabus.contracts.errors import MessageInvalid, SagabusError
    from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
    from sagabus.messaging.bus.publish_errors import PublishFailed, PublishRefused
    from sagabus.messaging.settings_error import SettingsError

__all__ = [
    "ClientMisuse",
    "CoordinatorRefused",
    "CoordinatorUnreachable",
    "KafkaUnreachable",
    "MessageInvalid",
    "NoSuchSaga",
    "PublishFailed",
    "PublishRefused",
    "SagaClient",
    "SagaFailed",
    "SagaHandle",
    "SagabusError",
    "SettingsError",
    "StartRejected",
]

# Kafka's clients and the models of messages take a while to import: the command line needs the API's client alone.
_LATER = {
    "ClientMisuse": "sagabus.client.failures",
    "CoordinatorRefused": "sagabus.client.coordinator_api",
    "CoordinatorUnreachable": "sagabus.client.coordinator_api",
    "KafkaUnreachable": "sagabus.messaging.bus.kafka_connection",
    "MessageInvalid": "sagabus.contracts.errors",
    "NoSuchSaga": "sagabus.client.coordinator_api",
    "PublishFailed": "sagabus.messaging.bus.publish_errors",
    "PublishRefused": "sagabus.messaging.bus.publish_errors",
    "SagaClient": "sagabus.client.client",
    "SagaFailed": "sagabus.client.failures",
    "SagaHandle": "sagabus.client.handle",
    "SagabusError": "sagabus.contracts.errors",
    "SettingsError": "sagabus.messaging.settings_error",
    "StartRejected": "sagabus.client.failures",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)

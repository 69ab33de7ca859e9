"""Start sagas and talk to them from any Python program. It needs Kafka, and for results the coordinator's address.

What its methods raise can be imported from here.

    SagabusError
      your mistake       SettingsError, ClientMisuse, MessageInvalid (an id or an input that no coordinator takes)
      the other side's   SagaFailed, StartRejected, NoSuchSaga, CoordinatorRefused, PublishRefused
      the world's        KafkaUnreachable (nothing was published), PublishFailed (not known: ask again),
                         CoordinatorUnreachable
"""

from sagabus.client.client import SagaClient
from sagabus.client.coordinator_api import CoordinatorRefused, CoordinatorUnreachable, NoSuchSaga
from sagabus.client.failures import ClientMisuse, SagaFailed, StartRejected
from sagabus.client.handle import SagaHandle
from sagabus.contracts.errors import MessageInvalid, SagabusError
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.publish_errors import PublishFailed, PublishRefused
from sagabus.messaging.settings import SettingsError

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

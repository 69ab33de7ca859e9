"""Start sagas and talk to them from any Python program. It needs Kafka, and for results the coordinator's address."""

from sagabus.client.client import SagaClient
from sagabus.client.failures import ClientMisuse, SagaFailed, StartRejected
from sagabus.client.handle import SagaHandle
from sagabus.messaging.service.coordinator_api import CoordinatorRefused, CoordinatorUnreachable, NoSuchSaga

__all__ = [
    "ClientMisuse",
    "CoordinatorRefused",
    "CoordinatorUnreachable",
    "NoSuchSaga",
    "SagaClient",
    "SagaFailed",
    "SagaHandle",
    "StartRejected",
]

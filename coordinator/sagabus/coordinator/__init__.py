"""What a saga author uses: `@saga`, the context, and the errors of a step."""

from sagabus.contracts.errors import ActivityError, ActivityFailed, ActivityTimedOut, Refused
from sagabus.coordinator.context import SagaContext
from sagabus.coordinator.core.saga.call import Call
from sagabus.coordinator.core.saga.condition import EventStream
from sagabus.coordinator.core.saga.scope import Scope
from sagabus.coordinator.definition import SagaDefinition, saga

__all__ = [
    "ActivityError",
    "ActivityFailed",
    "ActivityTimedOut",
    "Call",
    "EventStream",
    "Refused",
    "SagaContext",
    "SagaDefinition",
    "Scope",
    "saga",
]

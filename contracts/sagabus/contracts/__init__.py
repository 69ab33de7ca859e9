"""What goes over the wire. Calling a contract builds a message; a context or a client sends it.

`errors` draws the tree of errors, `names` the topics and ids, `envelope` the headers, `messages` the bodies.
"""

from sagabus.contracts.activity import Activity, Command, Compensation, Service
from sagabus.contracts.errors import (
    ActivityError,
    ActivityFailed,
    ActivityTimedOut,
    DeclarationError,
    MessageInvalid,
    SagabusError,
)
from sagabus.contracts.event import Event, EventType, event
from sagabus.contracts.retry import RetryPolicy, Seconds
from sagabus.contracts.saga import SagaType, Start

__all__ = [
    "Activity",
    "ActivityError",
    "ActivityFailed",
    "ActivityTimedOut",
    "Command",
    "Compensation",
    "DeclarationError",
    "Event",
    "EventType",
    "MessageInvalid",
    "RetryPolicy",
    "SagaType",
    "SagabusError",
    "Seconds",
    "Service",
    "Start",
    "event",
]

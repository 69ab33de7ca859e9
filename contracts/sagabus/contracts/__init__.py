"""What goes over the wire. Calling a contract builds a message; a context or a client sends it.

    declared with                       is                 called, it gives
    Service.activity                    ActivityType       Command
    Service.compensation                CompensationType   Command
    Service.event, event()              EventType          Event
    SagaType(), or @saga("name")        SagaType           Start

`Activity` and `Compensation` are older names of the first two. `errors` draws the tree of errors, `names` the topics
and ids, `envelope` the headers; `commands`, `replies`, `requests` and `lifecycle` the messages.
"""

from sagabus.contracts.activity import Activity, ActivityType, Command, Compensation, CompensationType, Service
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
    "ActivityType",
    "Command",
    "Compensation",
    "CompensationType",
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

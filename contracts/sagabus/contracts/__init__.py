"""What goes over the wire. Calling a contract builds a message; a context or a client sends it.

    declared with                       is                 called, it gives
    Service.activity                    ActivityType       Command
    Service.compensation                CompensationType   Command
    Service.event, event()              EventType          Event
    SagaType(), or @saga("name")        SagaType           Start

`Activity` and `Compensation` are older names of the first two. `errors` draws the tree of errors, `names` the topics
and ids, `envelope` the headers; `commands`, `replies`, `requests` and `lifecycle` the messages.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagabus.contracts.activity import Activity, ActivityType, Command, Compensation, CompensationType, Service
    from sagabus.contracts.errors import (
        ActivityError,
        ActivityFailed,
        ActivityTimedOut,
        DeclarationError,
        MessageInvalid,
        Refused,
        SagabusError,
    )
    from sagabus.contracts.event_type import Event, EventType, event
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
    "Refused",
    "RetryPolicy",
    "SagaType",
    "SagabusError",
    "Seconds",
    "Service",
    "Start",
    "event",
]

# pydantic takes a tenth of a second to import: whoever needs errors or names alone does not wait for it.
_LATER = tuple(__all__)


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from sagabus.contracts import activity, errors, event_type, retry, saga

        for module in (activity, errors, event_type, retry, saga):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What the author of a participant uses, and every error that its author meets.

SagabusError
  what a handler raises     Refused (a business rejection), TryAgain (not now)
  what its context raises   SessionMisuse, HandlerEnded, NotOurs (nothing was stored), MessageInvalid (an event)
  when its time is over     HandlerTimedOut (raised to `carried(…).handle`; a failed attempt of a saga)
  when it is declared       DeclarationError
  when it is started        SettingsError, NotReady, PartitionsChanged, KafkaRefused
  the world's               KafkaUnreachable, DatabaseUnreachable (a start waits; its log has them)
  what ends it              PartDied
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sagabus.contracts.errors import DeclarationError, MessageInvalid, SagabusError
from sagabus.participants.handlers.context import ActivityContext, ExternalContext, HandlerEnded, NotOurs
from sagabus.participants.handlers.plain_connection import PlainConnection
from sagabus.participants.handlers.refusal import Refused, TryAgain
from sagabus.participants.handlers.session_guard import SessionMisuse
from sagabus.participants.handlers.time_limit import HandlerTimedOut
from sagabus.participants.participant import Participant

if TYPE_CHECKING:
    from sagabus.messaging.background import PartDied
    from sagabus.messaging.bus.kafka_connection import KafkaRefused, KafkaUnreachable
    from sagabus.messaging.postgres.database import DatabaseUnreachable
    from sagabus.messaging.service.prerequisites import NotReady
    from sagabus.messaging.settings import SettingsError
    from sagabus.messaging.shards.shard_row import PartitionsChanged

__all__ = [
    "ActivityContext",
    "DatabaseUnreachable",
    "DeclarationError",
    "ExternalContext",
    "HandlerEnded",
    "HandlerTimedOut",
    "KafkaRefused",
    "KafkaUnreachable",
    "MessageInvalid",
    "NotOurs",
    "NotReady",
    "PartDied",
    "Participant",
    "PartitionsChanged",
    "PlainConnection",
    "Refused",
    "SagabusError",
    "SessionMisuse",
    "SettingsError",
    "TryAgain",
]

# Kafka's clients take half a second to import: whoever declares or tests handlers needs none of them.
_LATER = {
    "DatabaseUnreachable": "sagabus.messaging.postgres.database",
    "KafkaRefused": "sagabus.messaging.bus.kafka_connection",
    "KafkaUnreachable": "sagabus.messaging.bus.kafka_connection",
    "NotReady": "sagabus.messaging.service.prerequisites",
    "PartDied": "sagabus.messaging.background",
    "PartitionsChanged": "sagabus.messaging.shards.shard_row",
    "SettingsError": "sagabus.messaging.settings",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)

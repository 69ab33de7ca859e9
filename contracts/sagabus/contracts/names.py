"""Names on the wire: services, sagas, ids and topics. One place makes them, one place reads them."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final, NewType

from sagabus.contracts.errors import DeclarationError, MessageInvalid

SagaId = NewType("SagaId", str)
RunId = NewType("RunId", str)
CommandId = NewType("CommandId", str)

OWN_SERVICE: Final = "sagabus"
"""Speaks for the coordinator itself: settle commands, child sagas, reasons such as `sagabus.retries_exhausted`."""

SETTLE: Final = "sagabus.settle"

_SAGA_ID: Final = re.compile(r"[A-Za-z0-9._~@:-]{1,200}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,99}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_EVENT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,199}")

LONGEST_CODE: Final = 100
"""Characters of a failure's code, which stands in sentences, in lists and in conditions."""
_CODE: Final = re.compile(rf"[!-~]{{1,{LONGEST_CODE}}}")
_NO_TOKEN: Final = re.compile(r"[^!-~]")
_OURS: Final = f"{OWN_SERVICE}."
CODES: Final = f"1 to {LONGEST_CODE} printable ASCII characters without spaces, not begun with {_OURS}"
"""What may be the code of a failure, for people. Those of ours are listed in `replies`."""


class CommandKind(StrEnum):
    """What a command asks of a participant: do the step, undo it, or say once and for all whether it happened."""

    DO = "do"
    UNDO = "undo"
    SETTLE = "settle"


_DO: Final = CommandKind.DO
"""Looked up once: a member of an enum takes longer to find than the rest of an id takes to make."""


def saga_id(text: str) -> SagaId:
    """Raises MessageInvalid unless it has 1 to 200 characters of `[A-Za-z0-9._~@:-]`."""
    if not _SAGA_ID.fullmatch(text):
        shown = text if len(text) <= 60 else f"{text[:60]}… ({len(text)} characters)"
        cure = "give 1 to 200 characters of A-Z a-z 0-9 . _ ~ @ : -"
        raise MessageInvalid("saga_id.invalid", f"saga id {shown!r}: {cure}")
    return SagaId(text)


def new_saga_id(text: str) -> SagaId:
    """Of a saga that is to be started. Raises MessageInvalid.

    `.` and `..` are refused: browsers, curl and proxies take them for parts of a path, and leave them out of it. Such a
    saga could not be shown or cancelled over HTTP.
    """
    if text in (".", ".."):
        raise MessageInvalid("saga_id.invalid", f"saga id {text!r}: a URL loses it; choose another id")
    return saga_id(text)


def service_name(text: str) -> str:
    """Raises DeclarationError for a name that cannot be a topic's first part, and for our own name."""
    if text == OWN_SERVICE:
        raise DeclarationError(f"a service may not be called {text!r}, the coordinator's own name; choose another")
    return _checked(text, "service")


def local_name(text: str, what: str) -> str:
    """The name of an activity, compensation, event or saga within its service."""
    return _checked(text, what)


def event_name(text: str) -> str:
    """The whole name of an event that belongs to no service of ours: `payment.confirmed`."""
    if not _EVENT.fullmatch(text):
        raise DeclarationError(f"event name {text!r}: give a letter, then up to 199 of letters, digits, _ . -")
    return text


def topic_name(text: str, what: str) -> str:
    """Raises MessageInvalid unless Kafka takes it: a message to such a topic could never be published."""
    if not _TOPIC.fullmatch(text) or text in (".", ".."):
        raise MessageInvalid("headers.invalid", f"{what} is {text[:60]!r}, which is no topic of Kafka's")
    return text


def is_code(text: str) -> bool:
    """Whether a failure may have this code, by its form."""
    return _CODE.fullmatch(text) is not None


def is_own_code(text: str) -> bool:
    """Whether it belongs to sagabus."""
    return text.startswith(_OURS)


def fitting_code(text: str) -> str:
    """A code for whatever a handler gave, as near to it as may be: the same, where that fits."""
    fitting = _NO_TOKEN.sub("_", text)[:LONGEST_CODE] or "_"
    return fitting.replace(".", "_", 1) if is_own_code(fitting) else fitting


def _checked(text: str, what: str) -> str:
    if not _NAME.fullmatch(text):
        raise DeclarationError(f"{what} name {text!r}: give a small letter, then up to 99 of a-z 0-9 _ -")
    return text


def command_id(saga: str, run: str, step: int, kind: CommandKind = CommandKind.DO) -> CommandId:
    """The same on every attempt and copy of the command."""
    base = f"{saga}:{run}:{step}"
    return CommandId(base if kind is _DO else f"{base}:{kind.value}")


def parse_command_id(text: str) -> tuple[SagaId, RunId, int, CommandKind]:
    """Saga, run, step and kind. An id is opaque to everybody but the coordinator that made it.

    Raises MessageInvalid for one that no coordinator wrote. A saga id may hold colons, a run id none.
    """
    head, _, tail = text.rpartition(":")
    kind = CommandKind.DO
    if tail in (CommandKind.UNDO, CommandKind.SETTLE):
        kind = CommandKind(tail)
        head, _, tail = head.rpartition(":")
    saga, _, run = head.rpartition(":")
    if not saga or not run or not (tail.isascii() and tail.isdigit() and len(tail) <= 9):
        raise MessageInvalid("reply.causation", f"ce_causationid {text[:80]!r} is not the id of a command of ours")
    return SagaId(saga), RunId(run), int(tail), kind


def reply_id(command: str, attempt: int) -> str:
    return f"{command}:{attempt}:reply"


def requests_topic(namespace: str) -> str:
    return f"{namespace}.requests"


def replies_topic(namespace: str, service: str) -> str:
    return f"{namespace}.replies.{service}"


def coordinator_pattern(namespace: str) -> str:
    """What a coordinator reads: the requests, and the replies of all services."""
    return rf"^{re.escape(namespace)}\.(requests|replies\.[A-Za-z0-9_-]+)$"


@lru_cache(maxsize=1_024)
def replying_service(namespace: str, topic: str) -> str | None:
    """The service that answers on this topic; None if it is no reply topic of the namespace."""
    prefix = f"{namespace}.replies."
    return topic[len(prefix) :] if topic.startswith(prefix) else None


def answers_for(service: str, topic: str) -> bool:
    """Whether this is the topic on which the service answers, of whatever namespace."""
    suffix = f".replies.{service}"
    return topic.endswith(suffix) and len(topic) > len(suffix)


def events_topic(namespace: str) -> str:
    return f"{namespace}.events"


def dead_letters_topic(namespace: str) -> str:
    return f"{namespace}.dead-letters"


def commands_topic(service: str) -> str:
    return f"{service}.commands"


def service_events_topic(service: str) -> str:
    return f"{service}.events"


def routes_schema(namespace: str) -> str:
    """The PostgreSQL schema of a coordinator's routes, and their Kafka consumer group. No service can be called so."""
    return f"{namespace}.routes"


def service_schema(service: str) -> str:
    """The PostgreSQL schema of a participant's own tables, and its Kafka consumer group."""
    return f"sagabus_{service}"

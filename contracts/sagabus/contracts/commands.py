"""A command on the wire: from a coordinator to a participant, on `<service>.commands`.

`ce_id` is the same on every attempt and copy. `ce_attempt` is raised by a retry alone and kept by a re-send.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from sagabus.contracts import names
from sagabus.contracts.envelope import (
    COMMON_HEADERS,
    OWN_HEADERS,
    Headers,
    Message,
    Record,
    common_pieces,
    number_bytes,
    own_pieces,
    time_bytes,
    trace_bytes,
)
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.headers import CUT_BATCH, HeaderReader, read_time, trace_in
from sagabus.contracts.names import CommandId, CommandKind, RunId, SagaId
from sagabus.contracts.record_bytes import Prefix, header, header_maker

HIGHEST: Final = 2**31 - 1
"""Of a step or a partition, which PostgreSQL and Kafka count in 32 bits."""


@dataclass(slots=True, unsafe_hash=True)
class CommandHead:
    """What the headers of a command say.

    Never changed, and not frozen: making a frozen one takes three times as long.
    """

    id: CommandId
    kind: CommandKind
    activity: str
    source: str
    """Which coordinator asks; with `id` the inbox key."""
    saga_id: SagaId
    run: RunId
    step: int
    attempt: int
    issued: int
    """Microseconds since 1970, of the first issue."""
    reply_topic: str
    reply_partition: int
    target: CommandId | None = None
    """The step's own command id, for an undo or a settle."""
    trace: Headers = ()
    timeout: int | None = None
    """Microseconds after `issued` at which the saga gives the step up; None if it never does, or does not say."""

    @property
    def inbox_id(self) -> CommandId:
        """A settle lives on the inbox key of the step that it settles (P4)."""
        return self.target if self.kind is CommandKind.SETTLE and self.target else self.id


_DO: Final = CommandKind.DO

_REQUIRED: Final = (
    "ce_type", "ce_id", "ce_source", "ce_subject", "ce_run", "ce_step", "ce_attempt", "ce_issued", "ce_replyto",
    "ce_replypartition",
)  # fmt: skip


def read_command(record: Record) -> CommandHead:
    """Raises MessageInvalid."""
    return _read_usual(record.headers) or read_any_command(record)


# Nearly every command is a step's, with headers as `command_message` writes them. What each saga has of its own is read
# by one match; the other values are the same in many commands, and each is read once. Both take less than the rules
# allow: what they do not take is read header by header.
_OWN: Final = re.compile(r"([!-~]{1,300})\n([A-Za-z0-9._~@:-]{1,200})\n([!-~]{1,300})")
"""The values of `ce_id`, `ce_subject`, `ce_run`."""
_ASKED: Final = re.compile(r"(?!sagabus\.settle\n)([!-~]{1,300})\n([!-~]{1,300})\n([A-Za-z0-9._-]{3,249})")
"""Those of `ce_type`, `ce_source`, `ce_replyto`."""
_TIME: Final = re.compile(r"[0-9T:.Z-]{20,32}")

_UNUSUAL: Final = frozenset({"ce_compensates", CUT_BATCH})


def _read_usual(headers: Sequence[tuple[str, bytes | None]]) -> CommandHead | None:
    """None for whatever is not as usual, be it right or wrong."""
    given: dict[str, Any] = dict(headers)
    if len(given) != len(headers) or not _UNUSUAL.isdisjoint(given):
        return None
    try:
        text = b"\n".join((given["ce_id"], given["ce_subject"], given["ce_run"])).decode("ascii")
        if (read := _OWN.fullmatch(text)) is None:
            return None
        own: tuple[Any, ...] = read.groups()
        id, saga, run = own
        activity, source, reply_topic = _asked(given["ce_type"], given["ce_source"], given["ce_replyto"])
        timeout = given.get("ce_timeout")
        return CommandHead(
            id, _DO, activity, source, saga, run, _number(given["ce_step"], 9), _number(given["ce_attempt"], 18),
            _issued(given["ce_issued"]), reply_topic, _number(given["ce_replypartition"], 9), None, trace_in(given),
            None if timeout is None else _number(timeout, 18),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError):  # one is missing, null, no ASCII, no number, no time
        return None


@lru_cache(maxsize=1_024)
def _asked(type: bytes, source: bytes, reply_topic: bytes) -> Sequence[str]:
    """As text. Raises ValueError for what is not as usual, TypeError for null."""
    if (read := _ASKED.fullmatch(b"\n".join((type, source, reply_topic)).decode("ascii"))) is None:
        raise ValueError("not as usual")
    return read.groups()


@lru_cache(maxsize=4_096)
def _number(value: bytes, digits: int) -> int:
    """Of so many digits at most. Raises ValueError, TypeError for null."""
    if len(value) > digits or not value.isdigit():
        raise ValueError("no such number")
    return int(value)


@lru_cache(maxsize=1_024)
def _issued(value: bytes) -> int:
    """Raises as `read_time` does, TypeError for null."""
    text = str(value, "ascii")
    if _TIME.fullmatch(text) is None:
        raise ValueError("not as usual")
    return read_time(text)


def read_any_command(record: Record) -> CommandHead:
    """Header by header, so that every fault has its name. Raises MessageInvalid."""
    headers = HeaderReader(record.headers, wanted=_REQUIRED)
    activity = headers.required("ce_type")
    kind, target = _kind(headers, activity)
    return CommandHead(
        id=CommandId(headers.required("ce_id")),
        kind=kind,
        activity=activity,
        source=headers.required("ce_source"),
        saga_id=names.saga_id(headers.required("ce_subject")),
        run=RunId(headers.required("ce_run")),
        step=headers.number("ce_step", most=HIGHEST),
        attempt=headers.number("ce_attempt"),
        issued=headers.time("ce_issued"),
        reply_topic=names.topic_name(headers.required("ce_replyto"), "header ce_replyto"),
        reply_partition=headers.number("ce_replypartition", most=HIGHEST),
        target=target,
        trace=headers.trace(),
        timeout=None if headers.raw("ce_timeout") is None else headers.number("ce_timeout"),
    )


def _kind(headers: HeaderReader, activity: str) -> tuple[CommandKind, CommandId | None]:
    if activity == names.SETTLE:
        return CommandKind.SETTLE, CommandId(headers.required("ce_settles"))
    compensates = headers.text("ce_compensates")
    if compensates is None:
        return CommandKind.DO, None
    if not compensates:
        raise MessageInvalid("headers.invalid", "ce_compensates is empty; it holds the ce_id of the step to undo")
    return CommandKind.UNDO, CommandId(compensates)


@dataclass(slots=True, unsafe_hash=True)
class Addresses:
    """Where one saga's commands go and where their replies come back; the same for its whole life.

    Never changed, and not frozen, as `CommandHead`.

    prefix: what all of its messages begin with: the saga id as their key, and headers, `ce_run` the last of them.
    """

    namespace: str
    source: bytes
    saga_id: SagaId
    run: RunId
    shard: int
    prefix: Prefix = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        saga = self.saga_id.encode()
        headers = (*common_pieces(self.source, saga), _run(self.run.encode()))
        self.prefix = Prefix(saga, COMMON_HEADERS + 1, headers)


def command_message(
    addresses: Addresses,
    *,
    service: str,
    activity: str,
    step: int,
    kind: CommandKind,
    attempt: int,
    issued: int,
    time: int,
    cause: str,
    body: bytes,
    partition: int | None,
    trace: Headers = (),
    timeout: int | None = None,
) -> Message:
    """One copy of a command. time: of the deciding turn; issued: of the step's first send; both in microseconds.

    timeout: microseconds after `issued` until the saga gives the step up. Other languages may leave the header unread.
    """
    a = addresses
    topic, route = _route(a.namespace, service, step, attempt, issued, a.shard)
    own, count = own_pieces(names.command_id(a.saga_id, a.run, step, kind), activity, time, cause), _USUAL_HEADERS
    own.append(route)
    if kind is not _DO or timeout is not None or trace:
        more = [*_unusual(a, step, kind, timeout), *trace_bytes(trace)]
        own, count = own + more, count + len(more)
    return Message(topic, a.saga_id, partition, a.prefix.record(body, count, own))


_run: Final = header_maker("ce_run")
_USUAL_HEADERS: Final = OWN_HEADERS + 5


@lru_cache(maxsize=4096)
def _route(namespace: str, service: str, step: int, attempt: int, issued: int, shard: int) -> tuple[str, bytes]:
    """The topic of a service's commands, and the bytes of five headers: which step it is, and where it answers. Many
    sagas of a turn have the same."""
    reply_to = header("ce_replyto", names.replies_topic(namespace, service).encode())
    which = number_bytes("ce_step", step) + number_bytes("ce_attempt", attempt) + time_bytes("ce_issued", issued)
    return names.commands_topic(service), which + reply_to + number_bytes("ce_replypartition", shard)


def _unusual(a: Addresses, step: int, kind: CommandKind, timeout: int | None) -> Iterator[bytes]:
    """The bytes of the headers that most commands have not."""
    if kind is not _DO:
        target = "ce_compensates" if kind is CommandKind.UNDO else "ce_settles"
        yield header(target, names.command_id(a.saga_id, a.run, step).encode())
    if timeout is not None:
        yield number_bytes("ce_timeout", timeout)

"""What the code of a saga has to do with events: which it waits for, and which were kept for it (decision 0014).

It is stored with the saga, for whoever has not its code. Like its timers it follows from the code and its history: what
is so when the code has come to rest. A replay makes the same of it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pydantic_core import from_json

from sagabus.contracts import codec
from sagabus.contracts.words import plain

MOST_NAMES: Final = 20
"""Names of events that are stored, of those that are awaited and of those that are kept."""


class AwaitedEvent(NamedTuple):
    """since: microseconds since 1970, when the code began to wait. where: each wait for it wants certain ones only."""

    name: str
    since: int
    where: bool = False


class KeptEvent(NamedTuple):
    """Events of one name that came, and that the code has not taken."""

    name: str
    number: int


class Events(NamedTuple):
    """row: of history, the last one that this takes account of. What a release has written that knows nothing of this
    stands behind it. awaited: the longest waiting first. kept: the oldest name first. Of each at most MOST_NAMES."""

    row: int
    awaited: tuple[AwaitedEvent, ...] = ()
    kept: tuple[KeptEvent, ...] = ()


UNKNOWN: Final = Events(0)
"""Of a saga that such a release has begun: the default of the column."""


def events_json(events: Events | None) -> bytes | None:
    """As it is stored with the saga; None where it neither waits for an event nor has kept one."""
    if events is None:
        return None
    return codec.encode_value({
        "row": events.row,
        "awaited": [_awaited(one) for one in events.awaited],
        "kept": [{"name": plain(one.name), "number": one.number} for one in events.kept],
    })  # fmt: skip


def _awaited(one: AwaitedEvent) -> dict[str, str | int | bool]:
    where = {"where": True} if one.where else {}
    return {"name": plain(one.name), "since": one.since, **where}


def read_events(stored: bytes | None) -> Events | None:
    """The reverse."""
    if stored is None:
        return None
    read = from_json(stored)
    awaited = tuple(
        AwaitedEvent(str(one["name"]), int(one["since"]), bool(one.get("where"))) for one in read.get("awaited", ())
    )
    kept = tuple(KeptEvent(str(one["name"]), int(one["number"])) for one in read.get("kept", ()))
    return Events(int(read["row"]), awaited, kept)

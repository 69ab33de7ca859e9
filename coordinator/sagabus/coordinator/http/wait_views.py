"""The JSON of what a saga waits for, and of the events that it has received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from pydantic import BaseModel

from sagabus.contracts.envelope import moment
from sagabus.contracts.names import CommandKind
from sagabus.coordinator.core.saga.events import MOST_NAMES
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.http.waits import Wait, WaitKind


class WaitView(BaseModel):
    """One thing that an open saga waits for. words: for people. What does not apply is null.

    step, activity, service: of the command that is waited for. command: `do`, `undo` or `settle`. attempt: of this
    command, or of the next one. concern: the kind of the concern, of one that needs an operator. event: the name of the
    event that the code waits for. since: when it was sent, failed or came to rest, or when the code began to wait. due:
    when it is tried again, or when the wait ends by itself.
    """

    kind: WaitKind
    words: str
    step: int | None
    activity: str | None
    service: str | None
    command: CommandKind | None
    attempt: int | None
    concern: str | None
    event: str | None
    since: datetime | None
    due: datetime | None

    @classmethod
    def of(cls, wait: Wait) -> WaitView:
        step = wait.step
        return cls(
            kind=wait.kind,
            words=wait.words,
            step=None if step is None else step.number,
            activity=None if step is None else step.activity,
            service=None if step is None else step.service,
            command=wait.command,
            attempt=wait.attempt,
            concern=wait.concern,
            event=wait.event,
            since=_moment(wait.since),
            due=_moment(wait.due),
        )


class EventView(BaseModel):
    """Events of one name among the latest rows of history. One that nobody waits for is kept until somebody does.

    kept: how many of this name the code has not taken yet; null where that is not known: it is paused or cannot go on,
    has ended, or has kept events of very many names.
    """

    name: str
    received: int
    latest_at: datetime
    kept: int | None


def events_of(rows: Iterable[Row], kept: Mapping[str, int] | None) -> list[EventView]:
    """By name. kept: how many of each name; None where it is not known."""
    received: Counter[str] = Counter()
    latest: dict[str, int] = {}
    for row in rows:
        if row.kind is Kind.EVENT:
            received[row.name] += 1
            latest[row.name] = row.at
    return [
        EventView(name=name, received=received[name], latest_at=moment(at), kept=_kept(name, kept))
        for name, at in sorted(latest.items())
    ]


def _kept(name: str, kept: Mapping[str, int] | None) -> int | None:
    if kept is None:
        return None
    return kept.get(name, 0 if len(kept) < MOST_NAMES else None)


def _moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)

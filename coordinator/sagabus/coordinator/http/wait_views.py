"""The JSON of what a saga waits for, and of the events that it has received."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel

from sagabus.contracts.envelope import moment
from sagabus.contracts.names import CommandKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.http.waits import Wait, WaitKind


class WaitView(BaseModel):
    """One thing that an open saga waits for. words: for people. What does not apply is null.

    step, activity, service: of the command that is waited for. command: `do`, `undo` or `settle`. attempt: of this
    command, or of the next one. since: when it was sent, failed or came to rest. due: when it is tried again, or when
    the wait ends by itself.
    """

    kind: WaitKind
    words: str
    step: int | None
    activity: str | None
    service: str | None
    command: CommandKind | None
    attempt: int | None
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
            since=_moment(wait.since),
            due=_moment(wait.due),
        )


class EventView(BaseModel):
    """Events of one name among the latest rows of history. One that nobody waits for is kept until somebody does."""

    name: str
    received: int
    latest_at: datetime


def events_of(rows: Iterable[Row]) -> list[EventView]:
    """By name."""
    found: dict[str, EventView] = {}
    for row in rows:
        if row.kind is Kind.EVENT:
            before = found[row.name].received if row.name in found else 0
            found[row.name] = EventView(name=row.name, received=before + 1, latest_at=moment(row.at))
    return [found[name] for name in sorted(found)]


def _moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)

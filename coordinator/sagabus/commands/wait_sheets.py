"""What a saga waits for, and the events that it has received, as text for people.

A coordinator of an older release says nothing of either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sagabus.commands.moments import between, moment

Json = Mapping[str, Any]


def waits(saga: Json, *, now: datetime) -> Iterator[str]:
    """A line for each. now: aware."""
    for wait in saga.get("waits", ()):
        yield f"waits: {sentence(wait, now=now)}"
    if not saga.get("waits_complete", True):
        yield "waits: its history is long, and older steps may wait too: the steps tell"


def first(saga: Json, *, now: datetime) -> str:
    """The first of them, for a list; empty where it waits for nothing."""
    listed = saga.get("waits", ())
    more = f" (and {len(listed) - 1} more)" if len(listed) > 1 else ""
    return f"waits: {sentence(listed[0], now=now)}{more}" if listed else ""


def sentence(wait: Json, *, now: datetime) -> str:
    since = f", for {between(wait['since'], now)}" if wait["since"] else ""
    due = f", until {moment(wait['due'])} (in {between(now, wait['due'])})" if wait["due"] else ""
    return f"{wait['words']}{since}{due}"


def events(saga: Json) -> Iterator[str]:
    for event in saga.get("events", ()):
        kept = "" if saga["closed_at"] else "; one that its code does not wait for is kept until it does"
        times = f"{event['received']} received, the latest {moment(event['latest_at'])}"
        yield f"event {event['name']}: {times}{kept}"

"""What a saga waits for, and the events that it has received, as text for people.

The sentences of the API are told as they are, but for what another line says already. A list has room for a few words
alone, which are made from the codes. A coordinator of an older release says nothing of either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from sagabus.commands.moments import between, moment

Json = Mapping[str, Any]

BRIEF: Final = 2
"""Waits of a saga that a list has room for."""


def waits(saga: Json, *, now: datetime) -> Iterator[str]:
    """A line for each. now: aware."""
    for wait in saga.get("waits", ()):
        yield f"waits: {_words(wait, saga)}{_times(wait, now)}"
    if not saga.get("waits_complete", True):
        yield "waits: its history is long, and older steps may wait too: the steps tell"


def brief(saga: Json, *, now: datetime) -> str:
    """The first of them in a few words, for a list; empty where it waits for nothing but what its marks tell.

    "…" says that it may wait for more.
    """
    listed = [wait for wait in saga.get("waits", ()) if not (wait.get("concern") or is_pause(wait))]
    more = f" (and {len(listed) - BRIEF} more)" if len(listed) > BRIEF else ""
    words = "; ".join(_brief(wait, now) for wait in listed[:BRIEF]) + more
    return words if saga.get("waits_complete", True) else f"{words} …".lstrip()


def is_pause(wait: Json) -> bool:
    """An operator has paused the saga."""
    return wait["kind"] == "operator" and wait["step"] is None and not wait.get("concern", "?")


def events(saga: Json) -> Iterator[str]:
    for event in saga.get("events", ()):
        times = f"{event['received']} received, the latest {moment(event['latest_at'])}"
        yield f"event {event['name']}: {times}{_kept(event, saga)}"


def _kept(event: Json, saga: Json) -> str:
    kept = event.get("kept")
    if kept:
        are, them = ("is", "it") if kept == 1 else ("are", "them")
        return f"; {kept} {are} kept: its code has not waited for {them} yet"
    if kept == 0 or saga["status"] != "running":
        return ""
    return "; one that its code does not wait for is kept until it does"


def _words(wait: Json, saga: Json) -> str:
    """Without what a concern of the saga says beside it."""
    if wait.get("concern") == "parked":
        return "what it sends is kept until it is released (parked)"
    if wait.get("concern"):
        return f"its code cannot go on ({wait['concern']})"
    told = {concern["step"] for concern in saga["concerns"]} - {None}
    if wait["step"] in told and wait["kind"] == "retry":
        step = _of_command(wait, f"step {wait['step']} ({wait['activity']})")
        return f"{step} is tried again, attempt {wait['attempt']}"
    return str(wait["words"])


def _times(wait: Json, now: datetime) -> str:
    since = f", for {between(wait['since'], now)}" if wait["since"] else ""
    due = f", until {moment(wait['due'])} (in {between(now, wait['due'])})" if wait["due"] else ""
    return f"{since}{due}"


def _brief(wait: Json, now: datetime) -> str:
    age = f", for {between(wait['since'], now)}" if wait["since"] else ""
    due = f" in {between(now, wait['due'])}" if wait["due"] else ""
    match wait["kind"]:
        case "answer":
            return f"{_short(wait)}{age}"
        case "retry":
            return f"next attempt of {_short(wait)}{due}"
        case "event":
            return f"event {wait.get('event') or 'of a name that is not known'}{age}"
        case "timer":
            return f"timer{due}"
        case "timeout":
            return f"its time limit{due}"
        case _:
            return f"{wait['words']}{age}"


def _short(wait: Json) -> str:
    return _of_command(wait, f"{wait['activity']} (step {wait['step']})")


def _of_command(wait: Json, step: str) -> str:
    return {"undo": f"the undo of {step}", "settle": f"the outcome of {step}"}.get(wait["command"], step)

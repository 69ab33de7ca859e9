"""What became of a verb, as text for people. The answer of the API goes in, with the saga's steps; a line comes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

Json = dict[str, Any]

_UNDONE = ("done", "skipped")

MOST_TOLD: Final = 10
"""Steps that a terminated saga leaves behind, in one line."""
_OUTSTANDING: Final = {"open": "is not answered", "unknown": "may have happened", "undo": "is not undone"}
"""Why a step is left behind, by its code in the saga's error."""


def cancelled(answer: Json) -> str:
    saga = answer["saga"]
    if saga.get("status") == "running":
        return f"{saga['id']} is being cancelled: its code tidies up first, then it is undone"
    return standing(answer)


def retried(answer: Json) -> str:
    return f"{answer['saga']['id']}: step {answer['step']} is tried again now{_marks(answer['saga'])}"


def skipped(answer: Json) -> str:
    return f"step {answer['step']} is skipped; {standing(answer)}"


def completed(answer: Json) -> str:
    return f"step {answer['step']} has the output that was given; {standing(answer)}"


def acknowledged(answer: Json) -> str:
    saga = answer["saga"]
    if saga.get("attention"):
        return f"{saga['id']} is still flagged: {saga['attention']}"
    return f"{saga['id']} is not flagged for attention any more"


def paused(answer: Json) -> str:
    return f"{answer['saga']['id']} is paused"


def resumed(answer: Json) -> str:
    return f"{answer['saga']['id']} goes on; {standing(answer)}"


def terminated(answer: Json) -> str:
    """With the first of the steps that its error lists as outstanding."""
    id, error = answer["saga"]["id"], answer["saga"].get("error") or {}
    listed = error.get("outstanding", ())
    if not listed:
        return f"{id} is terminated; no step is left behind"
    told = "; ".join(_left_behind(one) for one in listed[:MOST_TOLD])
    more = len(listed) - MOST_TOLD + error.get("more", 0)
    rest = f"; and {more} more: see `sagabus show {id} --history`" if more > 0 else ""
    return f"{id} is terminated; undo by hand what is left behind: {told}{rest}"


def _left_behind(one: Json) -> str:
    """A step that a terminated saga leaves behind. An unknown code, of a later release, is told as it is."""
    return f"step {one['step']} ({one['activity']}) {_OUTSTANDING.get(one['outstanding'], one['outstanding'])}"


def standing(answer: Json) -> str:
    """How its saga stands now."""
    saga = answer["saga"]
    status = saga.get("status")
    if status == "compensating":
        return f"{saga['id']} is being undone: {_left(answer['steps'])}{_marks(saga)}"
    return f"{saga['id']} is {status or 'not to be read just now'}{_marks(saga)}"


def undecided(answer: Json, *, wait: float) -> str:
    """Kept, or not decided upon yet."""
    id, verb = answer["id"], answer["request"]
    if answer["outcome"] == "kept":
        return f"{id}: {verb} is kept, and decided upon when the saga's code can go on; {answer['waits_for']}"
    if wait <= 0:
        return f"{id}: {verb} is sent (request {answer['message_id']})"
    why = f": {answer['waits_for']}" if answer["waits_for"] else ""
    return (
        f"{id}: {verb} is sent, and not decided upon within {wait:g} s{why}; `sagabus show {id} --history` tells of it "
        f"(request {answer['message_id']})"
    )


def _left(steps: Iterable[Json]) -> str:
    """What is still to be undone."""
    undo = settle = 0
    for step in steps:
        if step["undo"] == "settling" or (step["status"] == "unknown" and step["undo"] == "none"):
            settle += 1
        elif _is_done(step) and step["compensation"]:
            undo += 1
    words = f"{undo} step to undo" if undo == 1 else f"{undo} steps to undo"
    return f"{words}, {settle} to be asked about first" if settle else words


def _is_done(step: Json) -> bool:
    return bool(step["status"] == "completed" and step["undo"] not in _UNDONE)


def _marks(saga: Json) -> str:
    paused = "; it is paused" if saga.get("paused") else ""
    return f"{paused}; needs operator action: {saga['attention']}" if saga.get("attention") else paused

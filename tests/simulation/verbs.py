"""What must hold of what operators asked for, by the rows of history and the ledgers: pauses, terminations, ids (U8).

Every violation is a sentence, as in `checker`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from sagabus.contracts import names
from sagabus.contracts.lifecycle import LifecycleType
from sagabus.coordinator.core.saga import request_answers
from sagabus.coordinator.core.saga.history import DECISIONS, Kind, Row
from tests.simulation.bus import LoggedRecord

BEGINS: Final = frozenset((Kind.COMMAND, Kind.PUBLISH, Kind.START, Kind.SETTLE, Kind.ROLLBACK, Kind.PIVOT, Kind.ENDED))
"""Decisions that no paused saga makes."""

_ANSWERS: Final = frozenset((Kind.STEP_COMPLETED, Kind.STEP_REFUSED, Kind.STEP_FAILED))
_KEPT: Final = _ANSWERS | {Kind.EVENT}


def pauses(history: Iterable[Row]) -> Iterator[tuple[int, int]]:
    """From when to when, in microseconds since 1970."""
    since: int | None = None
    for row in history:
        if since is None and (row.kind, row.name) == (Kind.OPERATOR, "pause"):
            since = row.at
        elif since is not None and _ends_a_pause(row):
            yield since, row.at
            since = None


def _ends_a_pause(row: Row) -> bool:
    ends = row.kind is Kind.OPERATOR and row.name in ("resume", "terminate")
    return ends or row.kind in (Kind.CANCEL, Kind.CODELESS)


def in_effect(history: Iterable[Row]) -> list[Row]:
    """A pause, or a termination, that a blocked saga has kept stands behind the turn in which the saga goes on: what
    came before it is decided upon first. A verb that was refused is left out, and so is a kept pause that has ended,
    be it by a verb of that very turn.
    """
    history = [*history]
    refused = {row.ref for row in history if request_answers.is_refusal(row)}
    placed: list[Row] = []
    kept: list[Row] = []
    is_blocked, goes_on_at = False, 0
    for row in history:
        if not is_blocked and row.at != goes_on_at:
            placed += [replace(one, at=goes_on_at) for one in kept]
            kept = []
        if row.kind is Kind.BLOCKED:
            kept += [one for one in placed if one.seq >= row.step and _begins_a_rest(one)]
            placed = [one for one in placed if one not in kept]
            is_blocked = True
        elif row.kind in (Kind.RESUMED, Kind.CODELESS):
            is_blocked, goes_on_at = False, row.at
        if request_answers.verb_of(row) and row.ref in refused:
            continue
        if (is_blocked or row.at == goes_on_at) and row.kind is not Kind.CODELESS and _ends_a_pause(row):
            kept = [one for one in kept if one.name != "pause"]
        (kept if is_blocked and _begins_a_rest(row) else placed).append(row)
    return placed if is_blocked else placed + [replace(one, at=goes_on_at) for one in kept]


def _begins_a_rest(row: Row) -> bool:
    return row.kind is Kind.OPERATOR and row.name in ("pause", "terminate")


def as_decided(history: Iterable[Row]) -> list[Row]:
    """What came for a paused saga is decided upon when it is resumed."""
    decided: list[Row] = []
    kept: list[Row] | None = None
    for row in history:
        if kept is not None and row.kind in _KEPT:
            kept.append(row)
            continue
        decided.append(row)
        if (row.kind, row.name) == (Kind.OPERATOR, "pause"):
            kept = []
        elif kept is not None and _ends_a_pause(row):
            decided += kept
            kept = None
    return decided


def of_history(id: str, history: Sequence[Row], *, restored: bool) -> Iterator[str]:
    """Nothing begins while a saga is paused; a request, and an answer to a step, counts once. restored: of answers to
    what was lost with a restored database there may be several rows."""
    answers = Counter((row.kind, row.step, row.attempt, row.payload) for row in history if row.kind in _ANSWERS)
    for (kind, step, *_), times in answers.items():
        if times > 1 and not restored:
            yield f"the history of {id} has the same {kind} of step {step} {times} times"
    asked = Counter(row.ref for row in history if row.kind in (Kind.OPERATOR, Kind.CANCEL))
    for ref, times in asked.items():
        if times > 1:
            yield f"the request {ref} to {id} was applied {times} times"
    paused = False
    for row, after in pairwise(in_effect(history)):
        paused = (paused or (row.kind, row.name) == (Kind.OPERATOR, "pause")) and not _ends_a_pause(row)
        if paused and (after.kind in BEGINS or (after.kind is Kind.TIMER and after.name != "undo_retry")):
            yield f"{id} is paused, and its history goes on with {after.kind} {after.name}"
        if paused and row.kind in _KEPT and after.kind in DECISIONS:
            yield f"{id} is paused, and {row.kind} of step {row.step} is decided upon"
        if paused and after.kind is Kind.UNDO and after.step != row.step:
            yield f"{id} is paused, and the undo of step {after.step} begins"


def sent_while_paused(id: str, run: str, history: Sequence[Row], published: Iterable[LoggedRecord]) -> Iterator[str]:
    """Copies of commands, too. A message that was decided before the pause may leave after it began."""
    times = [*pauses(in_effect(history))]
    if not times:
        return
    for record in published:
        if not record.topic.endswith(".commands"):
            continue
        header = {name: value.decode() for name, value in record.headers}
        saga, its_run, _, command = names.parse_command_id(header["ce_id"])
        if (saga, its_run, command) == (id, run, names.CommandKind.DO):
            at = _microseconds(header["ce_time"])
            if any(since < at < until for since, until in times):
                yield f"{id} was paused, and the command {header['ce_id']} was sent"


def _microseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1_000_000)


def left_behind(
    row: Mapping[str, Any], history: Sequence[Row], done: Collection[int], published: Sequence[LoggedRecord]
) -> Iterator[str]:
    """Of a terminated saga. done: steps that have happened within a transaction and are not undone. published: all
    records, and all of them were read.

    Of a step that was open each completion is a row, or a later word. That of a step which was given up before is late
    (U1): only what came after the termination is a later word then (U8).
    """
    answered = completed_replies(row["id"], row["run"], published)
    later = completed_replies(row["id"], row["run"], _since_terminated(row["id"], row["run"], published))
    heard = {"open": answered, "unknown": later}
    listed = {one["step"]: one["outstanding"] for one in json.loads(row["error"])["outstanding"]}
    concerns = {one["number"] for one in json.loads(row["concerns"] or "[]")}
    for step in sorted(done):
        if step not in listed and step not in concerns:
            yield f"{row['id']} was terminated, step {step} has happened, and nobody is told"
        if step in heard.get(listed.get(step, ""), ()) and step not in concerns:
            yield f"{row['id']} was terminated, has heard that step {step} happened, and nobody is told"
    history = in_effect(history)
    ended = next(place for place, one in enumerate(history) if (one.kind, one.name) == (Kind.OPERATOR, "terminate"))
    for one in history[ended + 1 :]:
        if one.kind in BEGINS or one.kind in (Kind.UNDO, Kind.TIMER):
            yield f"{row['id']} was terminated, and its history goes on with {one.kind} {one.name}"


def _since_terminated(id: str, run: str, published: Sequence[LoggedRecord]) -> Sequence[LoggedRecord]:
    """What was published after the event that tells of it."""
    for place, record in enumerate(published):
        header = {name: value.decode() for name, value in record.headers}
        if header.get("ce_type") == LifecycleType.TERMINATED and (header["ce_subject"], header["ce_run"]) == (id, run):
            return published[place:]
    return ()


def completed_replies(id: str, run: str, published: Iterable[LoggedRecord]) -> set[int]:
    """The steps of which a reply on the bus says that they have completed."""
    steps: set[int] = set()
    for record in published:
        header = {name: value.decode() for name, value in record.headers}
        if ".replies." in record.topic and header.get("ce_type") == "sagabus.reply.completed":
            saga, its_run, step, command = names.parse_command_id(header["ce_causationid"])
            if (saga, its_run, command) == (id, run, names.CommandKind.DO):
                steps.add(step)
    return steps

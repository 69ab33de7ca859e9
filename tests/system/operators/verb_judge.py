"""The verdict on what operators asked for: callers, history, the topic of events and the ledger must tell one story.

Every violation is a sentence. What the product makes of its own history is not asked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.system.operators.people import Answer
from tests.system.operators.verb_plan import Ask, Way

APPLIED, REFUSED, NOWHERE = "applied", "refused", "nowhere"
TOLD: Final = {
    "sagabus.request.applied": APPLIED,
    "sagabus.request.refused": REFUSED,
    "sagabus.cancel.rejected": REFUSED,
}
UNDONE: Final = ("cancelled", "compensated")
DONE: Final = ("take", "hold", "falter")
BEGINS: Final = ("command", "undo", "settle", "timer", "publish")
"""Rows that no saga has after its termination."""


class Line(NamedTuple):
    """A row of history."""

    seq: int
    kind: str
    step: int
    name: str
    ref: str
    payload: bytes | None


class Outcome(NamedTuple):
    """What became of a request. code: of a refusal."""

    kind: str
    code: str = ""


@dataclass
class Saga:
    """What is left of one. ledger: (step, what), in the order in which it was done."""

    id: str
    status: str = ""
    attention: str | None = None
    error: bytes | None = None
    history: list[Line] = field(default_factory=list)
    ledger: list[tuple[int, str]] = field(default_factory=list)


class Event(NamedTuple):
    """A lifecycle event about a request; copies are one. body: as JSON."""

    id: str
    type: str
    body: bytes


@dataclass
class Left:
    """All that a run has left. events, letters: by the request's id. early: ids of sagas that nobody has started."""

    sagas: dict[str, Saga]
    events: Mapping[str, Collection[Event]]
    letters: Collection[str]
    early: Collection[str]

    def __post_init__(self) -> None:
        self.rows: dict[str, list[Line]] = {}
        self.kept: set[str] = set()
        """Requests that a blocked saga has kept."""
        for saga in self.sagas.values():
            self.kept |= _kept(saga.history)
            for line in saga.history:
                if _is_about_a_request(line):
                    self.rows.setdefault(line.ref, []).append(line)

    def outcome(self, ask: Ask) -> Outcome | None:
        """As history has it; None if it says nothing, or more than one thing. What was kept and refused later has two
        rows, of which the refusal counts."""
        rows = self.rows.get(ask.id, [])
        refused = [row for row in rows if row.kind == "notice"]
        if len(refused) == 1 and len(rows) == 1 + (ask.id in self.kept):
            return Outcome(REFUSED, _json(refused[0].payload)["code"])
        if not refused and len(rows) == 1:
            return Outcome(APPLIED)
        is_early = ask.saga in self.early and ask.verb == "cancel"
        return Outcome(NOWHERE) if not rows and (ask.id in self.letters or is_early) else None


def judge_requests(
    left: Left, asked: Mapping[str, Ask], told: Mapping[str, Sequence[Answer]], looked_up: Mapping[str, Answer]
) -> Iterator[str]:
    """looked_up: what a coordinator says of each request, asked again in the end."""
    for ask in asked.values():
        answers = told.get(ask.id, [])
        if ask.way is Way.HTTP and answers and all(answer.status == 404 for answer in answers):
            if ask.id in left.rows or ask.id in left.letters or left.events.get(ask.id):
                yield f"{ask.id}: nothing was asked (404), and something has come of it"
            continue
        outcome = left.outcome(ask)
        if outcome is None:
            yield f"{ask.id} ({ask.verb} of {ask.saga}) has the rows {left.rows.get(ask.id, [])}"
        elif outcome.kind == NOWHERE:
            yield from _of_nobody(left, ask)
        else:
            yield from _rows(ask, left.rows[ask.id])
            yield from _events(ask, outcome, left.events.get(ask.id, ()))
            yield from _answers(ask, outcome, answers)
            found = looked_up.get(ask.id)
            if found != Answer(200, outcome.kind, outcome.code):
                yield f"{ask.id} is {outcome}, and asked again it is {found}"
            if ask.id in left.letters:
                yield f"{ask.id} is {outcome}, and a dead letter too"
    unknown = left.rows.keys() - asked.keys()
    if unknown:
        yield f"nobody has asked for {sorted(unknown)}"


def _of_nobody(left: Left, ask: Ask) -> Iterator[str]:
    if ask.saga in left.sagas and ask.run is None:
        yield f"{ask.id} ({ask.verb} of {ask.saga}) never reached its saga"
    if left.events.get(ask.id):
        yield f"{ask.id} reached no saga, and was told of: {left.events[ask.id]}"


def _rows(ask: Ask, rows: Sequence[Line]) -> Iterator[str]:
    """Each says who asked, for what and why."""
    for row in rows:
        if row.kind == "cancel":
            said = {"verb": "cancel", "reason": (row.payload or b"").decode(), "actor": row.name}
        else:
            body = _json(row.payload)
            verb = body["verb"] if row.kind == "notice" else row.name
            said = {"verb": verb, "reason": body["reason"], "actor": body["actor"]}
        if said != {"verb": ask.verb, "reason": ask.reason, "actor": ask.actor}:
            yield f"{ask.id} ({ask.verb} by {ask.actor}) stands in history as {said}"


def _events(ask: Ask, outcome: Outcome, events: Collection[Event]) -> Iterator[str]:
    """One, which says the same."""
    said = [(TOLD[one.type], _json(one.body)) for one in events]
    if [kind for kind, _ in said] != [outcome.kind]:
        yield f"{ask.id} is {outcome}, and the world was told {[one.type for one in events]}"
        return
    (_, body), (event,) = said[0], events
    code = (body.get("error") or {}).get("code", "")
    if (body["request"], code) != (ask.verb, outcome.code):
        yield f"{ask.id} ({ask.verb}) is {outcome}, and the world was told {body}"
    if (event.type == "sagabus.cancel.rejected") != (ask.verb == "cancel" and outcome.kind == REFUSED):
        yield f"{ask.id} ({ask.verb}) is {outcome}, and was told by a {event.type}"


def _answers(ask: Ask, outcome: Outcome, answers: Sequence[Answer]) -> Iterator[str]:
    """404: at that time its saga was not there yet."""
    if ask.way is Way.HTTP and len(answers) != ask.copies:
        yield f"{ask.id} was asked {ask.copies} times over HTTP, and answered {len(answers)} times"
    rights = {Answer(200, APPLIED)} if outcome.kind == APPLIED else {Answer(409, code=outcome.code)}
    rights |= {Answer(202, "unknown"), Answer(202, "kept"), Answer(404, code="saga.not_found")}
    for wrong in [answer for answer in answers if answer not in rights]:
        yield f"{ask.id} ({ask.verb} of {ask.saga}) is {outcome}, and its caller was told {wrong}"


def judge_effects(saga: Saga) -> Iterator[str]:
    """What was done and undone, by the ledger, is what its end says."""
    done = [step for step, what in saga.ledger if what in DONE]
    undone = [step for step, what in saga.ledger if what == "give_back"]
    skipped, by_hand = _steps(saga, "skip"), _steps(saga, "complete")
    words = f"{saga.id} is {saga.status}, its ledger {saga.ledger}"
    if max(Counter(saga.ledger).values(), default=0) > 1:
        yield f"{words}: something was done twice"
    if undone != sorted(undone, reverse=True):
        yield f"{words}: undone out of order"
    if saga.status == "completed" and undone:
        yield f"{words}: something was undone"
    if saga.status in UNDONE:
        if kept := {*done} - {*undone} - skipped:
            yield f"{words}: the steps {kept} are not undone"
        if more := {*undone} - {*done} - by_hand:
            yield f"{words}: the steps {more} were undone, and never done"
    if saga.status == "terminated":
        yield from _terminated(saga, {*done} - {*undone} - skipped, {*undone})


def _terminated(saga: Saga, left: set[int], undone: set[int]) -> Iterator[str]:
    place = next(n for n, row in enumerate(saga.history) if (row.kind, row.name) == ("operator", "terminate"))
    before, after = saga.history[:place], saga.history[place + 1 :]
    if begun := undone - {row.step for row in before if row.kind == "undo"}:
        yield f"{saga.id} was terminated, and the undo of {begun} was begun after that"
    if goes_on := [row for row in after if row.kind in BEGINS]:
        yield f"{saga.id} was terminated, and goes on: {goes_on}"
    if untold := left - {one["step"] for one in _json(saga.error)["outstanding"]}:
        yield f"{saga.id} was terminated, and the steps {untold} are not told to be left"


def _steps(saga: Saga, verb: str) -> set[int]:
    """Of which an operator has said so."""
    refused = {row.ref for row in saga.history if row.kind == "notice"}
    return {row.step for row in saga.history if (row.kind, row.name) == ("operator", verb) and row.ref not in refused}


def _kept(history: Sequence[Line]) -> set[str]:
    """The first row that is kept undecided stands in the row of the block."""
    kept: set[str] = set()
    for place, row in enumerate(history):
        if row.kind == "blocked":
            ends = (one.seq for one in history[place:] if one.kind in ("resumed", "codeless"))
            end = next(ends, history[-1].seq + 1)
            kept |= {one.ref for one in history if row.step <= one.seq < end and one.kind in ("cancel", "operator")}
    return kept


def _is_about_a_request(line: Line) -> bool:
    return line.kind in ("cancel", "operator") or (line.kind, line.name) == ("notice", "refused")


def _json(payload: bytes | None) -> Any:
    return json.loads(payload or b"{}")

"""The judge is judged: a story that holds has no violation, and each way in which one may not hold is seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.system.operators.people import Answer
from tests.system.operators.verb_judge import Event, Left, Line, Saga, judge_effects, judge_requests
from tests.system.operators.verb_plan import COORDINATORS, Ask, Planner, Way, shapes

ASK = Ask(id="ask-1", saga="DESK-1", verb="pause", actor="ann")
BODY = {"type": "pause", **ASK.fields}
APPLIED = Line(5, "operator", 0, "pause", "ask-1", json.dumps(BODY).encode())
NOTICE = {"verb": "pause", "code": "saga.closed", "message": "it has ended", "reason": ASK.reason, "actor": "ann"}
REFUSED = Line(5, "notice", 0, "refused", "ask-1", json.dumps(NOTICE).encode())
BLOCKED = Line(6, "blocked", 5, "blocked", "", None)
TOLD_APPLIED = Event("DESK-1:r:event:7", "sagabus.request.applied", b'{"request": "pause"}')
TOLD_REFUSED = Event(
    "ask-1:rejected", "sagabus.request.refused", b'{"request": "pause", "error": {"code": "saga.closed"}}'
)

OK, NO = Answer(200, "applied"), Answer(409, code="saga.closed")
KEPT, NOT_THERE = Answer(202, "kept"), Answer(404, code="saga.not_found")
AGAIN_OK, AGAIN_NO = OK, Answer(200, "refused", "saga.closed")


def of_requests(
    ask: Ask, rows: Sequence[Line], events: Sequence[Event], answers: Sequence[Answer], again: Answer, **left: Any
) -> list[str]:
    saga = Saga("DESK-1", "completed", history=[*rows])
    found = Left(**{"sagas": {"DESK-1": saga}, "events": {"ask-1": events}, "letters": (), "early": (), **left})
    return [*judge_requests(found, {"ask-1": ask}, {"ask-1": answers}, {"ask-1": again})]


@pytest.mark.parametrize(
    ("rows", "events", "answers", "again"),
    [
        ([APPLIED], [TOLD_APPLIED], [OK], AGAIN_OK),
        ([APPLIED], [TOLD_APPLIED], [KEPT], AGAIN_OK),
        ([REFUSED], [TOLD_REFUSED], [NO], AGAIN_NO),
        ([APPLIED, BLOCKED, REFUSED._replace(seq=7)], [TOLD_REFUSED], [KEPT], AGAIN_NO),
        ([], [], [NOT_THERE], NOT_THERE),
    ],
    ids=["applied", "kept, then applied", "refused", "kept, then refused", "nobody there"],
)
def test_a_story_that_holds(
    rows: Sequence[Line], events: Sequence[Event], answers: Sequence[Answer], again: Answer
) -> None:
    assert of_requests(ASK, rows, events, answers, again) == []


@pytest.mark.parametrize(
    ("rows", "events", "answers", "again"),
    [
        ([APPLIED, APPLIED], [TOLD_APPLIED], [OK], AGAIN_OK),
        ([REFUSED, REFUSED], [TOLD_REFUSED], [NO], AGAIN_NO),
        ([APPLIED, REFUSED], [TOLD_REFUSED], [KEPT], AGAIN_NO),
        ([], [], [Answer(202, "unknown")], NOT_THERE),
        ([APPLIED], [TOLD_APPLIED], [NO], AGAIN_OK),
        ([REFUSED], [TOLD_REFUSED], [OK], AGAIN_NO),
        ([REFUSED], [TOLD_REFUSED], [Answer(409, code="request.no_use")], AGAIN_NO),
        ([APPLIED], [TOLD_APPLIED], [OK, OK], AGAIN_OK),
        ([APPLIED], [TOLD_APPLIED], [OK], NOT_THERE),
        ([APPLIED], [], [OK], AGAIN_OK),
        ([APPLIED], [TOLD_APPLIED, TOLD_APPLIED._replace(id="DESK-1:r:event:8")], [OK], AGAIN_OK),
        ([APPLIED], [TOLD_APPLIED, TOLD_REFUSED], [OK], AGAIN_OK),
        ([APPLIED], [TOLD_APPLIED._replace(body=b'{"request": "resume"}')], [OK], AGAIN_OK),
        ([REFUSED], [TOLD_REFUSED._replace(type="sagabus.cancel.rejected")], [NO], AGAIN_NO),
        ([APPLIED], [TOLD_APPLIED], [NOT_THERE], NOT_THERE),
        ([APPLIED._replace(payload=b'{"reason": "", "actor": "ann"}')], [TOLD_APPLIED], [OK], AGAIN_OK),
        ([APPLIED._replace(name="resume")], [TOLD_APPLIED], [OK], AGAIN_OK),
        ([APPLIED, APPLIED._replace(ref="ask-2")], [TOLD_APPLIED], [OK], AGAIN_OK),
    ],
    ids=[
        "applied twice", "refused twice", "applied, then refused", "lost", "applied and told 409",
        "refused and told 200", "another code", "an answer too many", "not found again", "untold", "told twice",
        "told both", "told of another verb", "told as a cancel", "told 404 and applied", "without its reason",
        "another verb", "never asked for",
    ],
)  # fmt: skip
def test_a_story_that_does_not_hold(
    rows: Sequence[Line], events: Sequence[Event], answers: Sequence[Answer], again: Answer
) -> None:
    assert len(of_requests(ASK, rows, events, answers, again)) == 1


def test_what_reaches_no_saga_is_a_dead_letter_and_only_that() -> None:
    stray = replace(ASK, way=Way.TOPIC, saga="NOBODY-1")
    assert of_requests(stray, [], [], [], NOT_THERE, letters={"ask-1"}) == []
    assert of_requests(stray, [], [], [], NOT_THERE) != []
    assert of_requests(stray, [], [TOLD_REFUSED], [], NOT_THERE, letters={"ask-1"}) != []
    assert of_requests(ASK, [APPLIED], [TOLD_APPLIED], [OK], AGAIN_OK, letters={"ask-1"}) != []
    early = replace(stray, verb="cancel")
    assert of_requests(early, [], [], [], NOT_THERE, early={"NOBODY-1"}) == []


TAKEN = [(1, "take"), (2, "take")]
BACK = [(2, "give_back"), (1, "give_back")]
ENDED = Line(9, "operator", 0, "terminate", "ask-1", None)
UNDO = Line(8, "undo", 2, "desk.give_back", "", None)
SKIPPED = Line(8, "operator", 2, "skip", "ask-2", None)
BOTH_LEFT = b'{"outstanding": [{"step": 1}, {"step": 2}]}'


@pytest.mark.parametrize(
    ("saga", "holds"),
    [
        (Saga("D", "completed", ledger=TAKEN), True),
        (Saga("D", "completed", ledger=[*TAKEN, *BACK]), False),
        (Saga("D", "cancelled", ledger=[*TAKEN, *BACK]), True),
        (Saga("D", "cancelled", ledger=[*TAKEN, *BACK[::-1]]), False),
        (Saga("D", "cancelled", ledger=[*TAKEN, *BACK[1:]]), False),
        (Saga("D", "cancelled", history=[SKIPPED], ledger=[*TAKEN, *BACK[1:]]), True),
        (Saga("D", "compensated", ledger=[*TAKEN, *BACK, BACK[1]]), False),
        (Saga("D", "compensated", ledger=BACK), False),
        (Saga("D", "terminated", history=[ENDED], error=BOTH_LEFT, ledger=TAKEN), True),
        (Saga("D", "terminated", history=[ENDED], error=b'{"outstanding": []}', ledger=TAKEN), False),
        (Saga("D", "terminated", history=[ENDED], error=BOTH_LEFT, ledger=[*TAKEN, BACK[0]]), False),
        (Saga("D", "terminated", history=[UNDO, ENDED], error=BOTH_LEFT, ledger=[*TAKEN, BACK[0]]), True),
        (Saga("D", "terminated", history=[ENDED, UNDO], error=BOTH_LEFT, ledger=TAKEN), False),
    ],
)
def test_effects_are_judged(saga: Saga, holds: bool) -> None:
    assert (not [*judge_effects(saga)]) is holds


def test_a_plan_is_its_seeds_alone() -> None:
    sagas = shapes(300)
    moves = Planner(7).moves(sagas)
    assert moves == Planner(7).moves(sagas) != Planner(8).moves(sagas)
    assert {move.saga for move in moves if not move.asks} == sagas.keys()
    asks = [ask for move in moves for ask in move.asks]
    assert len({ask.id for ask in asks}) == len(asks) > len(sagas)
    assert {ask.to for ask in asks} == set(range(COORDINATORS))
    assert {ask.way for ask in asks} == set(Way)

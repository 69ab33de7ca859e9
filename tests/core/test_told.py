"""Whether there is news of a concern is decided by kind, number, code and attempt, and by no sentence (decision 0011).

What a history or a saga's row says in other words stands for a release that says the same in other words.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sagabus.contracts import codec
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import DUPLICATE, LATE, UNREADABLE
from sagabus.coordinator.core.saga.concern import (
    BROKEN_ANSWER,
    STOPS,
    Concern,
    ConcernKind,
    Concerns,
    Told,
    concerns_json,
    read_concerns,
    told_by,
)
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.forward import SILENCE_MICROSECONDS as LONG
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.undo import UNDO_FAILURES_BEFORE_ATTENTION
from tests.core.kit import Definition, Drive
from tests.core.services import Order, Result, charge, reserve
from tests.core.shapes import sequential
from tests.core.situations import compensating, given_up, of
from tests.core.wire import an_input

OTHER_WORDS = "the same in other words"


def reworded(drive: Drive, *, older: bool) -> Drive:
    """What a release has stored that had other words. older: and that stored neither codes nor attempts."""
    for place, row in enumerate(drive.rows):
        if row.kind in (Kind.NOTICE, Kind.BLOCKED):
            attempt, ref = (0, "") if older and row.kind is Kind.NOTICE else (row.attempt, row.ref)
            drive.rows[place] = replace(row, payload=OTHER_WORDS.encode(), attempt=attempt, ref=ref)
    listed: list[dict[str, Any]] = json.loads(drive.stored.concerns)
    for one in listed:
        one["words"] = OTHER_WORDS
        if older and one["kind"] in STOPS:  # of the others history tells, by the same rule
            one.pop("code")
    drive.stored = replace(drive.stored, concerns=codec.encode_value(listed))
    return drive


def unreadable(drive: Drive) -> Drive:
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b"[]")) == UNREADABLE
    return drive


@pytest.mark.parametrize("older", [False, True])
def test_an_answer_that_cannot_be_read_is_told_once_though_a_release_words_it_otherwise(older: bool) -> None:
    drive = reworded(unreadable(Drive(sequential).start()), older=older)
    drive.reload()
    unreadable(drive)
    assert (drive.kinds[-1], drive.last.told, drive.attention) == ("notice 1", [], OTHER_WORDS)
    assert drive.kinds.count("notice 1") == 1


def test_what_cannot_be_read_for_another_reason_in_the_same_attempt_is_no_news() -> None:
    drive = unreadable(Drive(sequential).start())
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"wrong":1}')) == UNREADABLE
    assert (drive.kinds.count("notice 1"), drive.last.told) == (1, [])


def test_the_answer_to_a_later_attempt_that_cannot_be_read_either_is_told() -> None:
    drive = unreadable(Drive(sequential).start())
    drive.take(an_input(Kind.OPERATOR, 1, name="retry", ref="v", payload=b"{}"))
    unreadable(drive)
    assert (drive.kinds.count("notice 1"), drive.last.told) == (2, ["saga.attention"])
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b"[]")) == DUPLICATE
    assert drive.kinds.count("notice 1") == 2


@pytest.mark.parametrize("older", [False, True])
def test_no_answer_and_then_one_that_cannot_be_read_are_two_things(older: bool) -> None:
    drive = Drive(sequential).start()
    drive.now += LONG
    assert drive.fire(TimerKind.RESEND, 1) is None
    if older:
        drive.rows[-1] = replace(drive.rows[-1], attempt=0, ref="")
    drive.reload()
    unreadable(drive)
    assert (drive.kinds.count("notice 1"), drive.last.told) == (2, ["saga.attention"])


def broken(drive: Drive, concern: ConcernKind = ConcernKind.STEP, step: int = 1) -> str | None:
    """An answer came of which not even the headers can be read."""
    return drive.take(an_input(Kind.NOTICE, step, name=concern, ref=BROKEN_ANSWER, payload=b"headers.missing: ce_type"))


def test_an_answer_with_broken_headers_is_told_while_nothing_else_is() -> None:
    drive = Drive(sequential).start()
    assert (broken(drive), broken(drive)) == (None, LATE)
    assert drive.attention == (
        "step 1 (stock.reserve): an answer counts for nothing, and is a dead letter: headers.missing: ce_type; it is "
        "asked for again"
    )
    drive.reload()
    assert broken(drive) == LATE
    unreadable(drive)
    assert broken(drive) == LATE, "the two in turn would fill the history"
    assert drive.kinds.count("notice 1") == 2
    assert drive.operate("retry", 1) is None, "an operator may have it tried anew"
    drive.completed(1)
    assert (drive.attention, broken(drive), drive.attention) == ("", LATE, "")


@pytest.mark.parametrize(
    ("place", "concern", "answer"),
    [(compensating, ConcernKind.UNDO, Drive.undone), (given_up, ConcernKind.SETTLE, Drive.never)],
)
def test_a_broken_answer_to_an_undo_or_a_settle_is_told_as_that(
    place: Callable[[], Drive], concern: ConcernKind, answer: Callable[[Drive, int], str | None]
) -> None:
    drive = place()
    others = {ConcernKind.STEP, ConcernKind.UNDO, ConcernKind.SETTLE} - {concern}
    assert {broken(drive, other) for other in others} == {LATE}, "that is not what it waits for"
    assert broken(drive, concern) is None
    assert list(drive.state.concerns) == [Concern(concern, 1)]
    answer(drive, 1)
    assert not drive.state.concerns


def test_a_blocked_saga_keeps_no_broken_answer() -> None:
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    rows = len(drive.rows)
    assert (broken(drive), len(drive.rows)) == (LATE, rows)


class Odd(BaseException):
    pass


def dying(*errors: BaseException) -> Definition:
    """Its code raises what stops it, after step 1."""

    @saga("saga")
    async def saga_that_dies(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        raise errors[0]

    return saga_that_dies


def died() -> Drive:
    drive = Drive(dying(Odd("odd"))).start()
    drive.completed(1)
    assert drive.kinds[-1] == "blocked 3"
    return drive


@pytest.mark.parametrize("older", [False, True])
def test_code_that_stops_where_it_did_writes_nothing_though_a_release_words_it_otherwise(older: bool) -> None:
    drive = reworded(died(), older=older)
    rows = len(drive.rows)
    assert drive.reload().told == []
    assert drive.reload(dying(Odd("odd, with another number: 7"))).told == []
    assert len(drive.rows) == rows
    assert drive.attention == "the saga's code raised Odd: odd, with another number: 7", "it is shown as it is now"


def test_a_block_of_which_the_first_release_stored_words_alone_is_told_already() -> None:
    drive = died()
    drive.rows[-1] = replace(drive.rows[-1], name="", payload=OTHER_WORDS.encode())
    drive.stored = replace(drive.stored, concerns=concerns_json(read_concerns(None, attention=OTHER_WORDS)))
    rows = len(drive.rows)
    drive.reload()
    assert (len(drive.rows), drive.last.told, drive.attention) == (rows, [], OTHER_WORDS)


def test_code_that_stops_there_for_something_else_says_so() -> None:
    drive = died()
    drive.reload(dying(KeyboardInterrupt("odd")))
    assert drive.kinds[-2:] == ["resumed", "blocked 3"]
    assert drive.attention == "the saga's code raised KeyboardInterrupt: odd"
    assert drive.last.told == ["saga.attention_cleared", "saga.attention"]


def undo_failed(drive: Drive, message: str, code: str = "shop.busy") -> Drive:
    body = codec.encode_value({"code": code, "message": message})
    assert drive.take(drive.reply(Kind.UNDO_REFUSED, 1, body)) is None
    return drive


def test_a_failure_with_the_same_code_is_told_once_and_its_latest_words_are_shown() -> None:
    drive = undo_failed(compensating(), "till 1")
    assert drive.last.told == ["compensation.failed", "saga.attention"]
    drive.take(an_input(Kind.NOTICE, name=ConcernKind.RECORDS_LOST, ref="orders", payload=b"records were lost"))
    drive.fire(TimerKind.UNDO_RETRY, 1)
    undo_failed(drive, "till 2")
    assert drive.last.told == ["compensation.failed"]
    assert list(drive.state.concerns.values()) == [
        "undo of step 1 (stock.release): shop.busy: till 2",
        "records were lost",
    ]
    assert json.loads(drive.stored.concerns)[0]["words"].endswith("till 2")
    drive.fire(TimerKind.UNDO_RETRY, 1)
    undo_failed(drive, "till 2", "shop.closed")
    assert drive.last.told == ["compensation.failed", "saga.attention"]
    assert drive.attention.endswith("shop.closed: till 2")


def test_an_undo_that_goes_on_failing_calls_a_person_once() -> None:
    drive = compensating()
    for attempt in range(1, UNDO_FAILURES_BEFORE_ATTENTION + 5):
        body = codec.encode_value({"code": "shop.busy", "message": f"try {attempt}"})
        drive.take(drive.reply(Kind.UNDO_FAILED, 1, body))
        drive.fire(TimerKind.UNDO_RETRY, 1)
    assert drive.all.told.count("saga.attention") == 1


def test_a_saga_that_goes_on_does_not_name_a_notice_as_the_message_that_brought_it() -> None:
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    drive.take(an_input(Kind.NOTICE, name=ConcernKind.RECORDS_LOST, ref="orders", payload=b"records were lost"))
    drive.reload(sequential)
    assert drive.last.told == ["saga.attention_cleared", "saga.attention"]
    assert [event.cause for event in drive.last.lifecycle] == [None, None]


def test_a_concern_is_stored_with_its_code() -> None:
    concern = Concern(ConcernKind.UNDO, 3)
    concerns = Concerns()
    concerns.put(concern, "busy", Told("shop.busy"))
    stored = concerns_json(concerns)
    assert stored == b'[{"kind":"undo","number":3,"words":"busy","code":"shop.busy"}]'
    assert read_concerns(stored, attention="busy").told(concern) == Told("shop.busy")


def test_other_words_are_left_out_again_with_what_was_half_decided() -> None:
    concern, behind = Concern(ConcernKind.UNDO, 3), Concern(ConcernKind.PARKED)
    concerns = Concerns([(concern, "busy"), (behind, "parked")], {concern: Told("shop.busy")})
    concerns.reword(concern, "closed", Told("shop.closed"))
    assert list(concerns.items()) == [(concern, "closed"), (behind, "parked")]
    kept = concerns.as_kept()
    assert (list(kept.items()), kept.told(concern)) == ([(concern, "busy"), (behind, "parked")], Told("shop.busy"))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (Row(1, 1, Kind.NOTICE, 3, 2, "step", "unreadable"), Told("unreadable", 2)),
        (Row(1, 1, Kind.NOTICE, 3, 2, "step", "17"), Told("unreadable", 2)),
        (Row(1, 1, Kind.NOTICE, 3, 0, "step 3", "", b"step 3 has completed, and its"), Told("unreadable")),
        (Row(1, 1, Kind.NOTICE, 3, 0, "undo", "", b"undo of step 3: no answer for 60 min, and"), Told("no_answer")),
        (Row(1, 1, Kind.NOTICE, 0, 0, "records_lost", "", b"records"), Told()),
        (Row(1, 1, Kind.BLOCKED, 7, 0, "blocked", "saga-v1", b"no definition"), Told()),
    ],
)
def test_what_a_row_has_told_however_it_was_written(row: Row, told: Told) -> None:
    assert told_by(row) == told

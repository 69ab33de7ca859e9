"""U8: each verb is answered once, applied or refused, in history and to the world; history tells who asked and why."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sagabus.contracts import codec
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED, CLOSED, DUPLICATE, NO_USE, PAUSED
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.effects import RequestAnswer, RequestOutcome
from sagabus.coordinator.core.saga.history import REFUSED, Kind, Row
from sagabus.coordinator.core.saga.operator import OUTPUT_INVALID
from sagabus.coordinator.core.saga.request_answers import (
    MAX_REASON,
    MAX_REFUSALS_OF_CLOSED,
    Refusal,
    answer_of,
    read_refusal,
)
from sagabus.coordinator.core.saga.status import SagaStatus
from tests.core.kit import Drive
from tests.core.services import Order, Result, charge, paid, reserve
from tests.core.shapes import sequential, tidy
from tests.core.situations import compensating, of, one_step
from tests.core.wire import an_input


@saga("saga")
async def odd(ctx: SagaContext, order: Order) -> Result:
    """It stops at what no saga may do."""
    await ctx.event(paid)
    await asyncio.to_thread(print)
    return Result(refs=[])


def asked(drive: Drive, verb: str, step: int = 0, *, ref: str, reason: str = "why", actor: str = "ann") -> str | None:
    body = codec.encode_value({"type": verb, "step": step, "reason": reason, "actor": actor})
    return drive.take(an_input(Kind.OPERATOR, step, name=verb, ref=ref, payload=body))


def refusals(drive: Drive) -> list[Row]:
    return [row for row in drive.rows if (row.kind, row.name) == (Kind.NOTICE, REFUSED)]


def closed() -> Drive:
    """Completed, with one step."""
    drive = Drive(one_step()).start()
    drive.completed(1)
    assert drive.status == SagaStatus.COMPLETED
    return drive


def late_success() -> Drive:
    """Compensated, and a step has succeeded after that: it may be acknowledged."""
    drive = Drive(one_step()).start()
    drive.refused(1)
    drive.completed(1)
    assert drive.state.concerns.keys() == {Concern(ConcernKind.LATE_SUCCESS, 1)}
    return drive


def test_u8_an_applied_verb_is_one_row_and_one_event_with_the_new_status() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    before = len(drive.rows)
    assert drive.cancel("changed my mind", actor="ann", ref="req-1") is None
    (row,) = [row for row in drive.rows[before:] if row.kind is Kind.CANCEL]
    assert (row.ref, row.name, row.payload) == ("req-1", "ann", b"changed my mind")
    (event,) = [event for event in drive.last.lifecycle if event.type == "sagabus.request.applied"]
    assert (event.cause, event.body["request"], event.body["status"]) == ("req-1", "cancel", "compensating")
    assert (refusals(drive), drive.last.rejections) == ([], [])


def test_u8_a_refused_verb_leaves_its_code_its_words_and_who_asked() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    assert asked(drive, "retry", 1, ref="req-1", reason="it hangs", actor="bob") == NO_USE
    (row,) = refusals(drive)
    assert (row.ref, row.step) == ("req-1", 1)
    message = "step 1 (stock.reserve) is completed: retry is for what is between two attempts, or cannot be answered"
    assert json.loads(row.payload or b"") == {
        "verb": "retry", "code": NO_USE, "message": message, "reason": "it hangs", "actor": "bob",
    }  # fmt: skip
    (event,) = drive.last.rejections
    assert (event.type, event.cause) == ("sagabus.request.refused", "req-1")
    assert event.body == {
        "saga_id": "O-1", "saga": "saga", "version": 1, "status": "running", "request": "retry",
        "error": {"code": NO_USE, "message": message},
    }  # fmt: skip
    assert drive.last.lifecycle == []


def test_u7_a_refused_cancel_is_told_as_ever_and_stands_in_history() -> None:
    drive = closed()
    assert drive.cancel("too late", actor="ann", ref="req-1") == CANCEL_REJECTED
    assert read_refusal(refusals(drive)[0]) == Refusal(
        "cancel", CANCEL_REJECTED, "saga O-1 has ended (completed)", "too late", "ann"
    )
    assert [event.type for event in drive.last.rejections] == ["sagabus.cancel.rejected"]


@pytest.mark.parametrize(
    ("verb", "step", "code"),
    [("retry", 1, CLOSED), ("skip", 1, CLOSED), ("acknowledge", 0, NO_USE), ("acknowledge", 7, NO_USE)],
)
@pytest.mark.parametrize("code_is_there", [True, False])
def test_u8_a_closed_saga_refuses_with_or_without_its_code(
    verb: str, step: int, code: str, code_is_there: bool
) -> None:
    drive = closed()
    drive.reload(keep_code=code_is_there)
    assert asked(drive, verb, step, ref="req-1") == code
    assert asked(drive, verb, step, ref="req-1") == DUPLICATE
    drive.reload(keep_code=code_is_there)
    assert asked(drive, verb, step, ref="req-1") == DUPLICATE, "another process knows it too"
    assert [row.ref for row in refusals(drive)] == ["req-1"]
    assert drive.all.answers == [f"refused {verb} {code}"]


@pytest.mark.parametrize("code_is_there", [True, False])
def test_u8_an_acknowledgement_of_a_closed_saga_is_applied_once(code_is_there: bool) -> None:
    drive = late_success()
    drive.reload(keep_code=code_is_there)
    assert asked(drive, "acknowledge", 1, ref="req-1") is None
    assert drive.last.answers == ["applied acknowledge"]
    assert drive.attention == ""
    drive.reload(keep_code=code_is_there)
    assert asked(drive, "acknowledge", 1, ref="req-1") == DUPLICATE
    assert asked(drive, "acknowledge", 1, ref="req-2") == NO_USE
    assert drive.all.answers == ["applied acknowledge", f"refused acknowledge {NO_USE}"]


def test_u8_a_copy_of_an_applied_verb_is_not_applied_again() -> None:
    drive = Drive(one_step()).start()
    drive.failed(1)
    assert asked(drive, "retry", 1, ref="req-1") is None
    drive.failed(1)
    assert asked(drive, "retry", 1, ref="req-1") == DUPLICATE, "the first one was of use, and this one would be"
    drive.reload()
    assert asked(drive, "retry", 1, ref="req-1") == DUPLICATE
    assert asked(drive, "retry", 1, ref="req-2") is None
    assert drive.all.answers == ["applied retry"] * 2


def test_u8_of_two_people_one_is_applied_and_one_is_refused() -> None:
    drive = Drive(tidy).start()
    drive.completed(1)
    drive.offer(an_input(Kind.CANCEL, name="ann", ref="ann-1"))
    drive.offer(an_input(Kind.CANCEL, name="bob", ref="bob-1"))
    drive.commit()
    assert drive.last.answers == ["applied cancel", f"refused cancel {CANCEL_REJECTED}"]
    assert [(row.ref, read_refusal(row).actor) for row in refusals(drive)] == [("bob-1", "bob")]


def test_u8_a_request_id_that_is_a_number_is_no_row_that_is_set_aside() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    assert asked(drive, "retry", 1, ref="1") == NO_USE
    assert asked(drive, "retry", 1, ref="3") == NO_USE
    drive.reload()
    drive.completed(2)
    drive.completed(3)
    assert (drive.status, drive.attention) == (SagaStatus.COMPLETED, "")


def test_u8_a_closed_saga_keeps_a_bounded_number_of_refusals_and_answers_all() -> None:
    drive = closed()
    before = len(drive.rows)
    for number in range(MAX_REFUSALS_OF_CLOSED + 5):
        assert asked(drive, "retry", 1, ref=f"req-{number}") == CLOSED
        if number == MAX_REFUSALS_OF_CLOSED // 2:
            drive.reload()
    assert len(drive.rows) - before == MAX_REFUSALS_OF_CLOSED
    assert len(drive.all.answers) == MAX_REFUSALS_OF_CLOSED + 5
    drive.reload(keep_code=False)
    assert asked(drive, "retry", 1, ref="one more") == CLOSED
    assert len(drive.rows) - before == MAX_REFUSALS_OF_CLOSED
    assert drive.last.answers == [f"refused retry {CLOSED}"]


def test_u8_refusals_while_the_saga_was_open_do_not_count_against_it() -> None:
    drive = Drive(one_step()).start()
    for number in range(MAX_REFUSALS_OF_CLOSED):
        asked(drive, "retry", 1, ref=f"open-{number}")
    drive.completed(1)
    for code_is_there in (True, False):
        drive.reload(keep_code=code_is_there)
        asked(drive, "retry", 1, ref=f"closed-{code_is_there}")
    assert [row.ref for row in refusals(drive)][-2:] == ["closed-True", "closed-False"]


def test_u8_what_is_refused_as_a_saga_stops_again_stays_refused() -> None:
    """It goes on, and stops at the event: the refusal of what came before that stands behind the block."""

    @saga("saga")
    async def mended(ctx: SagaContext, order: Order) -> Result:
        await ctx.event(paid)
        return Result(refs=[])

    drive = Drive(odd).start()
    drive.reload(of(charge))
    asked(drive, "retry", 1, ref="ann-1")
    drive.event(paid, {"amount": 1})
    asked(drive, "skip", 1, ref="bob-1")
    drive.reload(odd)
    assert drive.state.blocked
    assert drive.all.answers == [f"refused retry {NO_USE}"]
    drive.reload(of(charge))
    drive.reload(mended)
    assert drive.status == SagaStatus.COMPLETED
    assert drive.all.answers == [f"refused retry {NO_USE}", f"refused skip {CLOSED}"]
    drive.reload()
    assert [row.ref for row in refusals(drive)] == ["ann-1", "bob-1"]


def test_u8_a_copy_is_known_in_the_turn_in_which_the_saga_stops() -> None:
    drive = Drive(odd).start()
    retry = an_input(Kind.OPERATOR, 1, name="retry", ref="ann-1")
    assert drive.offer(retry) == NO_USE
    body = codec.encode_value({"type": "event", "name": paid.name, "data": {"amount": 1}})
    drive.offer(an_input(Kind.EVENT, name=paid.name, ref="e", payload=body))
    assert drive.offer(retry) == DUPLICATE
    drive.commit()
    assert drive.state.blocked


def test_u8_refusals_are_counted_once_where_a_replay_comes_to_what_it_does_not_know() -> None:
    """A row of a later release stands behind some of them."""
    drive = closed()
    for number in range(60):
        asked(drive, "retry", 1, ref=f"req-{number}")
    drive.rows.append(Row(len(drive.rows) + 1, drive.now, Kind.UNKNOWN, name="tomorrow", sequence=drive.state.sequence))
    drive.reload()
    before = len(drive.rows)
    for number in range(60, MAX_REFUSALS_OF_CLOSED + 1):
        asked(drive, "retry", 1, ref=f"req-{number}")
    assert len(drive.rows) - before == MAX_REFUSALS_OF_CLOSED - 60


def test_u8_a_verb_that_a_blocked_saga_keeps_is_answered_when_it_is_decided_upon() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.reload(of(charge))
    assert asked(drive, "pause", ref="ann-1") is None
    assert asked(drive, "pause", ref="bob-1") is None
    assert asked(drive, "retry", 7, ref="bob-2") is None
    assert asked(drive, "pause", ref="bob-1") == DUPLICATE
    assert drive.all.answers == [], "nobody knows yet"
    drive.reload(sequential)
    assert drive.last.answers == [
        "applied pause", f"refused pause {PAUSED}", f"refused retry {NO_USE}",
    ]  # fmt: skip
    assert [row.ref for row in refusals(drive)] == ["bob-1", "bob-2"]
    assert [event.cause for event in drive.last.rejections] == ["bob-1", "bob-2"]
    drive.reload()
    assert asked(drive, "pause", ref="bob-1") == DUPLICATE
    assert drive.attention == ""


def test_u8_kept_verbs_are_answered_once_though_the_saga_is_blocked_again() -> None:
    """What is refused is behind all decisions, and stays refused: the next block keeps nothing of it open."""
    drive = Drive(of(reserve, reserve)).start()
    drive.reload(of(charge))
    assert asked(drive, "skip", 1, ref="ann-1") is None
    drive.completed(1)
    drive.reload(of(reserve, charge))  # the first step is the same
    answered = drive.all.answers
    assert answered == [f"refused skip {NO_USE}"]
    drive.reload(of(charge))
    drive.reload(of(reserve, charge))
    assert drive.all.answers == answered
    assert [row.ref for row in refusals(drive)] == ["ann-1"]


def test_u8_a_completion_that_a_blocked_saga_has_kept_is_refused_if_its_output_does_not_fit() -> None:
    """It would stop the saga again, since its code has nothing that it could go on with."""
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    assert drive.operate("complete", 1, ref="ann-1", output={"unfit": 1}) is None
    drive.reload(sequential)
    assert drive.last.answers == [f"refused complete {OUTPUT_INVALID}"]
    assert (drive.attention, drive.state.blocked) == ("", 0)
    assert drive.operate("complete", 1, ref="ann-2", output={"ref": "by hand"}) is None
    drive.reload()
    assert drive.last.answers == []
    assert drive.all.short == ["do 1 stock.reserve", "do 2 bank.charge"]


def test_u8_a_kept_verb_is_told_as_kept_to_whoever_waits_here() -> None:
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    drive.offer(an_input(Kind.OPERATOR, 1, name="retry", ref="ann-1"))
    assert drive.saga.drain().answers == [RequestAnswer("ann-1", "retry", RequestOutcome.KEPT)]


@pytest.mark.parametrize(("verb", "status"), [("cancel", "compensating"), ("terminate", "terminated")])
def test_u8_the_end_of_a_blocked_saga_is_told_as_applied(verb: str, status: str) -> None:
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    kind, name = (Kind.CANCEL, "") if verb == "cancel" else (Kind.OPERATOR, verb)
    drive.offer(an_input(kind, name=name, ref="ann-1", payload=b"{}"))
    assert drive.saga.drain().answers == [RequestAnswer("ann-1", verb, RequestOutcome.APPLIED)]
    assert drive.status == status


def test_u8_whoever_ends_a_blocked_saga_hears_of_it_once_its_history_is_at_hand() -> None:
    """It has stopped in this process, where its rows are no more: it is loaded again at once."""

    drive = Drive(odd).start()
    drive.event(paid, {"amount": 1})
    assert drive.state.blocked
    assert drive.cancel("now", ref="ann-1") is None
    assert drive.all.answers == []
    drive.reload()
    assert drive.all.answers == ["applied cancel"]
    assert drive.status == SagaStatus.CANCELLED


def test_u8_what_rows_tell_of_a_request() -> None:
    applied = Row(7, 1, Kind.OPERATOR, 1, 0, "retry", "req-1")
    assert answer_of(applied, None) == RequestAnswer("req-1", "retry", RequestOutcome.APPLIED)
    assert answer_of(applied, 7) == RequestAnswer("req-1", "retry", RequestOutcome.APPLIED)
    assert answer_of(applied, 6) == RequestAnswer("req-1", "retry", RequestOutcome.KEPT)
    words: dict[str, Any] = {"verb": "skip", "code": NO_USE, "message": "no", "reason": "r", "actor": "a"}
    refused = Row(8, 1, Kind.NOTICE, 1, 0, REFUSED, "req-2", codec.encode_value(words))
    assert answer_of(refused, 6) == RequestAnswer("req-2", "skip", RequestOutcome.REFUSED, NO_USE, "no")
    assert answer_of(Row(9, 1, Kind.NOTICE, 1, 0, "step", "no_answer"), None) is None


@pytest.mark.parametrize("payload", [b"", b"[1]", b"not json", b'{"reason": 5, "actor": null}', None])
def test_a_request_of_any_form_is_refused_all_the_same(payload: bytes | None) -> None:
    drive = closed()
    drive.take(an_input(Kind.OPERATOR, 1, name="retry", ref="req-1", payload=payload))
    assert read_refusal(refusals(drive)[0]).code == CLOSED


def test_a_long_reason_is_cut_in_the_refusal() -> None:
    drive = closed()
    asked(drive, "retry", 1, ref="req-1", reason="x" * 100_000)
    assert len(read_refusal(refusals(drive)[0]).reason) <= MAX_REASON


def test_a_verb_of_a_saga_that_is_undone_is_refused_with_how_far_it_is() -> None:
    drive = compensating()
    assert drive.cancel(ref="req-1") == CANCEL_REJECTED
    assert read_refusal(refusals(drive)[0]).message == "saga O-1 is being undone already"
    assert asked(drive, "skip", 7, ref="req-2") == NO_USE
    message = read_refusal(refusals(drive)[1]).message
    assert message == "saga O-1 has no step 7: see `sagabus show O-1`"

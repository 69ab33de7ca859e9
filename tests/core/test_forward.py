"""The forward path: a step's command, its answers, its attempts."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel, field_serializer

from sagabus.contracts import ActivityError, ActivityFailed, RetryPolicy, SagaType, Service
from sagabus.contracts.envelope import MAX_PAYLOAD, rfc3339
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import HANDLER_ERROR, ID_REUSED, INBOX_EXPIRED, NO_HANDLER, RETRIES_EXHAUSTED
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.effects import TimerKind
from sagabus.coordinator.core.forward import LONGEST_WISH
from sagabus.coordinator.core.history import Kind
from sagabus.coordinator.core.objection import DUPLICATE, FOREIGN, LATE, OLD_ATTEMPT
from sagabus.coordinator.core.status import Outcome, SagaStatus
from tests.core.kit import SECOND, T0, Definition, Drive
from tests.core.shapes import forgiving, gathered, sequential
from tests.core.trade import Done, Job, Order, Result, charge, check, keyless, release, reserve, ship, told


def one_step(*, timeout: float | None = None, retry: RetryPolicy | None = None) -> Definition:
    @saga("saga")
    async def saga_of_one_step(ctx: SagaContext, order: Order) -> Result:
        done = await ctx.call(reserve(order=order.order), timeout=timeout, retry=retry)
        return Result(refs=[done.ref])

    return saga_of_one_step


def publishing(note: str = "", *, key: str | None = None) -> Definition:
    @saga("saga")
    async def saga_that_tells(ctx: SagaContext, order: Order) -> Result:
        ctx.publish(told(order=order.order, note=note), key=key)
        ctx.publish(keyless(order=order.order))
        return Result(refs=[])

    return saga_that_tells


def test_a_saga_goes_from_step_to_step_to_its_result() -> None:
    drive = Drive(sequential).start()
    assert drive.last.short == ["do 1 stock.reserve"]
    drive.completed(1)
    assert drive.last.short == ["do 2 bank.charge"]
    drive.completed(2)
    drive.completed(3, Done(ref="parcel"))
    assert drive.status == SagaStatus.COMPLETED
    assert drive.result == {"refs": ["ref-1", "ref-2", "parcel"]}
    assert drive.all.told == ["saga.started", *["step.completed"] * 3, "saga.completed"]
    assert drive.all.lifecycle[-1].body == {
        "saga": "saga", "version": 1, "status": "completed", "result": {"refs": ["ref-1", "ref-2", "parcel"]},
    }  # fmt: skip


def test_a_command_says_what_to_do_and_where_to_answer() -> None:
    drive = Drive(sequential).start()
    (sent,) = drive.last.commands
    assert (sent.head.id, sent.head.kind, sent.head.attempt) == ("O-1:r1:1", CommandKind.DO, 1)
    assert (sent.head.reply_topic, sent.head.source) == ("sagabus.replies.stock", "/sagabus/sagabus")
    assert sent.head.issued == drive.now == T0 + 1_000
    assert json.loads(sent.body) == {"order": "O-1"}


def test_steps_of_a_gather_are_numbered_in_the_order_of_calling() -> None:
    drive = Drive(gathered).start()
    assert drive.last.short == ["do 1 stock.reserve", "do 2 bank.charge", "do 3 post.ship"]
    drive.completed(3)
    drive.completed(1)
    assert drive.last.short == []
    drive.completed(2)
    assert drive.last.short == ["do 4 post.book"]
    drive.completed(4)
    assert drive.result == {"refs": ["ref-1", "ref-2", "ref-3"]}


def test_s13_the_run_is_part_of_every_command_id() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.refused(2)
    assert [sent.head.id for sent in drive.all.commands] == ["O-1:r1:1", "O-1:r1:2", "O-1:r1:1:undo"]
    assert {sent.head.run for sent in drive.all.commands} == {"r1"}


def test_p2_a_resend_keeps_the_attempt_and_only_a_retry_raises_it() -> None:
    drive = Drive(sequential).start()
    first = drive.last.commands[0]
    assert drive.fire(TimerKind.RESEND, 1) is None
    (copy,) = drive.last.commands
    assert (copy.head.id, copy.head.attempt, copy.head.issued, copy.body) == (
        first.head.id, 1, first.head.issued, first.body,
    )  # fmt: skip
    assert drive.kinds == ["started", "command 1"], "a copy is nothing for history"
    drive.failed(1)
    drive.fire(TimerKind.RETRY, 1)
    (retry,) = drive.last.commands
    assert (retry.head.id, retry.head.attempt, retry.head.issued) == (first.head.id, 2, first.head.issued)


def test_p2_completed_counts_from_any_attempt() -> None:
    drive = Drive(sequential).start()
    drive.failed(1)
    drive.fire(TimerKind.RETRY, 1)
    assert drive.completed(1, attempt=1) is None
    assert drive.last.short == ["do 2 bank.charge"]
    assert drive.completed(1, attempt=2) == DUPLICATE


def test_p2_completed_counts_between_two_attempts() -> None:
    drive = Drive(sequential).start()
    drive.failed(1)
    assert drive.completed(1, attempt=1) is None
    assert (drive.step(1).outcome, drive.last.short) == (Outcome.COMPLETED, ["do 2 bank.charge"])
    assert list(drive.due) == ["resend 2"], "no retry is pending any more"


def test_p2_a_failure_counts_from_the_current_attempt_alone() -> None:
    drive = Drive(sequential).start()
    drive.failed(1)
    assert drive.failed(1) == DUPLICATE
    drive.fire(TimerKind.RETRY, 1)
    assert drive.failed(1, attempt=1) == OLD_ATTEMPT
    assert drive.refused(1, attempt=1) == OLD_ATTEMPT
    assert drive.step(1).failures == 1
    drive.completed(1)
    assert drive.failed(1) == LATE


def test_attempts_are_made_after_growing_pauses_with_jitter() -> None:
    drive = Drive(one_step(retry=RetryPolicy(attempts=4, first=1, factor=3, longest=5, jitter=0.1))).start()
    pauses = []
    for _ in range(3):
        drive.failed(1)
        pauses.append(drive.due["retry 1"])
        drive.fire(TimerKind.RETRY, 1)
    assert pauses == [pytest.approx(1, rel=0.1), pytest.approx(3, rel=0.1), pytest.approx(5, rel=0.1)]
    assert pauses[0] != 1
    assert drive.all.told.count("step.failed") == 3


def test_the_pause_of_a_failing_step_ends_its_copies() -> None:
    drive = Drive(sequential).start()
    drive.failed(1)
    assert list(drive.due) == ["retry 1"]


def test_used_up_retries_raise_and_the_last_failure_is_in_the_details() -> None:
    drive = Drive(one_step(retry=RetryPolicy(attempts=2))).start()
    drive.failed(1, "first")
    drive.fire(TimerKind.RETRY, 1)
    drive.failed(1, "second")
    assert drive.error["code"] == RETRIES_EXHAUSTED
    assert drive.error["message"] == "2 attempts failed, the last with second: second happened"
    assert drive.error["details"]["last"] == {"code": "second", "message": "second happened", "details": {}}


def test_the_policy_may_give_up_after_a_time() -> None:
    drive = Drive(one_step(retry=RetryPolicy(give_up_after=10))).start()
    drive.failed(1)
    drive.fire(TimerKind.RETRY, 1)
    drive.now += 10 * SECOND
    drive.failed(1)
    assert drive.error["code"] == RETRIES_EXHAUSTED


def test_try_again_is_not_counted_and_waits_as_long_as_it_asks() -> None:
    drive = Drive(one_step(retry=RetryPolicy(attempts=2))).start()
    for _ in range(5):
        drive.failed(1, "busy", again_after=7)
        assert drive.due["retry 1"] == 7
        drive.fire(TimerKind.RETRY, 1)
    assert drive.step(1).failures == 0
    drive.completed(1)
    assert drive.status == SagaStatus.COMPLETED


@pytest.mark.parametrize("asked", [1e300, 1e12])
def test_a_wish_for_the_end_of_days_is_a_year(asked: float) -> None:
    drive = Drive(one_step()).start()
    drive.failed(1, again_after=asked)
    assert drive.due["retry 1"] == LONGEST_WISH / SECOND


def test_a_negative_wish_is_no_wish() -> None:
    drive = Drive(one_step()).start()
    drive.failed(1, again_after=-5)
    assert drive.due["retry 1"] > 0


@pytest.mark.parametrize("body", [b"", b"[]", b'{"code": 1}', b'{"code":"x","again_after":NaN}', b"\xff"])
def test_a_failure_that_cannot_be_read_is_a_failed_attempt(body: bytes) -> None:
    drive = Drive(one_step(retry=RetryPolicy(attempts=1))).start()
    assert drive.take(drive.reply(Kind.STEP_FAILED, 1, body)) is None
    assert drive.error["details"]["last"]["code"] == "sagabus.failure_unreadable"


def test_without_a_handler_the_step_waits_in_growing_pauses_and_says_so() -> None:
    drive = Drive(sequential).start()
    pauses = []
    for _ in range(8):
        drive.failed(1, NO_HANDLER)
        pauses.append(drive.due["retry 1"])
        drive.fire(TimerKind.RETRY, 1)
    assert drive.attention == "step 1: nobody handles stock.reserve; deploy a participant that does"
    assert drive.all.told.count("saga.attention") == 1, "the same reason is told once"
    assert pauses[-1] > 20 > 2 > pauses[0]
    assert drive.status == SagaStatus.RUNNING
    drive.completed(1)
    assert drive.attention == ""
    assert "saga.attention_cleared" in drive.last.told


def test_another_failure_than_a_missing_handler_shows_that_there_is_one() -> None:
    drive = Drive(sequential).start()
    drive.failed(1, NO_HANDLER)
    drive.fire(TimerKind.RETRY, 1)
    drive.failed(1)
    assert drive.attention == ""


@pytest.mark.parametrize("code", [INBOX_EXPIRED, ID_REUSED])
def test_p5_p6_what_the_participant_cannot_tell_waits_for_a_person(code: str) -> None:
    drive = Drive(sequential).start()
    drive.failed(1, code)
    assert drive.attention == f"step 1 (stock.reserve): {code}: {code} happened"
    assert (drive.status, drive.step(1).outcome) == (SagaStatus.RUNNING, Outcome.SENT)
    assert drive.last.short == []
    assert drive.due == {}, "nothing is repeated"


def test_a_refusal_is_final_at_once_and_raised_in_the_code() -> None:
    drive = Drive(forgiving).start()
    drive.completed(1)
    drive.refused(2, "card_declined")
    assert drive.last.told == ["step.failed"]
    assert drive.last.lifecycle[0].body["error"] == {
        "code": "card_declined", "message": "card_declined happened", "details": {},
    }  # fmt: skip
    assert drive.last.short == ["do 3 bank.check"], "a step known not to have happened holds nothing back"
    drive.completed(3)
    drive.completed(4)
    assert drive.result == {"refs": ["ref-1", "card_declined", "ref-4"]}


def test_the_author_sees_the_same_error_before_and_after_a_recovery() -> None:
    seen: list[ActivityError] = []

    @saga("saga")
    async def looking(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order))
        except ActivityError as error:
            seen.append(error)
        await ctx.call(ship(order=order.order))
        return Result(refs=[])

    drive = Drive(looking).start()
    drive.refused(1, "sold_out")
    drive.reload()
    assert len(seen) > 2
    assert {type(error) for error in seen} == {ActivityFailed}
    assert {str(error) for error in seen} == {"stock.reserve (step 1, attempt 1): sold_out: sold_out happened"}


def test_an_output_that_cannot_be_read_blocks_and_the_reply_is_kept() -> None:
    drive = Drive(sequential).start()
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"wrong":1}')) is None
    assert drive.attention.startswith("step 1: output of stock.reserve: ref: Field required")
    assert drive.kinds == ["started", "command 1", "step.completed 1", "blocked 3"]
    assert drive.status == SagaStatus.RUNNING


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"more":1}'])
def test_void_is_read_in_all_its_forms(body: bytes) -> None:
    drive = Drive(forgiving).start()
    drive.completed(1)
    drive.completed(2)
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 3, body)) is None
    assert drive.last.lifecycle[0].body.get("output") is None
    assert drive.last.short == ["do 4 post.ship"]


def test_only_the_steps_own_service_may_answer() -> None:
    drive = Drive(sequential).start()
    mine = drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"x"}')
    assert drive.take(type(mine)(mine.kind, 1, 1, "bank", mine.ref, mine.payload)) == FOREIGN
    assert drive.step(1).outcome is Outcome.SENT


def test_a_command_that_is_too_large_is_refused_where_it_is_made() -> None:
    @saga("saga")
    async def large(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        await ctx.call(charge(order="x" * MAX_PAYLOAD))
        return Result(refs=[])

    drive = Drive(large).start()
    drive.completed(1)
    assert drive.last.short == ["undo 1 stock.release"]
    assert f"the limit is {MAX_PAYLOAD}" in drive.error["message"]


def test_a_call_wants_a_pause_between_copies() -> None:
    @saga("saga")
    async def hot(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order), resend_after=0)
        return Result(refs=[])

    drive = Drive(hot).start()
    assert drive.last.short == []
    assert drive.error["message"] == "stock.reserve: resend_after=0: give more than 0 seconds"


@pytest.mark.filterwarnings("ignore:the call of step 1 was never awaited")  # of the copies that are restored
def test_a_call_that_nobody_awaits_is_sent_and_given_up_at_the_end() -> None:
    @saga("saga")
    async def forgetful(ctx: SagaContext, order: Order) -> Result:
        self_made = ctx.call(reserve(order=order.order))
        done = await ctx.call(charge(order=order.order))
        del self_made
        return Result(refs=[done.ref])

    drive = Drive(forgetful).start()
    assert drive.last.short == ["do 1 stock.reserve", "do 2 bank.charge"]
    with pytest.warns(RuntimeWarning, match="the call of step 1 was never awaited"):
        drive.completed(2)
    assert (drive.status, drive.last.short) == (SagaStatus.RUNNING, ["settle 1 sagabus.settle"])
    drive.never(1)
    assert drive.status == SagaStatus.COMPLETED


def test_a_call_that_nobody_awaits_may_be_answered_in_time() -> None:
    @saga("saga")
    async def forgetful(ctx: SagaContext, order: Order) -> Result:
        first = ctx.call(reserve(order=order.order))
        await ctx.call(charge(order=order.order))
        return Result(refs=[(await first).ref])

    drive = Drive(forgetful).start()
    drive.completed(1)
    drive.completed(2)
    assert drive.result == {"refs": ["ref-1"]}


# The end of the code.


def test_a_result_of_another_type_than_declared_undoes() -> None:
    @saga("saga")
    async def confused(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        return order  # type: ignore[return-value]  # on purpose

    drive = Drive(confused).start()
    drive.completed(1)
    assert (drive.status, drive.last.short) == (SagaStatus.COMPENSATING, ["undo 1 stock.release"])
    assert drive.error == {
        "code": "sagabus.saga_raised", "message": "saga saga returned Order, declared is Result", "type": "TypeError",
    }  # fmt: skip


def test_a_result_that_is_too_large_undoes() -> None:
    @saga("saga")
    async def verbose(ctx: SagaContext, order: Order) -> Result:
        return Result(refs=["x" * MAX_PAYLOAD])

    drive = Drive(verbose).start()
    assert drive.status == SagaStatus.COMPENSATED
    assert f"the limit is {MAX_PAYLOAD}" in drive.error["message"]


def test_a_result_whose_serializer_fails_undoes() -> None:
    class Strange(BaseModel):
        value: int

        @field_serializer("value")
        def never(self, value: int) -> int:
            raise KeyError(value)

    @saga(SagaType("saga", Order, Strange))
    async def strange(ctx: SagaContext, order: Order) -> Strange:
        return Strange(value=1)

    assert Drive(strange).start().status == SagaStatus.COMPENSATED


def test_a_saga_may_have_no_result() -> None:
    @saga("saga")
    async def silent(ctx: SagaContext, order: Order) -> None:
        await ctx.call(check(order=order.order))

    drive = Drive(silent).start()
    drive.completed(1)
    assert (drive.status, drive.state.result) == (SagaStatus.COMPLETED, b"null")


def test_words_that_cannot_be_written_are_written_as_well_as_they_can() -> None:
    class Speechless(Exception):
        def __str__(self) -> str:
            raise OSError

    @saga("saga")
    async def raising(ctx: SagaContext, order: Order) -> Result:
        if order.order == "surrogate":
            raise ValueError("\ud800" + "x" * 10_000)
        raise Speechless

    drive = Drive(raising).start(Order(order="surrogate"))
    assert drive.error["message"].startswith("?xxx")
    assert drive.error["message"].endswith("… (10001 characters)")
    assert Drive(raising).start().error["message"] == "(it does not say: OSError)"


def test_of_a_group_of_errors_the_first_leaf_speaks() -> None:
    @saga("saga")
    async def grouping(ctx: SagaContext, order: Order) -> Result:
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("this"), KeyError("that")])])

    assert Drive(grouping).start().error["message"] == "this"


# Domain events.


def test_an_event_is_published_in_the_turn_and_once() -> None:
    drive = Drive(publishing()).start()
    first, second = drive.last.events
    assert (first.topic, first.key, json.loads(first.value or b"")) == (
        "stock.events", b"O-1", {"order": "O-1", "note": ""},
    )  # fmt: skip
    headers = dict(first.headers)
    assert (headers["ce_id"], headers["ce_type"], headers["ce_causationid"]) == (
        b"O-1:r1:publish:1", b"stock.told", b"start",
    )  # fmt: skip
    assert headers["ce_time"] == rfc3339(drive.now)
    assert (second.topic, second.key) == ("bank.events", b"O-1")
    drive.reload()
    assert drive.last.events == []


def test_the_key_of_an_event_may_be_given() -> None:
    assert Drive(publishing(key="another")).start().last.events[0].key == b"another"


@pytest.mark.parametrize("code", [publishing("x" * MAX_PAYLOAD), publishing(key="\ud800"), publishing("\ud800")])
def test_an_event_that_cannot_be_sent_is_refused_where_it_is_made(code: Definition) -> None:
    drive = Drive(code).start()
    assert drive.last.events == []
    assert drive.status == SagaStatus.COMPENSATED


def test_p6_a_copy_has_the_bytes_that_were_sent_whatever_the_code_makes_now() -> None:
    def calling(what: str) -> Definition:
        @saga("saga")
        async def one_call(ctx: SagaContext, order: Order) -> Result:
            return Result(refs=[(await ctx.call(reserve(order=what))).ref])

        return one_call

    drive = Drive(calling("first")).start()
    drive.reload(calling("later"))
    drive.fire(TimerKind.RESEND, 1)
    assert json.loads(drive.last.commands[0].body) == {"order": "first"}


def test_an_undo_input_that_is_too_large_or_cannot_be_made_waits_for_a_person() -> None:
    class Large(BaseModel):
        order: str
        ref: str

    service = Service("large")
    undo = service.compensation("undo", Large)
    do = service.activity(
        "do", Job, Done, compensation=undo,
        compensate_with=lambda job, done: Large(order=job.order, ref=done.ref * MAX_PAYLOAD),
    )  # fmt: skip

    @saga("saga")
    async def growing(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(do(order=order.order))
        raise ValueError("undo this")

    drive = Drive(growing).start()
    drive.completed(1)
    assert drive.attention.startswith("step 1: the input of large.undo could not be made: MessageInvalid: ")
    assert drive.last.short == []
    assert drive.status == SagaStatus.COMPENSATING


def test_the_activity_of_a_compensation_is_never_called_forward_by_its_name() -> None:
    """A compensation is an activity too: an author may call it as a step, and it is sent as one."""

    @saga("saga")
    async def direct(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(release(order=order.order, ref="known"))
        return Result(refs=[])

    drive = Drive(direct).start()
    assert drive.last.short == ["do 1 stock.release"]
    drive.failed(1, HANDLER_ERROR)
    drive.fire(TimerKind.RETRY, 1)
    drive.completed(1)
    assert drive.status == SagaStatus.COMPLETED

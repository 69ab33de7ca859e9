"""The forward path: a step's command and its answers."""

from __future__ import annotations

import json

import pytest

from sagabus.contracts import ActivityError, ActivityFailed
from sagabus.contracts.envelope import MAX_PAYLOAD
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import HANDLER_ERROR
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import DUPLICATE, FOREIGN, UNREADABLE
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus
from tests.core.kit import T0, Drive
from tests.core.services import (
    Done,
    Order,
    Result,
    charge,
    release,
    reserve,
    ship,
)
from tests.core.shapes import forgiving, gathered, sequential
from tests.core.situations import given_up, of, one_step
from tests.core.wire import an_input


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


UNREADABLE_BODIES = [
    b'{"wrong":1}',
    b"not json",
    b'\xef\xbb\xbf{"ref":"x"}',
    b'"%b"' % (b"x" * 1_000_000),
    b"",
    b"[" * 200,
]


@pytest.mark.parametrize("body", UNREADABLE_BODIES, ids=lambda body: repr(body[:12]))
def test_an_output_that_cannot_be_read_never_becomes_history_and_is_asked_for_again(body: bytes) -> None:
    drive = Drive(sequential).start()
    for reason in (UNREADABLE, DUPLICATE):
        assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, body)) == reason
    assert drive.kinds == ["started", "command 1", "notice 1"], "told once"
    assert list(drive.state.concerns) == [Concern(ConcernKind.STEP, 1)]
    assert drive.attention.startswith("step 1 (stock.reserve) has completed, and its output cannot be read: ")
    assert "it is asked for again: repair stock, or deploy a contract that reads it" in drive.attention
    drive.reload()
    assert drive.fire(TimerKind.RESEND, 1) is None
    assert drive.last.short == ["do 1 stock.reserve"]
    drive.completed(1)
    assert (drive.attention, drive.last.short) == ("", ["do 2 bank.charge"])


@pytest.mark.parametrize("body", [b"not json", b'\xef\xbb\xbf{"ref":"R1"}', b'"%b"' % (b"x" * 1_000_000)], ids=len)
def test_p2_a_second_output_that_is_no_json_contradicts_nothing(body: bytes) -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    kinds = list(drive.kinds)
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, body)) == UNREADABLE
    assert (drive.kinds, drive.attention) == (kinds, "")


def unreadable(drive: Drive) -> Drive:
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b"[]")) == UNREADABLE
    return drive


def test_a_step_whose_output_cannot_be_read_may_be_tried_again_and_cancelled() -> None:
    drive = unreadable(Drive(sequential).start())
    assert drive.take(an_input(Kind.OPERATOR, 1, name="retry", ref="v", payload=b"{}")) is None
    assert [(sent.short, sent.head.attempt) for sent in drive.last.commands] == [("do 1 stock.reserve", 2)]
    unreadable(drive)
    drive.cancel()
    assert drive.last.short == ["settle 1 sagabus.settle"]
    assert drive.attention == ""
    drive.never(1)
    assert drive.status == SagaStatus.CANCELLED


def test_a_step_whose_output_cannot_be_read_may_time_out() -> None:
    drive = unreadable(Drive(one_step(timeout=60)).start())
    drive.fire(TimerKind.TIMEOUT, 1)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    assert drive.attention == ""


def test_the_output_that_a_settle_brings_must_be_readable_too() -> None:
    drive = given_up()
    assert drive.take(drive.reply(Kind.SETTLE_COMPLETED, 1, b"[]")) == UNREADABLE
    assert list(drive.state.concerns) == [Concern(ConcernKind.SETTLE, 1)]
    assert drive.fire(TimerKind.RESEND, 1) is None
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.settled(1)
    assert not drive.state.concerns


def test_a_late_success_that_cannot_be_read_is_to_be_undone_by_hand() -> None:
    drive = Drive(forgiving).start()
    drive.completed(1)
    drive.refused(2)
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 2, b"[]")) == UNREADABLE
    assert list(drive.state.concerns) == [Concern(ConcernKind.LATE_SUCCESS, 2)]
    assert "has completed, and its output cannot be read: " in drive.attention


def test_a_reply_that_an_older_release_has_kept_unread_is_set_aside_when_the_saga_goes_on() -> None:
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b"[]")) is None
    drive.reload(sequential)
    assert drive.kinds[-3:] == ["step.completed 1", "resumed", "notice 1"]
    assert list(drive.state.concerns) == [Concern(ConcernKind.STEP, 1)]
    drive.reload()
    assert drive.fire(TimerKind.RESEND, 1) is None
    drive.completed(1)
    drive.reload()
    assert (drive.attention, drive.step(2).outcome) == ("", Outcome.SENT)


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
    assert drive.take(mine._replace(name="bank")) == FOREIGN
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


def test_a_call_wants_a_policy_for_its_retries() -> None:
    """A number would be found out by the first failure, when it is the coordinator's turn."""

    @saga("saga")
    async def odd(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order), retry=5)  # type: ignore[arg-type]  # on purpose
        return Result(refs=[])

    drive = Drive(odd).start()
    assert drive.last.short == []
    assert drive.error["message"] == "stock.reserve: retry=5: give a policy, such as RetryPolicy(attempts=3)"


@pytest.mark.filterwarnings("ignore:the call of step 1")  # of the copies that are restored
def test_a_call_that_nobody_awaits_is_sent_and_given_up_at_the_end() -> None:
    @saga("saga")
    async def forgetful(ctx: SagaContext, order: Order) -> Result:
        self_made = ctx.call(reserve(order=order.order))
        done = await ctx.call(charge(order=order.order))
        del self_made
        return Result(refs=[done.ref])

    drive = Drive(forgetful).start()
    assert drive.last.short == ["do 1 stock.reserve", "do 2 bank.charge"]
    with pytest.warns(RuntimeWarning, match=r"the call of step 1 at .*:\d+ was never awaited"):
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

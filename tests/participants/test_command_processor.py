"""Batches of commands on a real database: each effect once, in order, with what belongs to it or not at all."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from sagabus.contracts.envelope import Headers, moment, unpack_headers
from sagabus.contracts.replies import ReplyKind
from sagabus.messaging.shards.shard_row import Fenced
from sagabus.participants import ActivityContext, Refused
from sagabus.participants.command_processor import TOGETHER, WITH_SAVEPOINTS
from sagabus.participants.handlers.database_errors import DatabaseFailed
from tests.participants.service_fixture import (
    BOOK,
    ISSUED,
    WAITING,
    Effect,
    Given,
    Saga,
    ServiceFixture,
    Take,
    Taken,
    batch,
    charge,
    give_back,
    header,
    note,
    noted,
    noted_by_item,
    opened,
    take_item,
    takes,
)
from tests.support.conditions import until


async def test_an_effect_its_row_and_its_reply_are_one_commit(fixture: ServiceFixture) -> None:
    takes(fixture)
    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert (reply.kind, reply.attempt, reply.body) == (ReplyKind.COMPLETED, 1, b'{"item":"book","left":1}')
    assert await fixture.effects() == ["A"]
    assert await fixture.inbox() == [("A:r1:1", "completed", 1)]
    assert tenure.offsets == {"shop.commands": 1}
    rows = await fixture.rows("SELECT topics->'shop.commands'->>'next' AS next FROM sagabus_shop.shard")
    assert [row["next"] for row in rows] == ["1"]


async def test_a_reply_bears_what_the_wire_format_says(fixture: ServiceFixture) -> None:
    takes(fixture)
    tenure = await fixture.take()
    trace: Headers = (("traceparent", b"00-1-2-01"),)
    [reply] = await fixture.turn(tenure, Saga("A").command(take_item, BOOK, attempt=3, trace=trace))
    message = reply.message
    assert (message.topic, message.partition, message.key) == ("sagabus.replies.shop", 3, b"A")
    assert dict(message.headers) == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": b"A:r1:1:3:reply",
        "ce_source": b"/sagabus/sagabus/shop",
        "ce_type": b"sagabus.reply.completed",
        "ce_time": b"2027-01-15T08:00:00.000000Z",
        "ce_subject": b"A",
        "ce_correlationid": b"A",
        "ce_causationid": b"A:r1:1",
        "ce_attempt": b"3",
        "ce_run": b"r1",
        "traceparent": b"00-1-2-01",
    }


async def test_a_void_output_is_null(fixture: ServiceFixture) -> None:
    @fixture.handles(note)
    async def handler(command: Take, ctx: ActivityContext) -> None: ...

    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, Saga("A").command(note, BOOK))
    assert (reply.kind, reply.body) == (ReplyKind.COMPLETED, b"null")


async def test_a_handler_gets_its_context(fixture: ServiceFixture) -> None:
    seen: list[ActivityContext[Any]] = []

    @fixture.handles(charge)
    async def handler(command: Take, ctx: ActivityContext[str]) -> Taken:
        seen.append(ctx)
        ctx.log.info("at work")
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").command(charge, BOOK, step=4, attempt=2))
    [ctx] = seen
    assert (ctx.saga_id, ctx.step, ctx.attempt, ctx.resources) == ("A", 4, 2, "resources")
    assert ctx.idempotency_key == "A:r1:4"
    assert ctx.deadline == moment(ISSUED) + timedelta(seconds=60)
    assert ctx.log.extra == {"saga_id": "A", "run": "r1", "step": 4, "attempt": 2}
    assert ctx.log.logger.name == "sagabus.activity.shop.charge"


@pytest.mark.parametrize(
    ("activity", "timeout", "seconds"),
    [(charge, 5_000_000, 5), (note, 2_500_000, 2.5), (charge, None, 60), (note, None, None)],
)
async def test_a_deadline_is_that_of_the_call(
    fixture: ServiceFixture, activity: Any, timeout: int | None, seconds: float | None
) -> None:
    """The timeout given at the call beats the contract's; who does not say has the contract's."""
    seen: list[Any] = []

    async def handler(command: Take, ctx: ActivityContext[str]) -> Any:
        seen.append(ctx.deadline)
        return Taken(item=command.item, left=0) if activity is charge else None

    fixture.handles(activity)(handler)
    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").command(activity, BOOK, timeout=timeout))
    assert seen == [None if seconds is None else moment(ISSUED) + timedelta(seconds=seconds)]


async def test_p1_a_copy_is_answered_from_its_row(fixture: ServiceFixture) -> None:
    calls = takes(fixture)
    tenure = await fixture.take()
    [first] = await fixture.turn(tenure, *batch("A"))
    [again] = await fixture.turn(tenure, *batch("A"))
    assert (again.kind, again.body, again.message.headers) == (first.kind, first.body, first.message.headers)
    assert calls == ["A/1"]
    assert await fixture.effects() == ["A"]


async def test_p1_copies_in_one_batch_have_one_effect(fixture: ServiceFixture) -> None:
    calls = takes(fixture)
    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B", "A", "A"))
    assert [reply.message.key for reply in replies] == [b"A", b"B", b"A", b"A"]
    assert {reply.kind for reply in replies} == {ReplyKind.COMPLETED}
    assert calls == ["A/1", "B/1"]


async def test_p1_completed_is_final_for_every_attempt(fixture: ServiceFixture) -> None:
    calls = takes(fixture)
    tenure = await fixture.take()
    await fixture.turn(tenure, *batch("A", attempt=2))
    replies = await fixture.turn(tenure, *batch("A", attempt=1), *batch("A", attempt=3))
    assert [(reply.kind, reply.attempt) for reply in replies] == [(ReplyKind.COMPLETED, 2)] * 2
    assert calls == ["A/2"]


@pytest.mark.parametrize("outcome", ["refuse", "fail"])
async def test_p1_a_failure_answers_its_attempt_and_a_higher_one_runs(fixture: ServiceFixture, outcome: str) -> None:
    calls = takes(fixture, **{outcome: {"A"}})
    kind = ReplyKind.REFUSED if outcome == "refuse" else ReplyKind.FAILED
    tenure = await fixture.take()
    assert [r.kind for r in await fixture.turn(tenure, *batch("A", attempt=2))] == [kind]
    assert await fixture.inbox() == [("A:r1:1", str(kind), 2)]
    calls.clear()
    replies = await fixture.turn(tenure, *batch("A", attempt=1), *batch("A", attempt=2))
    assert [(reply.kind, reply.attempt) for reply in replies] == [(kind, 2)] * 2
    assert calls == []
    takes(fixture)
    [reply] = await fixture.turn(tenure, *batch("A", attempt=3))
    assert (reply.kind, reply.attempt) == (ReplyKind.COMPLETED, 3)
    assert await fixture.inbox() == [("A:r1:1", "completed", 3)]
    assert await fixture.effects() == ["A"]


async def test_p1_two_attempts_in_one_batch_are_taken_in_order(fixture: ServiceFixture) -> None:
    calls = takes(fixture, fail={"A"})
    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", attempt=1), *batch("A", attempt=2), *batch("A", attempt=1))
    assert [(reply.kind, reply.attempt) for reply in replies] == [
        (ReplyKind.FAILED, 1), (ReplyKind.FAILED, 2), (ReplyKind.FAILED, 2),
    ]  # fmt: skip
    assert calls[-2:] == ["A/1", "A/2"]
    assert await fixture.inbox() == [("A:r1:1", "failed", 2)]


async def test_p1_the_key_holds_the_source(fixture: ServiceFixture) -> None:
    calls = takes(fixture)
    tenure = await fixture.take()
    other = Saga("A", namespace="other").command(take_item, BOOK)
    replies = [*await fixture.turn(tenure, *batch("A"), other)]
    assert calls == ["A/1", "A/1"]
    assert len(replies) == 1  # the other's is on a topic of the other namespace
    assert len(await fixture.inbox()) == 2


async def test_p7_who_fails_is_undone_alone(fixture: ServiceFixture) -> None:
    calls = takes(fixture, refuse={"B"}, fail={"D"})
    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B", "C", "D", "E"))
    assert [reply.kind for reply in replies] == [
        ReplyKind.COMPLETED, ReplyKind.REFUSED, ReplyKind.COMPLETED, ReplyKind.FAILED, ReplyKind.COMPLETED,
    ]  # fmt: skip
    assert await fixture.effects() == ["A", "C", "E"]
    assert calls == ["A/1", "B/1", "A/1", "B/1", "C/1", "D/1", "E/1"]


async def test_p7_after_a_failure_the_next_batch_has_savepoints_until_one_goes_well(fixture: ServiceFixture) -> None:
    refuse = {"B"}
    calls = takes(fixture, refuse=refuse)
    tenure = await fixture.take()

    async def calls_of(*sagas: str) -> list[str]:
        calls.clear()
        await fixture.turn(tenure, *batch(*sagas))
        return [call.removesuffix("/1") for call in calls]

    assert await calls_of("A", "B") == ["A", "B", "A", "B"]
    refuse.add("D")
    assert await calls_of("C", "D") == ["C", "D"]
    assert await calls_of("E", "F") == ["E", "F"]
    refuse.add("H")
    assert await calls_of("G", "H") == ["G", "H", "G", "H"]
    assert await fixture.effects() == ["A", "C", "E", "F", "G"]


async def test_p7_a_single_command_that_fails_runs_once(fixture: ServiceFixture) -> None:
    calls = takes(fixture, refuse={"A"})
    tenure = await fixture.take()
    await fixture.turn(tenure, *batch("A"))
    assert calls == ["A/1"]


async def test_p7_a_refusal_before_the_session_was_touched_disturbs_nobody(fixture: ServiceFixture) -> None:
    calls: list[str] = []

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        calls.append(ctx.saga_id)
        if ctx.saga_id == "B":
            raise Refused("no", "no")
        ctx.session.add(Effect(what=ctx.saga_id))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    replies = await fixture.turn(tenure, *batch("A", "B", "C"))
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED, ReplyKind.REFUSED, ReplyKind.COMPLETED]
    assert calls == ["A", "B", "C"]


async def test_p7_many_commands_with_savepoints_are_several_transactions(fixture: ServiceFixture) -> None:
    assert WITH_SAVEPOINTS < 64  # from there on, PostgreSQL's other sessions pay for it
    sagas = [f"S{n:03}" for n in range(2 * WITH_SAVEPOINTS + 5)]
    takes(fixture, refuse={sagas[3], sagas[-1]})
    tenure = await fixture.take()
    turn = tenure.turn
    replies = await fixture.turn(tenure, *batch(*sagas))
    assert [reply.message.key for reply in replies] == [saga.encode() for saga in sagas]
    assert [reply.kind for reply in replies].count(ReplyKind.REFUSED) == 2
    assert len(await fixture.effects()) == len(sagas) - 2
    assert (tenure.turn - turn, tenure.offsets["shop.commands"]) == (3, len(sagas))


async def test_p7_of_two_processes_with_the_same_commands_one_throws_its_effects_away(fixture: ServiceFixture) -> None:
    """The same commands in two partitions, in opposite orders, both stopped in the middle: each effect once."""
    sagas = [f"S{n:03}" for n in range(50)]
    calls = takes(fixture)
    middle = await asyncpg.connect(fixture.url)
    await middle.execute("BEGIN")
    await middle.execute(
        "INSERT INTO sagabus_shop.inbox (source, id, shard, activity, state, attempt, at) "
        "VALUES ('/sagabus/sagabus', 'S025:r1:1', 7, '', 'completed', 1, now())"
    )
    async with opened(fixture.url, fresh=False) as other:
        takes(other)
        one, two = await fixture.take(0), await other.take(1)
        turns = asyncio.gather(fixture.turn(one, *batch(*sagas)), other.turn(two, *batch(*reversed(sagas))))
        await until(lambda: two_are_waiting(fixture), what="both turns wait for a key")
        await middle.close()
        here, there = await turns
    assert {reply.kind for reply in [*here, *there]} == {ReplyKind.COMPLETED}
    assert len(calls) == len(sagas)
    assert sorted(await fixture.effects()) == sagas


async def two_are_waiting(fixture: ServiceFixture) -> bool:
    return len(await fixture.rows(WAITING)) == 2


async def test_p8_what_leaves_is_in_the_order_of_the_commands(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.publish(noted(item=command.item, text="1"))
        ctx.publish(noted(item=command.item, text="2"), key="mine")
        ctx.publish(noted_by_item(item=command.item, text="3"))
        return Taken(item=command.item, left=0)

    tenure = await fixture.take()
    await fixture.processor.turn({tenure: fixture.records(tenure, *batch("B", "A"))})
    left = await fixture.left(tenure)
    assert [header(message, "ce_id") for message in left] == [
        "B:r1:1:event:1", "B:r1:1:event:2", "B:r1:1:event:3", "B:r1:1:1:reply",
        "A:r1:1:event:1", "A:r1:1:event:2", "A:r1:1:event:3", "A:r1:1:1:reply",
    ]  # fmt: skip
    assert [message.key for message in left[:3]] == [b"B", b"mine", b"book"]
    assert (left[0].topic, left[0].partition, left[0].value) == ("shop.events", None, b'{"item":"book","text":"1"}')
    assert {name: header(left[0], name) for name in ("ce_type", "ce_subject", "ce_causationid", "ce_source")} == {
        "ce_type": "shop.noted", "ce_subject": "B", "ce_causationid": "B:r1:1", "ce_source": "/sagabus/sagabus/shop",
    }  # fmt: skip


async def test_events_of_a_failure_stay_at_home(fixture: ServiceFixture) -> None:
    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.publish(noted(item=command.item, text="1"))
        raise Refused("no", "no")

    tenure = await fixture.take()
    await fixture.processor.turn({tenure: fixture.records(tenure, *batch("A"))})
    assert [message.topic for message in await fixture.left(tenure)] == ["sagabus.replies.shop"]


async def test_s1_the_fence_comes_before_any_handler(fixture: ServiceFixture) -> None:
    calls = takes(fixture)
    old = await fixture.take()
    new = await fixture.take()
    with pytest.raises(Fenced):
        await fixture.turn(old, *batch("A"))
    assert (calls, await fixture.inbox()) == ([], [])
    new.offsets["shop.commands"] = fixture.logs[0]
    await fixture.turn(new, *batch("B"))
    assert calls == ["B/1"]


async def test_s1_a_shard_that_is_lost_under_a_handler_loses_its_effects(fixture: ServiceFixture) -> None:
    """The taker ends the transaction that holds the row (S4)."""

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        ctx.session.add(Effect(what=ctx.saga_id))
        await ctx.session.flush()
        if ctx.saga_id == "B":
            await fixture.take()
        return Taken(item=command.item, left=0)

    old = await fixture.take()
    with pytest.raises(Fenced):
        await fixture.turn(old, *batch("A", "B"))
    assert (await fixture.effects(), await fixture.inbox()) == ([], [])


async def test_s4_a_turn_neither_waits_nor_stands_still_without_end(fixture: ServiceFixture) -> None:
    """Else a process that is stopped with a row of the handlers' keeps another one from hearing that it is the heir."""
    limits: list[object] = []

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        names = ("lock_timeout", "idle_in_transaction_session_timeout")
        limits.extend([await ctx.session.scalar(text(f"SHOW {name}")) for name in names])
        return Taken(item=command.item, left=0)

    await fixture.turn(await fixture.take(), *batch("A"))
    assert limits == ["5s", "1min"]


@pytest.mark.parametrize("failing", [False, True])
async def test_s4_of_a_batch_no_further_transaction_begins_once_the_group_waits(
    fixture: ServiceFixture, failing: bool
) -> None:
    """Handlers of 50 ms make a batch of 1,000 last for 50 s; the group waits for ten, and then does without us."""
    size = WITH_SAVEPOINTS if failing else TOGETHER
    sagas = [f"S{n:03}" for n in range(2 * size)]
    takes(fixture, refuse={sagas[0]} if failing else set())
    tenure = await fixture.take()
    tenure.leaving = True
    replies = await fixture.turn(tenure, *batch(*sagas))
    assert [reply.message.key for reply in replies] == [saga.encode() for saga in sagas[:size]]
    assert tenure.offsets["shop.commands"] == size


async def test_s4_a_command_that_waits_for_a_lock_is_not_tried_alone_while_the_group_waits(
    fixture: ServiceFixture,
) -> None:
    calls: list[str] = []

    @fixture.handles(take_item)
    async def handler(command: Take, ctx: ActivityContext) -> Taken:
        calls.append(ctx.saga_id)
        raise asyncpg.LockNotAvailableError

    tenure = await fixture.take()
    for leaving, expected in ((False, ["A", "A"]), (True, ["A"])):
        calls.clear()
        tenure.leaving = leaving
        with pytest.raises(DatabaseFailed):
            await fixture.turn(tenure, *batch("A", "B"))
        assert calls == expected


async def test_an_idle_turn_beats(fixture: ServiceFixture) -> None:
    tenure = await fixture.take()
    turn = tenure.turn
    await fixture.processor.turn({tenure: ()})
    rows = await fixture.rows("SELECT turn FROM sagabus_shop.shard")
    assert (tenure.turn, rows[0]["turn"]) == (turn + 1, turn + 1)


async def test_every_tenure_of_a_turn_is_committed_with_savepoints_too(fixture: ServiceFixture) -> None:
    takes(fixture, refuse={"A"})
    one, two = await fixture.take(0), await fixture.take(1)
    turns = one.turn, two.turn
    await fixture.processor.turn({one: fixture.records(one, *batch("A", "B")), two: ()})
    assert (one.turn, two.turn) == (turns[0] + 1, turns[1] + 1)


async def test_u2_an_undo_runs_whatever_the_inbox_knows_of_its_step(fixture: ServiceFixture) -> None:
    calls: list[str] = []

    @fixture.handles(give_back)
    async def undo(command: Take, ctx: ActivityContext) -> None:
        calls.append(ctx.idempotency_key)

    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").settle())
    undo_again = Saga("A").undo(give_back, BOOK)
    replies = [*await fixture.turn(tenure, undo_again), *await fixture.turn(tenure, undo_again)]
    assert [reply.kind for reply in replies] == [ReplyKind.COMPLETED] * 2
    assert calls == ["A:r1:1:undo"]
    assert await fixture.inbox() == [("A:r1:1", "tombstone", 1), ("A:r1:1:undo", "completed", 1)]


async def test_a_missing_handler_is_told_and_not_remembered(
    fixture: ServiceFixture, caplog: pytest.LogCaptureFixture
) -> None:
    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert (reply.kind, reply.code, await fixture.inbox()) == (ReplyKind.FAILED, "sagabus.no_handler", [])
    assert "no handler for shop.take" in caplog.text
    calls = takes(fixture)
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert (reply.kind, calls) == (ReplyKind.COMPLETED, ["A/1"])
    del fixture.handlers[take_item.name]
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert reply.kind == ReplyKind.COMPLETED


@pytest.mark.parametrize(
    "broken",
    [
        {"ce_id": None},
        {"ce_attempt": b"one"},
        {"ce_id": b"A\0"},
        {"ce_id": "\N{GRINNING FACE}".encode() * 400},
        {"ce_replypartition": b"99999999999"},
        {"ce_subject": b"not a saga id"},
        {"ce_type": b"\xff"},
    ],
)
async def test_what_cannot_be_understood_is_a_dead_letter_and_stops_nobody(
    fixture: ServiceFixture, broken: dict[str, bytes | None]
) -> None:
    calls = takes(fixture)
    tenure = await fixture.take()
    good = Saga("B").command(take_item, BOOK)
    headers = {**dict(Saga("A").command(take_item, BOOK).headers), **broken}
    bad = Given(b"x", [(name, value) for name, value in headers.items() if value is not None], 0)
    await fixture.processor.turn({tenure: fixture.records(tenure, bad, good)})
    letter, reply = await fixture.left(tenure)
    assert (letter.topic, letter.value, header(letter, "x-dlt-by")) == ("sagabus.dead-letters", b"x", "shop")
    assert header(reply, "ce_causationid") == "B:r1:1"
    [row] = await fixture.rows("SELECT * FROM sagabus_shop.dead_letter")
    assert (row["offset"], row["value"], list(unpack_headers(row["headers"]))) == (0, b"x", list(bad.headers))
    assert calls == ["B/1"]


async def test_the_longest_attempt_fits_its_column(fixture: ServiceFixture) -> None:
    takes(fixture)
    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A", attempt=10**18 - 1))
    assert reply.attempt == 10**18 - 1

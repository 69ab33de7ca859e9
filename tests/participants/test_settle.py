"""Settling a step, and what the inbox may have forgotten or meets again (P4, P5, P6)."""

from __future__ import annotations

import pytest

from sagabus.contracts.envelope import moment
from sagabus.contracts.replies import ReplyKind
from sagabus.participants import ActivityContext
from tests.participants.service_fixture import (
    BOOK,
    ISSUED,
    Saga,
    ServiceFixture,
    Take,
    batch,
    give_back,
    header,
    note,
    take_item,
    takes,
)


async def test_p4_a_settle_of_what_never_came_is_a_tombstone(fixture: ServiceFixture) -> None:
    calls = takes(fixture)
    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, Saga("A").settle())
    assert (reply.kind, reply.answers) == (ReplyKind.NEVER, "settle")
    assert await fixture.inbox() == [("A:r1:1", "tombstone", 1)]
    [late] = await fixture.turn(tenure, *batch("A", attempt=5))
    assert (late.kind, late.code, late.attempt) == (ReplyKind.REFUSED, "sagabus.settled_as_never", 5)
    [again] = await fixture.turn(tenure, Saga("A").settle(attempt=2))
    assert (again.kind, again.attempt) == (ReplyKind.NEVER, 2)
    assert (calls, await fixture.effects()) == ([], [])


async def test_p4_a_settle_of_a_completed_step_brings_its_output(fixture: ServiceFixture) -> None:
    takes(fixture)
    tenure = await fixture.take()
    [done] = await fixture.turn(tenure, *batch("A"))
    [reply] = await fixture.turn(tenure, Saga("A").settle(attempt=4))
    assert (reply.kind, reply.body, reply.attempt) == (ReplyKind.COMPLETED, done.body, 4)
    assert header(reply.message, "ce_causationid") == "A:r1:1:settle"


@pytest.mark.parametrize("outcome", ["refuse", "fail"])
async def test_p4_a_settle_makes_a_failure_final(fixture: ServiceFixture, outcome: str) -> None:
    calls = takes(fixture, **{outcome: {"A"}})
    tenure = await fixture.take()
    await fixture.turn(tenure, *batch("A"))
    [reply] = await fixture.turn(tenure, Saga("A").settle())
    assert reply.kind == ReplyKind.NEVER
    calls.clear()
    [late] = await fixture.turn(tenure, *batch("A", attempt=2))
    assert (late.kind, late.code) == (ReplyKind.REFUSED, "sagabus.settled_as_never")
    assert calls == []


async def test_p4_in_one_batch_the_first_of_settle_and_step_wins(fixture: ServiceFixture) -> None:
    takes(fixture)
    tenure = await fixture.take()
    replies = await fixture.turn(tenure, Saga("A").settle(), *batch("A", "B"), Saga("B").settle())
    assert [reply.kind for reply in replies] == [
        ReplyKind.NEVER, ReplyKind.REFUSED, ReplyKind.COMPLETED, ReplyKind.COMPLETED,
    ]  # fmt: skip
    assert await fixture.effects() == ["B"]


async def test_p5_what_the_inbox_may_have_forgotten_is_not_carried_out(fixture: ServiceFixture) -> None:
    calls = takes(fixture)

    @fixture.handles(give_back)
    async def undo(command: Take, ctx: ActivityContext) -> None:
        calls.append("undo")

    tenure = await fixture.take()
    [before] = await fixture.turn(tenure, *batch("OLD"))
    tenure.pruned_before = moment(ISSUED + 1)
    replies = await fixture.turn(
        tenure, *batch("A"), Saga("B").settle(), Saga("C").undo(give_back, BOOK), *batch("OLD"),
        *batch("D", issued=ISSUED + 1),
    )  # fmt: skip
    assert [r.kind for r in replies] == [ReplyKind.FAILED] * 3 + [ReplyKind.COMPLETED] * 2
    assert {reply.code for reply in replies[:3]} == {"sagabus.inbox_expired"}
    assert replies[3].body == before.body
    assert calls == ["OLD/1", "D/1"]
    assert await fixture.inbox() == [("D:r1:1", "completed", 1), ("OLD:r1:1", "completed", 1)]


async def test_p5_a_take_reads_what_was_pruned(fixture: ServiceFixture) -> None:
    takes(fixture)
    await fixture.take()
    await fixture.rows("UPDATE sagabus_shop.shard SET pruned_before = $1", moment(ISSUED + 1))
    tenure = await fixture.take()
    [reply] = await fixture.turn(tenure, *batch("A"))
    assert reply.code == "sagabus.inbox_expired"


async def test_p6_one_id_is_one_activity_and_one_input(fixture: ServiceFixture) -> None:
    calls = takes(fixture)

    @fixture.handles(note)
    async def noting(command: Take, ctx: ActivityContext) -> None:
        calls.append("note")

    tenure = await fixture.take()
    await fixture.turn(tenure, *batch("A"))
    replies = await fixture.turn(
        tenure, Saga("A").command(take_item, Take(item="pen"), attempt=2), Saga("A").command(note, BOOK, attempt=3)
    )
    assert [(reply.kind, reply.code, reply.attempt) for reply in replies] == [
        (ReplyKind.FAILED, "sagabus.id_reused", 2), (ReplyKind.FAILED, "sagabus.id_reused", 3),
    ]  # fmt: skip
    assert calls == ["A/1"]
    assert await fixture.inbox() == [("A:r1:1", "completed", 1)]


async def test_p6_a_tombstone_is_exempt(fixture: ServiceFixture) -> None:
    takes(fixture)
    tenure = await fixture.take()
    await fixture.turn(tenure, Saga("A").settle())
    [reply] = await fixture.turn(tenure, Saga("A").command(take_item, Take(item="pen")))
    assert reply.code == "sagabus.settled_as_never"

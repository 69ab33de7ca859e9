"""The way of a batch through a shard, on a real PostgreSQL: what was written and what left, crashes in between."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sagabus.contracts.envelope import Message, Record
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.read import Reads
from sagabus.messaging.postgres.database import Database
from sagabus.shop.expense_approval import expense_approval
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_fixture import ShardFixture, headers_of, of_shard, types

SHARD = 1
ORDER = of_shard(SHARD, "ORD-")
EXPENSE = of_shard(SHARD, "EXP-")
ELSEWHERE = of_shard(2, "ORD-")
INPUT: dict[str, Any] = {
    "order_id": ORDER,
    "customer_email": "customer@example.com",
    "items": [{"product_id": "PROD-1", "quantity": 1, "unit_price": "29.99"}],
    "shipping_address": {"street": "s", "city": "c", "postal_code": "p", "country": "Japan"},
}
RESERVED = {"reservation_id": "RES-1", "total_amount": "29.99"}
ASK = {"expense_id": EXPENSE, "approver": "Ann", "manager": "Bo"}


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, (order_processing, expense_approval), SHARD)
    await pool.stop()


def start(fixture: ShardFixture, **changes: Any) -> Any:
    return fixture.request(ORDER, type="start", saga="order_processing", input={**INPUT, **changes})


async def test_a_start_writes_the_saga_and_sends_its_first_command(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    left = await fixture.turn(tenure, start(fixture))
    assert types(left) == ["sagabus.saga.started", "inventory.reserve_inventory"]
    assert (await fixture.saga(ORDER))["status"] == "running"
    assert [row["kind"] for row in await fixture.rows("SELECT kind FROM sagabus.history ORDER BY seq")] == [
        "started", "command",
    ]  # fmt: skip


async def test_h2_an_equal_start_is_the_same_saga_and_another_input_is_refused(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, start(fixture))
    assert await fixture.turn(tenure, start(fixture)) == []
    tenure = await fixture.crash()
    assert await fixture.turn(tenure, start(fixture)) == []
    left = await fixture.turn(tenure, start(fixture, customer_email="other@example.com"))
    assert types(left) == ["dead letter", "sagabus.start.rejected"]
    (letter,) = await fixture.rows("SELECT reason FROM sagabus.dead_letter")
    assert letter["reason"] == "start.other_input"


async def test_h1_another_process_goes_on_where_the_first_one_stopped(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    tenure = await fixture.crash()
    left = await fixture.turn(tenure, fixture.reply(command, "completed", RESERVED))
    assert types(left) == ["sagabus.step.completed", "payment.process_payment"]
    assert headers_of(left[0])["ce_sequence"] == f"{2:012}"


async def test_h5_an_event_and_a_cancel_before_the_start_are_kept_over_a_crash(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    event = fixture.request(EXPENSE, type="event", name="approvals.decided", data={"approved": True, "by": "Ann"})
    assert await fixture.turn(tenure, event) == []
    tenure = await fixture.crash()
    begun = await fixture.turn(tenure, fixture.request(EXPENSE, type="start", saga="expense_approval", input=ASK))
    left = await fixture.turn(tenure, fixture.reply(begun[-1], "completed", None))
    assert types(left) == ["sagabus.step.completed", "sagabus.saga.completed"]
    assert await fixture.rows("SELECT * FROM sagabus.early_request") == []


async def test_an_early_request_that_nobody_starts_becomes_a_dead_letter(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, fixture.request(EXPENSE, type="cancel", reason="no"))
    fixture.now += 3_700
    assert types(await fixture.turn(tenure)) == ["dead letter"]
    (letter,) = await fixture.rows("SELECT reason FROM sagabus.dead_letter")
    assert letter["reason"] == "early.expired"


async def test_h3_a_timer_fires_once_after_a_crash(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    begun = await fixture.turn(tenure, fixture.request(EXPENSE, type="start", saga="expense_approval", input=ASK))
    await fixture.turn(tenure, fixture.reply(begun[-1], "completed", None))
    assert len(await fixture.rows("SELECT * FROM sagabus.timer")) == 1
    tenure = await fixture.crash()
    fixture.now += 86_401
    assert types(await fixture.turn(tenure)) == ["approvals.ask"]
    assert types(await fixture.turn(tenure)) == []
    assert await fixture.rows("SELECT * FROM sagabus.timer") == []


async def test_s6_a_new_bus_has_all_that_is_unanswered_sent_again(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    fixture.ends.clear()
    tenure = await fixture.crash(ids="another log")
    (again,) = await fixture.turn(tenure)
    assert headers_of(again)["ce_id"] == headers_of(command)["ce_id"]
    assert headers_of(again)["ce_attempt"] == "1"


async def test_s7_what_is_sent_stands_in_the_outbox_in_the_order_of_deciding(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    await fixture.turn(tenure, fixture.reply(command, "completed", RESERVED))
    rows = await fixture.rows("SELECT position, topic FROM sagabus.outbox ORDER BY position")
    assert [row["position"] for row in rows] == [1, 2, 3, 4]
    assert [row["topic"] for row in rows] == [
        "sagabus.events",
        "inventory.commands",
        "sagabus.events",
        "payment.commands",
    ]


async def test_s12_a_misplaced_request_with_headers_that_no_broker_takes_again_parks_nothing(
    fixture: ShardFixture,
) -> None:
    """Megabytes of headers may have come compressed. Sent on, they would park what the saga of that id sends (S8)."""
    tenure = await fixture.take()
    record = fixture.record("sagabus.requests", ELSEWHERE, {"type": "cancel"}, padding="x" * 2_000_000)
    (sent,) = await fixture.turn(tenure, record)
    assert (sent.topic, sent.saga_id) == ("sagabus.dead-letters", "dead letter sagabus.requests:1:0")
    (letter,) = await fixture.rows("SELECT reason FROM sagabus.dead_letter")
    assert letter["reason"] == "headers.too_long"


async def test_s12_a_misplaced_request_is_forwarded_once(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    lost = fixture.request(ELSEWHERE, type="cancel", reason="no")
    (message,) = await fixture.turn(tenure, lost)
    assert (message.topic, message.partition, message.key) == ("sagabus.requests", 2, ELSEWHERE.encode())
    again = fixture.record("sagabus.requests", ELSEWHERE, {"type": "cancel"}, ce_forwarded="x:0:0")
    assert types(await fixture.turn(tenure, again)) == ["dead letter"]


async def test_a_reply_on_another_services_topic_changes_nothing(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    left = await fixture.turn(tenure, fixture.reply(command, "completed", RESERVED, service="payment"))
    assert [message.topic for message in left] == ["sagabus.dead-letters"]
    (letter,) = await fixture.rows("SELECT reason FROM sagabus.dead_letter")
    assert letter["reason"] == "reply.foreign"
    assert (
        types(await fixture.turn(tenure, fixture.reply(command, "completed", RESERVED)))[-1]
        == "payment.process_payment"
    )


async def test_p2_a_reply_whose_output_cannot_be_read_is_a_dead_letter_and_its_step_is_asked_for_again(
    fixture: ShardFixture,
) -> None:
    """Over a crash, too: it has left no row in history that a replay could stop at."""
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    left = await fixture.turn(tenure, fixture.reply(command, "completed", {"reservation_id": "RES-1"}))
    assert sorted(message.topic for message in left) == ["sagabus.dead-letters", "sagabus.events"]
    (letter,) = await fixture.rows("SELECT reason FROM sagabus.dead_letter")
    assert letter["reason"] == "reply.unreadable"
    assert "its output cannot be read" in (await fixture.saga(ORDER))["attention"]
    tenure = await fixture.crash()
    fixture.now += 31
    copies = [copy for _ in range(3) for copy in await fixture.turn(tenure)]  # one turn loads the saga
    assert [headers_of(copy)["ce_id"] for copy in copies] == [headers_of(command)["ce_id"]]
    await fixture.turn(tenure, fixture.reply(command, "completed", {"reservation_id": "RES-1"}))
    assert len(await fixture.rows("SELECT id FROM sagabus.dead_letter")) == 1, "the same answer to a copy is no news"
    left = await fixture.turn(tenure, fixture.reply(command, "completed", RESERVED))
    assert types(left)[-1] == "payment.process_payment"
    assert (await fixture.saga(ORDER))["attention"] is None


async def test_p2_a_refusal_that_cannot_be_read_ends_no_saga(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    for body in (None, {"code": "no room left"}, {"code": "sagabus.no_handler"}):
        await fixture.turn(tenure, fixture.reply(command, "refused", body))
    letters = await fixture.rows("SELECT reason, value FROM sagabus.dead_letter ORDER BY id")
    assert [letter["reason"] for letter in letters] == ["reply.unreadable"] * 3
    assert json.loads(letters[1]["value"]) == {"code": "no room left"}, "as it came"
    saga = await fixture.saga(ORDER)
    assert (saga["status"], "is refused, and why cannot be read" in saga["attention"]) == ("running", True)
    assert len(await fixture.rows("SELECT seq FROM sagabus.history WHERE kind = 'notice'")) == 1
    await fixture.turn(tenure, fixture.reply(command, "refused", {"code": "out_of_stock"}))
    saga = await fixture.saga(ORDER)
    assert (saga["status"], saga["attention"]) == ("compensated", None)


async def test_p2_a_failure_that_does_not_fit_counts_and_its_history_says_what_came(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    sent = {"code": "bank.busy", "again_after": "5"}
    assert await fixture.turn(tenure, fixture.reply(command, "failed", sent)) != []
    assert await fixture.rows("SELECT id FROM sagabus.dead_letter") == []
    (row,) = await fixture.rows("SELECT payload FROM sagabus.history WHERE kind = 'step.failed'")
    kept = json.loads(row["payload"])
    assert (kept["code"], json.loads(kept["details"]["value"])) == ("sagabus.failure_unreadable", sent)
    assert "again_after: Input should be a valid number" in (await fixture.saga(ORDER))["attention"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"ce_type": "sagabus.reply.done"}, "reply.type"),
        ({"ce_type": "sagabus.reply.never"}, "reply.kind"),
        ({"ce_attempt": "first"}, "headers.invalid"),
        ({"ce_attempt": ""}, "headers.missing"),
        ({"ce_id": "x" * 301}, "headers.too_long"),
    ],
)
async def test_a_reply_with_broken_headers_is_told_to_the_saga_that_waits_for_it(
    fixture: ShardFixture, broken: dict[str, str], reason: str
) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    for copy in range(3):
        left = await fixture.turn(tenure, broken_reply(fixture, command, **broken))
        assert [message.topic for message in left].count("sagabus.events") == (copy == 0), "told once"
    assert {row["reason"] for row in await fixture.rows("SELECT reason FROM sagabus.dead_letter")} == {reason}
    attention = (await fixture.saga(ORDER))["attention"]
    assert attention.startswith(
        "step 1 (inventory.reserve_inventory): an answer counts for nothing, and is a dead letter"
    )
    assert reason in attention
    tenure = await fixture.crash()
    assert (await fixture.saga(ORDER))["attention"] == attention
    left = await fixture.turn(tenure, fixture.reply(command, "completed", RESERVED))
    assert types(left)[-1] == "payment.process_payment"
    assert (await fixture.saga(ORDER))["attention"] is None


async def test_a_broken_reply_of_another_service_or_to_what_is_answered_is_told_to_nobody(
    fixture: ShardFixture,
) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    foreign = broken_reply(fixture, command, service="payment", ce_type="")
    assert [message.topic for message in await fixture.turn(tenure, foreign)] == ["sagabus.dead-letters"]
    await fixture.turn(tenure, fixture.reply(command, "completed", RESERVED))
    for lost in ({"ce_type": ""}, {"ce_causationid": ""}, {"ce_causationid": headers_of(command)["ce_id"] + "9"}):
        left = await fixture.turn(tenure, broken_reply(fixture, command, **{"ce_type": "", **lost}))
        assert [message.topic for message in left] == ["sagabus.dead-letters"]
    assert (await fixture.saga(ORDER))["attention"] is None


def broken_reply(fixture: ShardFixture, command: Message, *, service: str | None = None, **broken: str) -> Record:
    """A completion with these headers in place of the right ones."""
    right = fixture.reply(command, "completed", RESERVED, service=service)
    said = {name: value.decode() for name, value in right.headers}
    return fixture.record(right.topic, ORDER, RESERVED, **{**said, **broken})


async def test_u6_without_its_definition_a_saga_waits_visibly_and_goes_on_when_it_is_back(
    fixture: ShardFixture,
) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    tenure = await fixture.crash(expense_approval)
    await fixture.turn(tenure, fixture.reply(command, "completed", RESERVED))
    assert "no definition 'order_processing'" in (await fixture.saga(ORDER))["attention"]
    tenure = await fixture.crash(order_processing)
    left = await fixture.turn(tenure)
    assert types(left)[-1] == "payment.process_payment"
    assert (await fixture.saga(ORDER))["attention"] is None


async def test_u7_a_cancel_after_the_end_is_rejected(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    refusal = {"code": "out_of_stock", "message": "none left"}
    left = await fixture.turn(tenure, fixture.reply(command, "refused", refusal))
    assert types(left) == ["sagabus.step.failed", "sagabus.saga.compensated"]
    left = await fixture.turn(tenure, fixture.request(ORDER, type="cancel", reason="too late"))
    assert types(left) == ["sagabus.cancel.rejected"]


async def test_a_copy_of_a_reply_to_a_closed_saga_reads_the_rows_of_its_step_alone(
    fixture: ShardFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    refusal = {"code": "inventory.none", "message": "none left"}
    await fixture.turn(tenure, fixture.reply(command, "refused", refusal))
    before = await fixture.saga(ORDER)
    assert before["status"] == "compensated"
    tenure = await fixture.crash()

    async def histories(*args: Any, **named: Any) -> Any:
        raise AssertionError("a history is read as a whole")

    with monkeypatch.context() as patched:
        patched.setattr(Reads, "histories", histories)
        assert await fixture.turn(tenure, fixture.reply(command, "refused", refusal)) == []
        assert fixture.processor.counts["duplicate"] == 1
        foreign = fixture.reply(command, "refused", refusal, service="shipping")
        assert [message.topic for message in await fixture.turn(tenure, foreign)] == ["sagabus.dead-letters"]
    assert await fixture.saga(ORDER) == before
    news = fixture.reply(command, "completed", RESERVED)
    assert await fixture.turn(tenure, fixture.reply(command, "refused", refusal), news) != []
    assert fixture.processor.counts["duplicate"] == 2

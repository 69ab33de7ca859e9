"""What was validated is what is stored and replayed, whatever the models fill in; inputs are known again (H2)."""

from __future__ import annotations

import os
import subprocess
import sys
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, Field, field_validator

from sagabus.contracts import Service, canonical, event
from sagabus.contracts.errors import MessageInvalid
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.history import Kind
from tests.core.kit import Drive
from tests.core.services import Undo, Void
from tests.core.situations import changed
from tests.core.wire import an_input


class Ordered(BaseModel):
    token: UUID = Field(default_factory=uuid4)


class Charge(BaseModel):
    token: UUID = Field(default_factory=uuid4)
    items: list[str] = []


class Charged(BaseModel):
    token: UUID
    receipt: str

    @field_validator("receipt", mode="before")
    @classmethod
    def number(cls, value: str) -> str:
        return value or uuid4().hex


class Refund(BaseModel):
    token: UUID
    items: list[str] = []


class Approved(BaseModel):
    by: UUID = Field(default_factory=uuid4)


class Token(BaseModel):
    token: str


till = Service("till")
refund = till.compensation("refund", Refund)
charge = till.activity("charge", Charge, Charged, compensation=refund)
note = till.activity("note", Token)
forget = till.compensation("forget", Token)
keep = till.activity("keep", Token, compensation=forget)
approved = event("approved", Approved)


@saga("saga")
async def paying(ctx: SagaContext, order: Ordered) -> None:
    charged = await ctx.call(charge(token=order.token))
    await ctx.call(note(token=charged.receipt))
    approval = await ctx.event(approved)
    await ctx.call(note(token=str(approval.by)))
    await ctx.event(approved)


def started(data: bytes = b"{}") -> Drive:
    drive = Drive(paying)
    drive.take(
        an_input(Kind.STARTED, name="saga", ref="start", payload=b'{"type":"start","saga":"saga","input":%b}' % data)
    )
    return drive


def charged(token: UUID, receipt: str) -> bytes:
    return b'{"token":"%b","receipt":"%b"}' % (token.hex.encode(), receipt.encode())


def test_what_an_input_was_filled_with_is_the_same_after_a_restart_and_in_the_undo() -> None:
    drive = started()
    sent = drive.last.commands[0].body
    drive.reload()
    drive.take(
        drive.reply(
            Kind.STEP_COMPLETED,
            1,
            charged(Charge.model_validate_json(sent).token, "7"),
        )
    )
    assert drive.kinds[:3] == ["started", "read", "command 1"]
    drive.reload()
    drive.cancel()
    drive.reload()
    drive.never(2)
    [undo] = [one for one in drive.all.commands if one.head.kind == "undo"]
    assert Refund.model_validate_json(undo.body).token == Charge.model_validate_json(sent).token


def test_outputs_and_events_are_the_same_again() -> None:
    drive = started()
    drive.take(drive.reply(Kind.STEP_COMPLETED, 1, charged(uuid4(), "")))
    receipt = drive.last.commands[0].body
    assert drive.rows[-3].kind is Kind.READ
    drive.reload(changed(paying))
    drive.take(drive.reply(Kind.STEP_COMPLETED, 2, b"null"))
    drive.event(approved, {})
    noted = drive.last.commands[0].body
    for _ in range(2):
        drive.reload(changed(paying))
        program = drive.saga.program
        assert program is not None
        assert [step.body for step in drive.state.steps.values()][1:] == [receipt, noted]
        assert [step.input.model_dump_json().encode() for step in drive.state.steps.values()][1:] == [receipt, noted]


def test_what_the_bytes_say_already_costs_no_row() -> None:
    drive = started(b'{"token":"7f0c5e2e-8a38-4c0e-9a52-0d6d9f6d6b0a","unknown":1}')
    assert "read" in drive.kinds, "an unknown field is left out, which is another value of the bytes"
    drive = started(b'{"token":"7f0c5e2e-8a38-4c0e-9a52-0d6d9f6d6b0a"}')
    assert drive.kinds == ["started", "command 1"]


def test_a_history_without_the_rows_of_this_release_still_replays() -> None:
    drive = started()
    drive.rows = [row for row in drive.rows if row.kind is not Kind.READ]
    drive.rows = [type(row)(n, row.at, row.kind, row.step, row.attempt, row.name, row.ref, row.payload, row.sequence)
                  for n, row in enumerate(drive.rows, 1)]  # fmt: skip
    sent = drive.last.commands[0].body
    restored = drive.restored()
    assert not restored.state.blocked
    assert restored.state.steps[1].body == sent
    restored.evict()


def test_the_undo_is_filled_from_what_was_sent_and_not_from_what_the_saga_made_of_it() -> None:
    items = ["book"]

    @saga("saga")
    async def changing(ctx: SagaContext, order: Ordered) -> None:
        command = charge(token=order.token, items=items)
        call = ctx.call(command)
        command.input.items.append("pen")  # type: ignore[attr-defined]
        await call
        raise ValueError("no")

    drive = Drive(changing)
    drive.take(an_input(Kind.STARTED, name="saga", ref="start", payload=body(b"{}")))
    drive.take(drive.reply(Kind.STEP_COMPLETED, 1, charged(uuid4(), "7")))
    assert Refund.model_validate_json(drive.last.commands[0].body).items == ["book"]


def test_an_assignment_after_the_call_does_not_reach_the_undo() -> None:
    """Of a model whose values cannot change in place, which is written once only."""

    @saga("saga")
    async def changing(ctx: SagaContext, order: Ordered) -> None:
        command = keep(token="sent")
        call = ctx.call(command)
        command.input.token = "another"  # type: ignore[attr-defined]
        await call
        raise ValueError("no")

    drive = Drive(changing)
    drive.take(an_input(Kind.STARTED, name="saga", ref="start", payload=body(b"{}")))
    drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b"null"))
    assert Token.model_validate_json(drive.last.commands[0].body).token == "sent"


class Restless(BaseModel):
    at: str

    @field_validator("at")
    @classmethod
    def again(cls, value: str) -> str:
        return value + uuid4().hex


def test_a_model_that_never_reads_the_same_is_refused_with_the_cure() -> None:
    with pytest.raises(MessageInvalid, match="Restless"):
        canonical.read_for_good(Restless, b'{"at":"1"}', what="output of x")


@pytest.mark.parametrize(
    ("model", "alike"), [(Ordered, False), (Charged, False), (Restless, False), (Undo, True), (Void, True)]
)
def test_which_models_may_read_another_value_the_next_time(model: type[BaseModel], alike: bool) -> None:
    assert canonical.reads_alike(model) is alike


# H2: inputs are the same.


class Tagged(BaseModel):
    tags: set[str]
    nested: list[frozenset[int]] = []


@saga("tagging")
async def tagging(ctx: SagaContext, order: Tagged) -> None: ...


@saga("ordering")
async def ordering(ctx: SagaContext, order: Ordered) -> None: ...


def body(data: bytes) -> bytes:
    return b'{"type":"start","saga":"x","input":%b}' % data


def test_h2_equal_bytes_are_the_same_input_whatever_the_model_fills_in() -> None:
    first, second = ordering.input_hash(body(b"{}")), ordering.input_hash(body(b"{}"))
    assert first != second
    assert canonical.same_input(first, second)
    assert not canonical.same_input(first, ordering.input_hash(body(b" {}")))


TAGS = b'{"tags":["a","b","c","d"],"nested":[[1,2],[3]]}'


@pytest.mark.parametrize("other", [b'{"tags":["d","c","b","a"],"nested":[[2,1],[3]]}', TAGS + b" "])
def test_h2_equal_sets_are_equal_in_any_order(other: bytes) -> None:
    assert canonical.same_input(tagging.input_hash(body(TAGS)), tagging.input_hash(body(other)))
    assert not canonical.same_input(tagging.input_hash(body(TAGS)), tagging.input_hash(body(b'{"tags":["a"]}')))


def test_h2_sets_are_equal_in_another_process() -> None:
    code = (
        "from tests.core.test_same_again import TAGS, body, tagging; print(tagging.input_hash(body(TAGS + b' ')).hex())"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert canonical.same_input(bytes.fromhex(told.stdout), tagging.input_hash(body(TAGS)))


def test_h2_a_digest_of_an_older_release_is_known_again() -> None:
    now = tagging.input_hash(body(TAGS))
    assert canonical.same_input(now[:32], now)
    assert canonical.same_input(now[32:], now)
    assert not canonical.same_input(bytes(32), now)

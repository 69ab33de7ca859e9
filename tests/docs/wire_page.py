"""The examples and the inbox table of docs/participants-in-any-language.md, made by the code that the product runs."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, assert_never

from sagabus.contracts import codec
from sagabus.contracts.commands import Addresses, CommandHead, command_message, read_command
from sagabus.contracts.envelope import Message, microseconds, source_of
from sagabus.contracts.names import CommandKind, RunId, SagaId
from sagabus.contracts.replies import Failure, ReplyKind, read_failure, reply_message
from sagabus.contracts.requests import read_request
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.settings import Settings
from sagabus.participants.inbox.decision import Act, Answer, Decision, InboxRow, State, judge
from sagabus.shop.contracts import Payment, ProcessPayment
from tests.core.wire import Read, as_read

SAGA: Final = SagaId("ORD-12345")
PARTITIONS: Final = int(Settings.model_fields["partitions"].default)
AT: Final = microseconds(datetime(2026, 11, 29, 12, 0, 0, 250_000, tzinfo=UTC))
TRACE: Final = (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)
ADDRESSES: Final = Addresses(
    "sagabus", source_of("sagabus"), SAGA, RunId("4f0c7d2a91be"), partition_of(SAGA.encode(), PARTITIONS)
)
INPUT: Final = ProcessPayment(order_id="ORD-12345", amount=Decimal("109.97"), customer_email="customer@example.com")
OUTPUT: Final = Payment(transaction_id="TXN-81", amount=Decimal("109.97"), status="charged")
EVENT: Final = {"type": "event", "name": "approvals.decided", "data": {"approved": True, "by": "ann"}, "event_id": "17"}
TIMEOUT: Final = 30_000_000
"""Microseconds."""


def command(kind: CommandKind = CommandKind.DO) -> Message:
    names = {CommandKind.UNDO: "payment.refund_payment", CommandKind.SETTLE: "sagabus.settle"}
    do = kind is CommandKind.DO
    return command_message(
        ADDRESSES, service="payment", activity=names.get(kind, "payment.process_payment"), step=2, kind=kind, attempt=1,
        issued=AT, time=AT, cause="ORD-12345:4f0c7d2a91be:1:1:reply", body=codec.encode(INPUT) if do else b"null",
        partition=ADDRESSES.shard, trace=TRACE, timeout=TIMEOUT if do else None,
    )  # fmt: skip


def reply(kind: CommandKind = CommandKind.DO) -> Message:
    head = read_command(as_read(command(kind)))
    body, source = codec.encode(OUTPUT), source_of("sagabus", "payment")
    return reply_message(head, ReplyKind.COMPLETED, body, attempt=1, source=source, time=AT + 48_000)


def command_example() -> str:
    return _verbatim(command())


def reply_example() -> str:
    return _verbatim(reply())


def failure_example() -> str:
    failure = Failure(
        code="bank.busy", message="the bank is closed until 6:00", details={"bank": "B-1"}, again_after=90
    )
    body = codec.encode_value(failure.model_dump(mode="json"))
    assert read_failure(body) == failure
    return f"```json\n{body.decode()}\n```"


def event_example() -> str:
    body = json.dumps(EVENT).encode()
    read_request(Read("sagabus.requests", 0, 0, 0, b"EXP-1", body, []))
    return f"```json\n{body.decode()}\n```"


def _verbatim(message: Message) -> str:
    """A record as a reader of the topic sees it."""
    assert message.key is not None
    assert message.value is not None
    where = [("topic", message.topic), ("partition", str(message.partition)), ("key", message.key.decode())]
    headers = [(name, value.decode()) for name, value in message.headers]
    width = max(len(name) for name, _ in headers)
    lines = [f"{name:<{width + 4}}{value}" for name, value in where]
    lines += ["headers", *(f"  {name:<{width + 2}}{value}" for name, value in headers)]
    return "\n".join(["```text", *lines, "value", f"  {message.value.decode()}", "```"])


# The inbox

DIGEST: Final = b"the value's"
STORED: Final = b"stored"
HEAD: Final = replace(read_command(as_read(command())), attempt=2)
SETTLE: Final = replace(read_command(as_read(command(CommandKind.SETTLE))), attempt=2)
COMMANDS: Final = (
    ("do or undo, of the same attempt or a lower one", HEAD, DIGEST, 3),
    ("do or undo, of a higher attempt", HEAD, DIGEST, 1),
    ("do or undo with another activity or value", HEAD, b"another", 1),
    ("settle", SETTLE, DIGEST, 3),
)
"""Each with its head, the digest of its value, and the attempt of the row that it meets."""

STATES: Final = (State.COMPLETED, State.REFUSED, State.FAILED, State.TOMBSTONE, State.STARTED)


def inbox_table() -> str:
    heads = ["command", "no row", "no row, forgotten", *(f"`{state}`" for state in STATES)]
    return "\n".join(map(_line, (heads, ["---"] * len(heads), *(_row(*one) for one in COMMANDS))))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(name: str, head: CommandHead, digest: bytes, attempt: int) -> list[str]:
    found = [InboxRow(head.source, head.inbox_id, HEAD.activity, state, attempt, DIGEST, STORED) for state in STATES]
    without = [judge(head, digest, None, pruned_before=before) for before in (None, head.issued + 1)]
    decided = [judge(head, digest, row, pruned_before=None) for row in found]
    return [name, *(_cell(decision, attempt) for decision in (*without, *decided))]


def _cell(decision: Decision, attempt: int) -> str:
    match decision:
        case Act.RUN:
            return "run"
        case Act.BURY:
            return "store a tombstone, `never`"
        case Act.WAIT:
            return "its end is the answer"
        case Answer():
            return _answered(decision, attempt)
        case _:
            assert_never(decision)


def _answered(answer: Answer, attempt: int) -> str:
    if answer.outcome.kind is ReplyKind.NEVER:
        return "`never`"
    if answer.outcome.body == STORED:
        return f"the stored reply, {'the row' if answer.attempt == attempt else 'the command'}'s attempt"
    return f"{answer.outcome.kind} `{read_failure(answer.outcome.body).code}`"

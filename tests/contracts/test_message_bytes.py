"""Messages made of bytes that are kept ready are those that are made header by header."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sagabus.contracts import names
from sagabus.contracts.commands import Addresses, CommandHead, command_message, read_command
from sagabus.contracts.envelope import Headers, Message, cloud_event, rfc3339, source_of
from sagabus.contracts.event_type import EventType
from sagabus.contracts.lifecycle import LifecycleType, domain_event_message, lifecycle_message, rejection_message
from sagabus.contracts.names import SETTLE, CommandKind, RunId, SagaId
from sagabus.contracts.replies import ReplyKind, reply_message
from tests.contracts.test_commands import command
from tests.core.wire import as_read

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ids = st.from_regex(r"[A-Za-z0-9._~@:-]{1,200}", fullmatch=True)
bodies = st.binary(max_size=40)
times = st.integers(0, 4 * 10**15)
numbers = st.integers(0, 2**31 - 1)
traces = st.sampled_from([(), (("traceparent", b"00-1-2-01"),), (("traceparent", b""), ("tracestate", b"x" * 500))])
runs = st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True).map(RunId)
addresses = st.builds(Addresses, texts, texts.map(source_of), ids.map(SagaId), runs, numbers)


def plain(message: Message, key: str, body: bytes, headers: Headers) -> Message:
    return Message.of(message.topic, key.encode(), body, headers, message.saga_id, message.partition)


@given(
    addresses, texts, texts, numbers, st.sampled_from(CommandKind), st.integers(1, 2**63), times, times, texts, bodies,
    traces, st.none() | times,
)  # fmt: skip
def test_a_command_is_as_header_by_header(
    a: Addresses, service: str, activity: str, step: int, kind: CommandKind, attempt: int, issued: int, time: int,
    cause: str, body: bytes, trace: Headers, timeout: int | None,
) -> None:  # fmt: skip
    message = command_message(
        a, service=service, activity=activity, step=step, kind=kind, attempt=attempt, issued=issued, time=time,
        cause=cause, body=body, partition=a.shard, trace=trace, timeout=timeout,
    )  # fmt: skip
    id, target = names.command_id(a.saga_id, a.run, step, kind), names.command_id(a.saga_id, a.run, step).encode()
    event = cloud_event(id=id, source=a.source, type=activity, time=time, subject=a.saga_id, cause=cause)
    expected: list[tuple[str, bytes]] = [
        *event[:5],
        ("ce_run", a.run.encode()),
        *event[5:],
        ("ce_step", str(step).encode()),
        ("ce_attempt", str(attempt).encode()),
        ("ce_issued", rfc3339(issued)),
        ("ce_replyto", f"{a.namespace}.replies.{service}".encode()),
        ("ce_replypartition", str(a.shard).encode()),
    ]
    expected += {CommandKind.DO: [], CommandKind.UNDO: [("ce_compensates", target)]}.get(kind, [("ce_settles", target)])
    expected += [] if timeout is None else [("ce_timeout", str(timeout).encode())]
    assert message == plain(message, a.saga_id, body, (*expected, *trace))
    assert (message.topic, message.partition) == (f"{service}.commands", a.shard)


@given(addresses, st.sampled_from(LifecycleType), bodies, st.integers(1, 10**12 - 1), times, st.none() | texts, traces)
def test_a_lifecycle_event_is_as_header_by_header(
    a: Addresses, type: LifecycleType, body: bytes, sequence: int, time: int, cause: str | None, trace: Headers
) -> None:
    message = lifecycle_message(a, type, body, sequence=sequence, time=time, cause=cause, trace=trace)
    id = f"{a.saga_id}:{a.run}:event:{sequence}"
    event = cloud_event(id=id, source=a.source, type=type, time=time, subject=a.saga_id, cause=cause)
    own = ("ce_sequence", str(sequence).zfill(12).encode())
    expected = (*event[:5], ("ce_run", a.run.encode()), *event[5:], own, *trace)
    assert message == plain(message, a.saga_id, body, expected)
    assert (message.topic, message.partition) == (f"{a.namespace}.events", a.shard)


@given(texts.map(source_of), st.sampled_from(LifecycleType), ids, bodies, times, texts, numbers)
def test_a_rejection_is_as_header_by_header(
    source: bytes, type: LifecycleType, saga: str, body: bytes, time: int, cause: str, shard: int
) -> None:
    message = rejection_message(
        namespace="shop", source=source, type=type, saga_id=saga, body=body, time=time, cause=cause, shard=shard
    )
    event = cloud_event(id=f"{cause}:rejected", source=source, type=type, time=time, subject=saga, cause=cause)
    assert message == plain(message, saga, body, event)


HEADS = [read_command(as_read(command(kind))) for kind in CommandKind]
assert HEADS[-1].activity == SETTLE


@given(
    st.sampled_from(HEADS), ids.map(SagaId), texts, st.sampled_from(ReplyKind), bodies, st.integers(0, 2**63),
    texts.map(source_of), times, traces,
)  # fmt: skip
def test_a_reply_is_as_header_by_header(
    to: CommandHead, saga: SagaId, run: str, kind: ReplyKind, body: bytes, attempt: int, source: bytes, time: int,
    trace: Headers,
) -> None:  # fmt: skip
    head = replace(to, saga_id=saga, run=RunId(run), trace=trace)
    message = reply_message(head, kind, body, attempt=attempt, source=source, time=time)
    id = f"{head.id}:{attempt}:reply"
    type = f"sagabus.reply.{kind.value}"
    event = cloud_event(id=id, source=source, type=type, time=time, subject=saga, cause=head.id)
    own = (("ce_attempt", str(attempt).encode()), ("ce_run", run.encode()))
    assert message == plain(message, saga, body, (*event, *own, *trace))
    assert (message.topic, message.partition) == (head.reply_topic, head.reply_partition)


class Moved(BaseModel):
    where: str


@given(texts, texts.map(source_of), ids, st.none() | texts, times, st.none() | texts, bodies, traces)
def test_a_domain_event_is_as_header_by_header(
    id: str, source: bytes, saga: str, cause: str | None, time: int, key: str | None, body: bytes, trace: Headers
) -> None:
    event: Any = EventType("stock.moved", Moved, topic="stock.events")(where="here")
    message = domain_event_message(
        event, body, id=id, topic="stock.events", source=source, saga_id=saga, cause=cause, time=time, key=key,
        trace=trace,
    )  # fmt: skip
    headers = cloud_event(id=id, source=source, type="stock.moved", time=time, subject=saga, cause=cause)
    assert message == plain(message, key or saga, body, (*headers, *trace))


def test_what_cannot_be_written_is_no_message() -> None:
    with pytest.raises(TypeError):
        Message.of("topic", b"k", "text", (), "S")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="surrogates"):
        Message.of("topic", b"k", b"v", (("\ud800", b""),), "S")


def test_messages_are_equal_by_what_they_say() -> None:
    one, same, other = (Message.of("t", b"k", b"v", (("a", value),), "S", 1) for value in (b"1", b"1", b"2"))
    assert one == same
    assert one != other
    assert (one.key, one.value, one.headers) == (b"k", b"v", (("a", b"1"),))

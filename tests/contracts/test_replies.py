"""Replies on the wire: what a participant writes is what a coordinator reads."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts import MessageInvalid, codec
from sagabus.contracts.commands import read_command
from sagabus.contracts.envelope import source_of
from sagabus.contracts.names import CommandKind, RunId, SagaId
from sagabus.contracts.replies import Failure, ReplyKind, read_failure, reply_message
from sagabus.coordinator.core.saga.history import Input, Kind
from sagabus.coordinator.shard.reading import read
from tests.contracts.test_commands import TRACE, command
from tests.core.wire import Read, as_read

BODY = b'{"code":"busy","ref":1}'


def reply(
    kind: ReplyKind = ReplyKind.COMPLETED, *, attempt: int = 2, to: CommandKind = CommandKind.DO, body: bytes = BODY
) -> Any:
    head = read_command(as_read(command(to, trace=TRACE)))
    return reply_message(head, kind, body, attempt=attempt, source=source_of("shop", "stock"), time=3_000_000)


def changed(name: str, value: bytes | None) -> Read:
    headers = [(key, old) for key, old in reply().headers if key != name]
    return Read("shop.replies.stock", 5, 9, 0, b"k", b"{}", headers + ([] if value is None else [(name, value)]))


DO, UNDO, SETTLE = CommandKind.DO, CommandKind.UNDO, CommandKind.SETTLE
COMPLETED, REFUSED, FAILED, NEVER = ReplyKind

READ_AS = {
    (COMPLETED, DO): Kind.STEP_COMPLETED,
    (REFUSED, DO): Kind.STEP_REFUSED,
    (FAILED, DO): Kind.STEP_FAILED,
    (COMPLETED, UNDO): Kind.UNDO_COMPLETED,
    (REFUSED, UNDO): Kind.UNDO_REFUSED,
    (FAILED, UNDO): Kind.UNDO_FAILED,
    (COMPLETED, SETTLE): Kind.SETTLE_COMPLETED,
    (REFUSED, SETTLE): Kind.SETTLE_FAILED,
    (FAILED, SETTLE): Kind.SETTLE_FAILED,
    (NEVER, SETTLE): Kind.SETTLE_NEVER,
}


def as_input(record: Read) -> Input:
    found = read(record, "shop")
    assert isinstance(found, Input)
    return found


@pytest.mark.parametrize(("kind", "to"), READ_AS)
def test_a_reply_comes_back(kind: ReplyKind, to: CommandKind) -> None:
    message = reply(kind, to=to)
    assert (message.topic, message.partition, message.key) == ("shop.replies.stock", 5, b"ORD:1")
    id = f"ORD:1:abc:3{'' if to is DO else f':{to}'}:2:reply"
    assert as_input(as_read(message)) == Input(
        SagaId("ORD:1"), RunId("abc"), READ_AS[kind, to], 3, 2, "stock", ref=id, payload=BODY, cause=id
    )


@pytest.mark.parametrize("to", [DO, UNDO])
def test_never_is_an_answer_to_a_settle_alone(to: CommandKind) -> None:
    with pytest.raises(MessageInvalid, match=f"'never' is no answer to '{to}'") as caught:
        as_input(as_read(reply(NEVER, to=to)))
    assert caught.value.reason == "reply.kind"


def test_a_reply_bears_what_the_wire_asks_for() -> None:
    headers = dict(reply(attempt=7).headers)
    assert headers["ce_type"] == b"sagabus.reply.completed"
    assert (headers["ce_correlationid"], headers["ce_causationid"]) == (b"ORD:1", b"ORD:1:abc:3")
    assert (headers["ce_attempt"], headers["ce_source"]) == (b"7", b"/sagabus/shop/stock")
    assert headers["traceparent"] == b"00-1-2-01"


@pytest.mark.parametrize("name", ["ce_causationid", "ce_type", "ce_attempt"])
@pytest.mark.parametrize("value", [None, b"", b"\xff"])
def test_every_one_of_these_headers_is_needed(name: str, value: bytes | None) -> None:
    with pytest.raises(MessageInvalid, match=name):
        as_input(changed(name, value))


def test_without_an_id_a_reply_is_known_by_its_place() -> None:
    assert as_input(changed("ce_id", None)).ref == "shop.replies.stock:5:9"


@pytest.mark.parametrize("type", [b"completed", b"sagabus.reply.", b"sagabus.reply.done", b"sagabus.reply.COMPLETED"])
def test_what_is_no_reply(type: bytes) -> None:
    with pytest.raises(MessageInvalid, match=r"is no reply; replies are sagabus\.reply\.completed, ") as caught:
        as_input(changed("ce_type", type))
    assert caught.value.reason == "reply.type"


def test_a_reply_to_nothing_of_ours() -> None:
    with pytest.raises(MessageInvalid, match="is not the id of a command of ours"):
        as_input(changed("ce_causationid", b"somebody-elses"))


def test_a_repeated_header_may_say_the_same_and_nothing_else() -> None:
    message = reply()
    twice = Read("shop.replies.stock", 5, 9, 0, b"k", BODY, (*message.headers, *message.headers))
    assert as_input(twice) == as_input(as_read(message))
    for name in ("ce_causationid", "ce_type", "ce_attempt", "ce_id"):
        for other in (b"sagabus.reply.refused", b"", None):
            headers: Any = [*message.headers, (name, other)]
            with pytest.raises(MessageInvalid, match=f"{name} stands more than once") as caught:
                as_input(Read("shop.replies.stock", 5, 9, 0, b"k", BODY, headers))
            assert caught.value.reason == "headers.repeated"
    unread = [*message.headers, ("ce_time", b"another"), ("x", b"1"), ("x", b"2")]
    assert as_input(Read("shop.replies.stock", 5, 9, 0, b"k", BODY, unread)).ref == as_input(as_read(message)).ref


failures = st.builds(
    Failure, code=st.text(), message=st.text(), details=st.dictionaries(st.text(), st.integers(-9, 9) | st.text()),
    again_after=st.none() | st.floats(0, 1e9),
)  # fmt: skip


@given(failures)
def test_a_failure_comes_back(failure: Failure) -> None:
    assert read_failure(codec.encode(failure)) == failure


def test_a_failure_is_a_code_and_the_rest_is_optional() -> None:
    assert read_failure(b'{"code":"no","later":1}') == Failure(code="no", message="", details={}, again_after=None)


@pytest.mark.parametrize(
    "body",
    [
        None, b"", b"null", b"{}", b'{"code":1}', b'{"code":"x","again_after":"soon"}',
        b'{"code":"x","again_after":1e999}', b'{"code":"x","again_after":NaN}', b'{"code":"x","details":{"a":NaN}}',
    ],
)  # fmt: skip
def test_what_is_no_failure(body: bytes | None) -> None:
    with pytest.raises(MessageInvalid):
        read_failure(body)


@pytest.mark.parametrize("wish", [math.inf, math.nan])
def test_a_failure_cannot_wish_for_what_is_no_time(wish: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Failure(code="x", again_after=wish)

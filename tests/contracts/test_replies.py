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
from sagabus.contracts.names import CommandKey, CommandKind, RunId, SagaId
from sagabus.contracts.replies import Failure, ReplyKind, read_failure, read_reply, reply_message
from tests.contracts.test_commands import TRACE, command
from tests.core.wire import Read, as_read


def reply(kind: ReplyKind = ReplyKind.COMPLETED, *, attempt: int = 2, to: CommandKind = CommandKind.DO) -> Any:
    head = read_command(as_read(command(to, trace=TRACE)))
    return reply_message(head, kind, b'{"ref":1}', attempt=attempt, source=source_of("shop", "stock"), time=3_000_000)


def changed(name: str, value: bytes | None) -> Read:
    headers = [(key, old) for key, old in reply().headers if key != name]
    return Read("shop.replies.stock", 5, 9, 0, b"k", b"{}", headers + ([] if value is None else [(name, value)]))


@pytest.mark.parametrize("kind", list(ReplyKind))
@pytest.mark.parametrize("to", list(CommandKind))
def test_a_reply_comes_back(kind: ReplyKind, to: CommandKind) -> None:
    message = reply(kind, to=to)
    assert (message.topic, message.partition, message.key) == ("shop.replies.stock", 5, b"ORD:1")
    head = read_reply(as_read(message), "stock")
    assert head.command == CommandKey(SagaId("ORD:1"), RunId("abc"), 3, to)
    assert (head.kind, head.attempt, head.service) == (kind, 2, "stock")
    suffix = "" if to is CommandKind.DO else f":{to}"
    assert head.message_id == f"ORD:1:abc:3{suffix}:2:reply"


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
        read_reply(changed(name, value), "stock")


def test_without_an_id_a_reply_is_known_by_its_place() -> None:
    assert read_reply(changed("ce_id", None), "stock").message_id == "shop.replies.stock:5:9"


@pytest.mark.parametrize("type", [b"completed", b"sagabus.reply.", b"sagabus.reply.done", b"sagabus.reply.COMPLETED"])
def test_what_is_no_reply(type: bytes) -> None:
    with pytest.raises(MessageInvalid, match=r"is no reply; replies are sagabus\.reply\.completed, ") as caught:
        read_reply(changed("ce_type", type), "stock")
    assert caught.value.reason == "reply.type"


def test_a_reply_to_nothing_of_ours() -> None:
    with pytest.raises(MessageInvalid, match="is not the id of a command of ours"):
        read_reply(changed("ce_causationid", b"somebody-elses"), "stock")


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

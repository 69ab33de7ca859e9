"""A reply is read at once as it is read header by header: the same input, or the same fault."""

from __future__ import annotations

from itertools import product
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts import MessageInvalid
from sagabus.contracts.commands import read_command
from sagabus.contracts.envelope import source_of
from sagabus.contracts.headers import CUT_BATCH
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import ReplyKind, reply_message
from sagabus.coordinator.core.saga.history import Input
from sagabus.coordinator.shard import reading
from tests.contracts.test_commands import ODD_VALUES, TRACE, Headers, changed, command
from tests.core.wire import Read, as_read

ODD: Final = (
    *ODD_VALUES, b"a:b", b"a:b:1", b"a:b:c:1234567890", b"::1", b"a::1", b":b:1", "a:b:²".encode(), b"a:b:1:undo",
    b"sagabus.reply.completed", b"sagabus.reply.failed", b"0", b"1", b"99", b"100", b"01", b"x" * 300, b"x" * 301,
)  # fmt: skip
NAMES: Final = ("ce_causationid", "ce_id", "ce_type", "ce_attempt", "ce_run", CUT_BATCH, "traceparent")
BODY: Final = b'{"code":"no"}'


def reply(kind: CommandKind = CommandKind.DO, said: ReplyKind = ReplyKind.COMPLETED) -> Read:
    asked = read_command(as_read(command(kind, trace=TRACE)))
    return as_read(reply_message(asked, said, BODY, attempt=2, source=source_of("shop", "stock"), time=3_000_000))


def with_headers(headers: Headers) -> Read:
    record: Any = Read("shop.replies.stock", 5, 1, 0, b"k", BODY, headers)  # type: ignore[arg-type]  # null values too
    return record  # type: ignore[no-any-return]


def same_both_ways(record: Read) -> bool:
    """Whether the short way finds what the long one does, or leaves it to that one."""
    usual = reading.usual_reply(record, "stock")
    return usual is None or usual == read_by_header(record)


def read_by_header(record: Read) -> Input | tuple[str, str]:
    try:
        return reading.any_reply(record, "stock")
    except MessageInvalid as fault:
        return fault.reason, fault.message


@pytest.mark.parametrize(("kind", "said"), [*product(CommandKind, ReplyKind)])
def test_a_reply_with_one_odd_header_is_read_alike(kind: CommandKind, said: ReplyKind) -> None:
    headers: Headers = tuple(reply(kind, said).headers)
    for name in NAMES:
        assert same_both_ways(with_headers(tuple(one for one in headers if one[0] != name))), name
        for value, twice in product(ODD, (False, True)):
            assert same_both_ways(with_headers(changed(headers, name, value, twice=twice))), (name, value, twice)


_TEXT = st.text(alphabet="ab:1²\0é ", max_size=12).map(str.encode)
_CHANGE = st.tuples(st.sampled_from(NAMES), st.sampled_from(ODD) | st.binary(max_size=8) | _TEXT, st.booleans())


@given(st.lists(_CHANGE, max_size=4))
def test_a_reply_with_any_odd_headers_is_read_alike(changes: list[tuple[str, bytes | None, bool]]) -> None:
    headers: Headers = tuple(reply().headers)
    for name, value, twice in changes:
        headers = changed(headers, name, value, twice=twice)
    assert same_both_ways(with_headers(headers))
    assert same_both_ways(with_headers(headers[::-1]))


def test_a_completion_as_participants_write_it_is_read_at_once() -> None:
    record = reply()
    assert reading.usual_reply(record, "stock") == reading.any_reply(record, "stock")
    assert reading.read(record, "shop") == reading.any_reply(record, "stock")

"""Commands on the wire: what a coordinator writes is what a participant reads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts import MessageInvalid, commands
from sagabus.contracts.commands import Addresses, CommandHead, command_message, read_any_command, read_command
from sagabus.contracts.envelope import Message, source_of
from sagabus.contracts.headers import CUT_BATCH
from sagabus.contracts.names import SETTLE, CommandKind, RunId, SagaId
from tests.core.wire import Read, as_read

ADDRESSES = Addresses("shop", source_of("shop"), SagaId("ORD:1"), RunId("abc"), 5)
TRACE = (("traceparent", b"00-1-2-01"),)


def command(kind: CommandKind = CommandKind.DO, **more: Any) -> Message:
    activity = {CommandKind.DO: "stock.reserve", CommandKind.UNDO: "stock.release", CommandKind.SETTLE: SETTLE}[kind]
    given: dict[str, Any] = {
        "service": "stock", "activity": activity, "step": 3, "kind": kind, "attempt": 2, "issued": 1_000_000,
        "time": 2_000_000, "cause": "why", "body": b'{"a":1}', "partition": 5,
    }  # fmt: skip
    return command_message(ADDRESSES, **(given | more))


def without(message: Message, name: str, value: bytes | None = None) -> Read:
    headers = [(key, old) for key, old in message.headers if key != name]
    return Read("stock.commands", 5, 1, 0, b"k", b"{}", headers + ([] if value is None else [(name, value)]))


def test_a_header_that_stands_twice_with_other_values_makes_a_command_unreadable() -> None:
    message = command(CommandKind.UNDO, trace=TRACE, timeout=5)
    twice = Read("stock.commands", 5, 1, 0, b"k", b"{}", (*message.headers, *message.headers))
    assert read_command(twice) == read_command(as_read(message))
    read = {"ce_id", "ce_type", "ce_source", "ce_subject", "ce_run", "ce_step", "ce_attempt", "ce_issued", "ce_replyto",
            "ce_replypartition", "ce_compensates", "ce_timeout"}  # fmt: skip
    for name, value in message.headers:
        doubled = Read("stock.commands", 5, 1, 0, b"k", b"{}", (*message.headers, (name, value + b"1")))
        if name in read:
            with pytest.raises(MessageInvalid, match=f"{name} stands more than once") as caught:
                read_command(doubled)
            assert caught.value.reason == "headers.repeated"
        else:
            assert read_command(doubled).trace == (() if name == "traceparent" else TRACE)


def test_a_step_comes_back() -> None:
    message = command(trace=TRACE)
    assert (message.topic, message.key, message.value, message.partition) == (
        "stock.commands", b"ORD:1", b'{"a":1}', 5,
    )  # fmt: skip
    head = read_command(as_read(message))
    assert (head.id, head.kind, head.activity, head.source) == (
        "ORD:1:abc:3", CommandKind.DO, "stock.reserve", "/sagabus/shop",
    )  # fmt: skip
    assert (head.saga_id, head.run, head.step, head.attempt, head.issued) == ("ORD:1", "abc", 3, 2, 1_000_000)
    assert (head.reply_topic, head.reply_partition, head.target) == ("shop.replies.stock", 5, None)
    assert (head.inbox_id, head.trace) == (head.id, TRACE)


@pytest.mark.parametrize("timeout", [None, 1, 5_000_000, 10**15])
def test_the_timeout_of_a_call_comes_back_and_may_be_left_out(timeout: int | None) -> None:
    message = command(timeout=timeout)
    assert read_command(as_read(message)).timeout == timeout
    assert ("ce_timeout" in dict(message.headers)) == (timeout is not None)


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 4 * 10**15), st.sampled_from(CommandKind))
def test_all_numbers_and_times_come_back(step: int, attempt: int, issued: int, kind: CommandKind) -> None:
    head = read_command(as_read(command(kind, step=step, attempt=attempt, issued=issued)))
    assert (head.step, head.attempt, head.issued, head.kind) == (step, attempt, issued, kind)


ODD_VALUES: tuple[bytes | None, ...] = (
    None, b"", b"0", b"a", b".", b"..", b"shop.replies.stock", SETTLE.encode(), b"ORD:1:abc:3", b"a" * 200, b"a" * 201,
    b"a" * 249, b"a" * 250, b"a" * 300, b"a" * 301, b"9" * 18, b"9" * 19, b"2147483647", b"2147483648", b"a\nb", b"a b",
    b"a\0", "\u00e4".encode(), b"\xff", b"=5", b"-5", b"+5", b"5\n", b"\n5", "\u0665".encode(), b"2026-01-02",
    b"2026-01-02T03:04:05", b"2026-01-02T03:04:05Z", b"20260102T030405.5+01:00", b"9999-12-31T23:59:59-23:59",
)  # fmt: skip
NAMES = [*dict(command(CommandKind.UNDO, trace=TRACE, timeout=5).headers), "ce_settles", CUT_BATCH, "tracestate"]

Headers = tuple[tuple[str, bytes | None], ...]


def changed(headers: Headers, name: str, value: bytes | None, *, twice: bool) -> Headers:
    return (*(one for one in headers if twice or one[0] != name), (name, value))


def same_both_ways(headers: Headers) -> bool:
    """Whether a command is read at once as it is read header by header: the same value, or the same fault."""
    record: Any = Read("stock.commands", 5, 1, 0, b"k", b"{}", headers)  # type: ignore[arg-type]  # null values come too
    return _read_by(read_command, record) == _read_by(read_any_command, record)


def _read_by(read: Callable[[Read], CommandHead], record: Read) -> CommandHead | tuple[str, str]:
    try:
        return read(record)
    except MessageInvalid as fault:
        return fault.reason, fault.message


@pytest.mark.parametrize("kind", CommandKind)
def test_a_command_with_one_odd_header_is_read_at_once_as_header_by_header(kind: CommandKind) -> None:
    headers: Headers = command(kind, trace=TRACE, timeout=5).headers
    for name in NAMES:
        assert same_both_ways(tuple(one for one in headers if one[0] != name)), name
        for value, twice in product(ODD_VALUES, (False, True)):
            assert same_both_ways(changed(headers, name, value, twice=twice)), (name, value, twice)


_CHANGE = st.tuples(st.sampled_from(NAMES), st.sampled_from(ODD_VALUES) | st.binary(max_size=8), st.booleans())


@given(st.sampled_from(CommandKind), st.none() | st.integers(0, 10**19), st.lists(_CHANGE, max_size=4))
def test_a_command_with_any_odd_headers_is_read_at_once_as_header_by_header(
    kind: CommandKind, timeout: int | None, changes: list[tuple[str, bytes | None, bool]]
) -> None:
    headers: Headers = command(kind, timeout=timeout).headers
    for name, value, twice in changes:
        headers = changed(headers, name, value, twice=twice)
    assert same_both_ways(headers)
    assert same_both_ways(headers[::-1])


@pytest.mark.parametrize("timeout", [None, 60_000_000])
def test_a_step_as_coordinators_write_it_is_read_at_once(timeout: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "read_any_command", None)
    assert read_command(as_read(command(trace=TRACE, timeout=timeout))).timeout == timeout


def test_p4_an_undo_has_an_inbox_row_of_its_own_and_a_settle_that_of_its_step() -> None:
    undo = read_command(as_read(command(CommandKind.UNDO)))
    assert (undo.id, undo.target, undo.inbox_id) == ("ORD:1:abc:3:undo", "ORD:1:abc:3", "ORD:1:abc:3:undo")
    settle = read_command(as_read(command(CommandKind.SETTLE)))
    assert (settle.id, settle.target, settle.inbox_id) == ("ORD:1:abc:3:settle", "ORD:1:abc:3", "ORD:1:abc:3")


def test_the_id_is_the_same_on_every_attempt_and_copy() -> None:
    assert {dict(command(attempt=attempt, time=attempt).headers)["ce_id"] for attempt in (1, 2, 3)} == {b"ORD:1:abc:3"}


def test_no_header_stands_twice() -> None:
    for kind in CommandKind:
        headers = command(kind, trace=TRACE).headers
        assert len(dict(headers)) == len(headers)


@pytest.mark.parametrize(
    "name",
    ["ce_id", "ce_type", "ce_source", "ce_subject", "ce_run", "ce_step", "ce_attempt", "ce_issued", "ce_replyto",
     "ce_replypartition"],
)  # fmt: skip
@pytest.mark.parametrize("value", [None, b"", b"\xff", b"a\0b"])
def test_every_header_is_needed(name: str, value: bytes | None) -> None:
    with pytest.raises(MessageInvalid, match=name) as caught:
        read_command(without(command(), name, value))
    assert caught.value.reason.startswith("headers.")


@pytest.mark.parametrize("name", ["ce_step", "ce_attempt", "ce_replypartition"])
@pytest.mark.parametrize("value", [b"-1", b"1.5", b"one", "²".encode(), b" 1", b"1" * 19, b"0x1", b"1_0"])
def test_a_number_is_a_whole_number(name: str, value: bytes) -> None:
    with pytest.raises(MessageInvalid, match=f"header {name} is .*, not a whole number"):
        read_command(without(command(), name, value))


@pytest.mark.parametrize("value", ["now", "2026-01-01", "2026-01-01T00:00:00", "1700000000", "99999-01-01T00:00:00Z"])
def test_a_time_has_a_zone(value: str) -> None:
    with pytest.raises(MessageInvalid, match=r"ce_issued is .*, not an RFC 3339 time"):
        read_command(without(command(), "ce_issued", value.encode()))


@pytest.mark.parametrize("value", ["2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000Z"])
def test_a_time_may_be_written_in_any_zone(value: str) -> None:
    assert read_command(without(command(), "ce_issued", value.encode())).issued == 1_767_225_600_000_000


def test_an_empty_target_is_no_target() -> None:
    with pytest.raises(MessageInvalid, match="ce_compensates is empty"):
        read_command(without(command(CommandKind.UNDO), "ce_compensates", b""))
    with pytest.raises(MessageInvalid, match="ce_settles"):
        read_command(without(command(CommandKind.SETTLE), "ce_settles"))


def test_addresses_are_equal_by_what_they_name() -> None:
    same, other = (Addresses("shop", source_of("shop"), SagaId("ORD:1"), RunId(run), 5) for run in ("abc", "abd"))
    assert same == ADDRESSES
    assert other != ADDRESSES


def test_headers_that_are_missing_are_told_together() -> None:
    left = [(name, value) for name, value in command().headers if name not in {"ce_run", "ce_attempt"}]
    with pytest.raises(MessageInvalid, match=r"^headers ce_run, ce_attempt are missing$"):
        read_command(Read("stock.commands", 5, 1, 0, b"k", b"{}", left))

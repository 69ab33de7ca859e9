"""A recorded history is read as the very rows that were written, and what is none is refused in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sagabus.contracts import codec
from sagabus.coordinator.core.saga import recorded
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.recorded import Head, HistoryUnreadable, Recorded
from sagabus.coordinator.core.saga.status import SagaStatus

AT = 1_700_000_000_123_456
LAST = 253_402_300_799_999_999
HEAD = Head(
    saga="trip", version=2, id="T-1", run="r1", fingerprint="trip-v2-py3.11-0", status=SagaStatus.RUNNING, started_at=AT
)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
payloads = (
    st.none() | st.binary(max_size=60) | values.map(codec.encode_value) | values.map(lambda v: json.dumps(v).encode())
)
small = st.integers(0, 2**31 - 1)
rows = st.lists(
    st.builds(
        Row, seq=st.just(0), at=st.integers(0, LAST), kind=st.sampled_from(list(Kind)), step=small,
        attempt=st.integers(-(2**63), 2**63 - 1), name=texts, ref=texts, payload=payloads, sequence=small,
    ),
    min_size=1, max_size=6,
)  # fmt: skip


def numbered(found: list[Row]) -> list[Row]:
    for seq, row in enumerate(found, 1):
        row.seq = seq
    return found


def row(payload: bytes | None = None, **changes: Any) -> Row:
    return Row(**{"seq": 1, "at": AT, "kind": Kind.STARTED, "payload": payload, **changes})


@given(rows.map(numbered))
@example([row(b"null")])
@example([row(b"")])
@example([row(b'{"base64":"AAAA"}')])
@example([row(b'{"payload_base64":"AAAA"}')])
@example([row(b'{"a":1,"a":2}')])
@example([row(b'{"a": 1}')])
@example([row(b"1e5")])
@example([row(b'"\\ud800"')])
@example([row(b"NaN")])
@example([row(b"[" * 100 + b"]" * 100)])
@example([row(b"[" * 300 + b"]" * 300)])
@example([row(b"9" * 4_000)])
def test_what_is_read_is_what_was_written(found: list[Row]) -> None:
    written = Recorded(HEAD, found)
    assert recorded.read(recorded.lines(written)) == written


@given(rows.map(numbered))
def test_it_is_the_same_after_a_way_through_another_json_library(found: list[Row]) -> None:
    """As over the coordinator's API, where the standard library reads it."""
    again = (recorded.line(json.loads(line)) for line in recorded.lines(Recorded(HEAD, found)))
    assert recorded.read(again) == Recorded(HEAD, found)


def test_a_payload_is_shown_as_json_where_that_says_all_of_it() -> None:
    first, second, third = (recorded.row_fields(row(payload)) for payload in (b'{"a":1}', b'{"a": 1}', None))
    assert (first["payload"], "payload_base64" in first) == ({"a": 1}, False)
    assert (second["payload_base64"], "payload" in second) == ("eyJhIjogMX0=", False)
    assert not {"payload", "payload_base64"} & third.keys()


def test_the_form_of_the_lines() -> None:
    head, only = (json.loads(line) for line in recorded.lines(Recorded(HEAD, [row(b"{}", name="trip", ref="m1")])))
    assert head == {
        "sagabus": 1, "saga": "trip", "version": 2, "id": "T-1", "run": "r1", "fingerprint": "trip-v2-py3.11-0",
        "status": "running", "started_at": "2023-11-14T22:13:20.123456Z",
    }  # fmt: skip
    assert only == {
        "seq": 1, "at": "2023-11-14T22:13:20.123456Z", "kind": "started", "step": 0, "attempt": 0, "name": "trip",
        "ref": "m1", "payload": {}, "sequence": 0,
    }  # fmt: skip


def test_what_a_later_release_adds_is_left_alone_and_a_kind_that_it_adds_is_unknown() -> None:
    head, only = recorded.head_fields(HEAD), recorded.row_fields(row())
    written = [recorded.line({**head, "more": 1}), recorded.line({**only, "kind": "leap", "more": [1]})]
    read = recorded.read(written)
    assert [(one.kind, one.name) for one in read.rows] == [(Kind.UNKNOWN, "leap")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seq": 2}, "line 2: row 2 stands where row 1 belongs"),
        ({"seq": "1"}, "line 2: \"seq\" is '1'; it must be a whole number"),
        ({"seq": True}, 'line 2: "seq" is True; it must be a whole number'),
        ({"kind": None}, 'line 2: "kind" is None; it must be text'),
        ({"at": "2023-11-14T22:13:20"}, "line 2: the time '2023-11-14T22:13:20' has no offset"),
        ({"at": "yesterday"}, "line 2: Invalid isoformat string: 'yesterday'"),
        ({"payload_base64": "?"}, "line 2: "),
    ],
)
def test_a_row_that_cannot_be_read_is_named_by_its_line(changes: dict[str, Any], words: str) -> None:
    fields = {**recorded.row_fields(row()), **changes}
    written = [recorded.line(recorded.head_fields(HEAD)), recorded.line(fields)]
    with pytest.raises(HistoryUnreadable) as raised:
        recorded.read(written, what="T-1.jsonl")
    assert str(raised.value).startswith(f"T-1.jsonl, {words}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "holds no history: write it with `sagabus show ID --export FILE`"),
        (b"{}\n", 'the first line has no field "sagabus"'),
        (b'{"sagabus":2}\n', '"sagabus" is 2; this release reads 1: read it with a newer release'),
        (b'{"sagabus":1}\n', 'the field "saga" is missing'),
        (b"[]\n", "it is no JSON object"),
        (b"so it began\n", "line 1: "),
        (recorded.line(recorded.head_fields(HEAD)), "holds no history"),
    ],
)
def test_what_is_no_recorded_history_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(HistoryUnreadable) as raised:
        recorded.read(text.splitlines(keepends=True))
    assert words in str(raised.value)

"""Failures that come in: what history keeps of them, whoever sent them and whatever they hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts import DeclarationError, Service, codec, names, replies
from sagabus.contracts.envelope import MAX_PAYLOAD
from sagabus.contracts.replies import (
    FAILURE_UNREADABLE,
    OF_PARTICIPANTS,
    SHOWN,
    Failure,
    ReplyKind,
    kept_failure,
    read_failure,
)
from sagabus.contracts.words import MAX_WORDS
from tests.core.services import Order

REFUSED, FAILED = ReplyKind.REFUSED, ReplyKind.FAILED
BOTH = pytest.mark.parametrize("kind", [REFUSED, FAILED])


def body(**fields: Any) -> bytes:
    return json.dumps({"code": "busy", **fields}).encode()


@BOTH
@pytest.mark.parametrize(
    "sent",
    [
        b'{ "code":"busy" }', body(code="E-17/bank:closed"), body(code="x" * names.LONGEST_CODE), body(more=1),
        body(message="m" * MAX_WORDS), body(details={"a": [None, 1.5]}), body(again_after=0), body(again_after=5),
        body(again_after=-5), body(again_after=1e300), body(again_after=None), body(message=None, details=None),
    ],
)  # fmt: skip
def test_what_fits_is_kept_as_it_came(kind: ReplyKind, sent: bytes) -> None:
    assert kept_failure(kind, sent) is sent


@BOTH
@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (None, "value: Input should be an object"),
        (b"null", "value: Input should be an object"),
        (b"{}", "code: Field required"),
        (b"\xff", "Invalid JSON"),
        (b" " * (MAX_PAYLOAD + 1), "the limit is 921600"),
        (body(code=1), "code: Input should be a valid string"),
        (body(code=""), "code: '' is none"),
        (body(code="no room left"), "code: 'no room left' is none; a participant's own has 1 to 100 printable ASCII"),
        (body(code="ausgebucht für immer"), "is none"),
        (body(code="x" * (names.LONGEST_CODE + 1)), "is none"),
        (body(code="x" * 100_000), "(100000 characters)"),
        (body(code="sagabus.retries_exhausted"), "code: sagabus.retries_exhausted does not go with"),
        (body(code=FAILURE_UNREADABLE), "does not go with"),
        (body(code="sagabus.whatever"), "does not go with"),
        (body(again_after="5"), "again_after: Input should be a valid number"),
        (body(again_after=True), "again_after: Input should be a valid number"),
        (b'{"code":"x","again_after":NaN}', "not JSON"),
        (b'{"code":"x","again_after":1e400}', "larger than any double"),
    ],
)
def test_what_does_not_fit_is_kept_as_a_failure_that_says_so(kind: ReplyKind, sent: bytes | None, words: str) -> None:
    kept = kept_failure(kind, sent)
    failure = read_failure(kept)
    assert (failure.code, failure.again_after) == (FAILURE_UNREADABLE, None)
    assert words in failure.message
    assert failure.details == {"value": (sent or b"")[:SHOWN].decode(errors="replace")}
    assert len(kept or b"") < 2_000


@pytest.mark.parametrize("code", OF_PARTICIPANTS)
def test_a_code_of_ours_goes_with_one_kind_of_reply(code: str) -> None:
    kept = {kind: read_failure(kept_failure(kind, body(code=code))).code for kind in (REFUSED, FAILED)}
    mine = OF_PARTICIPANTS[code]
    assert kept == {mine: code, FAILED if mine is REFUSED else REFUSED: FAILURE_UNREADABLE}


def test_every_code_of_ours_is_a_participants_or_the_coordinators() -> None:
    all_of_them = {str(value) for name, value in vars(replies).items() if name.isupper() and _is_ours(value)}
    assert all_of_them == {*OF_PARTICIPANTS, replies.RETRIES_EXHAUSTED, FAILURE_UNREADABLE}


def _is_ours(value: object) -> bool:
    return isinstance(value, str) and value.startswith("sagabus.") and not value.endswith(".")


def test_a_message_is_cut_and_what_is_beside_it_stays() -> None:
    sent = body(message="m" * 880_000, details={"seat": 7}, again_after=5)
    failure = read_failure(kept_failure(FAILED, sent))
    assert (failure.code, failure.details, failure.again_after) == ("busy", {"seat": 7}, 5)
    assert len(failure.message) <= MAX_WORDS
    assert failure.message.endswith("… (880000 characters)")


fields = st.sampled_from(("code", "message", "details", "again_after", "x"))
values = st.none() | st.text() | st.floats() | st.booleans() | st.dictionaries(st.text(), st.text())


@given(st.sampled_from((REFUSED, FAILED)), st.binary() | st.dictionaries(fields, values).map(codec.encode_value))
def test_whatever_comes_is_a_failure_that_fits(kind: ReplyKind, sent: bytes) -> None:
    kept = kept_failure(kind, sent)
    failure = read_failure(kept)
    assert names.is_code(failure.code)
    assert failure.code == FAILURE_UNREADABLE or kept_failure(kind, kept) == kept


@given(st.text())
def test_a_fitting_code_fits_and_is_the_same_where_that_fits(code: str) -> None:
    fitting = names.fitting_code(code)
    assert names.is_code(fitting)
    assert not names.is_own_code(fitting)
    assert fitting == code or not names.is_code(code) or names.is_own_code(code)


@pytest.mark.parametrize("code", ["", "no room", "sagabus.no_handler", "x" * 101, "für"])
def test_a_refusal_that_no_participant_may_send_is_not_declared(code: str) -> None:
    with pytest.raises(DeclarationError, match=r"shop\.a: the refusal .* is no code of yours: give 1 to 100 printable"):
        Service("shop").activity("a", Order, refusals=("sold_out", code))


def test_what_older_releases_took_is_read_as_before() -> None:
    assert read_failure(body(code="no room left", again_after="5")) == Failure(code="no room left", again_after=5)

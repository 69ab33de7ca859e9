"""JSON to models and back: what comes in is limited before it is parsed, what goes out is JSON for everybody."""

from __future__ import annotations

import json
import math
import string
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue, field_validator

from sagabus.contracts import MessageInvalid, codec, json_value
from sagabus.contracts.codec import MAX_DEPTH
from sagabus.contracts.envelope import MAX_PAYLOAD


class Inner(BaseModel):
    amount: Decimal
    at: datetime
    note: str | None = None


class Outer(BaseModel):
    name: str
    inner: list[Inner]
    more: dict[str, int] = {}


class Anything(BaseModel):
    value: JsonValue = None


class Number(BaseModel):
    value: float


numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
inners = st.builds(Inner, amount=st.decimals(allow_nan=False, allow_infinity=False, places=2), at=moments)
outers = st.builds(Outer, name=st.text(), inner=st.lists(inners, max_size=3))


@given(outers)
def test_a_model_comes_back_as_it_was(model: Outer) -> None:
    data = codec.encode(model)
    assert codec.decode(Outer, data, what="it") == model
    assert json.loads(data) == model.model_dump(mode="json")


@given(json_values)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    data = codec.encode_value(value)
    assert codec.decode_value(data) == value == json.loads(data)


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\0truefalsn ', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_with_a_reason(data: bytes) -> None:
    for read in (lambda: codec.decode_value(data), lambda: codec.decode(Outer, data, what="it")):
        reason = "payload.read"
        try:
            read()
        except MessageInvalid as error:
            reason = error.reason
        assert reason in ("payload.read", "payload.not_json", "payload.invalid", "payload.too_deep")


@pytest.mark.parametrize("data", [b"", None, b"null", b"[]", b'"x"', b"{", b"\xff\xfe", b'{"name":1}'])
def test_what_is_no_such_model_is_refused(data: bytes | None) -> None:
    with pytest.raises(MessageInvalid, match=r"^it: ") as caught:
        codec.decode(Outer, data, what="it")
    assert caught.value.reason == ("payload.not_json" if data in (b"{", b"\xff\xfe") else "payload.invalid")


@pytest.mark.parametrize("number", ["1e999", "-1E+309", "1e0000999", "9" * 400, "9" * 310 + ".5", "9" * 5_000])
def test_a_number_that_no_double_holds_is_refused(number: str) -> None:
    """Read as infinity, it would be written as null."""
    for read in (
        codec.decode_value,
        lambda data: codec.decode(Anything, data, what="it"),
        lambda data: codec.decode(Number, data, what="it"),
    ):
        with pytest.raises(MessageInvalid) as caught:
            read(f'{{"value": {number}}}'.encode())
        assert caught.value.reason == "payload.not_json"


@pytest.mark.parametrize("number", ["1e308", "1e-999", "1" + "0" * 308, "0e999", "0.1e300", '"1e999"'])
def test_a_number_that_only_looks_too_large_is_read(number: str) -> None:
    assert codec.decode_value(number.encode()) == json.loads(number)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "\ud800", {"a": [math.nan]}, object()])
def test_what_json_cannot_say_is_refused_where_it_is_made(value: object) -> None:
    with pytest.raises(MessageInvalid):
        codec.encode_exactly(value)


def test_the_first_fault_is_named_and_the_others_are_counted() -> None:
    with pytest.raises(MessageInvalid, match=r"it: inner\.0\.amount: Input should be .*\(and 2 more\)"):
        codec.decode(Outer, b'{"inner":[{"amount":"x","at":"y","note":5}],"name":"n"}', what="it")
    with pytest.raises(MessageInvalid, match=r"it: value: Field required$"):
        codec.decode(Number, b"{}", what="it")


def test_unknown_fields_are_ignored() -> None:
    assert codec.decode(Number, b'{"value":1,"later":{"deep":[1]}}', what="it") == Number(value=1)


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(3)], ids=["ZeroDivisionError", "SystemExit"])
def test_a_validator_that_raises_anything_refuses(error: BaseException) -> None:
    class Strict(BaseModel):
        value: int

        @field_validator("value")
        @classmethod
        def odd(cls, value: int) -> int:
            raise error

    with pytest.raises(MessageInvalid, match=f"it: its validator raised {type(error).__name__}"):
        codec.decode(Strict, b'{"value":0}', what="it")


# Limits, before parsing.


def test_the_size_is_looked_at_first() -> None:
    exact = b'"' + b"x" * (MAX_PAYLOAD - 2) + b'"'
    assert codec.checked(exact) is exact
    for read in (codec.checked, codec.decode_value, lambda data: codec.decode(Outer, data, what="it")):
        with pytest.raises(MessageInvalid, match=f"{MAX_PAYLOAD + 1} bytes; the limit is {MAX_PAYLOAD}") as caught:
            read(exact + b" ")
        assert caught.value.reason == "payload.too_large"


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_depth_is_looked_at_before_parsing(opening: bytes, closing: bytes) -> None:
    def nested(depth: int) -> bytes:
        return opening * depth + b"1" + closing * depth

    assert codec.decode_value(nested(MAX_DEPTH)) is not None
    with pytest.raises(MessageInvalid, match=f"nested deeper than {MAX_DEPTH} levels"):
        codec.checked(nested(MAX_DEPTH + 1))
    with pytest.raises(MessageInvalid, match="deeper"):
        codec.decode(Anything, b'{"value":%b}' % nested(MAX_DEPTH), what="it")
    codec.decode(Anything, b'{"value":%b}' % nested(MAX_DEPTH - 1), what="it")


class Chain(BaseModel):
    """Nothing of it needs to be read back to know that it survives the wire."""

    following: Chain | None = None


def test_what_is_nested_too_deep_for_its_reader_is_not_written() -> None:
    chain = Chain()
    for _ in range(MAX_DEPTH - 1):
        chain = Chain(following=chain)
    assert codec.encode_as(Chain, chain, what="it").count(b"{") == MAX_DEPTH
    with pytest.raises(MessageInvalid, match="deeper"):
        codec.encode_as(Chain, Chain(following=chain), what="it")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200, "\\" + '"' + "[" * 200, '"' + "[{" * 200, "\\" * 3 + '"' + "[" * 200, "]" * 200 + "[" * 150,
        "\n[" * 150,
    ],
)  # fmt: skip
def test_brackets_in_strings_are_not_nesting(text: str) -> None:
    assert codec.decode_value(codec.encode_value([text, {text: text}])) == [text, {text: text}]


def test_many_brackets_side_by_side_are_not_nesting() -> None:
    wide = [{"a": [1]} for _ in range(1_000)]
    assert codec.decode_value(codec.encode_value(wide)) == wide


@pytest.mark.parametrize(
    "trick",
    [
        b'"\\\\"' + b"[" * 200, b'"\\""' + b"[" * 200, b'["' + b"]" * 200 + b'"' + b",[" * 200,
        b'{"a":"\\u0022"' + b',"b":[' * 200, b"[1]" * 200 + b"[" * 200,
    ],
)  # fmt: skip
def test_depth_cannot_be_hidden_behind_strings(trick: bytes) -> None:
    with pytest.raises(MessageInvalid, match="deeper"):
        codec.checked(trick)


def test_closing_first_does_not_get_past_the_parser() -> None:
    with pytest.raises(MessageInvalid) as caught:
        codec.decode_value(b"]" * 300 + b"[" * 300)
    assert caught.value.reason == "payload.not_json"


@given(st.text(alphabet='{}[]"\\a', max_size=40))
def test_depth_is_counted_like_a_scanner_counts_it(text: str) -> None:
    assert json_value._depth(text.encode()) == scanned(text)


def scanned(text: str) -> int:
    depth = deepest = 0
    quoted = escaped = False
    for letter in text:
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = letter == "\\", letter != '"'
        elif letter == '"':
            quoted = True
        elif letter in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "}]":
            depth -= 1
    return deepest


# What other languages cannot read.


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity", b'1,"x":NaN', b'1,"x":[-Infinity]'])
def test_nan_and_infinity_are_no_json(constant: bytes) -> None:
    data = b'{"value":%b}' % constant
    with pytest.raises(MessageInvalid):
        codec.decode(Number, data, what="it")
    with pytest.raises(MessageInvalid):
        codec.decode_value(data)


def test_words_like_nan_are_words() -> None:
    assert codec.decode(Anything, b'{"value":"NaN and Infinity"}', what="it").value == "NaN and Infinity"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_value_that_json_has_no_word_for_is_written_as_null(number: float) -> None:
    assert codec.encode_value({"a": [number]}) == b'{"a":[null]}'


@pytest.mark.parametrize("data", [rb'"\ud800"', rb'{"a":"\udc00x"}', b'"\xed\xa0\x80"'])
def test_lone_surrogates_are_refused(data: bytes) -> None:
    with pytest.raises(MessageInvalid):
        codec.decode_value(data)
    with pytest.raises(MessageInvalid):
        codec.decode(Anything, b'{"value":%b}' % data, what="it")


def test_lone_surrogates_are_not_written() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        codec.encode_value("\ud800")
    with pytest.raises(ValueError, match="surrogates"):
        codec.encode(Anything(value="\ud800"))


@given(st.text(alphabet=string.printable + "é€𝄞\0", max_size=20))
def test_all_other_text_comes_back(text: str) -> None:
    assert codec.decode_value(codec.encode_value(text)) == text


# The quick looks, beside the plain ones.

_TOKENS = st.lists(
    st.sampled_from(
        ["NaN", "Infinity", "N", "I", "nan", "1e999", "1E+400", "1e-5", "9" * 310, "1.5", '"', "{", "[", "x", " "]
    ),
    max_size=8,
).map(lambda tokens: "".join(tokens).encode())


@given(_TOKENS | st.binary(max_size=400))
def test_what_may_be_no_json_is_found_as_by_looking_for_each_word(text: bytes) -> None:
    plainly = b"NaN" in text or b"Infinity" in text or json_value.may_overflow(text)
    assert json_value.may_be_no_json(text) == plainly


@given(st.integers(0, MAX_DEPTH + 3), st.sampled_from([b"[]", b"{}"]))
def test_what_is_short_is_never_nested_too_deep(depth: int, pair: bytes) -> None:
    text = pair[:1] * depth + pair[1:] * depth
    if depth > MAX_DEPTH:
        with pytest.raises(MessageInvalid, match="deeper"):
            codec.checked(text)
    else:
        assert codec.checked(text) is text


@given(outers, st.sampled_from([b"", b"NaN", b"1e999", b"[" * (MAX_DEPTH + 1)]))
def test_bytes_that_were_decoded_are_decoded_again_without_a_second_check(model: Outer, odd: bytes) -> None:
    data = codec.encode(model)[:-1] + (b',"odd":%b}' % odd if odd else b"}")
    try:
        codec.decode(Anything, data, what="it")
    except MessageInvalid:
        return
    first = codec.decode(Outer, data, what="it")
    assert codec.decode(Outer, data, what="it", checked_before=True) == first

"""Whatever is sent to the API, the answer is no fault of the coordinator's: 2xx, or 4xx with a code and words.

Every route and every parameter meets texts that have broken parsers, drivers and databases before, alone and by chance.
"""

from __future__ import annotations

import json
import random
from base64 import urlsafe_b64encode
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest

from sagabus.contracts.envelope import Headers, Message, Record
from sagabus.contracts.requests import read_request
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.http.verbs import VERBS
from sagabus.coordinator.store import Writes
from sagabus.coordinator.store.copy_format import NewHistory
from tests.coordinator.saga_rows import saga
from tests.coordinator.test_http import REQUEST, SAGAS, Api, api, history
from tests.messaging.shards_fixture import Given

__all__ = ["api"]

RUNS: Final = 1_500
PLACES: Final[list[Any]] = [
    [2**63, "a", "b"], [-(2**63) - 1, "a", "b"], [2**63 - 1, "a", "b"], [-1, "a", "b"], [0, "\0", "b"],
    [0, "a", "\0"], [0, "\ud800", "b"], [1e308, "a", "b"], ["0", "a", "b"], [0, "a"], [0, "a", "b", "c"], {}, None,
    [253_402_300_800_000_000, "a", "b"], [0, "a" * 10_000, "b"], [True, "a", "b"],
]  # fmt: skip
TEXTS: Final = [
    "", "\0", "a\0b", "ORD-1", "'", '"', "%", "%00", "..", ".", "/", "\\", "日本", "\u202e", "\ufeff", "\u0378",
    "0", "-0", "-1", "1", "500", "501", "1e3", "1e999", "nan", "inf", "-inf", "٣", "²",
    str(2**31), str(2**63), str(2**64),
    "9" * 400, "x" * 5_000, "true", "TRUE", "null", "running", "attention", " ", "\n", "\t", "$1", "{}", "[]",
    *(urlsafe_b64encode(json.dumps(place).encode()).decode() for place in PLACES),
]  # fmt: skip
VALUES: Final[list[Any]] = [
    None, True, 0, -1, 1, 1.5, 2**31, 2**63, 2**64, 10**400, 1e308, "", "\0", "x" * 5_000, "日本", "ORD-1",
    [], {}, [[]], {"a": "\0"}, {"a" * 400: 1},
]  # fmt: skip
PARAMETERS: Final = ["status", "saga", "attention", "limit", "cursor", "run", "wait", "start", "after", "unknown"]
LIST_PARAMETERS: Final = ["concern", "error", "service", "id_prefix", "started_before", "updated_before"]
FIELDS: Final = [
    "saga",
    "id",
    "input",
    "name",
    "data",
    "event_id",
    "reason",
    "step",
    "actor",
    "request_id",
    "type",
    "output",
]
GETS: Final = [SAGAS, *(f"{SAGAS}/{{id}}{what}" for what in ("", "/steps", "/history", "/requests/r-1"))]
POSTS: Final = [SAGAS, f"{SAGAS}/{{id}}/events", *(f"{SAGAS}/{{id}}/{verb}?wait=0" for verb in VERBS)]
"""Nobody decides upon verbs here: they are not waited for."""
GOOD: Final = {
    "saga": "order_processing", "id": "ORD-1", "input": {}, "name": "a.b", "data": {}, "event_id": "e", "reason": "r",
    "step": 1, "actor": "a", "output": None,
}  # fmt: skip


@pytest.fixture
async def filled(api: Api) -> Api:
    row = saga()
    rows = history((Kind.STARTED, 0, 0, "order_processing", REQUEST), (Kind.COMMAND, 1, 0, "inventory.reserve", b"{}"))
    await api.write(Writes(new_sagas=[row], history=NewHistory((row.key, rows, 1))))
    return api


def check(answer: httpx.Response, asked: str) -> None:
    assert answer.status_code < 500, f"{asked}: {answer.status_code} {answer.text[:300]}"
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["code"], asked
        assert error["message"], asked


@pytest.mark.parametrize(
    ("address", "code"),
    [
        (f"{SAGAS}?saga=%00", "query.saga"),
        (f"{SAGAS}/ORD-1?run=%00", "query.run"),
        (f"{SAGAS}/ORD-1/history?run=%00", "query.run"),
        (f"{SAGAS}?cursor=" + urlsafe_b64encode(b'[18446744073709551616, "a", "b"]').decode(), "query.cursor"),
        (f"{SAGAS}?cursor=" + urlsafe_b64encode(b'[9223372036854775807, "a", "b"]').decode(), "query.cursor"),
        (f"{SAGAS}?cursor=" + urlsafe_b64encode(b'[0, "\\u0000", "b"]').decode(), "query.cursor"),
    ],
)
async def test_c7_what_the_database_cannot_hold_is_refused_with_the_parameters_name(
    filled: Api, address: str, code: str
) -> None:
    answer = await filled.client.get(address)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize("route", GETS)
async def test_c7_every_parameter_meets_every_text(filled: Api, route: str) -> None:
    for name in PARAMETERS if route != SAGAS else [*PARAMETERS, *LIST_PARAMETERS]:
        for text in TEXTS:
            if name == "wait" and text not in ("", "0", "nan", "-1", "inf"):
                continue  # others are waited for
            address = f"{route.format(id='ORD-1')}?{name}={quote(text, errors='surrogatepass')}"
            check(await filled.client.get(address), address)


async def test_c7_ids_in_addresses(filled: Api) -> None:
    for text in TEXTS:
        for route in (*GETS[1:], *POSTS[1:]):
            address = route.format(id=quote(text, safe="", errors="surrogatepass"))
            check(await filled.client.get(address), address)
            check(await filled.client.post(address, json=GOOD), address)


async def test_c7_ids_of_requests(filled: Api) -> None:
    for text in TEXTS:
        address = f"{SAGAS}/ORD-1/requests/{quote(text, safe='', errors='surrogatepass')}"
        check(await filled.client.get(address), address)


@pytest.mark.parametrize("route", POSTS)
async def test_c7_every_field_meets_every_value(filled: Api, route: str) -> None:
    for field in FIELDS:
        for value in VALUES:
            body = GOOD | {field: value}
            check(await filled.client.post(route.format(id="ORD-1"), json=body), f"{route} {field}={value!r:.60}")
    accepted_are_readable(filled.published)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff", b"[" * 100_000, b'{"a":' * 5_000, b"NaN", b"null", b"[]", b'"\\ud800"', b'{"reason": "\\ud800"}',
        b"\xef\xbb\xbf{}", b'{"reason": "r", "reason": "s"}', b"1" * 5_000, b"{" + b" " * 1_000_000,
    ],
)  # fmt: skip
async def test_c7_bodies_that_are_none(filled: Api, body: bytes) -> None:
    for route in POSTS:
        headers = {"content-type": "application/json"}
        check(
            await filled.client.post(route.format(id="ORD-1"), content=body, headers=headers), f"{route} {body[:40]!r}"
        )


async def test_c7_odd_methods_headers_and_routes(filled: Api) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "ODD"):
        for route in ("/", "/api", "/api/v1", "/livez", *GETS, *POSTS):
            answer = await filled.client.request(method, route.format(id="ORD-1"))
            assert answer.status_code < 500, (method, route)
    for name, value in (("authorization", b"\xff\xfe"), ("content-type", b"\xff"), ("content-length", b"1")):
        headers = [(b"content-type", b"application/json"), (name.encode(), value)]
        check(await filled.client.post(f"{SAGAS}/ORD-1/cancel?wait=0", content=b"{}", headers=headers), name)


async def test_c7_by_chance(filled: Api) -> None:
    """Several odd things at once, the same ones in each run of the tests."""
    chance = random.Random(7)
    for _ in range(RUNS):
        if chance.random() < 0.5:
            names = chance.sample(
                [name for name in [*PARAMETERS, *LIST_PARAMETERS] if name != "wait"], chance.randint(1, 4)
            )
            query = "&".join(f"{name}={quote(_text(chance), errors='surrogatepass')}" for name in names)
            address = f"{chance.choice(GETS).format(id='ORD-1')}?{query}"
            check(await filled.client.get(address), address)
        else:
            fields = chance.sample(FIELDS, chance.randint(1, 5))
            body = GOOD | {field: chance.choice([*VALUES, _text(chance)]) for field in fields}
            route = chance.choice(POSTS).format(id="ORD-1")
            check(await filled.client.post(route, json=body), f"{route} {body!r:.300}")
    accepted_are_readable(filled.published)


def _text(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return chance.choice(TEXTS)
    return "".join(chr(chance.randrange(0xD800)) for _ in range(chance.randint(0, 20)))


def accepted_are_readable(published: list[Message]) -> None:
    """What was answered with 202 must not become a dead letter for how it is written."""
    for message in published:
        read_request(_record(message.topic, message.key, message.value, message.headers))


def _record(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Record:
    return Given(topic, 0, 0, key=key, value=value, headers=headers)

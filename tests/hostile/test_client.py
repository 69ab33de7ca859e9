"""What a client is given that no coordinator would take is refused where it is made; nothing is published."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import pytest
from pydantic import BaseModel, JsonValue

from sagabus.client import SagaClient
from sagabus.contracts import DeclarationError, RetryPolicy, SagaType, Service, event
from sagabus.contracts.envelope import MAX_PAYLOAD, Record
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.requests import event_message, raw_message, read_request, start_message
from sagabus.coordinator import SagaContext, saga
from tests.coordinator.shard_fixture import Given

NOWHERE: Final = "127.0.0.1:1"
"""No Kafka there: whoever published would hear of it in another way."""


class Anything(BaseModel):
    value: JsonValue = None
    number: float = 0.0


def deep(levels: int) -> Any:
    made: Any = 1
    for _ in range(levels):
        made = [made]
    return made


anything: SagaType[..., Anything, None] = SagaType("anything", Anything, None)  # type: ignore[arg-type]
told = event("told", Anything)
ENVELOPE: Final[dict[str, Any]] = {"namespace": "sagabus", "source": b"/sagabus/client", "time": 1}

IDS: Final = {
    "empty": "", "201 characters": "x" * 201, "a slash": "a/b", "a space": "a b", "a NUL": "a\0b", "a line": "a\n",
    "an umlaut": "\N{LATIN SMALL LETTER A WITH DIAERESIS}", "a lone surrogate": "\ud800",
}  # fmt: skip

VALUES: Final[dict[str, tuple[str, Callable[[], BaseModel]]]] = {
    "NaN": ("payload.invalid", lambda: Anything(number=math.nan)),
    "infinity": ("payload.invalid", lambda: Anything(number=math.inf)),
    "NaN within": ("payload.invalid", lambda: Anything.model_construct(value=[{"a": math.nan}])),
    "400 digits": ("payload.not_json", lambda: Anything(value=10**400)),
    "5,000 digits": ("payload.", lambda: Anything(value=10**5_000)),
    "a lone surrogate": ("payload.invalid", lambda: Anything.model_construct(value="\ud800")),
    "200 levels": ("payload.too_deep", lambda: Anything(value=deep(200))),
    "two megabytes": ("payload.too_large", lambda: Anything(value="x" * 2 * 1024 * 1024)),
    "a megabyte once escaped": ("payload.too_large", lambda: Anything(value="\x01" * (MAX_PAYLOAD // 5))),
}  # fmt: skip

MESSAGE_IDS: Final = {"301 characters": "x" * 301, "a NUL": "a\0b", "a lone surrogate": "\ud800"}


@pytest.mark.parametrize("id", IDS.values(), ids=IDS)
async def test_an_id_that_cannot_be_one_is_refused_by_every_method(id: str) -> None:
    client = SagaClient(NOWHERE)
    for asked in (
        client.start(anything.of(Anything()), id=id), client.send(id, told.of(Anything())),
        client.cancel(id, reason="r"),
    ):  # fmt: skip
        with pytest.raises(MessageInvalid) as caught:
            await asked
        assert caught.value.reason == "saga_id.invalid"


@pytest.mark.parametrize(("reason", "make"), VALUES.values(), ids=VALUES)
async def test_a_value_that_would_arrive_as_another_one_is_refused(reason: str, make: Callable[[], BaseModel]) -> None:
    client, value = SagaClient(NOWHERE), make()
    for asked in (client.start(anything.of(value), id="A-1"), client.send("A-1", told.of(value))):  # type: ignore[arg-type]
        with pytest.raises(MessageInvalid) as caught:
            await asked
        assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize("event_id", MESSAGE_IDS.values(), ids=MESSAGE_IDS)
async def test_an_event_id_that_no_header_holds_is_refused(event_id: str) -> None:
    with pytest.raises(MessageInvalid) as caught:
        await SagaClient(NOWHERE).send("A-1", told.of(Anything()), event_id=event_id)
    assert caught.value.reason.startswith("headers.")


async def test_a_reason_that_is_no_text_is_refused() -> None:
    with pytest.raises(MessageInvalid):
        await SagaClient(NOWHERE).cancel("A-1", reason="\ud800")


def test_whatever_is_made_is_read() -> None:
    """Awkward, and allowed: it arrives as it was given."""
    values: list[Any] = [
        "a\0b",
        "\N{GRINNING FACE}",
        1e308,
        5e-324,
        -(2**63),
        2**70,
        {"": {"type": "cancel"}},
        deep(90),
    ]
    for value in values:
        given = Anything(value=value)
        for message in (
            start_message(anything.of(given), id="x" * 200, message_id="m" * 300, **ENVELOPE),
            event_message(told.of(given), saga_id="~@:.-_", message_id="\N{GRINNING FACE}", **ENVELOPE),
            raw_message({"type": "event", "name": "n", "data": value}, saga_id="a", message_id="m", **ENVELOPE),
        ):
            record: Record = Given(message.topic, 0, 0, message.key, message.value, message.headers)
            assert read_request(record).body == message.value


@pytest.mark.parametrize("seconds", [math.nan, -1.0, 0.0])
def test_a_time_that_is_none_is_refused_when_it_is_declared(seconds: float) -> None:
    async def code(ctx: SagaContext, given: Anything) -> None: ...

    with pytest.raises(DeclarationError, match="timeout="):
        saga("timed", timeout=seconds)(code)
    service = Service("times")
    with pytest.raises(DeclarationError, match="timeout="):
        service.activity("late", Anything, timeout=seconds)
    if seconds != 0:
        with pytest.raises(DeclarationError, match="give_up_after="):
            RetryPolicy(give_up_after=seconds)

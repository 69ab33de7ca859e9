"""A saga starts another one that is nobody's child: once, in the turn's transaction, with an id of its own (U10)."""

from __future__ import annotations

import json

import pytest

from sagabus.contracts import MessageInvalid
from sagabus.contracts.envelope import Message
from sagabus.contracts.requests import RequestType, read_request
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.status import SagaStatus
from tests.core.kit import Definition, Drive
from tests.core.services import Order, Result, receipt, reserve
from tests.core.wire import as_read


def starting(*ids: str | None) -> Definition:
    @saga("saga")
    async def starter(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        return Result(refs=[ctx.start(receipt.of(order), id=id) for id in ids])

    return starter


def sent(drive: Drive) -> list[Message]:
    return [one for one in drive.last.events if one.topic == "sagabus.requests"]


def test_u10_a_saga_that_is_started_is_a_request_of_the_turn_and_sent_once() -> None:
    drive = Drive(starting("R-1")).start()
    drive.completed(1)
    (message,) = sent(drive)
    request = read_request(as_read(message))
    assert (request.type, request.saga_id, request.name) == (RequestType.START, "R-1", "receipt")
    assert request.message_id == "O-1:r1:start:2"
    assert json.loads(request.body) == {"type": "start", "saga": "receipt", "input": {"order": "O-1"}}
    headers = dict(message.headers)
    assert (headers["ce_subject"], headers["ce_causationid"]) == (b"R-1", b"O-1:r1:1:step.completed:1")
    assert (message.saga_id, message.partition) == ("O-1", None)  # parked with its sender; the key finds the shard
    assert (drive.status, drive.result) == (SagaStatus.COMPLETED, {"refs": ["R-1"]})
    drive.reload()
    assert sent(drive) == []


def test_u10_without_an_id_it_takes_a_number_of_the_steps() -> None:
    drive = Drive(starting(None, "R", None)).start()
    drive.completed(1)
    assert drive.result == {"refs": ["O-1.2", "R", "O-1.4"]}
    assert [row.step for row in drive.rows if row.kind == "start"] == [2, 3, 4]


@pytest.mark.parametrize("id", ["O-1", "no id", "", "."])
def test_u10_an_id_that_cannot_be_is_refused_where_it_is_made(id: str) -> None:
    drive = Drive(starting(id)).start()
    drive.completed(1)
    assert (sent(drive), drive.status) == ([], SagaStatus.COMPENSATING)
    assert drive.error["type"] == ("DeclarationError" if id == "O-1" else MessageInvalid.__name__)


def test_u10_what_is_no_start_is_named() -> None:
    @saga("saga")
    async def mistaken(ctx: SagaContext, order: Order) -> Result:
        ctx.start(reserve(order=order.order))  # type: ignore[arg-type]  # on purpose
        return Result(refs=[])

    drive = Drive(mistaken).start()
    assert "ctx.start() takes the start of a saga" in drive.error["message"]


def test_u10_nothing_is_undone_with_it() -> None:
    @saga("saga")
    async def failing(ctx: SagaContext, order: Order) -> Result:
        ctx.start(receipt.of(order))
        raise ValueError("after it")

    drive = Drive(failing).start()
    assert (len(sent(drive)), drive.status) == (1, SagaStatus.COMPENSATED)

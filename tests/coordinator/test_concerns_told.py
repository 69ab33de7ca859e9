"""A concern is stored with its kind and told in the log, once; so is a definition that a process lacks."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.shard.definitions import Definitions
from sagabus.coordinator.shard.identity import ProcessIdentity
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.owners import owners
from sagabus.messaging.postgres.database import Database
from sagabus.shop.expense_approval import expense_approval
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_fixture import ShardFixture, of_shard
from tests.coordinator.test_saga_processor import INPUT, ORDER, RESERVED, SHARD
from tests.core.services import Order

SECOND = of_shard(SHARD, "SECOND-")


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, (order_processing, expense_approval), SHARD)
    await pool.stop()


def start(fixture: ShardFixture, id: str = ORDER) -> Any:
    return fixture.request(id, type="start", saga="order_processing", input=INPUT)


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [line.getMessage() for line in caplog.records if text in line.getMessage()]


async def concerns(fixture: ShardFixture, id: str = ORDER) -> list[dict[str, Any]]:
    stored = (await fixture.saga(id))["concerns"]
    return [] if stored is None else list(json.loads(stored))


async def test_a_concern_is_stored_with_its_kind_and_is_one_line_of_the_log(
    fixture: ShardFixture, caplog: pytest.LogCaptureFixture
) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    lost = fixture.reply(command, "completed", RESERVED)
    saga_and_run, _, _ = dict(lost.headers)["ce_causationid"].rpartition(b":")
    later = {**dict(lost.headers), "ce_causationid": saga_and_run + b":7"}
    with caplog.at_level(logging.WARNING):
        await fixture.turn(tenure, type(lost)(lost.topic, SHARD, lost.offset, lost.key, lost.value, [*later.items()]))
        tenure = await fixture.crash()
        await fixture.turn(tenure, fixture.reply(command, "completed", RESERVED))
    (told,) = lines(caplog, "needs attention")
    assert told.startswith(f"saga {ORDER} needs attention (history_lost 7): ")
    assert told.endswith(f"; see `sagabus show {ORDER}`")
    row = await fixture.saga(ORDER)
    (stored,) = await concerns(fixture)
    assert (stored["kind"], stored["number"], stored["words"]) == ("history_lost", 7, row["attention"])


async def test_the_line_of_a_concern_says_which_saga_run_and_step_it_is_about(
    fixture: ShardFixture, caplog: pytest.LogCaptureFixture
) -> None:
    tenure = await fixture.take()
    _, command = await fixture.turn(tenure, start(fixture))
    with caplog.at_level(logging.WARNING):
        await fixture.turn(tenure, fixture.reply(command, "failed", {"code": "sagabus.no_handler", "message": "none"}))
    (line,) = [one for one in caplog.records if "needs attention" in one.getMessage()]
    assert line.levelname == "WARNING"
    row = await fixture.saga(ORDER)
    assert {name: getattr(line, name) for name in ("saga_id", "run", "step")} == {
        "saga_id": ORDER, "run": row["run"], "step": 1,
    }  # fmt: skip


async def test_b15_a_missing_definition_is_named_once_with_the_process_and_what_it_has(
    fixture: ShardFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """And by whoever has the shard now: another process had it before."""
    fixture.identity = ProcessIdentity(host="host-1", process=11, instance="coordinator-a")
    await fixture.crash()
    fixture.identity = ProcessIdentity(host="host-7", process=12, instance="coordinator-b")
    tenure = await fixture.crash(expense_approval)
    with caplog.at_level(logging.WARNING):
        await fixture.turn(tenure, start(fixture), start(fixture, SECOND))
    (line,) = lines(caplog, "is missing in this coordinator")
    for part in ("namespace sagabus", "'order_processing'", "process 12 on host-7, instance coordinator-b"):
        assert part in line
    assert "which runs: expense_approval (version 1)" in line
    assert len(lines(caplog, "needs attention (blocked)")) == 2
    (owner,) = [one for one in await _owners(fixture) if one.shard == SHARD]
    assert (owner.host, owner.process, owner.instance) == ("host-7", 12, "coordinator-b")
    assert json.loads(owner.definitions) == [{"name": "expense_approval", "version": 1}]


async def _owners(fixture: ShardFixture) -> Any:
    async with fixture.database.transaction() as connection:
        return await owners(connection, "sagabus")


async def test_a_concern_that_ends_leaves_the_row_and_may_be_told_again(
    fixture: ShardFixture, caplog: pytest.LogCaptureFixture
) -> None:
    tenure = await fixture.crash(expense_approval)
    await fixture.turn(tenure, start(fixture))
    assert [one["kind"] for one in await concerns(fixture)] == ["blocked"]
    await fixture.turn(await fixture.crash(order_processing))
    assert await concerns(fixture) == []
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        tenure = await fixture.crash(expense_approval)
        await fixture.turn(tenure, fixture.request(ORDER, type="event", name="paid", data={}, event_id="e-1"))
    assert len(lines(caplog, "needs attention (blocked)")) == 1


async def test_definitions_that_are_there_are_named_by_nobody(caplog: pytest.LogCaptureFixture) -> None:
    definitions = Definitions((order_processing,))
    with caplog.at_level(logging.WARNING):
        assert definitions.newest("order_processing") is definitions.of("order_processing", 1) is order_processing
        assert definitions.of("order_processing", 0) is order_processing
    assert caplog.records == []


@saga("saga")
async def mistyped(ctx: SagaContext, input: Order) -> None:
    raise AttributeError("no reff")


async def test_what_a_sagas_code_raises_is_an_error_of_the_log_once_with_its_traceback(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    await migrate(database, "sagabus")
    fixture = ShardFixture(pool := Database(database), (mistyped,), SHARD)
    tenure = await fixture.take()
    with caplog.at_level(logging.DEBUG):
        await fixture.turn(tenure, fixture.request(ORDER, type="start", saga="saga", input={}))
        tenure = await fixture.crash()
        await fixture.turn(tenure, fixture.request(ORDER, type="cancel", reason="again"))
    (line,) = [one for one in caplog.records if one.levelno >= logging.ERROR]
    place = f"test_concerns_told.py:{mistyped._body.__code__.co_firstlineno + 2}"
    assert line.getMessage() == f"saga {ORDER}: its code has raised AttributeError at {place}: no reff"
    assert vars(line)["saga_id"] == ORDER
    assert vars(line)["run"]
    assert "in mistyped" in logging.Formatter().format(line)
    assert json.loads((await fixture.saga(ORDER))["error"])["at"] == place
    await pool.stop()

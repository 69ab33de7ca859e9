"""Many external commands: what waits is a row, memory holds a bounded number, and a turn costs what it has to write."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from sagabus.contracts.envelope import Message, pack_headers
from sagabus.contracts.replies import ReplyKind
from sagabus.messaging.background import Supervisor
from sagabus.messaging.shards.tenure import Tenure
from sagabus.participants import ExternalContext
from sagabus.participants.handlers import external as external_module
from sagabus.participants.handlers import jobs as jobs_module
from sagabus.participants.handlers.declaration import checked
from sagabus.participants.handlers.external import Externals
from sagabus.participants.handlers.jobs import FRONT, JOBS_IN_MEMORY, Job, Jobs, Position
from sagabus.participants.handlers.outcome import HandlerOutcome
from sagabus.participants.received import ReceivedCommand
from sagabus.participants.received import command as received_command
from tests.participants.service_fixture import BOOK, Given, Reply, Saga, ServiceFixture, Take, Taken, charge, header
from tests.support.conditions import until
from tests.support.processor_time import seconds_of


def command(saga: str, **options: Any) -> Message:
    return Saga(saga).command(charge, BOOK, **options)


class Charges:
    """The handler of `charge`: counts its calls by saga, and ends when it is let."""

    def __init__(self, fixture: ServiceFixture) -> None:
        self.calls: list[str] = []
        self.attempts: list[int] = []
        self.go = asyncio.Event()
        fixture.handles(charge, transaction=False)(self.charge)

    async def charge(self, command: Take, ctx: ExternalContext[Any]) -> Taken:
        self.calls.append(ctx.saga_id)
        self.attempts.append(ctx.attempt)
        await self.go.wait()
        return Taken(item=command.item, left=0)


@pytest.fixture
def charges(fixture: ServiceFixture) -> Charges:
    return Charges(fixture)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "JOBS_IN_MEMORY", 20)
    monkeypatch.setattr(jobs_module, "JOBS_OF_A_PAGE", 10)
    monkeypatch.setattr(external_module, "ENDED_OF_A_TURN", 7)


def in_memory(fixture: ServiceFixture, tenure: Tenure) -> int:
    return len(list(fixture.processor.externals.of(tenure)))


async def all_replies(fixture: ServiceFixture, tenure: Tenure, number: int) -> list[Reply]:
    """Turns as they are requested, until so many replies have left; memory is looked at after each."""
    replies: list[Reply] = []
    while len(replies) < number:
        await until(lambda: tenure.turn_requested, what=f"a turn is requested; {len(replies)} replies")
        tenure.turn_requested = False
        replies += await fixture.turn(tenure)
        assert in_memory(fixture, tenure) <= 20
    return replies


@pytest.mark.usefixtures("few")
async def test_p1_what_has_no_room_waits_as_a_row_and_is_carried_out_once(
    fixture: ServiceFixture, charges: Charges
) -> None:
    tenure = await fixture.take()
    sagas = [f"S{number:02}" for number in range(90)]
    for start in range(0, 90, 30):
        assert await fixture.turn(tenure, *map(command, sagas[start : start + 30])) == []
    assert in_memory(fixture, tenure) == 20
    assert len(await fixture.inbox()) == 90
    charges.go.set()
    replies = await all_replies(fixture, tenure, 90)
    assert sorted(str(header(reply.message, "ce_subject")) for reply in replies) == sagas
    assert sorted(charges.calls) == sagas
    assert {state for _, state, _ in await fixture.inbox()} == {"completed"}
    await fixture.turn(tenure, command("new"))
    assert in_memory(fixture, tenure) == 1


@pytest.mark.usefixtures("few")
async def test_p1_a_copy_of_what_waits_as_a_row_begins_nothing(fixture: ServiceFixture, charges: Charges) -> None:
    tenure = await fixture.take()
    sagas = [f"S{number:02}" for number in range(30)]
    await fixture.turn(tenure, *map(command, sagas))
    waiting = next(saga for saga in sagas if fixture.processor.externals.find(tenure, key_of(saga)) is None)
    later = [command(waiting), command(waiting, attempt=3), Saga(waiting).settle()]
    assert await fixture.turn(tenure, *later) == []
    assert in_memory(fixture, tenure) == 20
    charges.go.set()
    replies = await all_replies(fixture, tenure, 30)
    of_waiting = [reply for reply in replies if header(reply.message, "ce_subject") == waiting]
    assert [(reply.kind, reply.attempt) for reply in of_waiting] == [(ReplyKind.COMPLETED, 3)]
    assert sorted(charges.calls) == sagas
    [settled] = await fixture.turn(tenure, Saga(waiting).settle())
    assert (settled.answers, settled.kind) == ("settle", ReplyKind.COMPLETED)


@pytest.mark.usefixtures("few")
async def test_p1_rows_of_an_owner_before_are_found_behind_any_number_of_pages(
    fixture: ServiceFixture, charges: Charges
) -> None:
    old = await fixture.take()
    sagas = [f"S{number:02}" for number in range(60)]
    await fixture.turn(old, *map(command, sagas))
    await until(lambda: len(charges.calls) == 20)
    fixture.processor.lost(old)
    charges.calls.clear()
    charges.go.set()
    tenure = await fixture.take()
    assert in_memory(fixture, tenure) == 20
    await all_replies(fixture, tenure, 60)
    assert sorted(charges.calls) == sagas


def test_p1_what_waits_as_a_row_comes_before_what_is_new() -> None:
    jobs = Jobs()
    assert not jobs.admits(0), "the inbox has not been looked at"
    jobs.read(FRONT, all=True)
    assert (jobs.admits(JOBS_IN_MEMORY - 1), jobs.admits(JOBS_IN_MEMORY)) == (True, False)
    jobs.left_waiting()
    jobs.left_waiting()
    assert not jobs.admits(0)
    jobs.read(page := Position(datetime.now(UTC), "/s", "S1"), all=False)
    assert jobs.after == page, "what runs for long in front is not read again with each page"
    jobs.read(jobs.after, all=True)
    assert not jobs.admits(0), "one was left waiting while they were read"
    assert jobs.after == FRONT, "by another clock it may stand in front of what was read"
    jobs.read(FRONT, all=True)
    assert jobs.admits(0)


@pytest.mark.usefixtures("few")
async def test_other_commands_go_on_while_external_ones_have_no_room(fixture: ServiceFixture, charges: Charges) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, *(command(f"S{number}") for number in range(40)))
    [reply] = await fixture.turn(tenure, Saga("other").settle())
    assert reply.kind == ReplyKind.NEVER


@pytest.mark.parametrize("rows", [10, 1_000, 20_000])
async def test_an_acquisition_reads_a_page(fixture: ServiceFixture, charges: Charges, rows: int) -> None:
    message = command("S")
    await fixture.rows(
        "INSERT INTO sagabus_shop.inbox (source, id, activity, state, attempt, input_hash, at, shard, command, headers)"
        " SELECT '/sagabus/sagabus', 'S' || n, $1, 'started', 1, '', now() - n * interval '1 ms', 0, $2, $3"
        " FROM generate_series(1, $4::int) AS n",
        charge.name, message.value, pack_headers(tuple(message.headers)), rows,
    )  # fmt: skip
    # all rows hold one command: it is begun once, whatever their number
    tenure = await fixture.take()
    assert fixture.processor.externals.of(tenure).unread is (rows >= JOBS_IN_MEMORY)
    assert in_memory(fixture, tenure) == 1


def key_of(saga: str) -> tuple[str, str]:
    return "/sagabus/sagabus", f"{saga}:r1:1"


def job(tenure: Any, number: int) -> Job:
    async def function(command: Take, ctx: ExternalContext[Any]) -> Taken:
        raise AssertionError

    record = Given(b"{}", command(f"S{number}").headers, number)
    one: ReceivedCommand = received_command(record)
    return Job(tenure, checked(charge, function, transaction=False), one)


class Shard:
    """Stands for a tenure: compared by identity, like it."""


def _not_run(*_: object) -> Any:
    pytest.fail("not run")


def looks(jobs: int) -> float:
    """Seconds of processor time for 2,000 looks for what has ended, with so many at work and one that has ended."""
    externals = Externals(resources=None, guard=_not_run, supervisor=Supervisor(), fail=_not_run)
    shard: Any = Shard()
    for number in range(jobs):
        externals.of(shard).add(job(shard, number))
    first = next(iter(externals.of(shard)))
    externals.of(shard).end(first, HandlerOutcome(ReplyKind.COMPLETED, b"null"))

    def look() -> None:
        for _ in range(2_000):
            assert externals.ended([shard]) == [first]

    return seconds_of(look)


def test_a_turn_costs_the_same_whatever_is_at_work() -> None:
    few, some, many = (min(looks(jobs) for _ in range(3)) for jobs in (10, 1_000, 20_000))
    assert some < 3 * few + 0.01
    assert many < 3 * few + 0.01

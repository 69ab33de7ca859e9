"""What the participants' kit costs, in µs of processor time a command: from records to the commit.

    python -m bench.kit [repeats] [--together N] [--profile]

The shop's three steps, with handlers that only answer, as a turn of each service takes them in: read, looked up in the
inbox, handled, answered, written, committed. PostgreSQL is the embedded one, of which nothing is counted but what its
driver does here; Kafka and the relay are left out. Each figure is the best of many repeats: other work of the machine
makes processor time longer, never shorter. --together: commands of one turn. --profile: which functions take it.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import logging
import pstats
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from time import process_time, time
from typing import Any, Final
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from bench.lean_shop import lean_inventory, lean_payment, lean_shipping
from sagabus.contracts import Command, codec
from sagabus.contracts.commands import Addresses, command_message
from sagabus.contracts.envelope import Headers, source_of
from sagabus.contracts.names import CommandKind, RunId, SagaId, commands_topic, service_schema
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.postgres.engine_database import EngineDatabase
from sagabus.messaging.service.garbage import collect_rarely
from sagabus.messaging.shards.shard_row import Claim, acquire
from sagabus.messaging.shards.tenure import Log, Tenure
from sagabus.participants import Participant
from sagabus.participants.command_processor import CommandProcessor
from sagabus.participants.handlers.session import Sessions
from sagabus.participants.inbox.tables import create_tables
from sagabus.participants.testing.database import temporary_database
from sagabus.shop.contracts import Order, process_payment, reserve_inventory, ship_order
from tests.system import orders

REPEATS: Final = 100
TOGETHER: Final = 100
NAMESPACE: Final = "sagabus"
SHARDS: Final = 12
RUN: Final = RunId("0123456789ab")

Asked = tuple[str, Command[Any]]
"""A saga, and what it asks for."""


@dataclass(slots=True)
class Read:
    """A record as a consumer gives it."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Headers
    timestamp: int = 0


def reservation(order: Order) -> Command[Any]:
    return reserve_inventory(order_id=order.order_id, items=order.items)


def payment(order: Order) -> Command[Any]:
    amount = order.items[0].unit_price * 2
    return process_payment(order_id=order.order_id, amount=amount, customer_email=order.customer_email)


def shipment(order: Order) -> Command[Any]:
    return ship_order(order_id=order.order_id, address=order.shipping_address)


STEPS: Final = ((lean_inventory, reservation), (lean_payment, payment), (lean_shipping, shipment))
"""Who carries it out, and its command."""


class Service:
    """A participant that holds all shards. step: of the saga, from 1."""

    def __init__(self, step: int, participant: Participant[Any], sessions: Sessions, tenures: Sequence[Tenure]) -> None:
        self._step = step
        self._name = participant.service.name
        self._tenures = tenures
        self._offsets = [count() for _ in tenures]
        self._processor = CommandProcessor(
            service=self._name, namespace=NAMESPACE, handlers=participant.handlers, sessions=sessions
        )

    async def seconds(self, commands: Sequence[Asked], profile: cProfile.Profile | None = None) -> float:
        """Of one turn that takes these in. A coordinator has sent them all in one turn of its own."""
        work: defaultdict[Tenure, list[Read]] = defaultdict(list)
        now = round(time() * 1_000_000)
        for saga, command in commands:
            shard = partition_of(saga.encode(), SHARDS)
            work[self._tenures[shard]].append(self._record(saga, command, shard, now))
        completed = self._processor.counts["completed"]
        with profile or nullcontext():
            begun = process_time()
            await self._processor.turn(work)
            spent = process_time() - begun
        assert self._processor.counts["completed"] == completed + len(commands)
        for tenure in work:  # as if all were published
            tenure.relay.position = tenure.next_position - 1
        return spent

    def _record(self, saga: str, command: Command[Any], shard: int, now: int) -> Read:
        addresses = Addresses(NAMESPACE, source_of(NAMESPACE), SagaId(saga), RUN, shard)
        message = command_message(
            addresses, service=self._name, activity=command.activity, step=self._step, kind=CommandKind.DO, attempt=1,
            issued=now, time=now, cause="bench", body=codec.encode(command.input), partition=shard,
        )  # fmt: skip
        offset = next(self._offsets[shard])
        return Read(message.topic, shard, offset, saga.encode(), message.value, message.headers)


@asynccontextmanager
async def services() -> AsyncIterator[list[Service]]:
    async with temporary_database() as engine:
        sessions = Sessions.of(engine)
        yield [
            Service(step, participant, sessions, await taken(participant.service.name, engine))
            for step, (participant, _) in enumerate(STEPS, 1)
        ]
        await sessions.database.stop()


async def taken(name: str, engine: AsyncEngine) -> list[Tenure]:
    """All shards of a service, read up to the beginning of its topic."""
    async with engine.begin() as connection:
        await create_tables(connection, name)
    claim = Claim(cluster=NAMESPACE, generation=0, partitions=SHARDS)
    async with EngineDatabase(engine).transaction() as plain:
        tenures = [await acquire(plain, service_schema(name), shard, claim, token=uuid4()) for shard in range(SHARDS)]
    for tenure in tenures:
        tenure.locate({commands_topic(name): Log(NAMESPACE, 0, 0)})
    return tenures


async def measured(repeats: int, together: int, profile: cProfile.Profile | None = None) -> list[float]:
    """Seconds of each service's turn, the best of all repeats."""
    best = [float("inf")] * len(STEPS)
    numbers = count(10_000)
    async with services() as made:
        for _ in range(repeats):
            given = [orders.Order(next(numbers), orders.Fate.COMPLETED) for _ in range(together)]
            inputs = [Order.model_validate(one.request["input"]) for one in given]
            for at, (_, command) in enumerate(STEPS):
                best[at] = min(
                    best[at], await made[at].seconds([(order.order_id, command(order)) for order in inputs], profile)
                )
    return best


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repeats", nargs="?", type=int, default=REPEATS)
    parser.add_argument("--together", type=int, default=TOGETHER, help=f"commands of one turn ({TOGETHER})")
    parser.add_argument("--profile", action="store_true", help="print the functions that take the time")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    collect_rarely()
    if given.profile:
        profile = cProfile.Profile(process_time)
        asyncio.run(measured(given.repeats, given.together, profile))
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)
        return
    best = [1e6 * seconds / given.together for seconds in asyncio.run(measured(given.repeats, given.together))]
    print(
        f"{sum(best):.0f} µs a saga: commands {', '.join(f'{one:.1f}' for one in best)} "
        f"(best of {given.repeats} turns of {given.together})"
    )


if __name__ == "__main__":
    main()

"""What a coordinator's decisions cost, in µs of processor time an order saga: from records to rows and messages.

    python -m bench.decisions [repeats] [--profile]

Some sagas go through a start and three replies, each a turn of its own: read, found in memory, decided, gathered,
encoded for the transaction, noted after it. The store is empty and answers at once. Each figure is the best of many
repeats: other work of the machine makes processor time longer, never shorter. --profile: which functions take it.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import logging
import pstats
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import process_time
from typing import Any, Final, cast
from uuid import UUID

from sagabus.contracts import names
from sagabus.coordinator.shard.batch import Batch
from sagabus.coordinator.shard.decisions import Decisions
from sagabus.coordinator.shard.definitions import Definitions
from sagabus.coordinator.shard.loading import Loading
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.store.read import Reads
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.publishing.relay import Relay
from sagabus.messaging.service.garbage import collect_rarely
from sagabus.messaging.shards.tenure import Tenure
from sagabus.messaging.shards.turn import Turn
from sagabus.shop.order_processing import order_processing
from tests.system.orders import Fate, Order

SAGAS: Final = 20
REPEATS: Final = 300
NAMESPACE: Final = "sagabus"
PARTITIONS: Final = 12
SHARD: Final = 3
RUN: Final = UUID(int=0x0123456789AB << 80)
BEGAN: Final = 1_800_000_000_000_000

OUTPUTS: Final[Mapping[str, str]] = {
    "inventory": '{"reservation_id":"RES-%s","total_amount":"109.97"}',
    "payment": '{"transaction_id":"TXN-%s","amount":"109.97","status":"completed"}',
    "shipping": '{"tracking_number":"TRACK-%s","status":"shipped"}',
}
"""By service, in the order of the steps."""


@dataclass(slots=True)
class Read:
    """A record as a consumer gives it."""

    topic: str
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int = SHARD
    timestamp: int = BEGAN // 1_000


class Empty:
    """A database and its reads, where nothing is stored."""

    async def read(self, reading: Callable[[None], Awaitable[Any]]) -> Any:
        return await reading(None)

    async def sagas(self, *_: object, ids: Iterable[str]) -> dict[str, Any]:
        return {}

    started_ids = sagas


def orders() -> Iterator[Order]:
    """Of one shard."""
    number = 10_000
    while True:
        order = Order(number, Fate.COMPLETED)
        if partition_of(order.id.encode(), PARTITIONS) == SHARD:
            yield order
        number += 1


def request(order: Order, offset: int) -> Read:
    body = json.dumps(order.request, separators=(",", ":")).encode()
    return Read(names.requests_topic(NAMESPACE), offset, order.id.encode(), body)


def reply(order: Order, offset: int, step: int, service: str) -> Read:
    id, run = order.id, RUN.hex[:12]
    cause = names.command_id(id, run, step)
    headers = {
        "content-type": "application/json", "ce_specversion": "1.0", "ce_source": f"/sagabus/{NAMESPACE}/{service}",
        "ce_subject": id, "ce_correlationid": id, "ce_id": names.reply_id(cause, 1),
        "ce_type": "sagabus.reply.completed", "ce_time": "2027-01-15T08:00:00.000000Z", "ce_causationid": cause,
        "ce_attempt": "1", "ce_run": run,
    }  # fmt: skip
    return Read(
        names.replies_topic(NAMESPACE, service), offset, id.encode(), (OUTPUTS[service] % id).encode(),
        tuple((name, value.encode()) for name, value in headers.items()),
    )  # fmt: skip


def turns() -> list[list[Read]]:
    """The records of each turn."""
    chosen = [order for order, _ in zip(orders(), range(SAGAS), strict=False)]
    requests = [request(order, offset) for offset, order in enumerate(chosen)]
    replies = [
        [reply(order, offset, step, service) for offset, order in enumerate(chosen)]
        for step, service in enumerate(OUTPUTS, 1)
    ]
    return [requests, *replies]


class Coordinator:
    """One tenure, whose turns end where their transactions would begin."""

    def __init__(self) -> None:
        empty = Empty()
        self._database = cast("Database", empty)
        self._loading = Loading(
            namespace=NAMESPACE, reads=cast("Reads", empty), definitions=Definitions([order_processing])
        )
        self.tenure = Tenure(
            shard=SHARD, token=RUN, turn=1, next_position=1, places={}, pruned_before=None, relay=Relay(position=0)
        )
        self.memory = ShardMemory(self.tenure, now=BEGAN, shards=1)
        self.memory.starts_known_at = BEGAN  # so that starts are looked for, and decided before the transaction
        self.memory.timers.read_on([], self.memory.timers.read_to._replace(due=2 * BEGAN))

    async def turn(self, records: Sequence[Read], now: int) -> int:
        """Returns how many sagas have closed."""
        work = {self.tenure: records}
        turn = Turn(work, schema="s", dead_letters=DeadLetters(topic="dead-letters", by="bench"), at=now)
        decisions = Decisions(turn, NAMESPACE, now)
        batch = Batch(
            self._database, self._loading, {self.tenure: self.memory}, decisions, PARTITIONS, lambda: RUN, until=0
        )
        await batch.take_in(work)
        await batch.load()
        await batch.decide()
        gathered = [*decisions.gather()]
        decisions.writes.encoded()
        for saga, memory, effects in gathered:
            memory.note_timers(saga, effects)
            if effects.saga_changed:
                memory.tell_concerns(saga)
            memory.keep(saga)
        return sum(saga.state.is_closed for saga, _, _ in gathered)


async def measured(repeats: int) -> list[float]:
    """Seconds of each turn's sagas, the best of all repeats."""
    given = turns()
    best = [float("inf")] * len(given)
    for _ in range(repeats):
        coordinator = Coordinator()
        for number, records in enumerate(given):
            begin = process_time()
            closed = await coordinator.turn(records, BEGAN + number * 10_000)
            best[number] = min(best[number], process_time() - begin)
        assert closed == SAGAS
    return best


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.decisions", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repeats", nargs="?", type=int, default=REPEATS)
    parser.add_argument("--profile", action="store_true", help="print the functions that take the time")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    asyncio.run(measured(20))  # classes are looked at once
    collect_rarely()
    if given.profile:
        profile = cProfile.Profile()
        profile.runcall(asyncio.run, measured(given.repeats))
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)
        return
    best = [1e6 * seconds / SAGAS for seconds in asyncio.run(measured(given.repeats))]
    start, *replies = best
    print(
        f"{sum(best):.0f} µs a saga: start {start:.0f}, replies {', '.join(f'{one:.0f}' for one in replies)} "
        f"(best of {given.repeats} times {SAGAS} sagas)"
    )


if __name__ == "__main__":
    main()

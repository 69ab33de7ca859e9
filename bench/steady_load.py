"""A load that always keeps so many sagas open, and a record of how many have ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bench.batches import by_partition, publish
from bench.product import Product
from bench.stage import PARTITIONS
from tests.support.conditions import until

AHEAD: Final = 500
"""Sagas that are open: enough for full batches, few enough to be worked off within a second after a take."""

SMOOTH: Final = 4
"""A fourth of what is missing is sent at each look: sagas that are sent together would end together."""

PATIENCE: Final = 120.0
"""Seconds for the load to be under way."""

LOOK: Final = 0.05
"""Seconds between two looks, and between two portions that are sent."""

TAKEN: Final = (
    "SELECT coalesce((topics->'sagabus.replies.shipping'->>'next')::bigint, 0) FROM sagabus.shard ORDER BY shard"
)
"""Replies of the last step that have been taken in, by shard: each ends a saga, in the same transaction."""


class Seen(NamedTuple):
    """at: seconds, by `time.perf_counter`. by_shard: sagas that have ended since ever."""

    at: float
    by_shard: tuple[int, ...]

    @property
    def ended(self) -> int:
        return sum(self.by_shard)


@dataclass
class SteadyLoad:
    """seen: all looks so far, the latest last."""

    product: Product
    seen: list[Seen] = field(default_factory=list)
    sent: int = 0

    async def warm(self) -> None:
        """Until so many have ended that are no more those of the beginning."""
        await until(lambda: self.sent >= 3 * AHEAD, within=PATIENCE, what="sagas end")

    async def rate(self, seconds: float) -> float:
        """Sagas a second, over this time from now on."""
        begun = self.seen[-1]
        await asyncio.sleep(seconds)
        now = self.seen[-1]
        return (now.ended - begun.ended) / (now.at - begun.at)

    async def keep_up(self) -> None:
        """Without end."""
        product = self.product
        before = (await self._look()).ended
        while True:
            now = await self._look()
            self.seen.append(now)
            missing = now.ended - before + AHEAD - self.sent
            if missing > 0:
                portion = -(-missing // SMOOTH)
                self.sent += portion
                messages = map(product.wire.request, product.numbers(portion))
                await publish(product.producer, by_partition(product.wire.requests, PARTITIONS, messages))
            await asyncio.sleep(LOOK)

    async def _look(self) -> Seen:
        rows = await self.product.connection.fetch(TAKEN)
        return Seen(time.perf_counter(), tuple(row[0] for row in rows))


def everywhere(seen: Sequence[Seen], since: float) -> float | None:
    """The first moment at which a saga has ended on every shard since then. None: not yet."""
    before = max((look for look in seen if look.at <= since), default=None)
    if before is None:
        return None
    later = (look for look in seen if look.at > since)
    return next((look.at for look in later if all(map(int.__lt__, before.by_shard, look.by_shard))), None)


def reached(seen: Sequence[Seen], since: float, rate: float, window: float) -> float | None:
    """The first moment from which on so many sagas a second have ended, for `window` seconds. None: not yet."""
    later = [look for look in seen if look.at >= since]
    end = 0
    for begin, first in enumerate(later):
        end = max(end, begin)
        while end < len(later) and later[end].at < first.at + window:
            end += 1
        if end == len(later):
            return None
        last = later[end]
        if last.ended - first.ended >= rate * (last.at - first.at):
            return first.at
    return None


@asynccontextmanager
async def steady_load(product: Product) -> AsyncIterator[SteadyLoad]:
    """It goes on inside; on leaving, all that was sent has ended."""
    load = SteadyLoad(product)
    task = asyncio.create_task(load.keep_up())
    try:
        await until(lambda: task.done() or load.seen, what="the load begins")
        yield load
    finally:
        task.cancel()
        await asyncio.wait([task])
    await product.until_quiet()

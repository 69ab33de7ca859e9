"""Processes that own shards of one bus and one database, as many as a test wants."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from sagabus.messaging.bus.subscription import SubscriptionListener
from sagabus.messaging.shards.lanes import ONE, Lanes
from sagabus.messaging.shards.ownership import Ownership
from tests.messaging.counting_processor import Counter
from tests.messaging.shards_fixture import Condition, Shards, opened
from tests.messaging.toy_bus import ToyBus, ToyStream
from tests.support.conditions import until


@dataclass
class Process:
    """One process: its own connections, its own side, its own ownership."""

    shards: Shards
    processor: Counter
    bus: ToyBus
    lanes: Lanes = ONE
    streams: list[ToyStream] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ownership = Ownership(
            kafka=self.bus,
            database=self.shards.database,
            tables=self.shards.tables,
            subscribe=self._subscribe,
            main_topic="in",
            processor=self.processor,
            lanes=self.lanes,
        )

    @property
    def stream(self) -> ToyStream:
        """The latest: leaving the group and joining it again makes another one."""
        return self.streams[-1]

    @property
    def held(self) -> list[int]:
        return sorted(self.ownership.tenures)

    async def counted(self, *values: object) -> None:
        """Wait until as many records were counted; then it must be these, each once."""

        async def enough() -> bool:
            return len(await self._values()) >= len(values)

        condition: Condition = enough
        await until(condition, what=f"{len(values)} records were counted")
        assert await self._values() == sorted(map(str, values))

    async def _values(self) -> list[str]:
        return sorted(value for _, value in await self.processor.rows())

    def _subscribe(self, *, listener: SubscriptionListener) -> ToyStream:
        self.streams.append(ToyStream(self.bus, listener=listener))
        return self.streams[-1]


@dataclass
class World:
    """One database, one bus."""

    url: str
    schema: str
    stack: AsyncExitStack
    bus: ToyBus = field(default_factory=ToyBus)
    shards: Shards | None = None

    async def process(self, *, before: Callable[[Process], None] = lambda _: None, lanes: Lanes = ONE) -> Process:
        """A new process, started; it is stopped at the end of the test."""
        shards = await self.stack.enter_async_context(opened(self.url, self.schema, create=self.shards is None))
        process = Process(shards, Counter(shards), self.bus, lanes)
        if self.shards is None:
            await process.processor.create()
            self.shards = shards
        before(process)
        self.stack.push_async_callback(process.ownership.stop)
        await process.ownership.start()
        return process

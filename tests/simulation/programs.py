"""The production code of both sides, put together on simulated parts as `service` and `running` do it on real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from sagabus.contracts import names
from sagabus.coordinator.shard.definitions import Definitions
from sagabus.coordinator.shard.loading import Loading
from sagabus.coordinator.shard.saga_processor import SagaProcessor
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.tables import coordinator_tables
from sagabus.coordinator.store.write import Store
from sagabus.messaging.bus.subscription import SubscriptionListener
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.shards.lanes import Lanes
from sagabus.messaging.shards.ownership import Ownership
from sagabus.participants.command_processor import CommandProcessor
from sagabus.participants.handlers.session import Sessions, Transaction
from sagabus.participants.inbox.tables import participant_tables
from sagabus.participants.participant import Participant
from tests.simulation.bus import Cluster, Stream
from tests.simulation.postgres import SimulatedConnection, SimulatedDatabase
from tests.simulation.process import SimulatedProcess
from tests.simulation.workload import SERVICES, Ground, SimulatedSession
from tests.simulation.world import NAMESPACE, World

COORDINATOR_TABLES = coordinator_tables(NAMESPACE)
PARTICIPANT_TABLES = {name: participant_tables(name) for name in SERVICES}


class CoordinatorProgram:
    """One life of a coordinator."""

    def __init__(self, world: World, process: SimulatedProcess) -> None:
        database = SimulatedDatabase(world.server, process, world.statements)
        loading = Loading(
            namespace=NAMESPACE, reads=Reads(NAMESPACE), definitions=Definitions([world.code]), limits=world.limits,
        )  # fmt: skip
        self.processor = SagaProcessor(
            database=database,
            store=Store(NAMESPACE),
            loading=loading,
            dead_letters=DeadLetters(topic=names.dead_letters_topic(NAMESPACE), by=names.OWN_SERVICE),
            partitions=world.bus.partitions,
            closed=lambda _: None,
            clock=process.clock,
            ids=world.run_id,
        )

        def subscribe(*, listener: SubscriptionListener) -> Stream:
            pattern = names.coordinator_pattern(NAMESPACE).removeprefix("^").removesuffix("$")
            return Stream(process, world.bus, group=NAMESPACE, pattern=pattern, listener=listener)

        self.ownership = Ownership(
            kafka=Cluster(process, world.bus), database=database, tables=COORDINATOR_TABLES,
            subscribe=subscribe, main_topic=names.requests_topic(NAMESPACE), processor=self.processor,
            clock=process.clock, tokens=world.uuid, lanes=Lanes(most=3, worth=1),
        )  # fmt: skip

    async def start(self) -> None:
        await self.ownership.start()

    async def stop(self) -> None:
        await self.ownership.stop()

    def bury(self) -> None:
        for tenure in list(self.processor._memories):
            with suppress(Exception):
                self.processor.lost(tenure)


class ParticipantProgram:
    """One life of a participant."""

    def __init__(
        self, world: World, process: SimulatedProcess, participant: Participant[Ground], ground: Ground
    ) -> None:
        name = participant.service.name
        database = SimulatedDatabase(world.server, process, world.statements)
        self.processor = CommandProcessor(
            service=name, namespace=NAMESPACE, handlers=participant.handlers, sessions=SimulatedSessions(database),
            resources=ground, clock=process.clock, retention=world.retention(name),
        )  # fmt: skip
        commands = names.commands_topic(name)

        def subscribe(*, listener: SubscriptionListener) -> Stream:
            return Stream(process, world.bus, group=names.service_schema(name), pattern=commands, listener=listener)

        self.ownership = Ownership(
            kafka=Cluster(process, world.bus), database=database, tables=PARTICIPANT_TABLES[name],
            subscribe=subscribe, main_topic=commands, processor=self.processor, clock=process.clock, tokens=world.uuid,
        )  # fmt: skip

    async def start(self) -> None:
        await self.ownership.start()

    async def stop(self) -> None:
        await self.processor.externals.drain(2.0)
        await self.ownership.stop()
        await self.processor.externals.stop()

    def bury(self) -> None:
        """Its jobs are tasks of its loop."""


class SimulatedTurn(Transaction):
    """Without a pool below it."""

    def __init__(self, driver: Connection) -> None:
        self.driver = driver


class SimulatedSessions(Sessions):
    """Over the simulated server."""

    def __init__(self, database: SimulatedDatabase) -> None:
        given: Any = database
        self._database = given

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self._database.transaction() as connection:
            yield SimulatedTurn(connection)

    def shared(self, begin: Callable[[], Awaitable[Transaction]]) -> AsyncSession:
        async def connection() -> SimulatedConnection:
            given: Any = (await begin()).driver
            assert isinstance(given, SimulatedConnection)
            return given

        session: Any = SimulatedSession(connection)
        return session  # type: ignore[no-any-return]

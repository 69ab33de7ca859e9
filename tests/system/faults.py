"""Injects faults into a environment. Each waits for its moment, strikes, and leaves the deployment whole again.

What "the fault's end" is, from which a recovery counts: of a SIGKILL and of a SIGSTOP the moment of the signal; of
everything else the moment at which what was taken away is there again, or has come and gone.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.support.conditions import NotSo, until
from tests.support.processes import Child
from tests.system.databases import PrimaryEnd
from tests.system.deployment import Counts
from tests.system.environment import PARTITIONS, Environment, Recovery
from tests.system.fault_plan import Fault
from tests.system.service_processes import COORDINATOR, PARTICIPANTS, Post

OUTAGE = 15
"""So many items are fed while something is away."""

BURST = 200
"""Items at once: more than a turn of one statement takes."""

REPLIES, COMMANDS = "sagabus.replies.payment", "payment.commands"

Mend = Callable[[], Awaitable[None]]
"""What is still to be done when the fault has ended: it goes on beside the recovery."""


@dataclass(frozen=True)
class Landed:
    """One fault that was made, into how much of load, and what came of it."""

    fault: Fault
    load: Counts
    recovery: Recovery
    took: float
    """Seconds in all."""


class Injector:
    """Makes faults, one after the other."""

    def __init__(self, environment: Environment, seed: int) -> None:
        self._scene = environment
        self._chance = random.Random(seed)
        self._extra = 0

    async def strike(self, fault: Fault) -> Landed:
        """Wait for load, make the fault, wait until all has recovered. Raises NotSo if it does not."""
        load = await self._scene.thick()
        begun = time.monotonic()
        since, mend = await _INJECTORS[fault](self)
        recovery, _ = await asyncio.gather(self._scene.recovered(since), mend())
        return Landed(fault, load, recovery, time.monotonic() - begun)

    # Processes that die.

    async def kill(self, *victims: Post) -> tuple[float, Mend]:
        for victim in victims:
            assert victim.process.running, victim.process.report()
            victim.process.kill()
        return time.time(), lambda: self._start(victims)

    async def kill_one(self, side: str) -> tuple[float, Mend]:
        return await self.kill(self._one(side))

    async def kill_both(self) -> tuple[float, Mend]:
        return await self.kill(self._one(COORDINATOR), self._one(PARTICIPANTS))

    # Processes that stop, and go on as zombies.

    async def stop_one(self, side: str) -> tuple[float, Mend]:
        victim = self._one(side)
        victim.process.pause()
        return time.time(), lambda: self._resume_when_replaced(victim)

    async def stop_in_copy(self) -> tuple[float, Mend]:
        """S4. A coordinator in a turn that has much to write, with the shard's row in its hands."""
        return await self._stop_writing("sagabus.history", "COPY%history%", "COPY%", burst=BURST)

    async def stop_in_transaction(self) -> tuple[float, Mend]:
        """S4. A participant in whose hands is what all its commands want: the stock's row."""
        return await self._stop_writing("inventory_ledger", "%INTO inventory_ledger%", "%INTO inventory_ledger%")

    async def _stop_writing(self, table: str, statement: str, then: str, *, burst: int = 0) -> tuple[float, Mend]:
        """Who writes to this table waits for a lock of ours, and so is caught within its transaction.

        burst: items that are fed with each try.
        """

        async def stopped() -> tuple[int, Post, float] | None:
            self._scene.load.burst(burst)
            return await self._stopped_in(table, statement)

        backend, victim, since = await until(stopped, every=0.3, what=f"somebody waits in {statement}")
        await until(lambda: self._caught(backend, then), what="the server waits for the stopped process")
        return since, lambda: self._freed(victim, backend, then)

    async def _stopped_in(self, table: str, statement: str) -> tuple[int, Post, float] | None:
        """One try, for a second: others write there in one statement, which may not wait for three. None in vain."""
        ours = await self._scene.observer.connect()
        try:
            async with ours.transaction():
                await ours.execute(f"LOCK TABLE {table} IN SHARE MODE")
                backend, victim = await until(lambda: self._waiting(statement), every=0.005, within=1.0)
                victim.process.pause()
                return backend, victim, time.time()
        except NotSo:
            return None
        finally:
            await ours.close()

    # Members that come and go.

    async def join_and_leave(self, side: str) -> tuple[float, Mend]:
        self._extra += 1
        processes, guest = self._scene.processes, Post(side, f"guest-{side}-{self._extra}")
        await processes.start(guest)
        await guest.process.says(" acquired: <tenure")
        await processes.end(guest)
        return time.time(), _nothing

    async def rolling_restart(self) -> tuple[float, Mend]:
        await asyncio.gather(self._one_by_one(COORDINATOR), self._one_by_one(PARTICIPANTS))
        return time.time(), _nothing

    # Kafka and PostgreSQL.

    async def broker_away(self, end: Callable[[], None]) -> tuple[float, Mend]:
        await asyncio.to_thread(end)
        await self._scene.fed(OUTAGE)
        await asyncio.to_thread(self._scene.broker.start)
        return time.time(), _nothing

    async def bus_replaced(self) -> tuple[float, Mend]:
        self._scene.old_logs.append(await asyncio.to_thread(self._scene.broker.replace))
        await self._scene.deployment.make_topics()
        since = time.time()
        self._scene.load.send_again(await self._scene.closed())
        return since, _nothing

    async def topic_made_anew(self, name: str) -> tuple[float, Mend]:
        await asyncio.to_thread(self._make_anew, name)
        return time.time(), _nothing

    async def commands_lost_and_kill(self) -> tuple[float, Mend]:
        """Who would have sent them again is killed before it does."""
        await asyncio.to_thread(self._make_anew, COMMANDS)
        return await self.kill(*self._scene.processes.of(COORDINATOR))

    async def database_crashed(self) -> tuple[float, Mend]:
        await asyncio.to_thread(self._scene.server.stop_immediately)
        await self._scene.fed(OUTAGE)
        await asyncio.to_thread(self._scene.server.start)
        return time.time(), _nothing

    async def database_away(self) -> tuple[float, Mend]:
        """So long that the coordinators give up their places in the group (S10)."""
        coordinators = [post.process for post in self._scene.processes.of(COORDINATOR)]
        before = {child: _times_left(child) for child in coordinators}
        await asyncio.to_thread(self._scene.server.stop_immediately)
        await until(lambda: all(_times_left(child) > before[child] for child in coordinators), what="all have left")
        await asyncio.to_thread(self._scene.server.start)
        return time.time(), _nothing

    async def connections_cut(self) -> tuple[float, Mend]:
        await self._scene.observer.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return time.time(), _nothing

    async def connections_silent(self) -> tuple[float, Mend]:
        """The network drops what there is without a word; new connections work."""
        assert self._scene.databases.proxy.silence_present()
        return time.time(), _nothing

    async def failover(self, end: PrimaryEnd) -> tuple[float, Mend]:
        """A promoted standby takes the place of the primary."""
        await self._scene.databases.fail_over(end)
        since = time.time()
        await self._scene.observer.turn_to(self._scene.databases.direct_url)
        return since, _nothing

    # Small things.

    def _one(self, side: str) -> Post:
        return self._chance.choice(self._scene.processes.of(side))

    async def _start(self, posts: Sequence[Post]) -> None:
        await asyncio.gather(*map(self._scene.processes.start, posts))

    async def _one_by_one(self, side: str) -> None:
        for post in self._scene.processes.of(side):
            await self._scene.processes.end(post)
            await self._scene.processes.start(post)

    async def _resume_when_replaced(self, stopped: Post) -> None:
        try:
            await self._taken_by_others(stopped.side)
        finally:
            stopped.process.resume()

    async def _freed(self, stopped: Post, backend: int, then: str) -> None:
        """Nobody but who takes the shard can have ended that session: its process stands still."""
        try:
            await self._taken_by_others(stopped.side)
            assert not await self._caught(backend, then)
        finally:
            stopped.process.resume()

    async def _taken_by_others(self, side: str) -> None:
        """Not only those of the process that stands still: others may wait for what is in its hands."""
        processes = self._scene.processes
        held = await until(lambda: processes.silent(side), what="shards stand still")

        async def moved() -> bool:
            return not (held & await processes.current(side) or await processes.silent(side))

        await until(moved, what=f"{len(held)} shards of the stopped process are taken")

    async def _waiting(self, statement: str) -> tuple[int, Post] | None:
        query = "SELECT pid, client_port FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1"
        for row in await self._scene.observer.fetch(query, statement):
            post = self._scene.processes.with_port(self._scene.databases.client_port(row["client_port"]))
            if post is not None:
                return int(row["pid"]), post
        return None

    async def _caught(self, backend: int, statement: str) -> bool:
        """Whether this session is still in that transaction, and hears nothing."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND query LIKE $2 AND wait_event = 'ClientRead'"
        return bool(await self._scene.observer.value(query, backend, statement))

    def _make_anew(self, name: str) -> None:
        self._scene.broker.delete_topics(name)
        self._scene.broker.create_topics(name, partitions=PARTITIONS)


def _times_left(child: Child) -> int:
    return (child.stdout + child.stderr).count("leaving the group until it is back")


async def _nothing() -> None: ...


_INJECTORS: dict[Fault, Callable[[Injector], Awaitable[tuple[float, Mend]]]] = {
    Fault.KILL_COORDINATOR: lambda one: one.kill_one(COORDINATOR),
    Fault.KILL_PARTICIPANT: lambda one: one.kill_one(PARTICIPANTS),
    Fault.KILL_BOTH: Injector.kill_both,
    Fault.STOP_COORDINATOR: lambda one: one.stop_one(COORDINATOR),
    Fault.STOP_PARTICIPANT: lambda one: one.stop_one(PARTICIPANTS),
    Fault.STOP_IN_COPY: Injector.stop_in_copy,
    Fault.STOP_IN_TRANSACTION: Injector.stop_in_transaction,
    Fault.COORDINATOR_JOINS_AND_LEAVES: lambda one: one.join_and_leave(COORDINATOR),
    Fault.PARTICIPANT_JOINS_AND_LEAVES: lambda one: one.join_and_leave(PARTICIPANTS),
    Fault.ROLLING_RESTART: Injector.rolling_restart,
    Fault.BROKER_STOPPED: lambda one: one.broker_away(one._scene.broker.stop),
    Fault.BROKER_KILLED: lambda one: one.broker_away(one._scene.broker.kill),
    Fault.DATABASE_CRASHED: Injector.database_crashed,
    Fault.DATABASE_AWAY: Injector.database_away,
    Fault.CONNECTIONS_CUT: Injector.connections_cut,
    Fault.CONNECTIONS_SILENT: Injector.connections_silent,
    Fault.FAILOVER_READ_ONLY: lambda one: one.failover(PrimaryEnd.READ_ONLY),
    Fault.FAILOVER_CRASHED: lambda one: one.failover(PrimaryEnd.CRASHED),
    Fault.FAILOVER_SILENT: lambda one: one.failover(PrimaryEnd.SILENT),
    Fault.BUS_REPLACED: Injector.bus_replaced,
    Fault.REPLIES_TOPIC_MADE_ANEW: lambda one: one.topic_made_anew(REPLIES),
    Fault.COMMANDS_TOPIC_MADE_ANEW: lambda one: one.topic_made_anew(COMMANDS),
    Fault.COMMANDS_LOST_AND_KILL: Injector.commands_lost_and_kill,
}

"""The processes of a deployment that is to be broken: who they are, which shards they hold, and starting them again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import psutil

from tests.support.processes import Child
from tests.system.deployment import Deployment
from tests.system.observer import Observer

COORDINATOR, PARTICIPANTS = "coordinator", "participants"

STANDS_STILL: Final = "interval '3 s'"
"""Three beats."""

ENDS: Final = 120.0
"""Seconds of patience for a process that was told to end."""


class Holding(NamedTuple):
    """A shard in somebody's hands: the token tells one tenure from the next."""

    schema: str
    shard: int
    token: str


@dataclass(eq=False)
class Post:
    """A place that is filled by one process after the other. With an instance it is a static member of its groups.

    settings: of its next process, if it is a coordinator; beside those of the deployment.
    """

    side: str
    name: str
    instance: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    child: Child | None = None
    starts: int = 0

    @property
    def process(self) -> Child:
        assert self.child is not None, f"{self.name} was never started"
        return self.child


class ServiceProcesses:
    """Two or three coordinators and two processes with all participants; the first of each is a static member."""

    def __init__(self, deployment: Deployment, observer: Observer, *, coordinators: int, participants: int) -> None:
        self._deployment = deployment
        self._eye = observer
        self.posts = [Post(COORDINATOR, f"coordinator-{number}") for number in range(1, coordinators + 1)]
        self.posts += [Post(PARTICIPANTS, f"participants-{number}") for number in range(1, participants + 1)]
        for side in (COORDINATOR, PARTICIPANTS):
            self.of(side)[0].instance = f"{side}-a"

    def of(self, side: str) -> list[Post]:
        return [post for post in self.posts if post.side == side]

    async def start_all(self) -> None:
        await asyncio.gather(*map(self.start, self.posts))

    async def start(self, post: Post) -> None:
        """A new process for this post; it is ready when this returns."""
        post.starts += 1
        name = f"{post.name}.{post.starts}"
        if post.side == COORDINATOR:
            post.child = await self._deployment.coordinator(name, instance=post.instance, settings=post.settings)
        else:
            post.child = await self._deployment.all_participants(name, instance=post.instance)

    async def end(self, post: Post) -> None:
        """SIGTERM, and it drains."""
        post.process.terminate()
        code = await post.process.ended(within=ENDS)
        assert code == 0, post.process.report()

    def schemas(self, side: str) -> list[str]:
        return ["sagabus"] if side == COORDINATOR else [f"sagabus_{name}" for name in self._deployment.services]

    async def silent(self, side: str) -> set[Holding]:
        """The shards that have not beaten for some beats: their owner stands still."""
        found: set[Holding] = set()
        for schema in self.schemas(side):
            rows = await self._eye.fetch(
                f"SELECT shard, token::text FROM {schema}.shard WHERE clock_timestamp() - beat_at > {STANDS_STILL}"
            )
            found.update(Holding(schema, row["shard"], row["token"]) for row in rows)
        return found

    async def current(self, side: str) -> set[Holding]:
        """Of all shards, by whomever."""
        found: set[Holding] = set()
        for schema in self.schemas(side):
            rows = await self._eye.fetch(f"SELECT shard, token::text FROM {schema}.shard")
            found.update(Holding(schema, row["shard"], row["token"]) for row in rows)
        return found

    def with_port(self, port: int) -> Post | None:
        """Whose connection comes from this port."""
        return next((post for post in self.posts if port in ports_of(post.process)), None)


def ports_of(child: Child) -> set[int]:
    """Of all its connections, on its own side."""
    return {one.laddr.port for one in psutil.Process(child.pid).net_connections(kind="tcp")}

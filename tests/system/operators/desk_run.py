"""A run of a desk: sagas of every shape, operators who ask for everything, and coordinators that are killed."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.conditions import until
from tests.system.accounts import records_of
from tests.system.observer import Observer
from tests.system.operators.desk_sagas import RETIRED_VARIABLE, Shape, called
from tests.system.operators.people import Answer, People
from tests.system.operators.verb_judge import TOLD, Event, Left, Line, Saga
from tests.system.operators.verb_plan import STANDS_AT, Ask, Move, Planner, Way, output
from tests.system.service_processes import COORDINATOR, PARTICIPANTS, Post, ServiceProcesses

OPERATORS: Final = 12
KILLS: Final = 8
OF_PARTICIPANTS: Final = 4
"""With this kill of a coordinator the participant dies too."""

RESTS: Final = 90.0
"""Seconds of patience until everything has come to rest."""

STANDS: Final = ("event", "timer", "retry")
"""What a saga may wait for without a word: in these runs timers and pauses are long."""

LOOKED_UP_AT_ONCE: Final = 20


@dataclass
class DeskRun:
    """`carry_out`, `rest`, `close_all`, and then `left` is what there is to judge."""

    sagas: dict[str, Shape]
    processes: ServiceProcesses
    observer: Observer
    people: People
    planner: Planner
    seed: int
    done: int = 0
    killed: list[str] = field(default_factory=list)

    async def carry_out(self, moves: Sequence[Move]) -> None:
        """By operators side by side, each of whom takes the next one."""
        waiting = iter(moves)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kill(len(moves)))
            for _ in range(OPERATORS):
                group.create_task(self._operate(waiting))
        self.people.flush()

    async def _operate(self, moves: Iterator[Move]) -> None:
        for move in moves:
            if move.asks:
                if move.shape is Shape.CONTRADICTED:
                    await self._contradict(move.saga)
                await self.people.ask(move.asks)
            else:
                body = {"type": "start", "saga": move.shape.value, "input": {"place": 0}}
                if move.shape is Shape.MISTYPED:
                    body["saga"] = "mistypd"
                self.people.publish(move.saga, body, id=f"start-{move.saga}")
            self.done += 1

    async def _contradict(self, saga: str) -> None:
        """Somebody says of its first step what its participant does not say."""
        row = await until(lambda: self._row(saga), what=f"{saga} is there")
        command = f"{saga}:{row['run']}:1"
        self.people.reply("sagabus.replies.desk", row["shard"], saga, command, output(1))

    async def _row(self, saga: str) -> Any:
        rows = await self.observer.fetch("SELECT run, shard FROM sagabus.saga WHERE id = $1", saga)
        return rows[0] if rows else None

    async def _kill(self, moves: int) -> None:
        """First each coordinator once, so that the next ones lack the definition; then whichever it is."""
        chance, coordinators = random.Random(self.seed), self.processes.of(COORDINATOR)
        victims = [*coordinators, *(chance.choice(coordinators) for _ in range(KILLS - len(coordinators)))]
        for number, victim in enumerate(victims, 1):
            goal = moves * number // (KILLS + 1)
            await until(lambda goal=goal: self.done >= goal, within=RESTS, what=f"{goal} moves are made")  # type: ignore[misc]
            extra = self.processes.of(PARTICIPANTS) if number == OF_PARTICIPANTS else []
            await asyncio.gather(*map(self._replace, [victim, *extra]))

    async def _replace(self, post: Post) -> None:
        assert post.process.running, post.process.report()
        post.process.kill()
        self.killed.append(post.process.name)
        post.settings[RETIRED_VARIABLE] = "1"
        await self.processes.start(post)

    async def rest(self) -> list[dict[str, Any]]:
        """Wait until every request has its outcome, and no saga is under way. Those that are open, as the API says."""
        await until(self._all_published, within=RESTS, what="all messages are published")
        await until(self._all_decided, within=RESTS, every=0.2, what="all requests are decided upon")
        await until(self._all_at_rest, within=RESTS, every=0.2, what="every saga is at rest")
        return await self.open()

    async def _all_published(self) -> bool:
        of_both = "SELECT (SELECT count(*) FROM sagabus.outbox) + (SELECT count(*) FROM sagabus_desk.outbox)"
        return not await self.observer.value(of_both)

    async def _all_decided(self) -> bool:
        known = {row["ref"] for row in await self.observer.fetch("SELECT DISTINCT ref FROM sagabus.history")}
        due = [one for one in self.people.asked.values() if one.saga in self.sagas and one.run is None]
        open = [one for one in due if one.id not in known and not self.met_nobody(one)]
        assert not open, f"nobody has decided upon {open[:5]} and {len(open)} in all"
        return True

    def met_nobody(self, one: Ask) -> bool:
        """Its saga was not there when it was asked for, so nothing was published."""
        answers = self.people.told.get(one.id, [])
        return one.way is Way.HTTP and bool(answers) and all(answer.status == 404 for answer in answers)

    async def _all_at_rest(self) -> bool:
        busy = [one for one in await self.open() if not _is_at_rest(one)]
        assert not busy, f"{[(one['id'], one['status'], one['waits']) for one in busy[:3]]}, {len(busy)} in all"
        return True

    async def open(self) -> list[dict[str, Any]]:
        return [*await self.people.sagas("running"), *await self.people.sagas("compensating")]

    async def close_all(self) -> None:
        """Everything goes its way by one more request of each kind; nothing else may be needed."""
        asked: set[tuple[str, str]] = set()

        async def all_closed() -> bool:
            found = await self.open()
            due = {(one["id"], verb): one for one in found for verb in self._due(one)}
            new = {key: one for key, one in due.items() if key not in asked}
            asked.update(new)
            for saga, verb in new:
                if verb == "event":
                    event = {"type": "event", "name": called.name, "data": {"by": "dan"}}
                    self.people.publish(saga, event, id=f"called-{saga}")
            await self._ask_all(self._ask(saga, verb) for saga, verb in new if verb != "event")
            assert not found, f"{[(one['id'], one['status'], one['waits']) for one in found[:3]]}, {len(found)} in all"
            return True

        await until(all_closed, within=RESTS, every=0.2, what="all sagas are closed")

    def _due(self, one: dict[str, Any]) -> Iterator[str]:
        """What moves this saga."""
        shape, stops = self.sagas[one["id"]], {concern["kind"] for concern in one["concerns"]}
        if "blocked" in stops:  # whether it is paused or not
            yield "cancel" if int(one["id"].removeprefix("DESK-")) % 3 else "terminate"
        elif one["paused"]:
            yield "resume"
        elif one["status"] == "compensating":
            if "undo" in stops:
                yield "skip"
        elif shape in (Shape.NAPPING, Shape.STUBBORN):
            yield "cancel"
        elif shape is Shape.FALTERING:
            yield "retry"
        elif shape is Shape.UNHANDLED:
            yield "complete"
        elif shape in (Shape.AWAITING, Shape.CONTRADICTED):
            yield "event"

    def _ask(self, saga: str, verb: str) -> Ask:
        fields: dict[str, Any] = {"output": output(STANDS_AT)} if verb == "complete" else {}
        return self.planner.ask(saga, verb, **fields)

    async def _ask_all(self, asks: Iterable[Ask]) -> None:
        waiting = iter([*asks])

        async def operator() -> None:
            for one in waiting:
                await self.people.ask([one])

        await asyncio.gather(*(operator() for _ in range(OPERATORS)))

    async def acknowledge_all(self) -> None:
        """What has happened once has been seen."""
        rows = await self.observer.fetch("SELECT id FROM sagabus.saga WHERE attention IS NOT NULL ORDER BY id")
        await self._ask_all(self.planner.ask(row["id"], "acknowledge") for row in rows)

    async def looked_up(self) -> dict[str, Answer]:
        """What a coordinator says of every request to a saga, asked again."""
        waiting = iter([one for one in self.people.asked.values() if one.saga in self.sagas and one.run is None])
        found: dict[str, Answer] = {}

        async def operator() -> None:
            for one in waiting:
                found[one.id] = await self.people.look_up(one)

        await asyncio.gather(*(operator() for _ in range(LOOKED_UP_AT_ONCE)))
        return found

    async def left(self) -> Left:
        """What stands in the tables, on the topics and in the ledger."""
        sagas = {
            row["id"]: Saga(row["id"], row["status"], row["attention"], row["error"])
            for row in await self.observer.fetch("SELECT id, status, attention, error FROM sagabus.saga")
        }
        history = "SELECT id, seq, kind, step, name, ref, payload FROM sagabus.history ORDER BY id, seq"
        for row in await self.observer.fetch(history):
            id, *values = row
            sagas[id].history.append(Line(*values))
        for row in await self.observer.fetch("SELECT saga_id, step, what FROM desk_ledger ORDER BY number"):
            sagas[row["saga_id"]].ledger.append((row["step"], row["what"]))
        early = {row["saga_id"] for row in await self.observer.fetch("SELECT saga_id FROM sagabus.early_request")}
        events, letters = await asyncio.to_thread(self._heard)
        return Left(sagas, events, letters, early)

    def _heard(self) -> tuple[dict[str, set[Event]], set[str]]:
        events: defaultdict[str, set[Event]] = defaultdict(set)
        for headers, value in records_of(self.people.kafka, ["sagabus.events"]):
            if headers["ce_type"] in TOLD:
                events[headers["ce_causationid"]].add(Event(headers["ce_id"], headers["ce_type"], value))
        letters = {headers["ce_id"] for headers, _ in records_of(self.people.kafka, ["sagabus.dead-letters"])}
        return events, letters


def _is_at_rest(saga: dict[str, Any]) -> bool:
    if saga["attention"] or saga["paused"]:
        return True
    return bool(saga["waits"]) and all(wait["kind"] in STANDS for wait in saga["waits"])

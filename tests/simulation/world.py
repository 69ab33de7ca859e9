"""One run: a deployment, its orders, its faults, and the calm after them in which everything has to come to an end."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final
from uuid import UUID

from sagabus.contracts import names
from sagabus.contracts.envelope import Message
from sagabus.contracts.names import SagaId
from sagabus.contracts.requests import event_message, raw_message, start_message
from sagabus.coordinator.core.saga.status import CLOSED
from sagabus.coordinator.shard.loading import ReplayLimits
from sagabus.messaging.shards import held_back
from sagabus.messaging.shards.retention import Retention
from tests.simulation.askers import asked_of
from tests.simulation.bus import Bus
from tests.simulation.engine import FIRST_MOMENT, Deadlock, Engine, Livelock, SimulatedLoop
from tests.simulation.operators import Operators
from tests.simulation.plan import COORDINATORS, PARTICIPANTS, SHARDS, Fault, Order, Schedule
from tests.simulation.postgres import Server
from tests.simulation.process import START, Program, SimulatedProcess
from tests.simulation.statements import Known
from tests.simulation.workload import (
    GO,
    JOURNEY,
    SERVICES,
    Effect,
    Ground,
    Plan,
    Told,
    journey,
    other_journey,
    participant,
)

NAMESPACE: Final = "sagabus"
TOPICS: Final = (
    names.requests_topic(NAMESPACE), names.events_topic(NAMESPACE), names.dead_letters_topic(NAMESPACE),
    *(names.commands_topic(name) for name in SERVICES), *(names.replies_topic(NAMESPACE, name) for name in SERVICES),
    *(names.service_events_topic(name) for name in SERVICES),
)  # fmt: skip

PATIENCE: Final = 150.0
"""Virtual seconds of calm after which what has not come to an end is stuck, where all clocks agree."""

LIMITS: Final[Sequence[dict[str, Any]]] = (
    {},
    {"short_history": 1, "page": 2, "portion": 1, "rows_behind_turn": 1, "samples": 0},
    {"short_history": 5, "page": 3, "portion": 2, "rows_behind_turn": 5, "samples": 0},
    {"rows_within_turn": 10, "portion": 3, "rows_behind_turn": 8, "samples": 0},
)
"""Of replays: sagas of a few rows are to be long ones in most runs, and few ones as if there were very many."""

UNPUBLISHED: Final = (held_back.UNPUBLISHED_MESSAGES, 6, 3, 2)
"""Messages that may wait for the bus before a shard takes no more records in (S9): few, so that it comes to that."""

OPERATOR_LOOKS: Final = 1.7
"""Virtual seconds between two looks of the operator, who cancels what is blocked."""

LOOK_SECONDS: Final = 1.1
"""Virtual seconds between two looks at what is stored of open sagas."""

_CLOSED: Final = frozenset(status.value for status in CLOSED)
_SOURCE: Final = b"/client"


@dataclass
class World:
    """What all processes of a run share."""

    schedule: Schedule
    random: Random = field(init=False)
    engine: Engine = field(init=False)
    server: Server = field(init=False)
    bus: Bus = field(init=False)

    def __post_init__(self) -> None:
        from tests.simulation.programs import CoordinatorProgram, ParticipantProgram

        seed = self.schedule.seed
        self.random = Random(f"world {seed}")
        self.limits = ReplayLimits(**Random(f"limits {seed}").choice(LIMITS))
        self.engine = Engine(Random(f"engine {seed}"))
        self.loop = self.engine.loop("world")
        self.server = Server(self.wall)
        self.statements = Known(NAMESPACE, [names.service_schema(name) for name in SERVICES], self.wall)
        self.bus = Bus(TOPICS, SHARDS, Random(f"bus {seed}"), self.wall, self.later, self.fate)
        self.calm = False
        self.code = journey
        """That coordinators have from their next start on."""
        self.injected: list[Fault] = []
        self.ended = 0
        """Cancels of an operator, of sagas that were blocked."""
        self._seen_blocked: dict[str, int] = {}
        self.sent: list[Message] = []
        self.looked: list[tuple[Any, list[Any]]] = []
        """Open sagas as they stood in the middle of the run: the row of each, and the rows of its history."""
        self._next_look = FIRST_MOMENT
        self.grounds = {name: Ground(name, Random(f"{name} {seed}"), self.wall, lambda: self.calm) for name in SERVICES}
        self.loops_faults: list[str] = []
        self.operators = Operators(self)
        self._graves: list[tuple[SimulatedLoop, Program | None]] = []
        self._on_the_way: dict[str, list[Fault]] = {}
        self._backup: Any = None
        kits = {name: participant(name) for name in SERVICES}

        def coordinator(process: SimulatedProcess) -> Program:
            return CoordinatorProgram(self, process)

        def service(name: str) -> Callable[[SimulatedProcess], Program]:
            return lambda process: ParticipantProgram(self, process, kits[name], self.grounds[name])

        self.processes = {name: self._process(name, coordinator) for name in COORDINATORS}
        self.processes |= {name: self._process(name, service(name.partition("-")[0])) for name in PARTICIPANTS}

    def _process(self, name: str, make: Callable[[SimulatedProcess], Program]) -> SimulatedProcess:
        skews = [f.amount for f in self.schedule.faults if f.kind == "skew" and f.target == name]
        random = Random(f"{name} {self.schedule.seed}")
        return SimulatedProcess(self, name, make, random, skew=skews[0] if skews else 0.0)

    # What parts ask of it.

    def wall(self) -> float:
        """Seconds since 1970."""
        return START + self.engine.now - FIRST_MOMENT

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        self.loop.call_later(seconds, action)

    def uuid(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def run_id(self) -> UUID:
        """For each run of a saga its own (S13)."""
        return self.uuid()

    def died(self, loop: SimulatedLoop, program: Program | None) -> None:
        self.loops_faults += loop.faults
        self._graves.append((loop, program))

    def killed(self, process: SimulatedProcess) -> None:
        """At a boundary, from within."""
        process.kill()
        self.later(2.0, process.boot)

    def fate(self, topic: str) -> list[float]:
        """After what pauses a record arrives, each time that it does."""
        kind = "commands" if topic.endswith(".commands") else "replies" if ".replies." in topic else ""
        waiting = self._on_the_way.get(kind)
        if not waiting:
            return [0.0]
        fault = waiting.pop(0)
        return {"lose": [], "copy": [0.0, fault.amount], "delay": [fault.amount]}[fault.kind]

    # The run.

    def run(self) -> str | None:
        """None, or why it did not come to an end. Garbage is not collected meanwhile: destructors are not to choose."""
        collecting, unpublished = gc.isenabled(), held_back.UNPUBLISHED_MESSAGES
        gc.disable()
        try:
            held_back.UNPUBLISHED_MESSAGES = Random(f"unpublished {self.schedule.seed}").choice(UNPUBLISHED)  # type: ignore[misc]
            return self._run()
        finally:
            held_back.UNPUBLISHED_MESSAGES = unpublished  # type: ignore[misc]
            self._bury()
            if collecting:
                gc.enable()

    def _run(self) -> str | None:
        for process in self.processes.values():
            self.later(self.random.uniform(0.0, 0.3), process.boot)
        for order in self.schedule.orders:
            self._announce(order)
            self.operators.announce(order)
        for fault in self.schedule.faults:
            self.later(max(0.0, fault.at), lambda f=fault: self._inject(f))  # type: ignore[misc]
        if self.schedule.blocks:
            self.later(OPERATOR_LOOKS, self._operate)
        times = [order.at for order in self.schedule.orders] + [fault.at for fault in self.schedule.faults]
        end = max(times, default=0.0) + 15.0
        try:
            self.engine.run(lambda: self._quiet_early(end), limit=FIRST_MOMENT + end)
            self._calm_down()
            done = self.engine.run(self.quiet, limit=self.engine.now + self._patience)
        except Deadlock:
            return "nothing can move it"
        except Livelock as error:
            return f"callbacks without end in {error}"
        return None if done else f"after {self._patience:.0f} s of calm"

    @property
    def _patience(self) -> float:
        """What one process has set for later is due by the clock of the next one: so much later as they are apart."""
        clocks = [process.skew for process in self.processes.values()]
        return PATIENCE + max(clocks) - min(clocks)

    def _quiet_early(self, end: float) -> bool:
        """Once all has been sent and injected, there is no need to wait for the end of the faulty time."""
        if self.engine.now >= self._next_look:
            self._next_look = self.engine.now + LOOK_SECONDS
            self._look()
        return (
            len(self.injected) == len(self.schedule.faults)
            and self.engine.now - FIRST_MOMENT > end - 14.0
            and self.quiet()
        )

    def _look(self) -> None:
        """It changes nothing, and no process notices."""
        are_open = {
            (row["id"], row["run"]): (row, list[Any]()) for row in self.sagas()
            if row["status"] not in _CLOSED and row["decided"] is None
        }  # fmt: skip
        for (id, run, _), row in self.server.table((NAMESPACE, "history")).items():
            if (id, run) in are_open:
                are_open[id, run][1].append(row)
        self.looked += are_open.values()

    def _calm_down(self) -> None:
        self.calm = True
        self.server.up = True
        self.bus.back()
        self._on_the_way.clear()
        for process in self.processes.values():
            process.kill_at = 1 << 60
            process.commits.clear()
            process.publications.clear()
            process.go_on()
            process.boot()
        self.operators.resume_all()

    def history(self, id: str) -> list[Any]:
        """All rows of a saga, of all its runs."""
        return [row for key, row in self.server.table((NAMESPACE, "history")).items() if key[0] == id]

    def ledger(self) -> list[Effect]:
        """What handlers have entered within transactions, service by service, in order."""
        return [
            row["effect"]
            for name in SERVICES
            for _, row in sorted(self.server.table((f"business_{name}", "effect")).items())
        ]

    def sagas(self) -> list[Any]:
        return list(self.server.table((NAMESPACE, "saga")).values())

    def quiet(self) -> bool:
        """Everything that was ordered has ended, or waits for a person; nothing is left to be sent, or to be read."""
        rows = self.sagas()
        if {row["id"] for row in rows} < {order.id for order in self.schedule.orders}:
            return False
        if any(row["status"] not in _CLOSED and _goes_on(row["attention"]) for row in rows) or self._blocked():
            return False
        if any(self.server.table((schema, name)) for schema in self.schemas for name in ("outbox", "outbox_parked")):
            return False
        return not self._unread()

    def _unread(self) -> bool:
        """Whether a coordinator has records to read. A terminated saga has ended before all answers to it are read."""
        for row in self.server.table((NAMESPACE, "shard")).values():
            for name, read in row["topics"].items():
                topic = self.bus.topics.get(name)
                if topic is not None and topic.id == read["id"] and len(topic.logs[row["shard"]]) > read["next"]:
                    return True
        return False

    def _blocked(self) -> list[Any]:
        """Sagas that an operator is going to cancel."""
        rows = self.sagas() if self.schedule.blocks else []
        return [row for row in rows if row["status"] not in _CLOSED and row["decided"] is not None]

    @property
    def schemas(self) -> list[str]:
        return [NAMESPACE, *(names.service_schema(name) for name in SERVICES)]

    # Orders.

    def _announce(self, order: Order) -> None:
        time = round(START * 1_000_000)
        plan = Plan(program=order.program, legs=order.legs)
        start = start_message(
            JOURNEY.of(plan),
            id=order.id,
            namespace=NAMESPACE,
            message_id=f"start-{order.id}",
            source=_SOURCE,
            time=time,
        )
        if order.mistyped:
            body: dict[str, Any] = {"type": "start", "saga": "jurney", "input": plan.model_dump()}
            start = self._request(order.id, body, f"start-{order.id}")
        if order.astray:  # as a producer that hashes by CRC32 does it
            start = _to_partition(start, self.random.randrange(SHARDS))
        for copy in range(order.copies):
            self.later(order.at + copy * 0.7, lambda: self.send(start))
        if order.cancel_at is not None:
            cancel = self._request(order.id, {"type": "cancel", "reason": "changed my mind"}, f"cancel-{order.id}")
            self.later(max(0.0, order.cancel_at), lambda: self.send(cancel))
        for at, asked in asked_of(order, seed=self.schedule.seed, namespace=NAMESPACE, time=time):
            self.later(at, lambda asked=asked: self.send(asked))  # type: ignore[misc]
        if order.event_at is not None:
            go = event_message(
                GO.of(Told(saga=order.id, number=0)), saga_id=order.id, namespace=NAMESPACE,
                message_id=f"go-{order.id}", source=_SOURCE, time=time,
            )  # fmt: skip
            self.later(max(0.0, order.event_at), lambda: self.send(go))

    @staticmethod
    def _request(id: str, body: dict[str, Any], message_id: str) -> Message:
        time = round(START * 1_000_000)
        return raw_message(body, saga_id=id, namespace=NAMESPACE, message_id=message_id, source=_SOURCE, time=time)

    def _operate(self) -> None:
        """An operator looks, and cancels what was blocked at the last look too."""
        blocked = {row["id"]: row["decided"] for row in self._blocked()}
        for id in blocked.keys() & self._seen_blocked.keys():
            self.ended += 1
            self.send(self._request(id, {"type": "cancel", "reason": "it is blocked"}, f"end-{id}-{self.ended}"))
        self._seen_blocked = blocked
        self.later(OPERATOR_LOOKS, self._operate)

    def send(self, message: Message) -> None:
        self.sent.append(message)
        self._deliver(message)

    def _deliver(self, message: Message) -> None:
        """A client keeps trying."""
        if self.bus.up:
            self.bus.send(message)
        else:
            self.later(0.5, lambda: self._deliver(message))

    def _send_all_again(self) -> None:
        """Clients whose requests were lost with the bus; in another order than before, but each its own in order. The
        new log has the old one's records at other places then: who reads on at an old place misses some."""
        of_sagas: dict[str, list[Message]] = {}
        for message in self.sent:
            of_sagas.setdefault(message.saga_id, []).append(message)
        for messages in reversed([*of_sagas.values()]):
            for message in messages:
                self._deliver(message)

    # Faults.

    def _inject(self, fault: Fault) -> None:
        self.injected.append(fault)
        process = self.processes.get(fault.target)
        if process is not None:
            self._inject_into(process, fault)
            return
        match fault.kind:
            case "database_down":
                self.server.up = False
                self.server.crash()
                self.later(fault.amount, lambda: setattr(self.server, "up", True))
            case "bus_down":
                self.bus.up = False
                self.later(fault.amount, self.bus.back)
            case "rebalance":
                group = self.bus.groups.get(self._group(fault.target))
                if group is not None:
                    group.rebalance()
            case "lose" | "copy" | "delay":
                self._on_the_way.setdefault(fault.target, []).append(fault)
            case "replace_bus":
                self.bus.replace()
                self.later(1.0, self._send_all_again)
            case "remake_topic":
                self._remake(fault.target)
            case "prune":
                """From the beginning: see `retention`."""
            case "refuse":
                self.bus.refused.add(fault.target)
                self.later(fault.amount, lambda: self._release(fault.target))
            case "deploy":
                self._deploy(other_journey)
                self.later(fault.amount, lambda: self._deploy(journey))
            case "reuse":
                self._reuse(fault.target)
            case "restore":
                self._backup = self.server.copy(NAMESPACE)
                self.later(fault.amount, lambda: self.server.restore(self._backup, NAMESPACE))
            case _:
                raise AssertionError(fault)

    def _inject_into(self, process: SimulatedProcess, fault: Fault) -> None:
        match fault.kind:
            case "kill":
                process.kill()
                self.later(fault.amount, process.boot)
            case "kill_at":
                process.kill_at = process.boundaries + int(fault.amount)
            case "stop":
                process.stop()
                self.later(fault.amount, process.go_on)
            case "terminate":
                if process.alive:
                    process.loop.create_task(process.terminate())
                self.later(fault.amount, process.boot)
            case "commit_really" | "commit_never":
                process.commits[process.committed + int(fault.amount)] = fault.kind.removeprefix("commit_")
            case "publish":
                process.publications[process.published + 1] = fault.amount
            case "cut":
                for backend in [each for each in self.server.backends if each.process is process]:
                    backend.end()
            case "skew":
                """From the beginning."""
            case _:
                raise AssertionError(fault)

    def _deploy(self, code: Any) -> None:
        """Coordinators are started with this code, one after the other."""
        self.code = code
        for number, name in enumerate(COORDINATORS):
            process = self.processes[name]
            self.later(number * 0.9, process.kill)
            self.later(number * 0.9 + 0.4, process.boot)

    def _remake(self, which: str) -> None:
        for name in TOPICS:
            if name.endswith(f".{which}") or f".{which}." in name:
                self.bus.make_anew(name)
        for group in self.bus.groups.values():
            group.rebalance()
        if which == "requests":
            self.later(1.0, self._send_all_again)

    def retention(self, service: str) -> Retention | None:
        """A window of seconds, where days would be right: what is old is forgotten while copies of it are under way."""
        windows = [fault.amount for fault in self.schedule.faults if (fault.kind, fault.target) == ("prune", service)]
        return Retention(inbox=windows[0]) if windows else None

    def _release(self, id: str) -> None:
        """The cause is cured, and a person has what is parked sent again; once more, if more was parked meanwhile."""
        self.bus.refused.discard(id)
        for schema in self.schemas:
            parked = self.server.table((schema, "outbox_parked"))
            for key, row in parked.items():
                if row["saga_id"] == id:
                    parked[key] = {**row, "released_at": self.wall(), "release_reason": "cured"}
        self.later(3.0, lambda: self._release(id))

    def _reuse(self, id: str) -> None:
        """Retention has removed a closed saga, and later what was remembered of its id, which is then used again."""
        orders = [order for order in self.schedule.orders if order.id == id]
        rows = [row for row in self.sagas() if row["id"] == id]
        if not orders or not rows or any(row["status"] not in _CLOSED or row["attention"] for row in rows):
            return
        if self._is_coming_back(id):
            self.later(0.5, lambda: self._reuse(id))
            return
        for name in ("saga", "history"):
            table = self.server.table((NAMESPACE, name))
            for key in [key for key in table if key[0] == id]:
                del table[key]
        self.sent = [message for message in self.sent if message.saga_id != id]
        legs = [leg.model_copy(update={"service": "beta", "mood": "fine"}) for leg in orders[0].legs[::-1]]
        self._announce(orders[0].model_copy(update={"at": 0.0, "legs": legs, "program": "line", "copies": 1}))

    def _is_coming_back(self, id: str) -> bool:
        """A coordinator is reading it, for a late event. Retention is part of the same process, and an id is remembered
        for weeks after it: both cannot be gone while that lasts."""
        from tests.simulation.programs import CoordinatorProgram

        return any(
            memory.replays.of(SagaId(id)) is not None
            for process in self.processes.values()
            if isinstance(process.program, CoordinatorProgram)
            for memory in process.program.processor._memories.values()
        )

    def _group(self, name: str) -> str:
        return NAMESPACE if name == "coordinator" else names.service_schema(name)

    # Afterwards.

    def _bury(self) -> None:
        for process in self.processes.values():
            process.kill()
        for loop, program in self._graves:
            if program is not None:
                program.bury()
            loop.bury()
        self.loops_faults += self.loop.faults
        self.loop.bury()


def _goes_on(attention: str | None) -> bool:
    """Whether an open saga moves by itself: also one whose undo has failed so often that a person should look."""
    return attention is None or "sagabus.handler_error" in attention


def _to_partition(message: Message, partition: int) -> Message:
    return replace(message, partition=partition)

"""Holds a finished run against the promise: what stands in the tables, in the ledgers and in the logs.

Every violation is a sentence. What a fault explains is excused, and nothing else is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sagabus.contracts import names
from sagabus.contracts.commands import Addresses
from sagabus.contracts.envelope import source_of, unpack_headers
from sagabus.coordinator.core.saga.concern import read_concerns
from sagabus.coordinator.core.saga.events import read_events
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.replay import restore
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.core.saga.standing import Standing
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import CLOSED, Outcome, SagaStatus
from sagabus.coordinator.core.saga.step import Step
from sagabus.coordinator.store.columns import HISTORY
from tests.simulation import answers, verbs
from tests.simulation.bus import LoggedRecord
from tests.simulation.workload import CODES, SERVICES, Effect, journey
from tests.simulation.world import NAMESPACE, World

EXCUSES: Final = {
    "prune": ("sagabus.inbox_expired",),
    "restore": ("history was lost", "never sent", "sagabus.id_reused", "sagabus.inbox_expired"),
}
"""Kinds of faults, and what attention may say because of them."""


_AFTER_TERMINATION: Final = ("succeeded after the saga had ended",)
"""What attention may say of a saga that an operator has ended (U8)."""

LAST: Final = {status: f"sagabus.saga.{status}" for status in ("completed", "compensated", "cancelled", "terminated")}
"""After its end nothing more is told of a saga (U3)."""


AFTERWARDS: Final = ("sagabus.saga.attention", "sagabus.request.")
"""A closed saga may wait for a person, and be let go; and it answers what is asked of it."""


def check(world: World, stuck: str | None) -> list[str]:
    """The violations of one run; an empty list is what we want."""
    found = list(world.loops_faults)
    found += _Check(world, stuck).violations()
    return found


class _Check:
    def __init__(self, world: World, stuck: str | None) -> None:
        self._world = world
        self._stuck = stuck
        kinds = world.schedule.kinds
        self._restored = "restore" in kinds
        self._bus_lost = bool(kinds & {"replace_bus", "remake_topic"})
        self._excused = [words for kind in kinds for words in EXCUSES.get(kind, ())]
        self._effects = _effects(world)
        self._counts = Counter((effect.undo, effect.step) for effect in self._effects)

    def violations(self) -> Iterator[str]:
        rows = self._world.sagas()
        yield from self._doubled()
        for order in self._world.schedule.orders:
            mine = [row for row in rows if row["id"] == order.id]
            if not mine:
                yield f"the start of {order.id} was lost"
            if len(mine) > 1:
                yield f"{order.id} became {len(mine)} sagas"
        for row in rows:
            yield from self._saga(row)
        for row, history in self._world.looked:
            yield from _events(row, _replayed(row, history)[0].state)
        yield from self._outboxes()
        yield from _commands(self._world.bus.published, restored=self._restored)
        if not (self._bus_lost or self._restored):
            yield from self._answers()
            yield from _lifecycle(self._world.bus.published, rows, reused="reuse" in self._world.schedule.kinds)

    def _answers(self) -> Iterator[str]:
        """A run that was removed takes along what was asked of it."""
        if "reuse" in self._world.schedule.kinds:
            return
        yield from answers.check(self._world, NAMESPACE)

    def _doubled(self) -> Iterator[str]:
        for (undo, step), times in self._counts.items():
            if times > 1:
                yield f"the {'undo' if undo else 'effect'} of {step} was committed {times} times"

    def _saga(self, row: Mapping[str, Any]) -> Iterator[str]:
        rows = self._world.server.table((NAMESPACE, "history")).items()
        saga, history = _replayed(row, [of for (id, run, _), of in rows if (id, run) == (row["id"], row["run"])])
        state = saga.state
        yield from _history(row, history)
        yield from verbs.of_history(row["id"], history, restored=self._restored)
        if not self._restored:
            yield from verbs.sent_while_paused(row["id"], row["run"], history, self._world.bus.published)
        if row["status"] == SagaStatus.TERMINATED:
            yield from self._left_behind(row, history)
        yield from _events(row, state)
        if row["attention"] is not None and not self._excusable(row):
            yield f"{row['id']} waits for a person without need: {row['attention']}"
        if row["attention"] is not None:
            return
        if SagaStatus(row["status"]) not in CLOSED:
            yield f"{row['id']} is silently stuck in {row['status']} ({self._stuck})"
            return
        if state.blocked:
            yield f"{row['id']} cannot be replayed: {state.attention}"
            return
        if state.status != row["status"]:
            yield f"the history of {row['id']} leads to {state.status}, its row says {row['status']}"
        if row["status"] != SagaStatus.TERMINATED:
            for step in state.steps.values():
                yield from self._step(row, step)
            yield from self._order_of_undos(row, history, state)
        yield from self._slot(row, state)
        left = [key for key in self._world.server.table((NAMESPACE, "timer")) if key[1] == row["id"]]
        if left:
            yield f"{row['id']} has ended and left timers: {left}"

    def _excusable(self, row: Mapping[str, Any]) -> bool:
        excused = [*self._excused, *(_AFTER_TERMINATION if row["status"] == SagaStatus.TERMINATED else ())]
        return any(words in row["attention"] for words in excused)

    def _left_behind(self, row: Mapping[str, Any], history: Sequence[Row]) -> Iterator[str]:
        run = f"{row['id']}:{row['run']}:"
        inside = [effect for effect in self._world.ledger() if effect.step.startswith(run)]
        undone = {effect.step for effect in inside if effect.undo}
        done = [int(one.step.removeprefix(run)) for one in inside if not one.undo and one.step not in undone]
        lost = self._bus_lost or self._restored
        yield from verbs.left_behind(row, history, done, () if lost else self._world.bus.published)

    def _step(self, row: Mapping[str, Any], step: Step) -> Iterator[str]:
        id = names.command_id(row["id"], row["run"], step.number)
        done, undone = self._counts[False, id], self._counts[True, id]
        what = f"{row['id']} ended {row['status']}, yet step {step.number} ({step.activity}, {step.outcome})"
        outside = step.activity.endswith("call_out")
        if row["status"] == SagaStatus.COMPLETED and step.outcome is Outcome.COMPLETED and step.undo is None:
            if (done, undone) != (1, 0):
                yield f"{what} has effect {done} and undo {undone}"
        elif step.outcome is Outcome.COMPLETED:
            if done != undone:
                yield f"{what} has effect {done} and undo {undone}"
        elif done != undone and not outside:
            yield f"{what} has effect {done} and undo {undone}"
        elif outside and undone:
            yield f"{what} was undone {undone} times"

    def _order_of_undos(self, row: Mapping[str, Any], history: Sequence[Row], state: SagaState) -> Iterator[str]:
        """By the rows of history and the ledgers alone: what the core makes of them is not asked (U5)."""
        if row["status"] == SagaStatus.COMPLETED:
            return
        run = f"{row['id']}:{row['run']}:"
        undone = [int(e.step.removeprefix(run)) for e in self._effects if e.undo and e.step.startswith(run)]
        if unknown := [n for n in undone if n not in state.steps]:
            yield f"{row['id']} was undone in the steps {unknown}, of which its history knows nothing"
        planned = [n for n in undone if n in state.steps and state.steps[n].settle is None]
        completed = list(dict.fromkeys(one.step for one in verbs.as_decided(history) if _says_completed(one)))
        wanted = [n for n in reversed(completed) if n in planned]
        if planned != wanted:
            yield f"{row['id']} was undone in the order {planned}, not {wanted}"

    def _slot(self, row: Mapping[str, Any], state: SagaState) -> Iterator[str]:
        """A late undo of an older step must not undo a newer one with the same business key (U4).

        Steps that were under way side by side are their author's to tell apart.
        """
        if row["status"] != SagaStatus.COMPLETED:
            return
        kept = [s for s in state.steps.values() if s.outcome is Outcome.COMPLETED and s.undo is None]
        for service in SERVICES:
            undone = [s for s in state.steps.values() if s.service == service and s.undo is not None]
            begun = max((one.issued for s in undone if (one := s.settle or s.undo)), default=0)
            ours = [s for s in kept if s.service == service and s.activity.endswith(".hold") and s.do.issued >= begun]
            slot = self._world.server.table((f"business_{service}", "slot")).get((row["id"],))
            if ours and slot is None:
                yield f"{row['id']}: an undo has taken away what step {ours[-1].number} holds at {service}"

    def _outboxes(self) -> Iterator[str]:
        for schema in self._world.schemas:
            left = self._world.server.table((schema, "outbox"))
            if left:
                yield f"{len(left)} messages of {schema} were never published"


def _replayed(row: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> tuple[Saga, list[Row]]:
    """rows: of its history."""
    mine = sorted(rows, key=_seq)
    history = [Row(**{**{name: r[name] for name in HISTORY}, "kind": Kind(r["kind"])}) for r in mine]
    addresses = Addresses(NAMESPACE, source_of(NAMESPACE), row["id"], row["run"], row["shard"])
    state = SagaState(addresses, definition=row["definition"], version=1, trace=unpack_headers(row["trace"]))
    state.standing = Standing(concerns=read_concerns(None, attention=row["attention"]))
    state.input_hash = row["input_hash"]
    code = CODES.get(row["fingerprint"], journey)
    saga = restore(state, code, history, status=SagaStatus(row["status"]), now=row["last_now"])
    saga.evict()
    return saga, history


def _events(row: Mapping[str, Any], state: SagaState) -> Iterator[str]:
    """What is stored of the events that it waits for, or has kept, is what its replay makes of its history."""
    stored, replayed = read_events(row["events"]), state.standing.events
    if SagaStatus(row["status"]) in CLOSED and stored is not None:
        yield f"{row['id']} has ended, and {stored} is stored of its events"
    elif SagaStatus(row["status"]) not in CLOSED and not state.blocked and stored != replayed:
        yield f"{row['id']} stores {stored} of its events, a replay makes {replayed}"


def _says_completed(row: Row) -> bool:
    return row.kind is Kind.STEP_COMPLETED or (row.kind, row.name) == (Kind.OPERATOR, "complete")


def _seq(row: Mapping[str, Any]) -> int:
    return int(row["seq"])


def _effects(world: World) -> list[Effect]:
    """In the order in which they were entered; those outside of the database first."""
    inside: list[tuple[int, Effect]] = []
    for name in SERVICES:
        inside += [
            (row["number"], row["effect"]) for row in world.server.table((f"business_{name}", "effect")).values()
        ]
    outside = [effect for ground in world.grounds.values() for effect in ground.outside.values()]
    return outside + [effect for _, effect in sorted(inside, key=lambda item: item[0])]


def _history(row: Mapping[str, Any], history: Sequence[Row]) -> Iterator[str]:
    numbers = [one.seq for one in history]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"the history of {row['id']} has the rows {numbers}"
    times = [one.at for one in history]
    if times != sorted(times):
        yield f"time ran backwards in the history of {row['id']}"


def _header(record: LoggedRecord, name: str) -> str:
    return next((value.decode() for key, value in record.headers if key == name), "")


def _commands(published: Iterable[LoggedRecord], *, restored: bool) -> Iterator[str]:
    """All copies of one command are alike: same type, same body, same first issue (P6, P5)."""
    first: dict[str, tuple[str, bytes | None, str]] = {}
    for record in published:
        if not record.topic.endswith(".commands"):
            continue
        id = _header(record, "ce_id")
        same = (_header(record, "ce_type"), record.value, _header(record, "ce_issued"))
        if first.setdefault(id, same) != same and not restored:
            yield f"two copies of command {id} differ: {first[id]} and {same}"


def _lifecycle(published: Iterable[LoggedRecord], rows: Sequence[Mapping[str, Any]], *, reused: bool) -> Iterator[str]:
    """First copies left in order and without gaps; copies are alike."""
    seen: dict[tuple[str, str], list[int]] = {}
    last: dict[tuple[str, str], str] = {}
    bodies: dict[str, bytes | None] = {}
    for record in published:
        sequence = _header(record, "ce_sequence")
        if record.topic != names.events_topic(NAMESPACE) or not sequence:
            continue
        id = _header(record, "ce_id")
        if bodies.setdefault(id, record.value) != record.value:
            yield f"two copies of {id} differ"
        mine = seen.setdefault((_header(record, "ce_subject"), _header(record, "ce_run")), [])
        if int(sequence) not in mine:
            mine.append(int(sequence))
            type = _header(record, "ce_type")
            if not type.startswith(AFTERWARDS):
                last[_header(record, "ce_subject"), _header(record, "ce_run")] = type
    for row in rows:
        got = seen.pop((row["id"], row["run"]), [])
        if got != list(range(1, len(got) + 1)) or len(got) < row["sequence"]:
            yield f"the events of {row['id']} left as {got}; there are {row['sequence']}"
        told, ends = last.get((row["id"], row["run"])), LAST.get(row["status"])
        if ends and row["attention"] is None and told != ends:
            yield f"{row['id']} is {row['status']}, and the last that was told of it is {told}"
    for id, run in () if reused else seen:
        yield f"events told of a run {run} of {id} that does not exist"


def kind_of(violation: str) -> str:
    """Violations that differ only in numbers and names are of one kind."""
    return re.sub(r"ORD-\d+|[0-9a-f]{12}|\d+|\(.*?\)|\[.*?\]", "#", violation)

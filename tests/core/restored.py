"""A saga that is restored from its rows after every turn, and has to be the same each time.

This is the property "any prefix of a history replays to the same commands": the rows after a turn are a prefix that
ends before an input, so every history that a test makes is tried at all its places. The saga's row and its timers are
kept as tables would keep them, from the effects alone. What must hold for every saga at any time is watched as well:
rows and lifecycle events without a gap, no close and no new command to a service before the undos there are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from sagabus.contracts import Activity, declared
from sagabus.contracts.commands import Addresses
from sagabus.contracts.envelope import Message, source_of
from sagabus.contracts.names import CommandKind, RunId, SagaId
from sagabus.coordinator.core.saga.admission import PAUSED
from sagabus.coordinator.core.saga.concern import concerns_json, read_concerns
from sagabus.coordinator.core.saga.effects import IN_MEMORY, Effects, TimerKey, TimerKind
from sagabus.coordinator.core.saga.events import Events, events_json, read_events
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.order import in_order
from sagabus.coordinator.core.saga.program import Code, Program
from sagabus.coordinator.core.saga.replay import _again, restore
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.core.saga.standing import Standing
from sagabus.coordinator.core.saga.state import Declared, SagaState
from sagabus.coordinator.core.saga.status import CLOSED, SagaStatus
from sagabus.coordinator.definition import SagaDefinition
from tests.core.told_by_rows import differences
from tests.core.wire import Lifecycle, Output, Sent

T0 = 1_700_000_000_000_000
MILLISECOND = 1_000
SHARD = 3

ENDS = (Kind.UNDO_COMPLETED, Kind.SETTLE_NEVER, Kind.SETTLE_COMPLETED)
"""Replies that end an undo or a settle."""

Definition = SagaDefinition[Any, Any]

_alive: list[Restored] = []


def forget_all() -> None:
    """Evict every saga that a test has left half-way: Python would run its `finally` blocks when it is collected."""
    while _alive:
        _alive.pop().saga.evict()


def count_all() -> None:
    for saga in _alive:
        saga.check_count()


@dataclass(slots=True)
class Stored:
    """The saga's row."""

    status: SagaStatus = SagaStatus.RUNNING
    concerns: bytes = b"[]"
    result: bytes | None = None
    error: bytes | None = None
    closed_at: int | None = None
    fingerprint: str = ""
    paused: bool = False
    events: Events | None = None
    attributes: bytes | None = None

    @classmethod
    def of(cls, state: SagaState) -> Self:
        concerns = concerns_json(state.concerns)
        status, closed_at, result, error, fingerprint, paused, events, attributes = state.standing[1:]
        return cls(status, concerns, result, error, closed_at, fingerprint, paused, events, attributes)

    def standing(self) -> Standing:
        concerns = read_concerns(self.concerns, attention=None)
        return Standing(
            concerns, self.status, self.closed_at, self.result, self.error, self.fingerprint, self.paused,
            read_events(events_json(self.events)), self.attributes,
        )  # fmt: skip


class Restored:
    """One saga and what is stored of it. Its clock moves a millisecond with each input."""

    def __init__(self, code: Definition | None, *, id: str = "O-1", name: str = "saga") -> None:
        self.code: Code | None = code
        self.id = id
        self.name = name
        self.now = T0
        self.rows: list[Row] = []
        self.timers: dict[TimerKey, int] = {}
        self.stored = Stored()
        self.last = Output()
        self.all = Output()
        self.effects = Effects()
        """Of what it has taken last, as they were drained."""
        self.contracts: dict[int, Activity[..., Any, Any]] = {}
        """Of the steps, as they were called; a saga that is blocked, or without its code, may not have them."""
        self.declared: Declared = declared.activities
        """Where a saga without its code looks for contracts."""
        self.may_fail = False
        """Whether a fault of sagabus is part of the test."""
        self._undoing: dict[int, str] = {}
        self._sent: set[str] = set()
        self.saga = Saga(self.fresh(), code, contracts=self._declared)
        _alive.append(self)

    def _declared(self, activity: str) -> Sequence[Activity[..., Any, Any]]:
        return self.declared(activity)

    @property
    def state(self) -> SagaState:
        return self.saga.state

    def fresh(self) -> SagaState:
        addresses = Addresses("sagabus", source_of("sagabus"), SagaId(self.id), RunId("r1"), SHARD)
        return SagaState(addresses, definition=self.name, version=1)

    def take(self, input: Input) -> str | None:
        """A turn with one input: offer it, commit what follows, check all that must hold."""
        word = self.offer(input)
        self.commit()
        return word

    def offer(self, input: Input) -> str | None:
        """One of several inputs of a turn; `commit` ends the turn."""
        self.now += MILLISECOND
        word = self.saga.take(input, now=self.now)
        if input.kind is Kind.TIMER and input.name in IN_MEMORY and word != PAUSED:
            self.timers.pop(TimerKey(TimerKind(input.name), input.step), None)
        if word is None and (input.kind in ENDS or (input.kind, input.name) == (Kind.OPERATOR, "complete")):
            self._undoing.pop(input.step, None)
        return word

    def commit(self) -> Output:
        effects = self.saga.drain()
        self._store(effects)
        self._check()
        if (effects.rows or effects.timers_set) and not self.saga.wants_its_history:
            self._check_restored()
            self._check_rows()
        return self.last

    def reload(self, code: Definition | None = None, *, keep_code: bool = True) -> Output:
        """Another process goes on, with the same code, with the one given, or (keep_code=False) without any."""
        self.code = code if code or not keep_code else self.code
        self.saga.evict()
        self.saga = self.restored()
        self.commit()
        self.check_count()
        return self.last

    def restored(self) -> Saga:
        state = self.fresh()
        state.standing = self.stored.standing()
        return restore(state, self.code, self.rows, status=self.stored.status, now=self.now, contracts=self._declared)

    def _store(self, effects: Effects) -> None:
        self.effects = effects
        if effects.saga_changed or not self.rows:
            self.stored = Stored.of(self.state)
        self.rows += [replace(row, sequence=effects.sequence) for row in effects.rows]
        assert not effects.timers_cleared & effects.timers_set.keys()
        if effects.timers_dropped:
            self.timers.clear()
        for key in effects.timers_cleared:
            self.timers.pop(key, None)
        self.timers.update(effects.timers_set)
        if not self.state.blocked:
            called = {number: step.contract for number, step in self.state.steps.items()}
            self.contracts = called if self.state.contracts is None else called | self.contracts
        self.last = Output()
        for message in effects.messages:
            self._note(message)
        self.all.add(self.last)

    def _note(self, message: Message) -> None:
        assert message.saga_id == self.id
        if message.topic.endswith(".commands"):
            self._note_command(message, Sent.of(message))
        elif message.topic == "sagabus.events":
            self._note_lifecycle(Lifecycle.of(message))
        else:
            self.last.events.append(message)

    def _note_command(self, message: Message, sent: Sent) -> None:
        head = sent.head
        assert (head.saga_id, head.run, message.partition, head.reply_partition) == (self.id, "r1", SHARD, SHARD)
        if head.kind is not CommandKind.DO:
            self._undoing[head.step] = sent.service
        elif head.id not in self._sent:
            free = not self.state.blocked and not self.state.steps[head.step].waits
            assert free or sent.service not in self._undoing.values(), (
                f"U4: {sent.short} while {self._undoing} are undone"
            )
        self._sent.add(head.id)
        self.last.commands.append(sent)

    def _note_lifecycle(self, made: Lifecycle) -> None:
        if not made.sequence:
            self.last.rejections.append(made)
            return
        if made.type == "sagabus.compensation.skipped":
            self._undoing.pop(made.body["step"], None)
        closes = made.type.removeprefix("sagabus.saga.") in CLOSED - {SagaStatus.TERMINATED}
        assert not (closes and self._undoing), f"U3: {made.type} while {self._undoing} are undone"
        self.last.lifecycle.append(made)

    def _check(self) -> None:
        assert [row.seq for row in self.rows] == list(range(1, len(self.rows) + 1))
        assert [row.at for row in self.rows] == sorted(row.at for row in self.rows)
        sequences = [event.sequence for event in self.all.lifecycle]
        assert [*sequences, self.state.sequence] == [*range(1, len(sequences) + 1), len(sequences)]
        assert self.may_fail or not (self.state.attention or "").startswith("sagabus itself"), self.state.attention
        assert self.stored == Stored.of(self.state)
        if not self.state.blocked:
            assert self.timers == self.state.timers

    def _check_restored(self) -> None:
        copy = self.restored()
        effects = copy.drain()
        try:
            assert (effects.rows, effects.messages, effects.saga_changed) == ([], [], False)
            assert picture(copy) == picture(self.saga)
            codeless = self.state.contracts is not None
            same = codeless or (self.code is not None and self.code.fingerprint == self.stored.fingerprint)
            armed = {key for key in self.timers if key.kind in IN_MEMORY or not same}
            assert effects.timers_set.keys() == (set() if copy.state.blocked else armed)
            assert not effects.timers_cleared
        finally:
            copy.evict()

    def _check_rows(self) -> None:
        """They tell how far its steps are (U8)."""
        if self.saga.stopped is None and self.state.contracts is None:
            found = differences(self.rows, self.fresh(), self.state)
            assert not found, found

    def check_count(self) -> None:
        """A replay counts the lifecycle events by itself to the number that is stored."""
        if self.state.blocked or self.saga.stopped is not None or not self.rows or self.state.contracts is not None:
            return
        saga = Saga(self.fresh(), self.code)
        inputs, _, _ = in_order(saga.state.journal.replay(self.rows))
        for row in inputs:
            _again(saga, row)
        saga.state.journal.replayed()
        saga.evict()
        assert saga.state.sequence == self.state.sequence


def picture(saga: Saga) -> dict[str, Any]:
    """All of a saga that its history decides. When a copy is due again is not among it."""
    state = saga.state
    seen = {"blocked": state.blocked, "sequence": state.sequence, "row": Stored.of(state), "seq": state.journal.seq}
    if state.blocked:
        return seen
    return seen | {
        "ending": state.ending,
        "steps": state.steps,
        "completions": state.completions,
        "plan": state.plan,
        "rollbacks": _rollbacks(state),
        "events": state.seen_events,
        "requests": (state.answered, state.refusals_since_end),
        "resumed": state.resumed_at,
        "waiting": [(key, row.seq) for key, row in state.waiting.items()],
        "timers": {key: None if key.kind in IN_MEMORY else due for key, due in state.timers.items()},
        "program": None if saga.program is None else _inside(saga.program),
    }


def _rollbacks(state: SagaState) -> object:
    """What its code has asked to be undone, and is not told of yet."""
    found = state.rollbacks
    return found and ({number: (one.plan, one.others) for number, one in found.running.items()}, found.done)


def _inside(program: Program) -> tuple[object, ...]:
    random = program._random
    return (
        program.ended, program.steps, program._publications, sorted(program._awaited), program.unconsumed(),
        program.awaited, program.kept, program.timers(), program.loop.now,
        program._rollbacks, [*(program._undone or ())], program.has_scopes,
        [task.number for task in program.loop.tasks()], None if random is None else random.getstate(), program._patches,
    )  # fmt: skip

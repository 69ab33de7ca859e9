"""A random world around one saga: participants with inboxes, a bus that repeats, reorders and loses, timers, restarts.

The participants keep what rule P1 asks of them: completed and settled are final, a failure is kept with its attempt. A
forgetful one keeps no failures, so that a step may succeed after it was said to have failed. What really happened is in
`done` and `undone`, for a test to compare with what the saga believes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sagabus.contracts import codec
from sagabus.contracts.names import CommandId, CommandKind
from sagabus.coordinator.core.saga.completion import may_be_completed
from sagabus.coordinator.core.saga.effects import TimerKey
from sagabus.coordinator.core.saga.history import Input, Kind
from tests.core.kit import Definition, Drive
from tests.core.services import Done, paid
from tests.core.wire import Sent, an_input, failure

Choose = Callable[[int], int]
"""n -> a number below n."""

MOST_EVENTS: Final = 3
ROUNDS: Final = 200
"""Of the fair end. A saga of these tests needs a few dozen."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of an inbox."""

    outcome: Kind
    attempt: int
    body: bytes


@dataclass
class World:
    drive: Drive
    choose: Choose
    forgetful: bool = False
    inbox: dict[CommandId, Entry] = field(default_factory=dict)
    commands: list[Sent] = field(default_factory=list)
    replies: list[Input] = field(default_factory=list)
    answered: list[Input] = field(default_factory=list)
    done: Counter[int] = field(default_factory=Counter)
    undone: Counter[int] = field(default_factory=Counter)
    events: int = 0

    @classmethod
    def of(cls, code: Definition, choose: Choose, *, forgetful: bool) -> World:
        world = cls(Drive(code).start(), choose, forgetful)
        world.collect()
        return world

    def collect(self) -> None:
        self.commands += self.drive.last.commands
        for row in self.drive.rows:
            if row.kind is Kind.ON_ROLLBACK:
                self.done[row.step] = 1  # what it undoes was done somewhere else

    # What may happen next.

    def happen(self) -> None:
        actions: list[Callable[[], None]] = [self.restart, self.cancel, self.operate]
        if self.commands:
            actions += [self.handle, self.handle, self.handle_again, self.lose]
        if self.replies:
            actions += [self.answer, self.answer, self.answer]
        if self.answered:
            actions.append(self.answer_again)
        if self.drive.timers:
            actions.append(self.fire)
        if self.events < MOST_EVENTS:
            actions.append(self.event)
        actions[self.choose(len(actions))]()
        self.collect()

    def handle(self) -> None:
        self.replies.append(self.carried_out(self.commands.pop(self.choose(len(self.commands)))))

    def handle_again(self) -> None:
        self.replies.append(self.carried_out(self.commands[self.choose(len(self.commands))]))

    def lose(self) -> None:
        del self.commands[self.choose(len(self.commands))]

    def answer(self) -> None:
        arrival = self.replies.pop(self.choose(len(self.replies)))
        self.answered.append(arrival)
        self.drive.take(arrival)

    def answer_again(self) -> None:
        self.drive.take(self.answered[self.choose(len(self.answered))])

    def fire(self) -> None:
        pending = sorted(self.drive.timers)
        self._fire(pending[self.choose(len(pending))])

    def _fire(self, key: TimerKey) -> None:
        self.drive.fire(*key)

    def event(self) -> None:
        self.events += 1
        self.drive.event(paid, {"amount": self.events})

    def restart(self) -> None:
        self.drive.reload()

    def cancel(self) -> None:
        if self.choose(4) == 0:
            self.drive.cancel()

    def operate(self) -> None:
        """An operator pauses and resumes; completes what is known to have happened; ends it, now and then."""
        match self.choose(8):
            case 1 | 2 | 3:
                self.drive.operate("resume" if self.drive.state.paused else "pause")
            case 4 | 5 | 6 if (known := self._known_to_have_happened()) and not self.forgetful:
                number = known[self.choose(len(known))]
                self.drive.operate("complete", number, output={"ref": f"ref-{number}"})
            case 7 if self.choose(3) == 0:
                self.drive.operate("terminate")

    def _known_to_have_happened(self) -> list[int]:
        state = self.drive.state
        return [n for n, step in state.steps.items() if self.done[n] and may_be_completed(state, step)]

    # Participants.

    def carried_out(self, sent: Sent) -> Input:
        head = sent.head
        if head.kind is CommandKind.SETTLE:
            return self._settle(sent)
        kept = self.inbox.get(head.id)
        final = kept is not None and kept.outcome in (Kind.STEP_COMPLETED, Kind.UNDO_COMPLETED, Kind.SETTLE_NEVER)
        if kept is None or not (final or head.attempt <= kept.attempt):
            kept = self._carry_out(sent)
        kind = Kind.STEP_REFUSED if kept.outcome is Kind.SETTLE_NEVER else kept.outcome
        return self._reply(sent, kind, kept.attempt, kept.body)

    def _carry_out(self, sent: Sent) -> Entry:
        head, undo = sent.head, sent.head.kind is CommandKind.UNDO
        entry = self._outcome(head.step, head.attempt, undo=undo)
        final = entry.outcome in (Kind.STEP_COMPLETED, Kind.UNDO_COMPLETED)
        if final or not self.forgetful:
            self.inbox[head.id] = entry
        if final:
            (self.undone if undo else self.done)[head.step] += 1
            assert self.done[head.step] == 1, "U2: an undo of what never happened, or a step done twice"
        return entry

    def _outcome(self, step: int, attempt: int, *, undo: bool) -> Entry:
        completed, refused, failed = (
            (Kind.UNDO_COMPLETED, Kind.UNDO_REFUSED, Kind.UNDO_FAILED)
            if undo
            else (Kind.STEP_COMPLETED, Kind.STEP_REFUSED, Kind.STEP_FAILED)
        )
        match self.choose(8):
            case 1:
                return Entry(refused, attempt, failure("no"))
            case 2 | 3:
                return Entry(failed, attempt, failure("broken"))
            case 4:
                return Entry(failed, attempt, failure("busy", again_after=5))
        return Entry(completed, attempt, b"null" if undo else codec.encode(Done(ref=f"ref-{step}")))

    def _settle(self, sent: Sent) -> Input:
        step = sent.head.inbox_id
        kept = self.inbox.get(step)
        if kept is not None and kept.outcome is Kind.STEP_COMPLETED:
            return self._reply(sent, Kind.SETTLE_COMPLETED, kept.attempt, kept.body)
        self.inbox[step] = Entry(Kind.SETTLE_NEVER, sent.head.attempt, failure("settled"))
        return self._reply(sent, Kind.SETTLE_NEVER, sent.head.attempt, b"null")

    def _reply(self, sent: Sent, kind: Kind, attempt: int, body: bytes) -> Input:
        return an_input(kind, sent.head.step, attempt, sent.service, f"{sent.head.id}:{attempt}:{kind}", body)

    # Faults end.

    def settle_down(self) -> None:
        """Everything is carried out, answered and fired until the saga is closed or nothing moves any more."""
        self.choose = lambda _: 0
        if self.drive.state.paused:
            self.drive.operate("resume")
            self.collect()
        for _ in range(ROUNDS):
            self.collect_all()
            if self.drive.state.is_closed:
                return
            if self.events < MOST_EVENTS + 1:
                self.event()
                self.collect()
            for key in sorted(self.drive.timers):
                self._fire(key)
                self.collect()

    def collect_all(self) -> None:
        while self.commands or self.replies:
            if self.commands:
                self.handle()
            else:
                self.answer()
                self.collect()

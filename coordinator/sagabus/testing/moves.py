"""What may happen around a saga in a simulation, and the world in which it happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from sagabus.contracts import Event
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import HANDLER_ERROR
from sagabus.coordinator.core.saga.history import Input
from sagabus.coordinator.definition import SagaDefinition
from sagabus.testing.asked import Asked
from sagabus.testing.inbox import Inbox
from sagabus.testing.replies import Answer, Outcome, answered, completed, completes_by_itself, failed, refused
from sagabus.testing.saga_in_memory import SagaInMemory, Sent
from sagabus.testing.waits import waits
from sagabus.testing.words import NoAnswer, NotEnded

Answers = Mapping[Any, Answer]
"""By activity."""

MOST_AT_THE_END: Final = 5_000
"""Of what happens after the faults, until the saga has ended."""


_FAILED: Final = failed(HANDLER_ERROR, "the simulation lets it fail", {})


class Move(NamedTuple):
    """which: of those to which it may happen, modulo their number."""

    what: str
    which: int


WEIGHTS: Final[Mapping[str, int]] = {
    "carry": 8, "carry_again": 2, "lose_command": 1, "fail": 2, "fail_for_good": 1, "refuse": 1, "deliver": 8,
    "deliver_again": 2, "lose_reply": 1, "fire": 3, "event": 2, "restart": 2, "cancel": 1,
}  # fmt: skip


def random_moves(seed: int, most: int) -> list[Move]:
    """The same for the same seed, on every machine."""
    random = Random(seed)
    names, weights = list(WEIGHTS), list(WEIGHTS.values())
    return [Move(random.choices(names, weights)[0], random.randrange(1_000)) for _ in range(random.randint(1, most))]


class World:
    """One saga, its participants' inboxes, and a bus that repeats, reorders and loses."""

    def __init__(
        self, definition: SagaDefinition[Any, Any], id: str, answers: Answers, events: Sequence[Event[Any]], *,
        cancels: bool,
    ) -> None:  # fmt: skip
        self.saga = SagaInMemory(definition, id=id)
        self.inbox = Inbox()
        self.told: list[str] = []
        """What has happened, in words."""
        self._answers = {activity.name: answer for activity, answer in answers.items()}
        self._events = list(events)
        self._cancels = cancels
        self._events_told = 0
        self._broken: set[int] = set()
        self._commands: list[Sent] = []
        self._replies: list[tuple[str, Input]] = []
        self._answered: list[tuple[str, Input]] = []

    def start(self, input: BaseModel) -> None:
        self.saga.start(input)
        self._collect()

    def happens(self, move: Move) -> None:
        """Nothing, where it cannot happen now."""
        happen: Callable[[int], None] = getattr(self, f"_{move.what}")
        happen(move.which)
        self._collect()

    def end(self) -> None:
        """The faults are over: everything is carried out, delivered and fired in its order. Raises NotEnded."""
        self.told, told = [], self.told
        while self._events:
            self._event(0)
            self._collect()
        for _ in range(MOST_AT_THE_END):
            if not self._goes_on():
                break
        self.told = told
        if not self.saga.state.is_closed:
            raise NotEnded(f"the saga does not end: {waits(self.saga)}") from self.saga.raised
        self.saga.check_replay()
        self._check_beliefs()

    def _goes_on(self) -> bool:
        keys = self.saga.timers_in_order()
        if self._commands:
            self._carry(0)
        elif self._replies:
            self._deliver(0)
        elif keys and not self.saga.state.is_closed:
            self.saga.fire(keys[0])
        else:
            return False
        self._collect()
        return True

    def _check_beliefs(self) -> None:
        """What participants did is what the saga believes."""
        steps = {step.number: step for step in self.saga.steps()}
        for number, times in Counter(self.inbox.steps_done).items():
            step = steps[number]
            assert times == 1, f"step {number} ({step.activity}) was done {times} times"
            assert step.outcome in ("completed", "unknown"), (
                f"step {number} was done; the saga has it as {step.outcome}"
            )
        for number, times in Counter(self.inbox.steps_undone).items():
            step = steps[number]
            assert times == 1, f"step {number} ({step.activity}) was undone {times} times"
            assert step.undo == "done", f"step {number} was undone; for the saga its undo is {step.undo}"

    def _collect(self) -> None:
        self._commands += self.saga.unread
        self.saga.unread.clear()

    # Moves. Each takes `which`.

    def _carry(self, which: int) -> None:
        if self._commands:
            sent = self._commands.pop(which % len(self._commands))
            self._carry_out(sent, None, "is carried out")

    def _carry_again(self, which: int) -> None:
        if self._commands:
            sent = self._commands[which % len(self._commands)]
            self._carry_out(sent, None, "is carried out; a copy of its command is still under way")

    def _lose_command(self, which: int) -> None:
        if self._commands:
            sent = self._commands.pop(which % len(self._commands))
            self.told.append(f"the command of {sent.name} is lost")

    def _fail(self, which: int) -> None:
        if sent := self._new_command(which):
            self._carry_out(sent, _FAILED, "fails")

    def _fail_for_good(self, which: int) -> None:
        """A step whose attempts all fail, also after the faults. Undos are repeated without end: they do not."""
        sent = self._new_command(which, steps=True)
        if sent is not None:
            self._broken.add(sent.head.step)
            self._carry_out(sent, _FAILED, "fails, and so will each further attempt")

    def _refuse(self, which: int) -> None:
        sent = self._new_command(which, refusals=True)
        if sent is not None:
            code = sent.contract.refusals[which % len(sent.contract.refusals)]
            self._carry_out(sent, refused(sent.contract, code, "the simulation refuses", {}), f"is refused: {code}")

    def _deliver(self, which: int) -> None:
        if self._replies:
            name, reply = self._replies.pop(which % len(self._replies))
            self._answered.append((name, reply))
            self.told.append(f"the reply of {name} arrives: {reply.kind.value}")
            self.saga.take(reply)

    def _deliver_again(self, which: int) -> None:
        if self._answered:
            name, reply = self._answered[which % len(self._answered)]
            self.told.append(f"the reply of {name} arrives once more: {reply.kind.value}")
            self.saga.take(reply)

    def _lose_reply(self, which: int) -> None:
        if self._replies:
            name, reply = self._replies.pop(which % len(self._replies))
            self.told.append(f"the reply of {name} is lost: {reply.kind.value}")

    def _fire(self, _: int) -> None:
        if keys := self.saga.timers_in_order():
            self.told.append(f"time passes, to timer {keys[0].kind} {keys[0].number}")
            self.saga.fire(keys[0])

    def _event(self, _: int) -> None:
        if self._events:
            event = self._events.pop(0)
            self._events_told += 1
            self.told.append(f"event {event.type.name} arrives")
            self.saga.event(event, ref=f"event-{self._events_told}")

    def _restart(self, _: int) -> None:
        self.told.append("the coordinator is killed, and another one goes on")
        self.saga.restart()

    def _cancel(self, _: int) -> None:
        if self._cancels and not self.saga.state.is_closed:
            self._cancels = False
            self.told.append("the saga is cancelled")
            self.saga.cancel("the simulation cancels", ref="cancel-1")

    # Participants.

    def _new_command(self, which: int, *, refusals: bool = False, steps: bool = False) -> Sent | None:
        """One that is to be carried out, taken from those under way."""
        new = [sent for sent in self._commands if self.inbox.is_new(sent)]
        if refusals or steps:
            new = [sent for sent in new if sent.head.kind is CommandKind.DO and (steps or sent.contract.refusals)]
        if not new:
            return None
        sent = new[which % len(new)]
        self._commands.remove(sent)
        return sent

    def _carry_out(self, sent: Sent, outcome: Outcome | None, words: str) -> None:
        if sent.asked is not None and self.inbox.is_new(sent):
            broken = sent.head.kind is CommandKind.DO and sent.head.step in self._broken
            self.inbox.keep(sent, outcome or (_FAILED if broken else self._outcome(sent.asked)))
        kind, kept = self.inbox.stored(sent)
        ref = f"{sent.head.id}:{kept.attempt}:reply:{kind}"
        reply = self.saga.input(
            kind, sent.head.step, kept.attempt, name=sent.service, ref=ref, payload=kept.outcome.body
        )
        self.told.append(f"{sent.name} {words}")
        self._replies.append((sent.name, reply))

    def _outcome(self, asked: Asked) -> Outcome:
        activity = asked.activity
        if activity.name in self._answers:
            return answered(activity, self._answers[activity.name], asked.input)
        if completes_by_itself(activity):
            return completed(activity, None)
        raise NoAnswer(f"the saga asks for {asked!r}, and the simulation has no answer: answers={{{activity.name}: …}}")

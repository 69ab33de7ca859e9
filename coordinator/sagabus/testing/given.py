"""A saga step by step: `given(saga, input).expect(command).reply(output) … .ends("completed")`."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any, Final, Generic, Literal, Self, TypeVar, cast

from pydantic import BaseModel, JsonValue
from pydantic_core import from_json

from sagabus.contracts import Command, Event, codec
from sagabus.contracts.replies import HANDLER_ERROR
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.definition import SagaDefinition
from sagabus.testing.asked import command_words
from sagabus.testing.inbox import Inbox
from sagabus.testing.replies import Outcome, completed, failed, refused
from sagabus.testing.saga_in_memory import SagaInMemory, Sent
from sagabus.testing.waits import waits
from sagabus.testing.words import Unexpected

I = TypeVar("I", bound=BaseModel)  # noqa: E741
O = TypeVar("O", bound=BaseModel | None)  # noqa: E741
R = TypeVar("R", bound=BaseModel | None)

MOST_TIMERS: Final = 10_000
"""That fire while the next command is waited for."""


def given(definition: SagaDefinition[I, O], input: I, /, *, id: str = "saga-1") -> Given[O]:
    """The saga, started. Each call says what must come next; Unexpected says what came instead.

    Time moves by itself to the next command where none is under way: to a retry, or to the end of a sleep. Settles are
    answered by what was replied. After each call the saga is replayed, and must be the same.
    """
    return Given(definition, input, id)


class Given(Generic[O]):
    """Made by `given`."""

    def __init__(self, definition: SagaDefinition[Any, O], input: BaseModel, id: str) -> None:
        self._definition = definition
        self._saga = SagaInMemory(definition, id=id)
        self._inbox = Inbox()
        self._open: list[Sent] = []
        self._numbers = itertools.count(1)
        self._published = 0
        self._seen: set[tuple[str, int]] = set()
        self._saga.start(input)
        self._look()

    def expect(self, command: Command[R], /) -> Expected[O, R]:
        """This command must have been sent, and nobody has answered it yet. Of several at once, in any order."""
        self._wait_for_command()
        for sent in self._open:
            if sent.asked == command:
                self._open.remove(sent)
                return Expected(self, sent)
        raise Unexpected(command_words(command.contract, command.input), self._found())

    def undoes(self, command: Command[None], /) -> Self:
        """This undo must have been sent. It completes."""
        self.expect(command).reply(None)
        return self

    def event(self, event: Event[Any], /) -> Self:
        """It comes to the saga."""
        self._saga.event(event, ref=f"event-{next(self._numbers)}")
        return self._look()

    def cancel(self, reason: str = "the test cancels") -> Self:
        """Must be applied: raises Unexpected where it is refused."""
        code = self._saga.cancel(reason, ref=f"cancel-{next(self._numbers)}")
        if code is not None:
            raise Unexpected("that the saga is cancelled", f"it is refused: {code}")
        return self._look()

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> Self:
        """Move the clock; timers that are due until then fire in their order."""
        passed = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if passed <= timedelta(0):
            raise ValueError("advance() moves the clock forward: give days, hours, minutes or seconds above 0")
        saga, end = self._saga, self._saga.now + round(passed.total_seconds() * 1_000_000)
        while (keys := saga.timers_in_order()) and saga.timers[keys[0]] <= end:
            saga.fire(keys[0])
            self._look()
        saga.now = end
        return self

    def publishes(self, event: Event[Any], /) -> Self:
        """The next event that it has published must be this one."""
        published = self._saga.published[self._published :]
        if not published or published[0] != event:
            raise Unexpected(repr(event), repr(published[0]) if published else f"no event; {waits(self._saga)}")
        self._published += 1
        return self

    def sends_nothing(self) -> Self:
        """No command is unanswered, now."""
        if self._open:
            raise Unexpected("no command", self._found())
        return self

    def returns(self, result: O, /) -> None:
        """It must end as completed with this result."""
        self.ends("completed")
        model: Any = self._definition.contract.output_model
        found = None if model is None else codec.decode(model, self._saga.state.result, what="the result")
        if found != result:
            raise Unexpected(f"the result {result!r}", repr(found))

    def ends(
        self, status: Literal["completed", "compensated", "cancelled", "terminated"], *, code: str | None = None
    ) -> None:
        """It must end so, and nothing may be unanswered. code: of the error that ended it."""
        self._wait_for_command()
        state = self._saga.state
        if self._open or state.status.value != status:
            raise Unexpected(f"that the saga ends {status}", self._found())
        found = None if state.error is None else cast("str", from_json(state.error)["code"])
        if code is not None and found != code:
            raise Unexpected(f"the error {code}", f"the error {found}")
        self._saga.evict()

    def answer(self, sent: Sent, outcome: Outcome) -> Self:
        """Of `Expected`."""
        self._inbox.keep(sent, outcome)
        self._send_reply(sent)
        return self._look()

    def _send_reply(self, sent: Sent) -> None:
        kind, kept = self._inbox.stored(sent)
        ref = f"{sent.head.id}:{kept.attempt}:reply:{kind}"
        self._saga.take(self._saga.input(
            kind, sent.head.step, kept.attempt, name=sent.service, ref=ref, payload=kept.outcome.body
        ))  # fmt: skip

    def _look(self) -> Self:
        """At what it has sent: copies count for nothing, settles are answered."""
        while self._saga.unread:
            sent = self._saga.unread.pop(0)
            if sent.asked is None:
                self._open = [one for one in self._open if one.head.id != sent.head.inbox_id]
                self._send_reply(sent)
            elif not self._is_copy(sent):
                self._open.append(sent)
        self._saga.check_replay()
        return self

    def _is_copy(self, sent: Sent) -> bool:
        key = (sent.head.id, sent.head.attempt)
        if key in self._seen:
            return True
        self._seen.add(key)
        return False

    def _wait_for_command(self) -> None:
        saga = self._saga
        for _ in range(MOST_TIMERS):
            keys = [key for key in saga.timers_in_order() if key.kind is not TimerKind.RESEND]
            if self._open or saga.state.is_closed or not keys:
                return
            saga.fire(keys[0])
            self._look()

    def _found(self) -> str:
        if self._open:
            return " and ".join(repr(sent.asked) for sent in self._open)
        state = self._saga.state
        if not state.is_closed:
            return f"no command; {waits(self._saga)}"
        error = (
            "" if state.error is None else f": {from_json(state.error)['code']}: {from_json(state.error)['message']}"
        )
        return f"the saga has ended {state.status.value}{error}"


class Expected(Generic[O, R]):
    """A command that was expected, and is there."""

    def __init__(self, given: Given[O], sent: Sent) -> None:
        self._given = given
        self._sent = sent

    def reply(self, output: R, /) -> Given[O]:
        """It completes. None for a command without an output. Raises TypeError for an output of the wrong type."""
        assert self._sent.asked is not None
        return self._given.answer(self._sent, completed(self._sent.asked.activity, output))

    def refuse(self, code: str, message: str = "", /, **details: JsonValue) -> Given[O]:
        """A business rejection, final. Raises ValueError for a code that the activity does not declare."""
        assert self._sent.asked is not None
        return self._given.answer(self._sent, refused(self._sent.asked.activity, code, message or code, details))

    def fail(self, message: str = "it failed", /, *, code: str = HANDLER_ERROR) -> Given[O]:
        """This attempt fails; the next one is another command."""
        return self._given.answer(self._sent, failed(code, message, {}))

    def never_answer(self) -> Given[O]:
        """It is lost, and so are its copies."""
        return self._given

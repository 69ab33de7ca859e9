"""What a saga's author holds while the saga runs. Every method is for this saga's code alone, while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, MutableMapping
from datetime import datetime
from random import Random
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel

from sagabus.contracts import Command, Compensation, Event, EventType, RetryPolicy, Seconds, Start
from sagabus.contracts.attributes import Scalar
from sagabus.contracts.envelope import moment
from sagabus.contracts.errors import DeclarationError
from sagabus.coordinator.core.loop.unguarded import Unguarded
from sagabus.coordinator.core.saga.call import Call
from sagabus.coordinator.core.saga.condition import EventStream, check
from sagabus.coordinator.core.saga.program import Program
from sagabus.coordinator.core.saga.scope import Scope

E = TypeVar("E", bound=BaseModel)
O = TypeVar("O", bound=BaseModel | None)  # noqa: E741

_LOG = logging.getLogger("sagabus.saga")


class SagaLog(logging.LoggerAdapter[logging.Logger]):
    """Names the saga in each line. Silent while replaying: what is said was said then."""

    def __init__(self, program: Program) -> None:
        super().__init__(_LOG, {"saga_id": program.id, "run": program.run})
        self._program = program

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        return not self._program.quiet and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return f"{self._program.id}: {msg}", kwargs


class SagaContext:
    """All that a saga uses from outside of its code. Time, randomness and ids are the same in a replay."""

    __slots__ = ("_log", "_program")

    def __init__(self, program: Program) -> None:
        self._program = program
        self._log: SagaLog | None = None

    @property
    def id(self) -> str:
        return self._program.id

    @property
    def log(self) -> logging.LoggerAdapter[Any]:
        """A logger that names the saga, and is silent while replaying. Made when it is first asked for."""
        if self._log is None:
            self._log = SagaLog(self._program)
        return self._log

    def call(
        self,
        command: Command[O],
        /,
        *,
        timeout: Seconds | None = None,
        resend_after: Seconds | None = None,
        retry: RetryPolicy | None = None,
        abandon: Literal["undo", "keep"] = "undo",
        hold: bool = True,
    ) -> Call[O]:
        """Make a step: number it, send the command, and hand back what to await.

        timeout: seconds from the first send until the step is given up with ActivityTimedOut; whether it happened is
        settled, and undone, by the coordinator. resend_after: seconds until an unanswered command is sent again.
        abandon: "keep" leaves a step that was given up as it is. hold: False sends it at once, also while something is
        undone at its service (U4): only where the two cannot meet. Awaiting raises ActivityFailed, ActivityTimedOut.
        """
        if not isinstance(command, Command):
            raise TypeError(f"ctx.call() takes a command, {command!r} filled in, not a {type(command).__name__}")
        return self._program.call(
            command, timeout=timeout, resend_after=resend_after, retry=retry, abandon=abandon, hold=hold
        )

    def scope(self) -> Scope:
        """`async with ctx.scope():` leaving the block by an exception undoes what was done in it, the last first; then
        the exception goes on (U11). Scopes may be nested, and may be used in tasks beside each other."""
        return Scope(self._program)

    def on_rollback(self, command: Command[None], /) -> None:
        """Send this command if what is done here is undone: of what no step has done, or what a step cannot tell (U13).

        It has its place in the order of undoing, as if a step had completed here, and belongs to the scope around it.
        It is sent as an undo: repeated until it succeeds. command: of a compensation, filled in; else TypeError.
        """
        if not isinstance(command, Command):
            raise TypeError(f"ctx.on_rollback() takes a command, {command!r} filled in, not a {type(command).__name__}")
        if not isinstance(command.contract, Compensation):
            raise TypeError(
                f"ctx.on_rollback() takes the command of a compensation, and {command.activity} is an activity: "
                "declare what undoes it with Service.compensation"
            )
        self._program.on_rollback(command)

    def pivot(self) -> None:
        """The point of no return: nothing that has completed by now is undone any more (U14). Idempotent.

        From here on a cancel is refused, the timeout of the saga is off, and a step that fails is tried without end. If
        the code raises to its end, the saga is blocked until code that handles it is deployed, or an operator ends it.
        Raises RuntimeError in a saga that is being cancelled, or whose timeout has passed.
        """
        self._program.pivot()

    def event(self, event: EventType[..., E], /, *, where: Callable[[E], bool] | None = None) -> Coroutine[Any, Any, E]:
        """The next event of this type, in order of arrival; one that came before the wait counts.

        where: whether this event is wanted, by its data. One that is not stays for other waits, in its order. It has to
        say the same of the same data each time, and to change nothing. What it raises is raised here; then the event
        stays too. Raises TypeError for what is no type of event, and for a `where` that is no plain function.
        """
        check(event, where)
        return self._program.event(event, where)

    def events(self, event: EventType[..., E], /, *, where: Callable[[E], bool] | None = None) -> EventStream[E]:
        """One event after the other: `async for data in ctx.events(paid): …`. It never ends by itself: leave it with
        `break`, or put `asyncio.timeout` around it. An event is taken when the loop asks for it, so none is lost.

        where: as for `event`. `await anext(…)` of it waits for one, also again after a timeout.
        """
        check(event, where)
        return EventStream(lambda: self._program.event(event, where))

    def publish(self, event: Event[BaseModel], /, *, key: str | None = None) -> None:
        """Publish an event, in the turn's transaction. key: in place of the declared field or the saga id."""
        if event.type.topic is None:
            raise DeclarationError(f"event {event.type.name} has no topic; declare it with Service.event")
        self._program.publish(event.type, event.data, key)

    def start(self, start: Start[Any], /, *, id: str | None = None) -> str:
        """Start a saga that is nobody's child, in the turn's transaction. Returns its id.

        Nothing is undone with it, and nobody here hears how it ends. id: `<this saga's id>.<number>` without one; a
        saga that was started with this id before is not started again, and says so by `sagabus.start.rejected` if its
        input was another one. Raises MessageInvalid for what is no id, DeclarationError for this saga's own.
        """
        if not isinstance(start, Start):
            raise TypeError(
                f"ctx.start() takes the start of a saga, as book_trip.of(trip), not a {type(start).__name__}"
            )
        return self._program.start(start, id)

    def patched(self, change: str, /) -> bool:
        """Whether this saga has a change of its code: `if ctx.patched("fraud-check"): …the new way… else: …the old…`.

        True for a saga that comes here for the first time under the new code, from then on and in each replay. False
        for one that has come past this place under older code. Asked again, in a loop or in another task, it is the
        same. change: small letters, digits, - and _; the call must stay where it is while an open history has its row
        (docs/guide/patching.md).
        """
        return self._program.patched(change)

    def attribute(self, **values: Scalar) -> None:
        """Set attributes of this saga, by name: for lists, searches and lifecycle events. Others stay as they are.

        They must be declared with the saga. In its row they stand once its code has come to rest. To set one to what it
        is changes nothing. Raises TypeError for a name that is not declared, ValueError for a value that does not fit,
        or where all of them are more than 8 KiB.
        """
        self._program.attribute(values)

    def unguarded(self) -> Unguarded:
        """`with ctx.unguarded():` a few lines that may do what the guard refuses: files, sockets, processes, threads.

        For those who know why: the lines run again in each replay, and what they do is in no history. Not across an
        `await`: a block that is open there stops the saga, for an operator (docs/guide/determinism.md).
        """
        return Unguarded(self._program.loop)

    def now(self) -> datetime:
        """The clock of the process that decided this turn, in UTC; never runs backwards within a saga (H3)."""
        self._program.loop.check()
        return moment(self._program.now)

    def random(self) -> Random:
        """Seeded by the saga's id and run."""
        self._program.loop.check()
        return self._program.random()

    def uuid(self) -> UUID:
        """A version 4 UUID from the saga's own randomness."""
        return UUID(int=self.random().getrandbits(128), version=4)

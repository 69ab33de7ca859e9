"""All that is known of one saga besides its code, and the few ways in which it may change or speak.

Everything here follows from history: taking the same inputs again rebuilds it. While replaying nothing is sent, because
it was sent then; only numbers are counted up.

What follows from an input is first *staged*. `keep`, which is called before the next input and by `drain`, moves it to
`effects`, and remembers how the saga stands. If the next input cannot be decided, `as_kept` gives the saga as it stood
there. `drain` hands the effects to the turn. After a replay `rebuilt` forgets what was stored then already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from pydantic import JsonValue

from sagabus.contracts import Activity, codec
from sagabus.contracts.commands import Addresses, command_message
from sagabus.contracts.envelope import Headers, Message
from sagabus.contracts.lifecycle import LifecycleType, lifecycle_message
from sagabus.contracts.names import SETTLE, CommandKind, RunId, SagaId
from sagabus.contracts.words import plain
from sagabus.coordinator.core.saga.concern import OF_OPEN_SAGAS, WORDS_ALONE, Concern, Concerns, Told
from sagabus.coordinator.core.saga.cure import cure_of
from sagabus.coordinator.core.saga.effects import (
    IN_MEMORY,
    Effects,
    RequestAnswer,
    Staged,
    TimerKey,
    TimerKind,
    timer_key,
)
from sagabus.coordinator.core.saga.events import Events
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.journal import Journal
from sagabus.coordinator.core.saga.rollback import Rollbacks
from sagabus.coordinator.core.saga.standing import Kept, Standing
from sagabus.coordinator.core.saga.status import CLOSED, SAGA, SagaStatus, changed
from sagabus.coordinator.core.saga.step import Step
from sagabus.coordinator.core.saga.steps import Steps

VOID: Final = b"null"

Same = tuple[Kind, int, int, str, str, bytes | None]
"""What makes two inputs the same one (`pause.same`)."""

Declared = Callable[[str], Sequence[Activity[..., Any, Any]]]
"""The contracts of this activity that are known here, the one to be preferred first."""


_DO, _UNDO, _SETTLE = CommandKind.DO, CommandKind.UNDO, CommandKind.SETTLE
_RESEND: Final = TimerKind.RESEND
"""Looked up once: a member of an enum takes long to find."""

_OF_OPEN_SAGAS: Final = tuple(map(Concern, OF_OPEN_SAGAS))


@lru_cache(maxsize=1_000)
def _quoted(definition: str) -> bytes:
    """As JSON. A name that was asked for may be anything."""
    return codec.encode_value(definition)


@lru_cache(maxsize=1_000)
def _saga_as_json(quoted: bytes, version: int, status: SagaStatus) -> bytes:
    """What the body of a lifecycle event begins with."""
    return b'{"saga":%b,"version":%d,"status":"%b"' % (quoted, version, status.encode())


@lru_cache(maxsize=4_096)
def _step_as_json(number: int, activity: str) -> bytes:
    """What follows on it in an event about a step. Nearly all sagas have a few steps."""
    return b',"step":%d,"activity":"%b"' % (number, activity.encode())


class SagaState:
    """One saga. `now` and `cause` are those of the input at hand: microseconds since 1970, the id of its message."""

    __slots__ = (
        "_known_timers", "_name", "_plan", "addresses", "answered", "blocked", "cause", "completions", "contracts",
        "deciding", "definition", "effects", "ending", "id", "input_hash", "journal", "kept", "now", "other_input",
        "output", "pivot", "refusals_since_end", "resumed_at", "rollbacks", "run", "seen_events", "sequence", "staged",
        "standing", "started_at", "steps", "timers", "trace", "version", "waiting",
    )  # fmt: skip

    def __init__(self, addresses: Addresses, *, definition: str, version: int, trace: Headers = ()) -> None:
        self.addresses = addresses
        self.id: SagaId = addresses.saga_id
        self.run: RunId = addresses.run
        self.definition = definition
        self._name = _quoted(definition)
        self.version = version
        self.trace = trace
        self.input_hash = b""
        self.standing = Standing(Concerns())
        self.now = self.started_at = self.resumed_at = 0
        self.cause = ""
        self.deciding = 0
        """The row that is decided upon. It may have been kept for a while, and others may have come after it."""
        self.blocked = 0
        """The first row that is kept undecided, while the code cannot go on; 0 otherwise."""
        self.journal = Journal()
        self.other_input = ""
        """Of the first step whose input a replay has made otherwise than it was sent, in words."""
        self.sequence = 0
        self.effects = Effects()
        self.staged = Staged()
        self.kept: Kept = (self.standing, 0, 0)
        self.output: tuple[bytes | None, Any, bytes | None] | None = None
        """The last output that was read: of which payload, the value, the form that is to be kept."""
        self.contracts: Declared | None = None
        """Of a saga that is decided from its rows: where contracts are looked for. None while its code decides."""
        self.ending: SagaStatus | None = None
        self.steps = Steps()
        self.completions: list[int] = []
        self.pivot: int | None = None
        """So many of its completions are never undone; None before its code has passed a pivot (U14)."""
        self._plan: deque[int] | None = None
        self.rollbacks: Rollbacks | None = None
        """What its code has asked to be undone; None until it does."""
        self.seen_events: set[str] = set()
        self.answered: set[str] = set()
        """Ids of the verbs that history has, applied, refused or kept."""
        self.refusals_since_end = 0
        """Rows of requests that were refused after the saga had closed."""
        self.waiting: dict[Same, Row] = {}
        """What came while it is paused, in order: decided upon when it is resumed (U8)."""
        self.timers: dict[TimerKey, int] = {}
        self._known_timers: set[TimerKey] = set()

    @property
    def status(self) -> SagaStatus:
        return self.standing.status

    @property
    def concerns(self) -> Concerns:
        return self.standing.concerns

    @property
    def paused(self) -> bool:
        return self.standing.paused

    @property
    def closed_at(self) -> int | None:
        return self.standing.closed_at

    @property
    def result(self) -> bytes | None:
        return self.standing.result

    @property
    def error(self) -> bytes | None:
        return self.standing.error

    @property
    def fingerprint(self) -> str:
        return self.standing.fingerprint

    @property
    def attention(self) -> str | None:
        """The words of the latest concern; None while there is none."""
        return next(reversed(self.concerns.values()), None)

    @property
    def plan(self) -> deque[int]:
        """What is still to be settled or undone, in this order. Made when it is first asked for: an empty one has 760
        bytes, and most sagas undo nothing."""
        if self._plan is None:
            self._plan = deque()
        return self._plan

    @property
    def is_closed(self) -> bool:
        return self.standing.status in CLOSED

    def becomes(self, status: SagaStatus) -> None:
        status = changed(SAGA, self.status, status)
        if status in CLOSED and self.concerns:
            self.clear_concerns([one for one in _OF_OPEN_SAGAS if one in self.concerns])
        concerns, _, _, result, error, fingerprint, paused, _, attributes = self.standing  # it waits for no events
        closed_at = self.now if status in CLOSED else None
        self.standing = Standing(concerns, status, closed_at, result, error, fingerprint, paused, None, attributes)
        self.staged.saga_changed = True

    def stands(self, **changes: Any) -> None:
        """Its row is another one from here on. changes: fields of `Standing`."""
        self.standing = self.standing._replace(**changes)
        self.staged.saga_changed = True

    def knows_of(self, events: Events | None) -> None:
        """What its code has to do with events from here on."""
        before = self.standing.events
        if (events and events[1:]) != (before and before[1:]):  # of other rows alone `drain` takes account
            self.stands(events=events)

    def decided_by(self, fingerprint: str) -> None:
        """An input has been decided upon with this code. Another one than before is stored with what was decided."""
        if fingerprint != self.standing.fingerprint and fingerprint:
            concerns, status, closed_at, result, error, _, paused, events, attributes = self.standing
            self.standing = Standing(
                concerns, status, closed_at, result, error, fingerprint, paused, events, attributes
            )
            self.staged.saga_changed = True

    def decide(self, kind: Kind, *, step: int = 0, name: str = "", ref: str = "", payload: bytes | None = None) -> Row:
        return self.journal.decided(kind, self.now, step, name, ref, payload)

    def log(self, words: Iterable[str]) -> None:
        """For the log; what a replay says was said then."""
        if not self.journal.replaying:
            self.staged.log += words

    def send(self, message: Message) -> None:
        if not self.journal.replaying:
            self.staged.messages.append(message)

    def send_command(self, step: Step, kind: CommandKind, *, again: bool = False) -> None:
        """The step's command, its undo or its settle; the next copy is due after `resend_after`. again: this is one."""
        if not again:
            (step.do if kind is _DO else step.exchange(kind)).sent_at = self.now
        self.set_timer(_RESEND, step.number, self.now + step.resend_after)
        if not self.journal.replaying:
            self.staged.messages.append(self._command(step, kind))

    def _command(self, step: Step, kind: CommandKind) -> Message:
        asked, activity, body = step.do, step.activity, step.body  # a settle speaks of the step itself (P4)
        if kind is _UNDO and step.contract.compensation is not None:
            asked, activity = step.exchange(kind), step.contract.compensation.name
            body = step.undo_input or VOID
        elif kind is _SETTLE:
            activity, body = SETTLE, VOID
        return command_message(
            self.addresses,
            service=step.service,
            activity=activity,
            step=step.number,
            kind=kind,
            attempt=asked.attempt,
            issued=asked.issued,
            time=self.now,
            cause=self.cause,
            body=body,
            partition=self.addresses.shard,
            trace=self.trace,
            timeout=step.timeout if kind is _DO else None,
        )

    def tell(
        self,
        type: LifecycleType,
        *,
        step: Step | None = None,
        name: str = "",
        output: bytes | None = None,
        error: bytes | None = None,
        result: bytes | None = None,
        request: str = "",
    ) -> None:
        """A lifecycle event. On replay its number is used up and nothing is sent. The values are JSON as it came.

        request: the verb that it answers.
        """
        self.sequence += 1
        if self.journal.replaying:
            return
        body = self._body(step, name, output, error, result, request)
        message = lifecycle_message(
            self.addresses,
            type,
            body,
            sequence=self.sequence,
            time=self.now,
            cause=self.cause or None,
            trace=self.trace,
        )
        self.staged.messages.append(message)

    def _body(
        self, step: Step | None, name: str, output: bytes | None, error: bytes | None, result: bytes | None,
        request: str,
    ) -> bytes:  # fmt: skip
        body = _saga_as_json(self._name, self.version, self.standing.status)
        if step is not None:
            body += _step_as_json(step.number, name or step.activity)
        if request:
            body += b',"request":%b' % codec.encode_value(request)
        if output is not None:
            body += b',"output":%b' % output
        if error is not None:
            body += b',"error":%b' % error
        if result is not None:
            body += b',"result":%b' % result
        if self.standing.attributes is not None and step is None and not request:
            body += b',"attributes":%b' % self.standing.attributes
        return body + b"}"

    def answer(self, answer: RequestAnswer) -> None:
        """To a verb, for whoever waits for it; what a replay answers was answered then."""
        if not self.journal.replaying:
            self.staged.answers.append(answer)

    def raise_concern(self, concern: Concern, words: str, told: Told = WORDS_ALONE) -> None:
        """Put the saga before a person. Told when it is new, or when there is something new to say of it: that is
        another code or attempt. Other words alone are written with the saga, and nobody is called for them."""
        words, told = plain(words), told._replace(code=plain(told.code))
        before = self.concerns.told(concern)
        if before is None or not before.covers(told):
            self.concerns.put(concern, words, told)
            self.staged.saga_changed = True
            self._tell_attention()
        elif (before, self.concerns[concern]) != (told, words):
            self.concerns.reword(concern, words, told)
            self.staged.saga_changed = True

    def is_told(self, concern: Concern, words: str, told: Told) -> bool:
        """Whether a person has been told the very same."""
        return self.concerns.told(concern) == told and self.concerns[concern] == plain(words)

    def clear_concern(self, concern: Concern) -> None:
        """It has gone. If another one comes to the front by that, it is told again."""
        if concern in self.standing.concerns:
            self.clear_concerns((concern,))

    def clear_concerns(self, gone: Collection[Concern]) -> None:
        """The same of several, which stand: told once."""
        if not gone:
            return
        front = self.attention
        for concern in gone:
            self.concerns.remove(concern)
        self.staged.saga_changed = True
        if self.attention != front:
            self._tell_attention()

    def _tell_attention(self) -> None:
        concern = next(reversed(self.concerns), None)
        if concern is None:
            self.tell(LifecycleType.ATTENTION_CLEARED)
            return
        error = reason_json(
            "sagabus.attention", self.concerns[concern], concern=concern.kind.value, step=concern.number or None,
            cure=self.cure_of(concern),
        )  # fmt: skip
        self.tell(LifecycleType.ATTENTION, error=error)

    def cure_of(self, concern: Concern) -> str:
        """What ends it. KeyError if it does not stand."""
        told = self.concerns.told(concern)
        return cure_of(concern, id=self.id, code=told.code if told else "", closed=self.is_closed)

    def set_timer(self, kind: TimerKind, number: int, due: int) -> None:
        key = timer_key(kind, number)
        self.timers[key] = self.staged.timers[key] = due

    def clear_timer(self, kind: TimerKind, number: int) -> None:
        key = timer_key(kind, number)
        if self.timers.pop(key, None) is not None:
            self.staged.timers[key] = None

    def clear_timers(self) -> None:
        for kind, number in tuple(self.timers):
            self.clear_timer(kind, number)

    def drop_timers(self) -> None:
        """All of them, also those that are stored and that nobody here knows of."""
        self.timers.clear()
        self.staged.timers.clear()
        self.staged.timers_dropped = True

    def keep(self) -> None:
        """What was staged counts. The decisions upon the next input begin here."""
        staged = self.staged
        if staged.messages or staged.timers or staged.saga_changed or staged.has_more:
            self.effects.take_over(staged, known=self._known_timers)
            self.standing.concerns.keep()
        self.kept = (self.standing, self.sequence, self.journal.seq)

    def as_kept(self) -> SagaState:
        """The saga as it stood at the last `keep`, without a trace of what was half decided since.

        It is another state, which knows neither steps nor timers: nothing more can be decided with it.
        """
        state = SagaState(self.addresses, definition=self.definition, version=self.version, trace=self.trace)
        state.input_hash, state.started_at = self.input_hash, self.started_at
        state.now, state.cause = self.now, self.cause
        state.effects, state.pivot = self.effects, self.pivot
        state.answered, state.refusals_since_end = self.answered, self.refusals_since_end
        standing, state.sequence, state.journal.seq = self.kept
        state.journal.new = [row for row in self.journal.new if row.seq <= state.journal.seq]
        state.standing = standing._replace(concerns=standing.concerns.as_kept())
        state.kept = (state.standing, state.sequence, state.journal.seq)
        state._known_timers = self._known_timers
        return state

    def drain(self) -> Effects:
        """What has come together since the last time. The caller commits it, or drops this saga from memory."""
        if self.standing.events is not None:
            self._cover_new_rows(self.standing.events)
        self.keep()
        made, self.effects = self.effects, Effects()
        made.rows, self.journal.new = self.journal.new, []
        made.sequence = self.sequence
        if made.timers_dropped:
            self._known_timers.clear()
        if made.timers_cleared:
            self._known_timers -= made.timers_cleared
        if made.timers_set:
            self._known_timers.update(made.timers_set)
        return made

    def _cover_new_rows(self, events: Events) -> None:
        """What is stored of its events takes account of all rows that are stored with it. What is unknown stays so."""
        if events.row and self.journal.new:
            self.stands(events=events._replace(row=self.journal.seq))

    def rearm(self) -> None:
        """The saga goes on: timers that came due while it was blocked or paused fire now."""
        self.staged.timers.update(self.timers)

    def rebuilt(self) -> None:
        """Replay is over: what is stored already must not be stored again; re-sends are armed as found."""
        self._known_timers = set(self.timers)
        self.staged = Staged(timers={key: due for key, due in self.timers.items() if key.kind in IN_MEMORY})
        self.effects = Effects()
        self.journal.new = []
        self.concerns.keep()
        self.kept = (self.standing, self.sequence, self.journal.seq)


def reason_json(code: str, message: str, **more: JsonValue) -> bytes:
    """An error as it stands in lifecycle events and in the saga's row."""
    return codec.encode_value({"code": code, "message": plain(message), **more})

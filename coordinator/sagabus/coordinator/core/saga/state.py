"""All that is known of one saga besides its code, and the few ways in which it may change or speak.

Everything here follows from history: taking the same inputs again rebuilds it. While replaying nothing is sent, because
it was sent then; only numbers are counted up.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pydantic import JsonValue

from sagabus.contracts import codec
from sagabus.contracts.commands import Addresses, command_message
from sagabus.contracts.envelope import Headers, Message
from sagabus.contracts.lifecycle import LifecycleType, lifecycle_message
from sagabus.contracts.names import SETTLE, CommandKind, RunId, SagaId
from sagabus.coordinator.core.saga.concern import Concern
from sagabus.coordinator.core.saga.effects import IN_MEMORY, Effects, TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.journal import Journal
from sagabus.coordinator.core.saga.status import CLOSED, SAGA, SagaStatus, changed
from sagabus.coordinator.core.saga.step import Step

VOID: Final = b"null"

MAX_WORDS: Final = 4_000
"""Characters of a reason or message. Longer ones are somebody's whole statement or page, and events have a limit."""


class Mark(NamedTuple):
    rows: int
    seq: int
    messages: int
    sequence: int
    timers_set: dict[TimerKey, int]
    timers_cleared: set[TimerKey]
    saga_changed: bool
    status: SagaStatus
    closed_at: int | None
    concerns: dict[Concern, str]
    result: bytes | None
    error: bytes | None
    fingerprint: str


class SagaState:
    """One saga. `now` and `cause` are those of the input at hand: microseconds since 1970, the id of its message."""

    __slots__ = (
        "_known_timers", "_name", "addresses", "blocked", "cause", "closed_at", "completions", "concerns",
        "definition", "effects", "ending", "error", "fingerprint", "id", "input_hash", "journal", "now", "plan",
        "result", "run", "seen_events", "sequence", "spun", "started_at", "status", "steps", "timers", "trace",
        "version",
    )  # fmt: skip

    def __init__(self, addresses: Addresses, *, definition: str, version: int, trace: Headers = ()) -> None:
        self.addresses = addresses
        self.id: SagaId = addresses.saga_id
        self.run: RunId = addresses.run
        self.definition = definition
        self._name = codec.encode_value(definition)  # a name that was asked for, and may be anything
        self.version = version
        self.fingerprint = ""
        """Of the code that the saga was last decided with; empty before that (H7)."""
        self.trace = trace
        self.journal = Journal()
        self.effects = Effects()
        self.status = SagaStatus.RUNNING
        self.ending: SagaStatus | None = None
        self.concerns: dict[Concern, str] = {}
        """Why a person should look, in words, the latest last."""
        self.blocked = 0
        """The first row that is kept undecided, while the code cannot go on; 0 otherwise."""
        self.spun = False
        """Blocked because its code would not come to rest."""
        self.now = self.started_at = 0
        self.closed_at: int | None = None
        self.cause = ""
        self.sequence = 0
        self.steps: dict[int, Step] = {}
        self.completions: list[int] = []
        self.plan: list[int] = []
        self.seen_events: set[str] = set()
        self.timers: dict[TimerKey, int] = {}
        self._known_timers: set[TimerKey] = set()
        self.result: bytes | None = None
        self.error: bytes | None = None
        self.input_hash = b""

    @property
    def attention(self) -> str | None:
        """The words of the latest concern; None while there is none."""
        return next(reversed(self.concerns.values()), None)

    @property
    def is_closed(self) -> bool:
        return self.status in CLOSED

    def becomes(self, status: SagaStatus) -> None:
        self.status = changed(SAGA, self.status, status)
        self.closed_at = self.now if status in CLOSED else None
        self.effects.saga_changed = True

    def decided_by(self, fingerprint: str) -> None:
        """An input has been decided upon with this code. Another one than before is stored with what was decided."""
        if fingerprint != self.fingerprint and fingerprint:
            self.fingerprint = fingerprint
            self.effects.saga_changed = True

    def decide(self, kind: Kind, *, step: int = 0, name: str = "", payload: bytes | None = None) -> Row:
        return self.journal.decided(kind, at=self.now, step=step, name=name, payload=payload)

    def send(self, message: Message) -> None:
        if not self.journal.replaying:
            self.effects.messages.append(message)

    def send_command(self, step: Step, kind: CommandKind, *, again: bool = False) -> None:
        """The step's command, its undo or its settle; the next copy is due after `resend_after`. again: this is one."""
        if not again:
            step.sent_at = self.now
        self.set_timer(TimerKind.RESEND, step.number, self.now + step.resend_after)
        if not self.journal.replaying:
            self.effects.messages.append(self._command(step, kind))

    def _command(self, step: Step, kind: CommandKind) -> Message:
        undo = kind is CommandKind.UNDO
        activity, body = step.activity, step.body
        if undo and step.contract.compensation is not None:
            activity, body = step.contract.compensation.name, step.undo_input or VOID
        elif kind is CommandKind.SETTLE:
            activity, body = SETTLE, VOID
        return command_message(
            self.addresses,
            service=step.service,
            activity=activity,
            step=step.number,
            kind=kind,
            attempt=step.undo_attempt if undo else step.attempt,
            issued=step.undo_issued if undo else step.issued,
            time=self.now,
            cause=self.cause,
            body=body,
            partition=self.addresses.shard,
            trace=self.trace,
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
    ) -> None:
        """A lifecycle event. On replay its number is used up and nothing is sent. The values are JSON as it came."""
        self.sequence += 1
        if self.journal.replaying:
            return
        body = self._body(step, name, output=output, error=error, result=result)
        message = lifecycle_message(
            self.addresses,
            type,
            body,
            sequence=self.sequence,
            time=self.now,
            cause=self.cause or None,
            trace=self.trace,
        )
        self.effects.messages.append(message)

    def _body(self, step: Step | None, name: str, **values: bytes | None) -> bytes:
        head = b'{"saga":%b,"version":%d,"status":"%b"' % (self._name, self.version, self.status.encode())
        if step is not None:
            head += b',"step":%d,"activity":"%b"' % (step.number, (name or step.activity).encode())
        rest = b"".join(b',"%b":%b' % (key.encode(), value) for key, value in values.items() if value is not None)
        return head + rest + b"}"

    def raise_concern(self, concern: Concern, words: str) -> None:
        """Put the saga before a person. Told when it is new, or when there is something new to say of it."""
        words = plain(words)
        if self.concerns.get(concern) != words:
            self.concerns.pop(concern, None)
            self.concerns[concern] = words
            self._tell_attention()

    def clear_concern(self, concern: Concern) -> None:
        """It has gone. If another one comes to the front by that, it is told again."""
        if concern not in self.concerns:
            return
        front = self.attention
        del self.concerns[concern]
        if self.attention != front:
            self._tell_attention()
        self.effects.saga_changed = True

    def _tell_attention(self) -> None:
        self.effects.saga_changed = True
        words = self.attention
        if words is None:
            self.tell(LifecycleType.ATTENTION_CLEARED)
        else:
            self.tell(LifecycleType.ATTENTION, error=reason_json("sagabus.attention", words))

    def set_timer(self, kind: TimerKind, number: int, due: int) -> None:
        key = TimerKey(kind, number)
        self.timers[key] = due
        self.effects.set_timer(key, due)

    def clear_timer(self, kind: TimerKind, number: int) -> None:
        key = TimerKey(kind, number)
        if self.timers.pop(key, None) is not None:
            self.effects.clear_timer(key, known=key in self._known_timers)

    def clear_timers(self) -> None:
        for kind, number in tuple(self.timers):
            self.clear_timer(kind, number)

    def mark(self) -> Mark:
        """Where the decisions upon one input begin, so that they can be taken back."""
        effects = self.effects
        return Mark(
            len(self.journal.new), self.journal.seq, len(effects.messages), self.sequence,
            effects.timers_set.copy(), effects.timers_cleared.copy(), effects.saga_changed, self.status,
            self.closed_at, self.concerns.copy(), self.result, self.error, self.fingerprint,
        )  # fmt: skip

    def back_to(self, mark: Mark) -> None:
        """What was half decided is as if it had not been. Steps are not restored: the saga is to be loaded again."""
        del self.journal.new[mark.rows :]
        del self.effects.messages[mark.messages :]
        self.journal.seq, self.sequence = mark.seq, mark.sequence
        self.effects.timers_set, self.effects.timers_cleared = mark.timers_set, mark.timers_cleared
        self.effects.saga_changed = mark.saga_changed
        self.status, self.closed_at = mark.status, mark.closed_at
        self.concerns = mark.concerns
        self.result, self.error, self.fingerprint = mark.result, mark.error, mark.fingerprint

    def drain(self) -> Effects:
        """What has come together since the last time. The caller commits it, or drops this saga from memory."""
        made = self.effects
        made.rows, self.journal.new = self.journal.new, []
        made.sequence = self.sequence
        self._known_timers.difference_update(made.timers_cleared)
        self._known_timers.update(made.timers_set)
        self.effects = Effects()
        return made

    def rearm(self) -> None:
        """The saga goes on: timers that came due while it was blocked fire now."""
        self.effects.timers_set.update(self.timers)

    def rebuilt(self) -> None:
        """Replay is over: what is stored already must not be stored again; re-sends are armed as found."""
        resends = {key: due for key, due in self.timers.items() if key.kind in IN_MEMORY}
        self._known_timers = set(self.timers)
        self.effects = Effects(timers_set=resends)
        self.journal.new = []


def reason_json(code: str, message: str, **more: JsonValue) -> bytes:
    """An error as it stands in lifecycle events and in the saga's row."""
    return codec.encode_value({"code": code, "message": plain(message), **more})


def plain(text: str) -> str:
    """Words as they may stand in JSON, in a table and before a person: no lone surrogates, and an end."""
    if len(text) > MAX_WORDS:
        text = f"{text[: MAX_WORDS - 40]}… ({len(text)} characters)"
    return text.encode(errors="replace").decode()


def words_of(error: BaseException) -> str:
    """What an exception says. It may be an author's own, whose `__str__` fails."""
    try:
        return plain(str(error))
    except Exception as fault:
        return f"(it does not say: {type(fault).__name__})"

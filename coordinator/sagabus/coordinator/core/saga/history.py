"""The rows of a saga's history: what was taken in, and what was decided upon it.

Inputs are facts and are written when taken, even by a saga that cannot go on at the moment. Decisions follow from the
inputs and the saga's code alone; on replay they are made again and compared with what is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from sagabus.contracts.names import RunId, SagaId


class Kind(StrEnum):
    """What a row says. The words before the dot of a reply tell which command was answered."""

    STARTED = "started"
    STEP_COMPLETED = "step.completed"
    STEP_REFUSED = "step.refused"
    STEP_FAILED = "step.failed"
    UNDO_COMPLETED = "undo.completed"
    UNDO_REFUSED = "undo.refused"
    UNDO_FAILED = "undo.failed"
    SETTLE_COMPLETED = "settle.completed"
    SETTLE_NEVER = "settle.never"
    SETTLE_FAILED = "settle.failed"
    EVENT = "event"
    TIMER = "timer"
    CANCEL = "cancel"
    OPERATOR = "operator"
    BLOCKED = "blocked"
    RESUMED = "resumed"
    CODELESS = "codeless"
    """From here on the saga is decided from its rows, whatever code is deployed (U8)."""
    NOTICE = "notice"

    COMMAND = "command"
    SETTLE = "settle"
    UNDO = "undo"
    UNDO_INPUT = "undo.input"
    READ = "read"
    PUBLISH = "publish"
    START = "start"
    """Of another saga, which is nobody's child. Its number is one of the steps', its ref the id."""
    PATCHED = "patched"
    """The saga has a change of its code: the row's name (H8)."""
    ROLLBACK = "rollback"
    """The code has asked for the undo of some steps: its payload says which, in their order (U11)."""
    ON_ROLLBACK = "on_rollback"
    """What is to be sent if the saga, or a scope, is undone: a step that counts as completed at once (U13)."""
    PIVOT = "pivot"
    """Nothing that has completed by now is undone any more (U14)."""
    ENDED = "ended"

    UNKNOWN = "unknown"
    """Written by a later release: its word is the row's name. Whoever reads it cannot go on."""


DECISIONS: Final = frozenset((
    Kind.COMMAND, Kind.SETTLE, Kind.UNDO, Kind.UNDO_INPUT, Kind.READ, Kind.PUBLISH, Kind.START, Kind.PATCHED,
    Kind.ROLLBACK, Kind.ON_ROLLBACK, Kind.PIVOT, Kind.ENDED,
))  # fmt: skip
INPUTS: Final = frozenset(Kind) - DECISIONS


@dataclass(slots=True, unsafe_hash=True)
class Row:
    """Never changed. It is not frozen, since making a frozen one takes three times as long and a history has thousands.

    at: microseconds since 1970, never less than the row before. attempt: of a reply or a retry, of a notice that of the
    command that it is about, else 0.

    step: the step, the publication's number or the timer's, of a notice the number of its concern; of `blocked` the
    first row that is kept undecided. name: activity, event, timer kind, change or end, of a notice or a block the kind
    of its concern; of a cancel who asked. ref: the id of the message that brought an input, of `blocked` the
    fingerprint of the code that stopped, of a notice the number of the row that is left undecided for good, if there is
    one, else the code of what it says; of a command `keep`, if the saga lets its step be as it is when it gives it up,
    `held`, if it was not sent at once, and `free`, if it was sent although an undo was under way (U4); of a `settle`
    that commands say that; of an `undo.input` that could not be made why, in words; of an `ended`, unless it has
    completed, the number of the row upon which that was decided. payload: the bytes as they came, or as they were sent;
    words. sequence: the saga's last lifecycle event when the row was committed; known once read.
    """

    seq: int
    at: int
    kind: Kind
    step: int = 0
    attempt: int = 0
    name: str = ""
    ref: str = ""
    payload: bytes | None = None
    sequence: int = 0

    @property
    def is_input(self) -> bool:
        return self.kind in INPUTS


REFUSED: Final = "refused"
"""Name of the notice of a request that was refused. Its ref is the request's id, its payload JSON."""


class Input(NamedTuple):
    """What one saga takes in: made once by whoever reads the record, and nothing before the row changes its form.

    A named tuple, since one is made for every record: a frozen dataclass takes five times as long.
    """

    saga_id: SagaId
    run: RunId | None
    """None means whichever is open, or was last."""
    kind: Kind
    step: int = 0
    """As in its row: the step that a reply answers, the number of a timer, of a notice that of its concern."""
    attempt: int = 0
    name: str = ""
    """As in its row: the service that answers, the event, the kind of timer, the operator's verb, who cancels."""
    ref: str = ""
    """What makes two of them the same one: the id of the message, or of the event; of a notice a code."""
    payload: bytes | None = None
    """The bytes as they came."""
    cause: str = ""
    """The id of the message that brought it. What the saga sends because of it names it (`ce_causationid`)."""


def words(row: Row) -> str:
    """A row as people may read it."""
    where = f" at row {row.seq}" if row.seq else ""
    what = f"{row.kind} {row.name}".rstrip()
    return f"{what} (number {row.step}){where}" if row.step else f"{what}{where}"

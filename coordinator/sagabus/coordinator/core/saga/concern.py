"""Why a person should look at a saga: a kind and a number identify a concern, its words are for people.

The key is what state, rows of history, API, metrics, log and tests know it by. Whether there is news of a concern that
stands already is decided by a code and an attempt (`Told`). Words are made once, where the concern is raised; nobody
reads them back or decides by them, so they may be written better at any time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import islice
from types import MappingProxyType
from typing import Final, NamedTuple

from pydantic import JsonValue
from pydantic_core import from_json

from sagabus.contracts import codec
from sagabus.coordinator.core.saga.history import Kind, Row


class ConcernKind(StrEnum):
    """What it is about. Codes are stored, and never change their meaning; a new one is added."""

    STEP = "step"
    """A step's command: nobody handles it, nobody answers, or its participant cannot tell. number: the step."""
    UNDO = "undo"
    """An undo that fails, is refused, or is not answered. number: the step."""
    SETTLE = "settle"
    """A step of unknown outcome that cannot be settled. number: the step."""
    LATE_SUCCESS = "late_success"
    """A step succeeded after the saga had ended. number: the step."""
    UNDO_AFTER_SKIP = "undo_after_skip"
    """An undo was carried out after it had been skipped. number: the step."""
    HAPPENED_AFTER_SKIP = "happened_after_skip"
    """A step turned out to have happened after its settle had been skipped. number: the step."""
    HISTORY_LOST = "history_lost"
    """A reply answers a step that was never sent (U9). number: the step."""
    REPLY_ATTEMPT = "reply_attempt"
    """A reply says that it is of an attempt that was never made. number: the step."""
    UNASKED = "unasked"
    """An answer to an undo or a settle that was never sent. number: the step."""
    CONTRADICTION = "contradiction"
    """A participant has said two things of one step, each once and for all (P2). number: the step."""
    PAUSE = "pause"
    """The next attempt of a step, or of its undo, is far away. number: the step."""
    RECORDS_LOST = "records_lost"
    """Retention removed records before they were read (S6)."""
    PARKED = "parked"
    """What the saga sends can never be published (S8)."""
    EVENT_UNREADABLE = "event_unreadable"
    """An event was set aside, since the wait for it could not read it."""
    EVENTS = "events"
    """Too many events that nobody waits for."""
    ROWS = "rows"
    """A history of too many rows."""
    BYTES = "bytes"
    """A history of too many bytes."""
    BLOCKED = "blocked"
    """The saga's code cannot go on until something is deployed."""
    DIVERGED = "diverged"
    """The saga's code does something else than its history says."""
    SPUN = "spun"
    """The saga's code did not come to rest."""
    STUCK = "stuck"
    """The saga's code waits for what nothing can bring (L13)."""
    FAULT = "fault"
    """sagabus itself failed."""
    MORE = "more"
    """Older concerns of the saga that are not stored with it; its history has them. number: how many."""
    OTHER = "other"
    """Words that an older release has stored without saying what they are about."""


STOPS: Final = (ConcernKind.BLOCKED, ConcernKind.DIVERGED, ConcernKind.SPUN, ConcernKind.FAULT)
"""Kinds because of which the saga's code stands still."""


ACKNOWLEDGEABLE: Final = frozenset((
    ConcernKind.LATE_SUCCESS, ConcernKind.UNDO_AFTER_SKIP, ConcernKind.HAPPENED_AFTER_SKIP, ConcernKind.HISTORY_LOST,
    ConcernKind.REPLY_ATTEMPT, ConcernKind.UNASKED, ConcernKind.CONTRADICTION, ConcernKind.RECORDS_LOST,
    ConcernKind.EVENT_UNREADABLE, ConcernKind.OTHER,
))  # fmt: skip
"""Kinds that tell of what has happened, once. They go when an operator says that it was looked at; all others go with
their cause."""

_OUTLAST_THE_END: Final = frozenset((ConcernKind.PARKED, *STOPS))
"""Kinds whose cause is still there when a saga has ended: its messages, or what came while it was blocked, are kept."""


OF_OPEN_SAGAS: Final = (ConcernKind.RECORDS_LOST, ConcernKind.EVENT_UNREADABLE)
"""Kinds whose cure is that something is sent to the saga again. Nothing is taken once it has ended: they go then."""


def is_acknowledgeable(kind: ConcernKind, *, closed: bool) -> bool:
    """closed: of a saga that has ended, in which nothing else can end what was under way."""
    return kind in ACKNOWLEDGEABLE or (closed and kind not in _OUTLAST_THE_END)


class Concern(NamedTuple):
    """number: of the step that it is about; 0 for the saga as a whole."""

    kind: ConcernKind
    number: int = 0


NO_ANSWER: Final = "no_answer"
"""Code: nobody answers."""
UNREADABLE_ANSWER: Final = "unreadable"
"""Code: the answer cannot be read. attempt: of the command that was answered."""
NO_INPUT: Final = "no_input"
"""Code of an undo whose input could not be made: to try it again changes nothing."""
CANCELLED: Final = "cancelled"
"""Code of a stuck saga that has been cancelled, which happens once."""


BROKEN_ANSWER: Final = "broken"
"""Code: an answer came of which not even the headers can be read. It is no input, and a dead letter."""


class Told(NamedTuple):
    """What a person has been told of a concern. Other words for the same code and attempt are no news."""

    code: str = ""
    """Empty if there is only one thing to say, or if an older release has stored the words alone."""
    attempt: int = 0
    """0 if it does not matter, or if an older release has not stored it."""

    def covers(self, other: Told) -> bool:
        """Whether there is no need to tell the other one too. What an older release has not stored is not compared."""
        return self.code in ("", other.code) and self.attempt in (0, other.attempt)


WORDS_ALONE: Final = Told()


MOST_STORED: Final = 100
"""Concerns that are written with a saga's row: the latest ones, and of the others the number. A saga may have
thousands, and its row is written anew with each change."""

RELEASED: Final = "parked.released"
"""Name of the notice that ends a concern: what was parked goes on its way again (S8)."""

_KINDS: Final = {kind.value: kind for kind in ConcernKind}
_OLD: Final = re.compile(r"(undo|settle)? ?(?:of )?step (\d+)(?: \(.*\))?")
_OLD_KINDS: Final = {None: ConcernKind.STEP, "undo": ConcernKind.UNDO, "settle": ConcernKind.SETTLE}
_OLD_NO_ANSWER: Final = b": no answer for "
_OF_ANSWERS: Final = (ConcernKind.STEP, ConcernKind.UNDO, ConcernKind.SETTLE, ConcernKind.LATE_SUCCESS)


def concern_of(row: Row) -> Concern:
    """What a notice, or a block, is about: its name is the kind, its step the number.

    Older releases wrote words: "step 3", "undo of step 3 (stock.release)", "settle of step 3"; and no name for lost
    records and for blocks. They are read as what they meant.
    """
    if row.kind is Kind.BLOCKED:  # its number is a row's
        return Concern(_KINDS.get(row.name, ConcernKind.BLOCKED))
    if kind := _KINDS.get(row.name):
        return Concern(kind, row.step)
    if old := _OLD.fullmatch(row.name):
        return Concern(_OLD_KINDS[old[1]], int(old[2]))
    return Concern(ConcernKind.RECORDS_LOST)


def told_by(row: Row) -> Told:
    """What a notice says of its concern: the code is in `ref`.

    Older releases wrote words alone. Of a step's answer they had two things to say, and one of them always began alike.
    """
    if row.kind is not Kind.NOTICE:
        return WORDS_ALONE
    if row.ref and not row.ref.isdecimal():
        return Told(row.ref, row.attempt)
    if concern_of(row).kind not in _OF_ANSWERS:
        return WORDS_ALONE
    no_answer = not row.ref and _OLD_NO_ANSWER in (row.payload or b"")
    return Told(NO_ANSWER if no_answer else UNREADABLE_ANSWER, row.attempt)


class Concerns(dict[Concern, str]):
    """Why a person should look, in words, the latest last. Changed by `put`, `reword` and `remove` alone; each costs
    the same however many there are, and what has changed since the last `keep` can be left out again."""

    __slots__ = ("_before", "_places", "_put")

    def __init__(
        self, standing: Iterable[tuple[Concern, str]] = (), told: Mapping[Concern, Told] = MappingProxyType({})
    ) -> None:
        """told: where there is more to know than the words."""
        super().__init__(standing)
        self._places: dict[Concern, tuple[int, Told]] = {}
        if self:  # not of a new saga
            self._places = {concern: (place, told.get(concern, WORDS_ALONE)) for place, concern in enumerate(self)}
        self._put = len(self)
        self._before: dict[Concern, tuple[int, Told, str] | None] = {}

    def told(self, concern: Concern) -> Told | None:
        """None if it does not stand."""
        found = self._places.get(concern)
        return None if found is None else found[1]

    def put(self, concern: Concern, words: str, told: Told = WORDS_ALONE) -> None:
        self.remove(concern)
        self[concern] = words
        self._put += 1
        self._places[concern] = self._put, told

    def reword(self, concern: Concern, words: str, told: Told) -> None:
        """It keeps its place among the others. KeyError if it does not stand."""
        place, before = self._places[concern]
        self._before.setdefault(concern, (place, before, self[concern]))
        self[concern] = words
        self._places[concern] = place, told

    def remove(self, concern: Concern) -> None:
        """Idempotent."""
        known, words = self._places.pop(concern, None), self.pop(concern, "")
        self._before.setdefault(concern, None if known is None else (*known, words))

    def keep(self) -> None:
        """What has changed counts."""
        if self._before:
            self._before = {}

    def as_kept(self) -> Concerns:
        """Others, as these were at the last `keep`."""
        found = {concern: (*known, self[concern]) for concern, known in self._places.items()}
        for concern, before in self._before.items():
            found.pop(concern, None)
            if before is not None:
                found[concern] = before
        in_order = sorted(found, key=lambda one: found[one][0])
        return Concerns(
            ((concern, found[concern][2]) for concern in in_order), {concern: found[concern][1] for concern in in_order}
        )


def concerns_json(concerns: Concerns) -> bytes:
    """As they are stored with the saga: [{"kind": …, "number": …, "words": …, "code": …}], latest last.

    The code is left out where there is none. At most the latest `MOST_STORED`; before them, how many more there are.
    """
    latest = [one for one in islice(reversed(concerns), MOST_STORED) if one.kind is not ConcernKind.MORE]
    left = len(concerns) - len(latest)
    if left:
        first = next(iter(concerns))  # of a saga that is known from its row
        known = first.number if first.kind is ConcernKind.MORE else None
        left = left if known is None else left - 1 + known
    listed = [_stored(one, concerns[one], concerns.told(one)) for one in reversed(latest)]
    if left:
        words = f"and {left} more: see the saga's history"
        listed.insert(0, {"kind": ConcernKind.MORE, "number": left, "words": words})
    return codec.encode_value(listed)


def _stored(concern: Concern, words: str, told: Told | None) -> dict[str, JsonValue]:
    stored: dict[str, JsonValue] = {"kind": concern.kind, "number": concern.number, "words": words}
    return stored if told is None or not told.code else stored | {"code": told.code}


def read_concerns(stored: bytes | None, *, attention: str | None) -> Concerns:
    """The reverse. attention: the words alone, which is all that older releases stored.

    Kinds of a later release are left out; they are in the history, and it will find them there.
    """
    if stored is None:
        return Concerns() if attention is None else Concerns([(Concern(ConcernKind.OTHER), attention)])
    listed: Iterable[Mapping[str, object]] = from_json(stored)
    known = [
        (Concern(_KINDS[str(one["kind"])], int(str(one["number"]))), str(one["words"]), Told(str(one.get("code", ""))))
        for one in listed
        if one["kind"] in _KINDS
    ]
    return Concerns(((concern, words) for concern, words, _ in known), {concern: told for concern, _, told in known})

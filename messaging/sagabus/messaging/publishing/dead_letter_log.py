"""Dead letters as log lines: each is one warning with its saga id, its reason in a code and in words, and the cure.

It is written after the commit, so that a line tells of a row that is there. A flood stays readable: a turn has ten
lines at most, and one more that counts the others by reason.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final, NamedTuple

from sagabus.contracts.envelope import Record
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.names import OWN_SERVICE, saga_id
from sagabus.contracts.words import plain
from sagabus.messaging.publishing.dead_letter import text_of

logger = logging.getLogger(__name__)

LINES_OF_A_TURN: Final = 10
"""A turn takes in hundreds of records, and a bad producer makes dead letters of all of them."""

LONGEST_KEY: Final = 200
"""Bytes of a key that are shown: no saga id is longer."""

LONGEST_WORDS: Final = 500
"""Characters of a message that are shown. The row has all of it."""


class _Letter(NamedTuple):
    key: str
    reason: str
    words: str
    place: str


class DeadLetterLog:
    """Of one turn. by: the service, as in `DeadLetters`."""

    __slots__ = ("_by", "_first", "_others")

    def __init__(self, by: str) -> None:
        self._by = by
        self._first: list[_Letter] = []
        self._others: Counter[str] = Counter()

    def take(self, record: Record, *, reason: str, message: str) -> None:
        """To be told once it is committed."""
        if len(self._first) == LINES_OF_A_TURN:
            self._others[reason] += 1
            return
        key = text_of((record.key or b"")[: LONGEST_KEY + 1])
        place = f"{record.topic}:{record.partition}:{record.offset}"
        self._first.append(_Letter(key, reason, plain(message)[:LONGEST_WORDS], place))

    def mark(self) -> tuple[int, Counter[str]]:
        """For `back_to`."""
        return len(self._first), self._others.copy()

    def back_to(self, mark: tuple[int, Counter[str]]) -> None:
        """As if what was taken since then had not been."""
        del self._first[mark[0] :]
        self._others = mark[1].copy()

    def tell(self) -> None:
        for letter in self._first:
            is_saga = _is_saga_id(letter.key)
            which = f"--saga={letter.key}" if is_saga else f"--reason-code={letter.reason}"
            logger.warning(
                "dead letter %s of saga %s at %s: %s; see `%s`", letter.reason, letter.key or "(no key)", letter.place,
                letter.words, self._cure(which), extra={"saga_id": letter.key} if is_saga else None,
            )  # fmt: skip
        if self._others:
            counted = ", ".join(f"{number} × {reason}" for reason, number in self._others.most_common())
            logger.warning("%d more dead letters: %s; see `%s`", self._others.total(), counted, self._cure(""))

    def _cure(self, which: str) -> str:
        service = "" if self._by == OWN_SERVICE else f"--service={self._by}"
        return " ".join(filter(None, ("sagabus dead-letters list", service, which)))


def _is_saga_id(key: str) -> bool:
    """It may be typed into a shell as it stands."""
    try:
        saga_id(key)
    except MessageInvalid:
        return False
    return True

"""What the small turn of a coordinator and the small batch of a participant have alike: each is one statement.

    mine, held     the rows of its shards, locked, as far as they are still ours (S1)
    fence          whether all are: nothing is written otherwise (`shard_row.fence`)
    advanced, …    the shard rows move on, and the parts, tables from arrays, are written

Each combination of parts is a statement of its own. It is for what writes little, and nothing rare: a row costs more in
arrays than in a COPY, and the statement has as long as a commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sagabus.messaging.postgres.statements import named

MOST_ROWS: Final = 64
"""Of a table. With more, a transaction with COPY costs less."""

MOST_BYTES: Final = 262_144
"""Of payloads: the statement has as long as a commit."""


def name_of_parts(what: str, parts: Iterable[str]) -> str:
    """The statement's name. what: writes them; a beat has no parts."""
    return f"{what}.{'_'.join(parts) or 'beat'}"


def unless_all(part: str, rows: str, word: str) -> str:
    """SQL: an error with this word in it, unless the part has touched as many rows as this array has.

    A SELECT cannot raise an error of its own. A text that is no number can: it comes as
    asyncpg.InvalidTextRepresentationError, and whoever waits for the statement knows it by its word.
    """
    counted = f"(SELECT count(*) FROM {part})"
    wrong = f"fence.may AND {counted} <> cardinality({rows})"
    return f"CASE WHEN {wrong} THEN ('{word}: only ' || {counted})::int END"


def composed(name: str, ctes: Iterable[str], answers: Iterable[str]) -> str:
    """The whole of it. ctes: the fence first. answers: what it selects from the fence."""
    return named(name, f"WITH {', '.join(ctes)} SELECT {', '.join(answers)} FROM fence")

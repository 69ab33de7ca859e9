"""Whose fault a database error is: the handler's, which is an answer, or the world's, which never is (P3).

A statement that breaks a constraint, cannot compute its values or does not parse fails each time it is run: that is the
handler's, and counts as an attempt; taken for the world's, it would stop all sagas of the shard. A deadlock, a lost
connection, a server that shuts down say nothing about the command. Of others the code alone does not tell: they are the
world's until the command has met them alone, on a connection that goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final

import asyncpg
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.postgres.connecting import is_unusable

# Classes and codes of SQLSTATE (PostgreSQL documentation, appendix A), and the number of a run alone from which on they
# are its handler's: connection exception, invalid authorization, no such database, transaction rollback (deadlock,
# serialization); insufficient resources; object not in prerequisite state (a view that takes no rows), operator
# intervention, system error (a file that is not there), configuration file, internal error (corrupt data, whatever a
# function raises). A class that is not here: at once. Two codes of these classes are those of a statement that has
# waited: for a lock, or for its time to run out. The turn fails at once, the first times: what it waits for may be in
# the hands of a process that stands still, whose shards nobody gets before this turn is over.
_FROM_RUN: Final = {
    **dict.fromkeys(("08", "28", "3D", "40"), inf),
    **dict.fromkeys(("53", "55P03", "57014"), 4),
    **dict.fromkeys(("55", "57", "58", "F0", "XX"), 1),
}

_TIMEOUT_FROM_RUN: Final = 2
"""A statement without an answer in time: the network's fault once, and the statement's if the next connection is no
better while it answers otherwise."""


class DatabaseFailed(SagabusError):
    """The database failed a handler. Nothing of it may be told to anybody: the command is to be carried out again."""


def is_database_failure(error: BaseException, *, alone: int = 0) -> bool:
    """Whether the database is to blame for this exception of a handler, itself or by what it was raised from.

    alone: which run of the command without others in its transaction this is; 0 if there are others.
    """
    return any(alone < _from_run(cause) for cause in causes(error))


def is_timeout(error: BaseException) -> bool:
    """Whether a statement got no answer in time."""
    return any(isinstance(cause, TimeoutError) and is_unusable(cause) for cause in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, those in a group, and what each was raised from. SQLAlchemy raises its own from the driver's."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _from_run(error: BaseException) -> float:
    """The run alone from which on this is the handler's fault; 0: always, infinity: never."""
    if isinstance(error, TimeoutError) and is_unusable(error):
        return _TIMEOUT_FROM_RUN
    if is_unusable(error) or isinstance(error, PoolTimeoutError):
        return inf
    sqlstate = getattr(error, "sqlstate", None)
    if not isinstance(error, asyncpg.PostgresError) or not isinstance(sqlstate, str):
        return 0
    return _FROM_RUN.get(sqlstate, _FROM_RUN.get(sqlstate[:2], 0))

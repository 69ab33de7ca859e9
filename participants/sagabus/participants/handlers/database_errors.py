"""Whose fault a database error is: the handler's, which is an answer, or the world's, which never is (P3).

A statement that breaks a constraint, cannot compute its values or does not parse fails each time it is run: that is the
handler's, and counts as an attempt; taken for the world's, it would stop all sagas of the shard. A deadlock, a lost
connection, a server that shuts down say nothing about the command.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import asyncpg
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.postgres.connecting import is_unusable

# Classes of SQLSTATE (PostgreSQL documentation, appendix A): connection exception, invalid authorization, no such
# database, transaction rollback (deadlock, serialization), insufficient resources, object not in prerequisite state
# (lock not available), operator intervention (shutdown, cancelled statement), system error, configuration file,
# internal error.
_WORLD: Final = frozenset({"08", "28", "3D", "40", "53", "55", "57", "58", "F0", "XX"})


class DatabaseFailed(SagabusError):
    """The database failed a handler. Nothing of it may be told to anybody: the command is to be carried out again."""


def is_database_failure(error: BaseException) -> bool:
    """Whether the database is to blame for this exception of a handler, itself or by what it was raised from."""
    return any(_of_the_world(cause) for cause in causes(error))


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


def _of_the_world(error: BaseException) -> bool:
    """The connection is of no use any more, or the error says nothing of what the handler did."""
    if is_unusable(error) or isinstance(error, PoolTimeoutError):
        return True
    sqlstate = getattr(error, "sqlstate", None)
    return isinstance(error, asyncpg.PostgresError) and isinstance(sqlstate, str) and sqlstate[:2] in _WORLD

"""What it means that PostgreSQL is unreachable: no connection could be had, or none that takes writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sagabus.contracts.errors import ExitCode, SagabusError

UNREACHABLE: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InvalidAuthorizationSpecificationError,  # this one and the next: the database may still be being set up
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,  # of several hosts none takes writes
    DBAPIError,
    PoolTimeoutError,
)


class DatabaseUnreachable(SagabusError):
    """No connection could be had. Nothing was begun."""

    exit_code = ExitCode.UNREACHABLE


@contextmanager
def out_of_reach() -> Iterator[None]:
    """What is raised for that within, as DatabaseUnreachable. Any other error passes."""
    try:
        yield
    except DatabaseUnreachable:
        raise
    except UNREACHABLE as error:
        said = getattr(error, "orig", None) or error  # without what SQLAlchemy puts around it
        raise DatabaseUnreachable(f"PostgreSQL is unreachable: {str(said) or type(said).__name__}") from error

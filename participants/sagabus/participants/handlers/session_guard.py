"""What a handler may not do to a transaction and a connection that others use too.

A method that would end the shared transaction raises, and so does a statement that would. What a session sets beyond
its transaction would be met by whoever gets the connection next, other sagas among them: it is refused in a shared
transaction, and a connection on which it may have happened all the same is replaced.
"""

from __future__ import annotations

import re
from typing import Any, Final, NoReturn

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.elements import ReleaseSavepointClause, RollbackToSavepointClause, SavepointClause

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.postgres.engine import replace_when_next_used

SHARED: Final = {"sagabus_use": "shared"}
"""Execution options of a connection whose transaction is a turn's."""

OWN: Final = {"sagabus_use": "own"}
"""Execution options of a connection whose transaction is an external handler's."""


class SessionMisuse(SagabusError):
    """A handler tried to end the transaction that it shares with its inbox row, or to change its connection."""


class _Guard:
    """Before an AsyncSession or a Session in the bases of a handler's session."""

    def commit(self) -> NoReturn:
        raise SessionMisuse(f"commit(): {_ENDS}")

    def rollback(self) -> NoReturn:
        raise SessionMisuse(f"rollback(): {_ENDS}")

    def close(self) -> NoReturn:
        raise SessionMisuse(f"close(): {_ENDS}")

    def reset(self) -> NoReturn:
        raise SessionMisuse(f"reset(): {_ENDS}")

    def invalidate(self) -> NoReturn:
        raise SessionMisuse(f"invalidate(): {_ENDS}")

    def begin(self, nested: bool = False) -> Any:
        if nested:  # SQLAlchemy's own begin_nested() calls this
            return super().begin(nested=True)  # type: ignore[misc]
        raise SessionMisuse(f"begin(): {_ENDS}")


_ENDS: Final = (
    "a handler shares the transaction of the inbox row, the reply and the events, which commits after the handler has "
    "returned. To undo a part of your own, use `async with ctx.session.begin_nested()`, or `ctx.connection.savepoint()`"
    "; to undo all, raise"
)
_LASTS: Final = (
    "it would outlast this handler, and change what the next one does on this connection. Use `SET LOCAL …`, which "
    "ends with the transaction"
)


def guarded_class(base: type[Any], *beside: type[Any]) -> type[Any]:
    return type(f"Handler{base.__name__}", (_Guard, *beside, base), {})


def close_for_good(session: Any) -> None:
    """Past the guard. session: a sync one."""
    super(_Guard, session).close()


def watch(engine: AsyncEngine) -> None:
    """Look at what is executed with SHARED or OWN. May be repeated."""
    if not event.contains(engine.sync_engine, "before_cursor_execute", _look):
        event.listen(engine.sync_engine, "before_cursor_execute", _look)


# Comments and empty statements may stand before a statement's first word.
_FIRST: Final = r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*+"
_ENDING: Final = re.compile(
    _FIRST + r"(COMMIT|ROLLBACK|END|ABORT|BEGIN|START\s+TRANSACTION|PREPARE\s+TRANSACTION|RELEASE|SAVEPOINT"
    r"|SET\s+TRANSACTION|SET\s+(?:SESSION|LOCAL)\s+TRANSACTION)\b",
    re.IGNORECASE | re.DOTALL,
)
_LASTING: Final = re.compile(
    _FIRST + r"(SET\s+(?!LOCAL\b|CONSTRAINTS\b)\w+|RESET|DISCARD|PREPARE|DEALLOCATE|LISTEN)\b",
    re.IGNORECASE | re.DOTALL,
)
_OF_SQLALCHEMY: Final = SavepointClause, RollbackToSavepointClause, ReleaseSavepointClause


def _look(
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> None:
    use = connection.get_execution_options().get("sagabus_use")
    if use is None:
        return
    if use == SHARED["sagabus_use"]:
        may_last = not _is_of_sqlalchemy(context) and check_shared(statement, parameters)
    else:
        may_last = _LASTING.match(statement) is not None or _may_last(statement, parameters)
    if may_last:
        replace_when_next_used(connection.info)


def check_shared(statement: str, parameters: Any) -> bool:
    """Whether something of it may stay on the connection, which is then to be replaced. Raises SessionMisuse."""
    if (word := _ENDING.match(statement)) is not None:
        raise SessionMisuse(f"{_shown(word)}: {_ENDS}")
    if (word := _LASTING.match(statement)) is not None:
        raise SessionMisuse(f"{_shown(word)}: {_LASTS}")
    return _may_last(statement, parameters)


def _shown(word: re.Match[str]) -> str:
    return " ".join(word[1].upper().split())


def _is_of_sqlalchemy(context: Any) -> bool:
    compiled = getattr(context, "compiled", None)
    return compiled is not None and isinstance(compiled.statement, _OF_SQLALCHEMY)


def _may_last(statement: str, parameters: Any) -> bool:
    """Whether it calls a function that leaves something behind: a lock of the session, or a setting for good."""
    text = statement.lower()
    if "pg_advisory_lock" in text or "pg_try_advisory_lock" in text:
        return True
    if "set_config" not in text:
        return False
    given = parameters.values() if isinstance(parameters, dict) else parameters or ()
    local = "true" in text or any(value is True for value in given)
    return not local or "false" in text or any(value is False for value in given)

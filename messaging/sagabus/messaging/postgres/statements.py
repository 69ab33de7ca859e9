"""Statements have names: `/* outbox.park */ WITH moved AS …`.

PostgreSQL keeps a comment at the front of a statement, so pg_stat_activity and the server's log show the name. Metrics
and the simulation know a statement by it, and not by its text. A name is `<rows>.<verb>` and belongs to one text a
schema: asyncpg keeps prepared statements by their texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Final

_NAME: Final = re.compile(r"/\* ([a-z_]+\.[a-z_]+) \*/ ")


def named(name: str, sql: str) -> str:
    """This statement with its name in front."""
    return f"/* {name} */ {sql.strip()}"


def named_statements(make: Callable[[str], Mapping[str, str]]) -> Callable[[str], dict[str, str]]:
    """Decorates what gives the statements of a schema, by their names. A key without a dot is a part of a statement."""

    @wraps(make)
    def made(schema: str) -> dict[str, str]:
        return {name: named(name, sql) if "." in name else sql for name, sql in make(schema).items()}

    return made


def name_of(sql: str) -> str:
    """The name in front of it; empty for a statement without one."""
    found = _NAME.match(sql)
    return found[1] if found else ""

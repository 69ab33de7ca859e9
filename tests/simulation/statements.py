"""What the product's SQL statements mean, each written again in Python and found by its name and its schema.

Not a database: the statements of `messaging`, of the coordinator's store and of the participants' inbox, and no others.
A statement that is not known here stops the run: whoever adds one to the product adds its meaning here. The SQL itself
is tested on a real PostgreSQL; here the code around it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sagabus.messaging.postgres.statements import name_of
from tests.simulation.inbox_statements import InboxStatements, inbox_row
from tests.simulation.meaning import key_of
from tests.simulation.messaging_statements import MessagingStatements, outbox_row
from tests.simulation.postgres import Row, SimulatedConnection, SimulatedTransaction, Table
from tests.simulation.store_statements import StoreStatements, binary_rows, history_row

_SCHEMA: Final = re.compile(r'"([^"]+)"\.')
"""The first table that a statement names, as `qualified` writes it."""


class UnknownStatement(AssertionError):
    """Teach `tests.simulation.statements` what it means."""


class Known(MessagingStatements, InboxStatements, StoreStatements):
    """Of the coordinator's schema and of these services' schemas. now: the server's clock, seconds since 1970."""

    def __init__(self, namespace: str, services: Iterable[str], now: Callable[[], float]) -> None:
        super().__init__(now)
        for schema in (namespace, *services):
            self._messaging(schema)
        for service in services:
            self._inbox(service)
        self._store(namespace)
        self._savepoints()

    async def run(
        self, connection: SimulatedConnection, sql: str, args: Sequence[Any], timeout: float | None
    ) -> str | list[Row]:
        name, schema = name_of(sql), _SCHEMA.search(sql)
        connection.schema = schema[1] if schema else ""
        meaning = self.all.get((name, connection.schema))
        if meaning is None:
            raise UnknownStatement(f"the simulation does not know what this statement means: {sql}")
        if name in self.bugs:
            meaning = self.bugs[name](meaning)
        return await meaning(connection, args, timeout)

    def copy(self, tx: SimulatedTransaction, table: Table, rows: Sequence[Row]) -> None:
        for row in rows:
            if table[1] == "dead_letter":
                row = {**row, "id": tx.server.number()}
            tx.insert(table, key_of(table[1], row), row)

    def copy_binary(self, tx: SimulatedTransaction, table: Table, columns: Sequence[str], source: memoryview) -> None:
        made = {"history": history_row, "inbox": inbox_row, "outbox": outbox_row}[table[1]]
        for fields in binary_rows(bytes(source)):
            row = made(dict(zip(columns, fields, strict=True)))
            tx.insert(table, key_of(table[1], row), row)

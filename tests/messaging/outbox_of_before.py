"""The outbox as releases had it that kept a message in three columns."""

from __future__ import annotations


def outbox_of_before(schema: str) -> str:
    """Statements that take it back there, with its rows."""
    tables = "; ".join(
        f"ALTER TABLE {schema}.{table} DROP COLUMN record, ALTER COLUMN headers SET NOT NULL"
        for table in ("outbox", "outbox_parked")
    )
    return f"DROP VIEW {schema}.outbox_plain; DROP FUNCTION {schema}.plain_record; {tables}"

"""Alembic runs this for every command. The connection and the schema come from the caller; no file is read."""

from __future__ import annotations

from alembic import context

from sagabus.coordinator.store.tables import coordinator_tables

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    target_metadata=coordinator_tables(attributes["schema"]),
    version_table_schema=attributes["schema"],
)
with context.begin_transaction():
    context.run_migrations()

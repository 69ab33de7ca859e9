"""The tables of the routes: messaging's four, in a schema beside the coordinator's (H6).

Their shards are partitions of outside topics. In the coordinator's own tables they would meet the shards of sagas.
"""

from __future__ import annotations

from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from sagabus.contracts.names import routes_schema
from sagabus.messaging import database_url
from sagabus.messaging.postgres import condition
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.schema_upkeep import make_tables
from sagabus.messaging.postgres.tables import messaging_tables


def route_tables(namespace: str) -> MetaData:
    """A new MetaData."""
    return messaging_tables(routes_schema(namespace))


async def make_route_tables(url: str, namespace: str) -> None:
    """Make what is not there. Repeatable, also by several processes at once. Raises what SQLAlchemy raises."""
    engine = create_async_engine(database_url.sqlalchemy_url(database_url.normalised(url)), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await make_tables(connection, route_tables(namespace))
    finally:
        await engine.dispose()


async def route_tables_missing(connection: Connection, namespace: str) -> bool:
    """Whether `sagabus migrate` has to make them first."""
    return bool(await condition.missing(connection, route_tables(namespace)))

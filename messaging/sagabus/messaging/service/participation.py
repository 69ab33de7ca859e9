"""A participant as the commands see it. They find it by its module's name, and never import the participants' side."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sagabus.contracts.activity import Service

if TYPE_CHECKING:
    from sqlalchemy import MetaData
    from sqlalchemy.ext.asyncio import AsyncConnection


@runtime_checkable
class Participation(Protocol):
    """Implemented by `sagabus.participants.Participant`."""

    @property
    def service(self) -> Service:
        """What it speaks for."""

    @property
    def tables(self) -> MetaData | None:
        """The business tables of its author, where they were named."""

    @property
    def why_not_ready(self) -> str:
        """Why it does not carry out commands now; empty when it does."""

    def running(self, *, kafka: str | None = None) -> AbstractAsyncContextManager[None]:
        """Entering connects and takes commands, leaving drains. Settings come from the environment."""

    async def create_tables(self, connection: AsyncConnection) -> None:
        """Make what is missing in the schema `sagabus_<service>`, within the connection's transaction. Repeatable."""

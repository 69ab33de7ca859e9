"""The transaction of a batch: begun before its handlers, or by the first of them that asks for it, or never.

Most handlers write in it, and then it is there before they run. Those that only compute, or have their effects
elsewhere, need none: what belongs to them is then written by one statement (`inbox/small_batch`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from types import TracebackType
from typing import Final

from sagabus.messaging.postgres.database import Connection
from sagabus.participants.handlers.session import Transaction

Begin = Callable[[], AbstractAsyncContextManager[Transaction]]
"""A transaction, committed on leaving."""


class LateTransaction:
    """`async with`: what was begun is committed on leaving, rolled back by an exception.

    hold: the first statement in it, the fence. If it raises, the transaction is not to be had, now or later.
    """

    def __init__(self, begin: Begin, hold: Callable[[Connection], Awaitable[None]]) -> None:
        self.transaction: Transaction | None = None
        """None until it is there."""
        self._begin: Final = begin
        self._hold: Final = hold
        self._stack = AsyncExitStack()
        self._beginning: asyncio.Task[Transaction] | None = None

    async def __aenter__(self) -> LateTransaction:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._beginning is not None:
            self._beginning.cancel()
            with suppress(BaseException):  # who had to hear of it has heard
                await self._beginning
        await self._stack.__aexit__(kind, error, trace)

    async def begin(self) -> Transaction:
        """Before any handler. Raises Fenced, and what `Sessions.transaction` raises."""
        return await self._begun("")

    async def asked_for(self, first: str) -> Transaction:
        """By a handler. first: a statement to begin with, behind the fence; empty for none.

        In a task of its own: a handler that no longer waits for it leaves nothing half begun.
        """
        if self.transaction is not None:
            return self.transaction
        if self._beginning is None:
            self._beginning = asyncio.ensure_future(self._begun(first))
        return await asyncio.shield(self._beginning)

    async def settled(self) -> None:
        """Behind each handler: what it has begun is there. Raises what has kept it from being so, however often the
        handler has caught that."""
        if self._beginning is not None and self.transaction is None:
            await self._beginning

    async def _begun(self, first: str) -> Transaction:
        transaction = await self._stack.enter_async_context(self._begin())
        await self._hold(transaction.driver)
        if first:
            await transaction.driver.execute(first)
        self.transaction = transaction
        return transaction

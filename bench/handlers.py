"""What one row costs a handler, in µs of this process's processor time, by each way to write it.

    python -m bench.handlers [rounds]

Within one transaction of a participant, on an embedded PostgreSQL, as a batch of a hundred commands does it. A figure
is the best of several rounds: other work of the machine makes processor time longer, never shorter.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from time import process_time
from typing import Any, Final

from sqlalchemy import insert

from bench.results import keep
from sagabus.participants.handlers.session import Sessions, Transaction, finish
from sagabus.participants.testing.database import temporary_database
from sagabus.shop.payment import WRITE, Base, Entry

COMMANDS: Final = 100
ROUNDS: Final = 20

ROW: Final[Mapping[str, Any]] = {
    "transaction_id": "TXN-ORD-1", "order_id": "ORD-1", "amount": Decimal("5.00"), "reason": "charged",
    "command_id": "ORD-1:0123456789ab:2",
}  # fmt: skip

Way = Callable[[Sessions, Transaction], Awaitable[None]]


def given(transaction: Transaction) -> Callable[[], Awaitable[Transaction]]:
    async def begun() -> Transaction:
        return transaction

    return begun


async def object_of_a_session(sessions: Sessions, transaction: Transaction) -> None:
    for _ in range(COMMANDS):
        session = sessions.shared(given(transaction))
        session.add(Entry(**ROW))
        await finish(session)


async def object_of_one_session_for_all(sessions: Sessions, transaction: Transaction) -> None:
    """Not offered: see docs/decisions/0020."""
    session = sessions.shared(given(transaction))
    for _ in range(COMMANDS):
        session.add(Entry(**ROW))
        await session.flush()
        session.expunge_all()
    await finish(session)


async def statement_of_a_session(sessions: Sessions, transaction: Transaction) -> None:
    statement = insert(Entry)
    for _ in range(COMMANDS):
        session = sessions.shared(given(transaction))
        await session.execute(statement, ROW)
        await finish(session)


async def plain_statement(sessions: Sessions, transaction: Transaction) -> None:
    for _ in range(COMMANDS):
        await transaction.driver.execute(WRITE, *ROW.values())


WAYS: Final[tuple[Way, ...]] = (
    object_of_a_session, object_of_one_session_for_all, statement_of_a_session, plain_statement,
)  # fmt: skip


async def seconds(way: Way, sessions: Sessions) -> float:
    async with sessions.transaction() as transaction:
        begun = process_time()
        await way(sessions, transaction)
        return process_time() - begun


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    best = dict.fromkeys(WAYS, float("inf"))
    async with temporary_database() as engine:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        sessions = Sessions.of(engine)
        for way in WAYS * rounds:
            best[way] = min(best[way], await seconds(way, sessions))
    figures = {f"{way.__name__}_us": round(figure / COMMANDS * 1e6) for way, figure in best.items()}
    keep("handlers", rounds=rounds, **figures)


if __name__ == "__main__":
    asyncio.run(main())

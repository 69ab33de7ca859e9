"""The participant of the desk: a ledger of what it has done and undone, in the order in which it was committed."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sagabus.participants import ActivityContext, Participant, Refused
from tests.system.operators.desk_sagas import (
    Place,
    Ticket,
    desk,
    fail,
    falter,
    give_back,
    hold,
    never_back,
    take,
    tidy,
)


class Base(DeclarativeBase): ...


class Entry(Base):
    """Rows are only added. what: the activity, `take` or `give_back`, without its service."""

    __tablename__ = "desk_ledger"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    saga_id: Mapped[str]
    step: Mapped[int]
    what: Mapped[str]


service = Participant(desk, tables=Base.metadata)


def entered(ctx: ActivityContext, what: str) -> None:
    ctx.session.add(Entry(saga_id=ctx.saga_id, step=ctx.step, what=what))


def ticket(command: Place, ctx: ActivityContext) -> Ticket:
    return Ticket(place=command.place, ticket=ctx.idempotency_key)


@service.handles(take)
async def taken(command: Place, ctx: ActivityContext) -> Ticket:
    entered(ctx, "take")
    return ticket(command, ctx)


@service.handles(hold)
async def held(command: Place, ctx: ActivityContext) -> Ticket:
    entered(ctx, "hold")
    return ticket(command, ctx)


@service.handles(falter)
async def faltered(command: Place, ctx: ActivityContext) -> Ticket:
    if ctx.attempt == 1:
        raise ValueError("not today")
    entered(ctx, "falter")
    return ticket(command, ctx)


@service.handles(fail)
async def failed(command: Place, ctx: ActivityContext) -> Ticket:
    raise ValueError("not ever")


@service.handles(tidy)
async def tidied(command: Place, ctx: ActivityContext) -> None:
    entered(ctx, "tidy")


@service.handles(give_back)
async def given_back(command: Ticket, ctx: ActivityContext) -> None:
    entered(ctx, "give_back")


@service.handles(never_back)
async def not_given_back(command: Ticket, ctx: ActivityContext) -> None:
    raise Refused("not_taken_back", "this one stays")

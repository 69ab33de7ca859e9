"""Handlers that only answer, and some that raise what a handler may raise."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sagabus.participants import ActivityContext, ExternalContext, Participant, Refused
from tests.system.ordinary import loop_watch
from tests.system.ordinary.trial_sagas import (
    Entered,
    Entry,
    Held,
    Hold,
    Odd,
    enter,
    fail,
    hold,
    release,
    strange,
    strange_outside,
    trial,
)

loop_watch.install_if_asked()


class Base(DeclarativeBase): ...


class TokenEntry(Base):
    """Which token a hold and its release were sent. Rows are only added."""

    __tablename__ = "token_ledger"
    saga_id: Mapped[str] = mapped_column(primary_key=True)
    what: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[str]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())


service = Participant(trial, tables=Base.metadata)


class Panic(BaseException):
    """As of a library in another language: no Exception."""


@service.handles(enter)
async def entered(command: Entry, ctx: ActivityContext) -> Entered:
    return Entered(number=command.number)


@service.handles(fail)
async def refused(command: Entry, ctx: ActivityContext) -> None:
    raise Refused("no", "never")


@service.handles(hold)
async def held(command: Hold, ctx: ActivityContext) -> Held:
    ctx.session.add(TokenEntry(saga_id=ctx.saga_id, what="hold", token=str(command.token)))
    return Held(place=1)


@service.handles(release)
async def released(command: Hold, ctx: ActivityContext) -> None:
    ctx.session.add(TokenEntry(saga_id=ctx.saga_id, what="release", token=str(command.token)))


@service.handles(strange)
async def stranger(command: Odd, ctx: ActivityContext) -> None:
    raise _raised(command.kind)


@service.handles(strange_outside, transaction=False)
async def stranger_outside(command: Odd, ctx: ExternalContext) -> None:
    raise _raised(command.kind)


def _raised(kind: str) -> BaseException:
    if kind == "panic":
        return Panic("the other language's panic")
    if kind == "exit":
        return SystemExit(7)
    return ValueError("bad \udcff")

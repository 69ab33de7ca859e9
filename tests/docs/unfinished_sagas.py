"""Sagas that do not go on, each for another cause: docs/troubleshooting.md shows what an operator sees of them.

Run by `sagabus dev`. What `purchase` does is changed by the test, as a deployment would.
"""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from sagabus.contracts import RetryPolicy, Service
from sagabus.coordinator import SagaContext, saga
from sagabus.participants import ActivityContext, ExternalContext, Participant, Refused


class Debit(BaseModel):
    amount: int


class Parcel(BaseModel):
    address: str


class Tracking(BaseModel):
    number: str


bank = Service("bank")
repay = bank.compensation("repay", Debit)
charge = bank.activity("charge", Debit, Debit, compensation=repay)
book = bank.activity("book", Debit)
permit = bank.activity("permit", Debit)
courier = Service("courier")
ship = courier.activity("ship", Parcel, Tracking)
office = Service("office")
stamp = office.activity("stamp", Debit)
signed = office.event("signed", Debit)
bank_service = Participant(bank)
courier_service = Participant(courier)


@saga("purchase")
async def purchase(ctx: SagaContext, debit: Debit) -> None:
    await ctx.call(charge(amount=debit.amount))
    await ctx.event(signed)


@saga("report")
async def report(ctx: SagaContext, debit: Debit) -> None:
    await ctx.call(charge(amount=debit.amount))
    while debit.amount:
        pass


@saga("delivery")
async def delivery(ctx: SagaContext, parcel: Parcel) -> Tracking:
    return await ctx.call(ship(address=parcel.address))


@saga("credit")
async def credit(ctx: SagaContext, debit: Debit) -> None:
    await ctx.call(charge(amount=debit.amount))
    await ctx.call(permit(amount=debit.amount))


@saga("agreement")
async def agreement(ctx: SagaContext, debit: Debit) -> None:
    await ctx.call(charge(amount=debit.amount))
    await ctx.event(signed)


@saga("certificate")
async def certificate(ctx: SagaContext, debit: Debit) -> None:
    await ctx.call(charge(amount=debit.amount))
    await ctx.call(stamp(amount=debit.amount))  # nobody runs the office


@saga("loan")
async def loan(ctx: SagaContext, debit: Debit) -> None:
    await ctx.call(charge(amount=debit.amount))
    await ctx.call(book(amount=debit.amount), retry=RetryPolicy())  # without an end


@saga("reminder")
async def reminder(ctx: SagaContext, debit: Debit) -> None:
    await ctx.call(charge(amount=debit.amount))
    await asyncio.sleep(30 * 86_400)


@bank_service.handles(charge)
async def take(command: Debit, ctx: ActivityContext) -> Debit:
    return command


@bank_service.handles(repay)
async def give_back(command: Debit, ctx: ActivityContext) -> None:
    if command.amount == 17:
        raise ValueError("account 17 is closed")


@bank_service.handles(permit)
async def forbid(command: Debit, ctx: ActivityContext) -> None:
    raise Refused("not_permitted", "no credit for this account")


@bank_service.handles(book)
async def fail(command: Debit, ctx: ActivityContext) -> None:
    raise ValueError("the ledger is locked")


@courier_service.handles(ship, transaction=False)
async def never_answers(command: Parcel, ctx: ExternalContext) -> Tracking:
    await asyncio.Event().wait()
    raise AssertionError

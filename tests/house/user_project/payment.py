"""A participant whose effect is outside its database: no transaction is open during the call."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from sagabus.participants import ExternalContext, Participant, Refused, TryAgain

from .contracts import Payment, ProcessPayment, payment, process_payment


class Declined(Exception): ...


class Gateway:
    async def charge(self, amount: Decimal, *, idempotency_key: str) -> str:
        return f"{amount} for {idempotency_key}"


@dataclass
class Resources:
    gateway: Gateway


@asynccontextmanager
async def lifespan() -> AsyncGenerator[Resources, None]:
    yield Resources(Gateway())


service = Participant(payment, lifespan=lifespan)


@service.handles(process_payment, transaction=False, time_limit=timedelta(seconds=30))
async def charge(command: ProcessPayment, ctx: ExternalContext[Resources]) -> Payment:
    try:
        charged = await ctx.resources.gateway.charge(command.amount, idempotency_key=ctx.idempotency_key)
    except Declined as error:
        raise Refused("card_declined", "the bank said no") from error
    except OSError as error:
        raise TryAgain("the gateway does not answer", after=5) from error
    return Payment(transaction_id=charged, amount=command.amount)

"""Business rejections, of a saga and of a participant: `sagabus dev purchase` in this folder runs it."""

from pydantic import BaseModel

from sagabus.contracts import SagaType, Service
from sagabus.coordinator import ActivityFailed, Refused, SagaContext, saga
from sagabus.participants import ActivityContext, Participant


class Purchase(BaseModel):
    item: str
    price: int


class Offer(BaseModel):
    offer: str


LIMIT = 50
shop = Service("shop")
release = shop.compensation("release", Offer)
reserve = shop.activity("reserve", Purchase, Offer, compensation=release)
pay = shop.activity("pay", Purchase, refusals=("card_declined", "card_expired"))
purchases = SagaType("purchase", Purchase, Offer, refusals=("over_budget", "not_paid"))


@saga(purchases)
async def purchase(ctx: SagaContext, purchase: Purchase) -> Offer:
    offer = await ctx.call(reserve.of(purchase))
    if purchase.price > LIMIT:
        raise Refused("over_budget", f"{purchase.item} costs {purchase.price}, the limit is {LIMIT}", limit=LIMIT)
    try:
        await ctx.call(pay.of(purchase))
    except ActivityFailed as error:
        if error.code in pay.refusals:  # the shop's own words, in those of this saga
            raise Refused("not_paid", error.message, why=error.code) from error
        raise
    return offer


service = Participant(shop)


@service.handles(reserve)
async def reserved(command: Purchase, ctx: ActivityContext) -> Offer:
    return Offer(offer=f"offer of {command.item}")


@service.handles(release)
async def released(command: Offer, ctx: ActivityContext) -> None:
    ctx.log.info("%s is free again", command.offer)


@service.handles(pay, time_limit=5)
async def paid(command: Purchase, ctx: ActivityContext) -> None:
    if command.item == "gold":
        raise Refused("card_declined", "the bank has refused the card")
    ctx.log.info("%s is paid", command.item)

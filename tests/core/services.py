"""Contracts for the tests of the core: three services, each with a step that can be undone and one that cannot."""

from __future__ import annotations

from pydantic import BaseModel

from sagabus.contracts import Activity, SagaType, Service, event


class Job(BaseModel):
    order: str


class Done(BaseModel):
    ref: str


class Undo(BaseModel):
    order: str
    ref: str


class Void(BaseModel):
    order: str


class Order(BaseModel):
    order: str = "O-1"


class Result(BaseModel):
    refs: list[str]


class Paid(BaseModel):
    amount: int


class Told(BaseModel):
    order: str
    note: str = ""


stock, bank, post = Service("stock"), Service("bank"), Service("post")

release = stock.compensation("release", Undo)
reserve = stock.activity("reserve", Job, Done, compensation=release)
count = stock.activity("count", Job, Done)

refund = bank.compensation("refund", Undo)
charge = bank.activity("charge", Job, Done, compensation=refund)
check = bank.activity("check", Job)

unbook = post.compensation("unbook", Void)
book = post.activity("book", Job, compensation=unbook)
ship = post.activity("ship", Job, Done)

paid = event("payment.confirmed", Paid)
told = stock.event("told", Told, key="order")
keyless = bank.event("keyless", Told)

receipt = SagaType("receipt", Order, Result)

ACTIVITIES: tuple[Activity[..., Job, Done], ...] = (reserve, charge, ship, count)

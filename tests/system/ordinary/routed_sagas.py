"""Sagas that an outside topic starts and wakes: each waits for three readings of its own, and ends with them."""

from __future__ import annotations

from pydantic import BaseModel

from sagabus.contracts import event
from sagabus.coordinator import SagaContext, saga


class Installed(BaseModel):
    meter: str


class Reading(BaseModel):
    meter: str
    number: int


class Readings(BaseModel):
    numbers: list[int]


installed = event("meters.installed", Installed, topic="meters.events", key="meter")
reading = event("meters.reading", Reading, topic="meters.events", key="meter")

READINGS = 3


@saga("watch_meter")
async def watch_meter(ctx: SagaContext, meter: Installed) -> Readings:
    return Readings(numbers=[(await ctx.event(reading)).number for _ in range(READINGS)])


watch_meter.on(installed, saga_id=lambda event: event.meter, start=True)
watch_meter.on(reading, saga_id=lambda event: event.meter)

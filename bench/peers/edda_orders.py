"""Order sagas on Edda: PYTHON edda_orders.py DATABASE SAGAS ALONE. Runs in an environment of its own.

Says `ready`, then a line of JSON for sagas that run together, then one for sagas that are alone. Before each of the two
it rests, so that who started it can read its processor time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from edda import EddaApp, WorkflowContext, activity, workflow

REST = 1.0
WARM = 30
TOGETHER = 20
"""At once. More make it slower: each holds connections of its pool."""


@activity
async def reserve(ctx: WorkflowContext, order_id: str) -> dict[str, object]:
    return {"reservation_id": f"RES-{order_id}", "total_amount": 109.97}


@activity
async def charge(ctx: WorkflowContext, order_id: str, amount: float) -> dict[str, object]:
    return {"transaction_id": f"TXN-{order_id}", "amount": amount, "status": "completed"}


@activity
async def ship(ctx: WorkflowContext, order_id: str, country: str) -> dict[str, object]:
    return {"tracking_number": f"TRACK-{order_id}", "status": "shipped"}


@workflow
async def order_processing(ctx: WorkflowContext, order_id: str) -> dict[str, object]:
    reservation = await reserve(ctx, order_id)
    payment = await charge(ctx, order_id, reservation["total_amount"])
    shipment = await ship(ctx, order_id, "Japan")
    return {
        "order_id": order_id, "status": "completed", "total_amount": payment["amount"],
        "confirmation_number": shipment["tracking_number"],
    }  # fmt: skip


async def saga(number: int) -> None:
    """A start returns when the workflow has ended, as it waits for nothing."""
    await order_processing.start(order_id=f"ORD-{number}")


async def together(first: int, count: int) -> float:
    """Seconds for all; so many at a time."""
    begun, places = time.perf_counter(), asyncio.Semaphore(TOGETHER)

    async def one(number: int) -> None:
        async with places:
            await saga(number)

    await asyncio.gather(*map(one, range(first, first + count)))
    return time.perf_counter() - begun


async def alone(first: int, count: int) -> list[float]:
    times = []
    for number in range(first, first + count):
        begun = time.perf_counter()
        await saga(number)
        times.append(time.perf_counter() - begun)
    return times


async def run(url: str, count: int, lone: int) -> None:
    app = EddaApp(service_name="orders", db_url=url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=20)
    await app.initialize()
    try:
        await saga(0)  # alone: several that are first at once all store the definition, and all but one fail
        await together(0, WARM)
        print("ready", flush=True)
        await asyncio.sleep(REST)
        print(json.dumps({"together_s": await together(WARM, count)}), flush=True)
        await asyncio.sleep(REST)
        print(json.dumps({"alone_s": await alone(WARM + count, lone)}), flush=True)
    finally:
        await app.shutdown()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

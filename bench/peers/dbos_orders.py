"""Order sagas on DBOS: PYTHON dbos_orders.py DATABASE SAGAS ALONE. Runs in an environment of its own.

Says `ready`, then a line of JSON for sagas that run together, then one for sagas that are alone. Before each of the two
it rests, so that who started it can read its processor time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from dbos import DBOS, DBOSConfig, SetWorkflowID

REST = 1.0
WARM = 30
TOGETHER = 100


@DBOS.step()
async def reserve(order_id: str) -> dict[str, object]:
    return {"reservation_id": f"RES-{order_id}", "total_amount": 109.97}


@DBOS.step()
async def charge(order_id: str, amount: float) -> dict[str, object]:
    return {"transaction_id": f"TXN-{order_id}", "amount": amount, "status": "completed"}


@DBOS.step()
async def ship(order_id: str, country: str) -> dict[str, object]:
    return {"tracking_number": f"TRACK-{order_id}", "status": "shipped"}


@DBOS.workflow()
async def order_processing(order_id: str) -> dict[str, object]:
    reservation = await reserve(order_id)
    payment = await charge(order_id, float(str(reservation["total_amount"])))
    shipment = await ship(order_id, "Japan")
    return {
        "order_id": order_id, "status": "completed", "total_amount": payment["amount"],
        "confirmation_number": shipment["tracking_number"],
    }  # fmt: skip


async def saga(number: int) -> None:
    """Started, and waited for."""
    with SetWorkflowID(f"ORD-{number}"):
        handle = await DBOS.start_workflow_async(order_processing, f"ORD-{number}")
    await handle.get_result()


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


async def run(count: int, lone: int) -> None:
    first = time.time_ns()
    await together(first, WARM)
    print("ready", flush=True)
    await asyncio.sleep(REST)
    print(json.dumps({"together_s": await together(first + WARM, count)}), flush=True)
    await asyncio.sleep(REST)
    print(json.dumps({"alone_s": await alone(first + WARM + count, lone)}), flush=True)


if __name__ == "__main__":
    url, sagas, lone_sagas = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    config: DBOSConfig = {"name": "orders", "system_database_url": url, "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()
    asyncio.run(run(sagas, lone_sagas))
    DBOS.destroy()

"""A saga of which each process takes one turn and leaves its rows in a file, so that the next may be another Python.

    python -m tests.core.restarted FILE SAGA ACTION

ACTION is `start`, `load`, `complete-N`, the answer to step N, or `fire-N`, the end of sleep N. What has come of it is
printed as JSON.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from tests.core.kit import Definition, Drive
from tests.core.services import Done, Order, Result, charge, reserve, ship
from tests.core.wire import an_input


async def _later(ctx: SagaContext, command: Any) -> Done:
    done = await ctx.call(command)
    assert isinstance(done, Done)
    return done


async def _both(first: Coroutine[Any, Any, Done], second: Coroutine[Any, Any, Done]) -> Result:
    done = await asyncio.gather(asyncio.wait_for(first, 60), second)
    return Result(refs=[each.ref for each in done])


@saga("saga")
async def hurried(ctx: SagaContext, order: Order) -> Result:
    """Up to Python 3.11 `wait_for` makes a task of what it waits for, which then begins a little later."""
    both = await _both(_later(ctx, reserve(order=order.order)), _later(ctx, charge(order=order.order)))
    await ctx.call(ship(order=order.order))
    return both


@saga("saga")
async def twins(ctx: SagaContext, order: Order) -> Result:
    """The same with one activity: by kind, number and name its steps are alike in either order."""
    both = await _both(_later(ctx, reserve(order="first")), _later(ctx, reserve(order="second")))
    for ref in both.refs:
        await ctx.call(ship(order=ref))
    return both


@saga("saga")
async def naps(ctx: SagaContext, order: Order) -> Result:
    """Sleeps, which are numbered in the order in which they begin."""

    async def nap(seconds: float) -> Done:
        await asyncio.sleep(seconds)
        return await _later(ctx, ship(order=str(seconds)))

    return await _both(nap(30), nap(7200))


SAGAS: dict[str, Definition] = {"hurried": hurried, "twins": twins, "naps": naps}


def main(file: Path, name: str, action: str) -> None:
    drive, before = Drive(SAGAS[name]), 0
    if action == "start":
        drive.start()
    else:
        drive.rows, drive.stored, drive.timers, drive.now, drive.all = pickle.loads(file.read_bytes())
        before = len(drive.all.commands)
        drive.reload()
        _act(drive, action)
    file.write_bytes(pickle.dumps((drive.rows, drive.stored, drive.timers, drive.now, drive.all)))
    said = {
        "commands": drive.all.short[before:], "attention": drive.attention, "due": drive.due, "kinds": drive.kinds,
        "fingerprint": drive.stored.fingerprint,
    }  # fmt: skip
    print(json.dumps(said))
    drive.saga.evict()


def _act(drive: Drive, action: str) -> None:
    verb, _, number = action.partition("-")
    if verb == "complete":
        service = next(sent.service for sent in drive.all.commands if sent.head.step == int(number))
        drive.take(an_input(Kind.STEP_COMPLETED, int(number), 1, service, action, b'{"ref":"%b"}' % number.encode()))
    elif verb == "fire":
        drive.fire(TimerKind.SLEEP, int(number))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

"""How long until the full rate is back after a SIGKILL of a coordinator, with very many open sagas.

The open sagas wait for an event and for a timer, on all shards. Beside them runs a load of order sagas, as many as go
through. Measured from the kill, in seconds: until a saga of the load has ended (`first_s`), until one has on every
shard (`everywhere_s`), and from when on the rate is nine tenths of what it was before, for a second (`full_s`).

  static    the same instance (SAGABUS_INSTANCE) is started again at once
  dynamic   one without an instance is started again at once: the group must notice first that the old one is gone
  another   a second coordinator is there already, and takes over

Also told: the longest callback of a coordinator's loop in processor time, and the memory of the coordinators. Rows of
the open sagas are copied from one that was run (bench/filling.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.filling import APPROVALS, answer, fill, run_patterns
from bench.product import Product, product_on
from bench.program import commits, parser, run, tell
from bench.stage import LEAN, SERVICES, Stage, stage
from bench.steady_load import SteadyLoad, everywhere, reached, steady_load
from tests.support.conditions import until
from tests.system.ordinary.loop_watch import stalls

NAME: Final = "bench.recovery"

WAYS: Final = ("static", "dynamic", "another")
PARTICIPANTS: Final = (*LEAN, APPROVALS)

FULL: Final = 0.9
"""Of the rate before the kill: counts as full."""

WINDOW: Final = 1.0
"""Seconds over which a rate is looked at."""

PATIENCE: Final = 180.0
"""Seconds until the full rate must be back."""

PROBES: Final = 5
"""Open sagas that are answered, to see that they are true ones."""


@dataclass(frozen=True)
class Recovery:
    """rate: sagas a second before. first, everywhere, full: seconds from the kill. stall: of processor time."""

    rate: float
    first: float
    everywhere: float
    full: float
    stall: float
    memory_mib: int

    @property
    def figures(self) -> dict[str, float]:
        return {
            "sagas_per_s": round(self.rate), "first_s": round(self.first, 2),
            "everywhere_s": round(self.everywhere, 2), "full_s": round(self.full, 2),
            "stall_s": round(self.stall, 3), "memory_mib": self.memory_mib,
        }  # fmt: skip


def watched_stage(options: argparse.Namespace) -> AbstractAsyncContextManager[Stage]:
    """A stage whose coordinators write down long callbacks, in the folder of the deployment."""
    return stage(
        PARTICIPANTS, sagas=("bench.watched_sagas",), services=(*SERVICES, "approvals"), commits=commits(options)
    )


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """JSON."""
    async with watched_stage(options) as made, product_on(made) as product:
        await product.start(PARTICIPANTS)
        await run_patterns(product)
        await product.stop()
        filled = await fill(product.connection, options.open, 0)
        found = {way: (await recovery(product, way, options.steady)).figures for way in options.ways}
    return {"open": filled.open, "history_rows": filled.rows, "ways": found}


async def recovery(product: Product, way: str, steady: float) -> Recovery:
    """One kill, in this way. steady: seconds for which the rate before it is measured."""
    product.coordinators = 2 if way == "another" else 1
    await product.start(PARTICIPANTS, static=way == "static")
    await answer(product, product.probes(PROBES))
    async with steady_load(product) as load:
        await load.warm()
        rate = await load.rate(steady)
        killed = time.perf_counter()
        product.kill_coordinator()
        if way != "another":
            instance = "coordinator-0" if way == "static" else ""
            await product.add_coordinator(f"restarted-{way}-{killed:.0f}", instance=instance)
        moments = await recovered(load, killed, rate)
        found = Recovery(rate, *moments, longest_stall(product), product.memory_mib)
    await product.stop()
    tell(f"{way}: {found.figures}")
    return found


async def recovered(load: SteadyLoad, killed: float, rate: float) -> tuple[float, float, float]:
    """Seconds from the kill: the first saga that has ended, one on every shard, and the full rate."""

    async def full() -> float | None:
        there = everywhere(load.seen, killed)
        return None if there is None else reached(load.seen, there, FULL * rate, WINDOW)

    moment = await until(full, within=PATIENCE, what=f"{FULL * rate:.0f} sagas end in a second, on all shards")
    before = max(look.ended for look in load.seen if look.at <= killed)
    first = next(look.at for look in load.seen if look.at > killed and look.ended > before)
    there = everywhere(load.seen, killed)
    assert there is not None
    return first - killed, there - killed, moment - killed


def stalls_folder(made: Stage) -> Path:
    return made.deployment.folder / "stalls"


def longest_stall(product: Product) -> float:
    """Seconds of processor time that a callback of the coordinators that run has taken; imports are none."""
    found = [
        stall.cpu
        for pid in product.coordinator_pids
        for stall in stalls(stalls_folder(product.stage), pid)
        if "importlib" not in stall.stack
    ]
    return max(found, default=0.0)


def table(figures: Mapping[str, Any]) -> str:
    """For people."""
    names = ("sagas_per_s", "first_s", "everywhere_s", "full_s", "stall_s", "memory_mib")
    head = f"{figures['open']} open sagas, {figures['history_rows']} rows of history\n{'':8}"
    lines = [f"{way:8}" + "".join(f"{row[name]:13}" for name in names) for way, row in figures["ways"].items()]
    return "\n".join([head + "".join(f"{name:>13}" for name in names), *lines])


def main() -> int:
    made = parser(NAME, __doc__, "", "--open 2000 --steady 3 --results /dev/null", "--open 1000000 --ways static")
    made.add_argument("--open", type=int, default=100_000, help="sagas that wait (default: 100000)")
    made.add_argument("--steady", type=float, default=10, help="seconds that the rate before is measured (default: 10)")
    made.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS], metavar="WAY")
    return run("recovery", made.parse_args(), measure, table)


if __name__ == "__main__":
    sys.exit(main())

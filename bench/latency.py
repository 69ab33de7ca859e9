"""How long a saga takes, from the request to the event that says that it has completed, as a client meets them.

  peak    sagas a second when all are sent at once: the median of three runs, after one that warms the broker
  alone   one after the other, for the product and the bare engine in turns; nothing else runs
  idle    what the processes of a deployment cost while nothing happens, in milliseconds of processor time a second,
          once the broker has compiled what it has done so far, which goes on for minutes
  rates   sagas started evenly, at shares of the product's peak, by both; a saga's time begins when it is due

Handlers only answer (bench/lean_shop.py).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Mapping
from typing import Any, Final

from bench.bare.yardstick import Bare, bare_on
from bench.figures import curve, distribution, ratio
from bench.fixed_rate import at_rate
from bench.one_by_one import one_by_one
from bench.processor_time import Reading, compiling_seconds, milliseconds_each
from bench.product import Product, product_on
from bench.program import commits, parser, run, tell
from bench.stage import LEAN, stage

NAME: Final = "bench.latency"

PORTIONS: Final = 3
"""Turns of each engine, when sagas are alone."""

PEAKS: Final = 3

UNCOUNTED: Final = 20
"""First sagas of a turn."""

REST_MS: Final = 5.0
"""Of processor time a second: with less, a broker's compilers are at rest."""

LOOK: Final = 10.0
"""Seconds of each look at them."""

LOOKS: Final = 3
"""In a row: they pause in between."""


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """JSON."""
    async with (
        stage(LEAN, commits=commits(options)) as made,
        bare_on(made) as bare,
        product_on(made, coordinators=options.coordinators) as product,
    ):
        await product.start(LEAN)
        rates = [(await product.run(options.sagas)).rate for _ in range(PEAKS + 1)]
        peak = statistics.median(rates[1:])
        tell(f"peak: {peak:.0f} sagas a second")
        await product.stop()
        alone = await turns(bare, product, options.alone)
        await product.start(LEAN)
        idle = await idling(product, options)
        loads = [await loaded(product, share, peak, options) for share in options.shares]
        await product.stop()
        await bare.start()
        bare_loads = [await loaded(bare, share, peak, options) for share in options.shares]
        await bare.stop()
    return {
        "coordinators": options.coordinators, "peak_sagas_per_s": round(peak), "alone": alone,
        "idle_cpu_ms_per_s": idle, "rates": loads, "bare_rates": bare_loads,
    }  # fmt: skip


async def turns(bare: Bare, product: Product, sagas: int) -> dict[str, Any]:
    """So many of each engine, alone."""
    times: dict[str, list[float]] = {"product": [], "bare": []}
    for _ in range(PORTIONS):
        portion = -(-sagas // PORTIONS)
        await bare.start()
        times["bare"] += await alone_of(bare, portion)
        await bare.stop()
        await product.start(LEAN)
        times["product"] += await alone_of(product, portion)
        await product.stop()
    found: dict[str, Any] = {name: distribution(each) for name, each in times.items()}
    told = (f"{name} p50 {each['p50']} ms, p99 {each['p99']} ms" for name, each in found.items())
    tell(f"alone: {'; '.join(told)}")
    return {**found, "p50_times_bare": ratio(found["product"]["p50"], found["bare"]["p50"])}


async def alone_of(engine: Bare | Product, sagas: int) -> list[float]:
    numbers = engine.numbers(sagas + UNCOUNTED)
    return (await one_by_one(engine.stage.kafka, engine.wire, numbers))[UNCOUNTED:]


async def at_rest(broker: int, longest: float) -> None:
    """Returns when this broker compiles nothing any more, or after so many seconds."""
    waited, quiet = 0.0, 0
    while waited < longest and quiet < LOOKS:
        before, pause = compiling_seconds(broker), min(LOOK, longest - waited)
        await asyncio.sleep(pause)
        waited += pause
        quiet = quiet + 1 if 1_000 * (compiling_seconds(broker) - before) / pause <= REST_MS else 0
    if waited and quiet < LOOKS:
        tell(f"the broker still compiles after {longest:g} s: what follows counts that too")


async def idling(product: Product, options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of processor time a second, by kind."""
    await at_rest(product.stage.broker.process.pid, options.settle)
    reading = Reading(product.kinds)
    await asyncio.sleep(options.idle)
    passed = reading.passed
    found = {kind: round(each / passed, 1) for kind, each in milliseconds_each(reading.spent(), 1).items()}
    tell(f"idle: {found['all']} ms of processor time a second")
    return found


async def loaded(engine: Bare | Product, share: float, peak: float, options: argparse.Namespace) -> dict[str, Any]:
    """At this share of the product's peak, after some seconds that do not count: a broker compiles what it does often,
    and for its first half a minute at a new rate that takes most of its time."""
    rate = share * peak
    if options.warm_up:
        await at_rate(engine.stage.kafka, engine.wire, engine.numbers(max(1, round(rate * options.warm_up))), rate)
    numbers = engine.numbers(max(1, round(rate * options.seconds)))
    reading = Reading(engine.kinds)
    times = await at_rate(engine.stage.kafka, engine.wire, numbers, rate)
    spent = milliseconds_each(reading.spent(), len(numbers))
    latency = distribution(times)
    who = "bare at " if isinstance(engine, Bare) else ""
    tell(f"{who}{share:.0%} of the peak: p50 {latency['p50']} ms, p99 {latency['p99']} ms")
    return {
        "share": share, "sagas_per_s": round(rate), "latency_ms": latency, "curve_ms": curve(times), "cpu_ms": spent
    }  # fmt: skip


def table(figures: Mapping[str, Any]) -> str:
    """For people."""
    rows = {
        **{f"alone, {name}": figures["alone"][name] for name in ("bare", "product")},
        **{f"{each['share']:.0%} of peak, {each['sagas_per_s']}/s": each["latency_ms"] for each in figures["rates"]},
        **{f"bare at {each['sagas_per_s']}/s": each["latency_ms"] for each in figures["bare_rates"]},
    }
    head = f"{'':24}" + "".join(f"{name:>9}" for name in ("p50", "p90", "p99", "worst", "count")) + "   (ms)"
    lines = [f"{name:24}" + "".join(f"{value:9}" for value in row.values()) for name, row in rows.items()]
    idle = ", ".join(f"{kind} {value}" for kind, value in figures["idle_cpu_ms_per_s"].items())
    return "\n".join([head, *lines, f"idle, ms of processor time a second: {idle}"])


def main() -> int:
    quick = "--sagas 300 --alone 30 --seconds 3 --warm-up 0 --idle 2 --settle 0 --results /dev/null"
    made = parser(NAME, __doc__, "", quick, "--shares 0.5")
    made.add_argument("--sagas", type=int, default=5_000, help="of each run for the peak (default: 5000)")
    made.add_argument("--alone", type=int, default=300, help="sagas of each engine that are alone (default: 300)")
    made.add_argument("--seconds", type=float, default=20, help="of each fixed rate (default: 20)")
    made.add_argument("--warm-up", type=float, default=20, help="seconds of each before it counts (default: 20)")
    made.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.5, 0.8], help="of the peak")
    made.add_argument("--idle", type=float, default=10, help="seconds that idle processes are watched (default: 10)")
    settle = "seconds at most that the broker is waited for before that (default: 400)"
    made.add_argument("--settle", type=float, default=400, help=settle)
    made.add_argument("--coordinators", type=int, default=1, help="processes of the product's (default: 1)")
    return run("latency", made.parse_args(), measure, table)


if __name__ == "__main__":
    sys.exit(main())

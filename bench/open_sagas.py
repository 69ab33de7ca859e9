"""What very many open sagas and a long history cost: python -m bench.open_sagas.

First the tables are empty. Then they are filled: sagas that wait for an event and for a timer, and closed ones until
there are so many rows of history. Told for both: sagas a second (the median of three runs that send all at once, after
one that does not count), processor time a saga, and the memory of the coordinators. At the end a coordinator is killed
under load, and its shards are taken (bench/recovery.py says what is measured).

Rows are copied from sagas that were run (bench/filling.py). `python -m bench.growth` answers another question: whether
tables stay as large as they are when sagas end and are removed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from bench.figures import medians, ratio
from bench.filling import answer, fill, run_patterns
from bench.load_run import COORDINATORS, PARTICIPANTS
from bench.processor_time import ALL
from bench.product import Product, product_on
from bench.program import parser, run, tell
from bench.recovery import PARTICIPANTS as MODULES
from bench.recovery import PROBES, WAYS, recovery, watched_stage

NAME: Final = "bench.open_sagas"

RUNS: Final = 3


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """JSON."""
    async with watched_stage(options) as made, product_on(made) as product:
        await product.start(MODULES)
        await run_patterns(product)
        empty = await runs(product, options.sagas)
        tell(f"empty: {empty}")
        await product.stop()
        filled = await fill(product.connection, options.open, options.rows)
        begun = time.perf_counter()
        await product.start(MODULES)
        start_s = time.perf_counter() - begun
        await answer(product, product.probes(PROBES))
        full = {**await runs(product, options.sagas), "start_s": round(start_s, 2)}
        tell(f"full: {full}")
        size = await product.connection.fetchval("SELECT pg_database_size(current_database())")
        await product.stop()
        takes = {way: (await recovery(product, way, options.steady)).figures for way in options.ways}
    return {
        "open": filled.open, "closed": filled.closed, "history_rows": filled.rows,
        "database_mib": size >> 20, "sagas": options.sagas,
        "empty": empty, "full": full, "takes": takes,
        "share_of_empty": ratio(full["sagas_per_s"], empty["sagas_per_s"]),
    }  # fmt: skip


async def runs(product: Product, sagas: int) -> dict[str, float]:
    """Medians, and the memory at the end in MiB."""
    found = [(await product.run(sagas)).figures for _ in range(RUNS + 1)]
    return {**medians(found[1:]), "memory_mib": product.memory_mib}


def table(figures: Mapping[str, Any]) -> str:
    """For people."""
    names = ("sagas_per_s", *(f"cpu_ms.{kind}" for kind in (COORDINATORS, PARTICIPANTS, ALL)), "memory_mib")
    head = f"{figures['open']} open sagas, {figures['history_rows']} rows of history"
    columns = f"{'':8}" + "".join(f"{name:>22}" for name in names)
    lines = [f"{name:8}" + "".join(f"{figures[name][key]:22}" for key in names) for name in ("empty", "full")]
    takes = [f"take, {way}: {row}" for way, row in figures["takes"].items()]
    return "\n".join([head, columns, *lines, f"{figures['share_of_empty']:.0%} of the rate with empty tables", *takes])


def main() -> int:
    small = "--open 2000 --rows 20000 --sagas 300 --steady 3 --results /dev/null"
    made = parser(NAME, __doc__, "", small, "--open 1000000 --rows 10000000")
    made.add_argument("--open", type=int, default=10_000, help="sagas that wait (default: 10000)")
    made.add_argument("--rows", type=int, default=100_000, help="of history, in all (default: 100000)")
    made.add_argument("--sagas", type=int, default=5_000, help="of each run (default: 5000)")
    made.add_argument("--steady", type=float, default=10, help="seconds of load before a kill (default: 10)")
    made.add_argument("--ways", nargs="+", choices=WAYS, default=["static", "dynamic"], metavar="WAY")
    return run("open_sagas", made.parse_args(), measure, table)


if __name__ == "__main__":
    sys.exit(main())

"""The product beside the bare engine (bench/bare): how many sagas a second, and what each costs in processor time.

Both work on the same warm broker and the same database, in turns, and never at the same time. A round is: the bare
engine; the product with handlers that only answer (`happy`, `undo`, `mixed`); the product with the shop's handlers
(`shop`). A run sends all sagas at once and ends with the last one. The first round warms the broker and does not count.
Figures are medians of the others; ratios are taken within each round.

  happy   all steps complete
  undo    the last step is refused, and the two before it are undone
  mixed   seven of ten complete, one of ten is refused at each step
  shop    happy, with handlers that write to their own tables
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from bench.bare.records import PARTITIONS as BARE_PARTITIONS
from bench.bare.yardstick import bare_on
from bench.figures import medians, ratio
from bench.load_run import COORDINATORS, PARTICIPANTS, Run
from bench.processor_time import ALL
from bench.product import Product, product_on
from bench.program import commits, parser, run, tell
from bench.stage import LEAN, PARTITIONS, SHOP, stage
from tests.system.orders import Fate

NAME: Final = "bench.compare"
BARE: Final = "bare"

MIXED: Final = (*[Fate.COMPLETED] * 7, Fate.OUT_OF_STOCK, Fate.CARD_DECLINED, Fate.NOT_SERVED)


class Mode(NamedTuple):
    """participants: modules. fate: of an order, by its number."""

    participants: Sequence[str]
    fate: Callable[[int], Fate]


MODES: Final[Mapping[str, Mode]] = {
    "happy": Mode(LEAN, lambda number: Fate.COMPLETED),
    "undo": Mode(LEAN, lambda number: Fate.NOT_SERVED),
    "mixed": Mode(LEAN, lambda number: MIXED[number % len(MIXED)]),
    "shop": Mode(SHOP, lambda number: Fate.COMPLETED),
}

COMPARED: Final = (COORDINATORS, PARTICIPANTS, ALL)
"""Kinds of processes whose cost is divided by that of the bare engine's."""


async def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds. The shop's tables are there for both kinds of handlers.

    What is returned is JSON: for the bare engine and each mode its medians.
    """
    async with (
        stage(SHOP, partitions=options.partitions, commits=commits(options)) as made,
        bare_on(made) as bare,
        product_on(made, coordinators=options.coordinators) as product,
    ):
        rounds = []
        for number in range(options.rounds + 1):
            await bare.start()
            runs = {BARE: await bare.run(options.sagas)}
            await bare.stop()
            runs |= await modes_of(product, options.modes, options.sagas)
            told = ", ".join(f"{mode} {run.rate:.0f}" for mode, run in runs.items())
            tell(f"{f'round {number} of {options.rounds}' if number else 'warm-up'}, sagas a second: {told}")
            rounds.append(runs)
    return {
        "rounds": options.rounds, "sagas": options.sagas, "coordinators": options.coordinators,
        **({} if options.partitions == PARTITIONS else {"partitions": options.partitions}),
        **summary(rounds[1:]),
    }  # fmt: skip


async def modes_of(product: Product, modes: Sequence[str], sagas: int) -> dict[str, Run]:
    """Those with the same participants on the same processes."""
    runs = {}
    for participants, names in groupby(modes, key=lambda mode: MODES[mode].participants):
        await product.start(participants)
        for name in names:
            runs[name] = await product.run(sagas, MODES[name].fate)
        await product.stop()
    return runs


def summary(rounds: Sequence[Mapping[str, Run]]) -> dict[str, dict[str, float]]:
    """Medians of all figures of each mode, with its ratios to the bare engine of the same round."""
    return {mode: medians(_figures(mode, runs) for runs in rounds) for mode in rounds[0]}


def _figures(mode: str, runs: Mapping[str, Run]) -> dict[str, float]:
    figures, floor = runs[mode].figures, runs[BARE].figures
    if mode == BARE:
        return figures
    costs = {f"cpu_times_bare.{kind}": ratio(figures[f"cpu_ms.{kind}"], floor[f"cpu_ms.{kind}"]) for kind in COMPARED}
    shares = {"share_of_bare": ratio(runs[mode].rate, runs[BARE].rate)}
    if MODES[mode].participants == SHOP and "happy" in runs:
        shares["share_of_lean"] = ratio(runs[mode].rate, runs["happy"].rate)
    return {**figures, **shares, **costs}


def table(figures: Mapping[str, Any]) -> str:
    """For people."""
    kinds = (COORDINATORS, PARTICIPANTS, "kafka", "postgresql", ALL)
    head = f"{'':6} {'sagas/s':>8} {'of bare':>8}   CPU ms a saga: {'':3}" + "".join(f"{kind:>14}" for kind in kinds)
    lines = [head]
    for mode in (BARE, *MODES):
        if mode not in figures:
            continue
        row = figures[mode]
        share = f"{row['share_of_bare']:8.2f}" if "share_of_bare" in row else " " * 8
        costs = "".join(f"{row[f'cpu_ms.{kind}']:14.3f}" for kind in kinds)
        lines.append(f"{mode:6} {row['sagas_per_s']:8.0f} {share}{'':21}{costs}")
        if "share_of_bare" in row:
            times = (f"{row[f'cpu_times_bare.{kind}']:.1f} × bare" if kind in COMPARED else "" for kind in kinds)
            lines.append(f"{'':45}" + "".join(f"{one:>14}" for one in times))
    if "share_of_lean" in figures.get("shop", {}):
        lines.append(f"shop: {figures['shop']['share_of_lean']:.2f} of the rate with lean handlers")
    return "\n".join(lines)


def main() -> int:
    made = parser(NAME, __doc__, "", "--rounds 1 --sagas 300 --results /dev/null", "--partitions 4 --modes happy")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--sagas", type=int, default=5_000, help="of each run (default: 5000)")
    made.add_argument("--coordinators", type=int, default=1, help="processes of the product's (default: 1)")
    partitions = f"of the product; bare has {BARE_PARTITIONS} (default: {PARTITIONS})"
    made.add_argument("--partitions", type=int, default=PARTITIONS, help=partitions)
    made.add_argument("--modes", nargs="+", choices=MODES, default=[*MODES], metavar="MODE", help="of the product")
    return run("compare", made.parse_args(), compare, table)


if __name__ == "__main__":
    sys.exit(main())

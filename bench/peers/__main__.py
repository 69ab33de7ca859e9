"""The product beside other engines that pip can install: python -m bench.peers.

The same order saga, on the same PostgreSQL, whose commits wait for the disk. All engines run in turns, each alone. Told
are sagas a second, processor time a saga, and how long sagas take that are alone. The steps of the peers are functions
of the process that decides. The product's are in a process of their own, behind Kafka, with an inbox. So the peers do
less.

The peers are installed below .cache/peers when they are first needed, in environments of their own. One that cannot be
installed is left out, and the output says why.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.figures import distribution, medians, ratio
from bench.one_by_one import one_by_one
from bench.peers.environments import REQUIREMENTS, NotInstalled, environment
from bench.peers.measured import Work, measured
from bench.product import Product, product_on
from bench.program import commits, parser, run, tell
from bench.stage import LEAN, Stage, stage

NAME: Final = "bench.peers"
PRODUCT: Final = "sagabus"


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """JSON: medians by engine, and for peers how many times the product's rate is theirs."""
    there, missing = await asyncio.to_thread(installed, options.peers)
    rounds: list[dict[str, dict[str, float]]] = []
    async with stage(LEAN, commits=commits(options)) as made, product_on(made) as product:
        for number in range(options.rounds + 1):
            each = {PRODUCT: await product_alone(product, Work(options.sagas, options.alone))}
            each |= await peers_of(made, there, Work(options.peer_sagas, options.alone), number)
            rounds.append(each)
            told = ", ".join(f"{name} {figures['sagas_per_s']:.0f}" for name, figures in each.items())
            tell(f"{f'round {number} of {options.rounds}' if number else 'warm-up'}, sagas a second: {told}")
    return {
        "rounds": options.rounds, "sagas": options.sagas, "peer_sagas": options.peer_sagas, "missing": missing,
        "requirements": {peer: REQUIREMENTS[peer] for peer in there}, "engines": summary(rounds[1:]),
    }  # fmt: skip


def installed(peers: list[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Those that are there, with their Python; and why the others are not."""
    there: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for peer in peers:
        try:
            there[peer] = environment(peer)
        except NotInstalled as reason:
            missing[peer] = str(reason)
            tell(f"{peer} cannot be installed here, and is left out: {reason}")
    return there, missing


async def product_alone(product: Product, work: Work) -> dict[str, float]:
    """The peers' figures, of the product."""
    await product.start(LEAN)
    figures = (await product.run(work.together)).figures
    times = await one_by_one(product.stage.kafka, product.wire, product.numbers(work.alone))
    await product.stop()
    return {**figures, **{f"alone.{name}": value for name, value in distribution(times).items()}}


async def peers_of(made: Stage, there: Mapping[str, Path], work: Work, number: int) -> dict[str, dict[str, float]]:
    """number: of the round; what a program says goes into a folder of the round."""
    folder = made.deployment.folder / f"peers-{number}"
    return {peer: await measured(peer, python, made.server, folder, work) for peer, python in there.items()}


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Medians, and for each peer the product's rate divided by its own in the same round."""
    for each in rounds:
        for name, figures in each.items():
            if name != PRODUCT:
                figures["product_times"] = ratio(each[PRODUCT]["sagas_per_s"], figures["sagas_per_s"])
    return {name: medians(each[name] for each in rounds) for name in rounds[0]}


def table(figures: Mapping[str, Any]) -> str:
    """For people."""
    head = f"{'':8} {'sagas/s':>9} {'CPU ms':>8} {'p50 ms':>8} {'p99 ms':>8}"
    lines = [
        f"{name:8} {row['sagas_per_s']:9.0f} {row['cpu_ms.all']:8.2f} {row['alone.p50']:8.1f} {row['alone.p99']:8.1f}"
        + (f"   sagabus does {row['product_times']:.1f} times as many" if "product_times" in row else "")
        for name, row in figures["engines"].items()
    ]
    left_out = [f"{peer} was left out: {reason}" for peer, reason in figures["missing"].items()]
    return "\n".join([head, *lines, *left_out])


def main() -> int:
    made = parser(NAME, __doc__, "", "--rounds 1 --sagas 300 --peer-sagas 50 --alone 10 --results /dev/null")
    made.add_argument("--rounds", type=int, default=3, help="that count, after one that warms (default: 3)")
    made.add_argument("--sagas", type=int, default=5_000, help="of the product in each round (default: 5000)")
    made.add_argument("--peer-sagas", type=int, default=300, help="of each peer in each round (default: 300)")
    made.add_argument("--alone", type=int, default=100, help="sagas that are alone, of each (default: 100)")
    made.add_argument("--peers", nargs="+", choices=REQUIREMENTS, default=[*REQUIREMENTS], metavar="PEER")
    made.set_defaults(fsync=True)
    return run("peers", made.parse_args(), measure, table)


if __name__ == "__main__":
    sys.exit(main())

"""A long run with faults on real parts: python -m bench.faults [--kills 50 … --sagas 20000] [--seed N] [--json].

Every start must be exactly one saga that ends as it has to; every effect and every undo is committed once, in order.
The run says on its error output what it does, and appends one line to bench/faults.jsonl. Exit codes: 0, or 1 if
anything was lost, doubled, undone out of order, stuck or wrong, or if fewer faults landed than were asked for.
Nothing that it has started outlives it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tests.support.kafka_broker import make_class_archive
from tests.support.kafka_installation import NotInstalled, find_kafka
from tests.system.environment import environment
from tests.system.fault_plan import BROKER, DATABASE, JOINS, KILLS, STOPS, Fault, of_numbers, schedule
from tests.system.faults import Landed
from tests.system.run import Report, run

RESULTS = Path(__file__).parent / "faults.jsonl"
SORTS = ("kills", "stops", "rebalances", "rolling", "postgres", "broker", "cuts", "buses", "topics", "failovers")
SHOWN = 20
"""Violations of each kind that are shown."""


async def measured(options: argparse.Namespace, folder: Path) -> tuple[Report, list[Fault]]:
    """The run; a signal cancels it, and what it has started is ended on the way out."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    faults = schedule(options.seed, wanted(options))
    installation = find_kafka()
    if not installation.class_archive.exists():
        make_class_archive(installation, folder / "training")
    tell(f"seed {options.seed}, {len(faults)} faults, logs in {folder}")
    async with environment(
        installation,
        folder,
        seed=options.seed,
        rate=options.rate,
        most_open=options.most_open,
        coordinators=options.coordinators,
    ) as stage:
        return await run(stage, faults, seed=options.seed, sagas=options.sagas, tell=tell), faults


def wanted(options: argparse.Namespace) -> dict[Fault, int]:
    """How often each fault."""
    if options.only:
        return dict(Counter(map(Fault, options.only)))
    return of_numbers(**{name: getattr(options, name) for name in SORTS})


def row_of(options: argparse.Namespace, report: Report, faults: Iterable[Fault]) -> dict[str, object]:
    """The line for the record."""
    landed = Counter(one.fault for one in report.landed)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit.stdout.strip(), "seed": options.seed,
        "machine": f"{platform.machine()}, Python {platform.python_version()}", "clean": report.clean,
        "asked": len(list(faults)), "landed": landed.total(),
        "kills": sum(number * landed[fault] for fault, number in KILLS.items()),
        "stops": sum(landed[fault] for fault in STOPS), "rebalances": 2 * sum(landed[fault] for fault in JOINS),
        "rolling_restarts": landed[Fault.ROLLING_RESTART], "broker_restarts": sum(landed[fault] for fault in BROKER),
        "database_stops": sum(landed[fault] for fault in set(DATABASE)), "faults": dict(landed),
        "sagas": report.verdict.sagas, "ended": report.verdict.by_status, "escalated": report.verdict.escalated,
        "copies_published": report.verdict.copies, **report.verdict.figures, "failed": len(report.failed),
        "recovery_s": recoveries(report.landed), "seconds": round(report.seconds),
    }  # fmt: skip


def recoveries(landed: Iterable[Landed]) -> dict[str, dict[str, float]]:
    """By fault and over all: until any saga has ended again, and until a new one has on every shard."""
    by_fault: defaultdict[str, list[Landed]] = defaultdict(list)
    for one in landed:
        by_fault[one.fault].append(one)
        by_fault["all"].append(one)
    return {name: _figures(found) for name, found in sorted(by_fault.items())}


def _figures(landed: Iterable[Landed]) -> dict[str, float]:
    first = [one.recovery.first for one in landed]
    everywhere = [one.recovery.everywhere for one in landed]
    return {
        "median": round(statistics.median(first), 2), "worst": round(max(first), 2),
        "everywhere_median": round(statistics.median(everywhere), 2), "everywhere_worst": round(max(everywhere), 2),
    }  # fmt: skip


def tell(words: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {words}", file=sys.stderr, flush=True)


def explain(report: Report) -> None:
    """What went wrong, and the account."""
    for words in report.failed:
        tell(f"FAILED {words}")
    for kind, found in report.verdict.violations.items():
        for words in found[:SHOWN]:
            tell(f"{kind.upper()} {words}")
    figures = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in report.verdict.figures.items())
    tell(f"{len(report.landed)} faults, {report.verdict.sagas} sagas in {report.seconds:.0f} s: {figures}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs of coordinators and participants")
    parser.add_argument(
        "--stops", type=int, default=20, help="SIGSTOPs beyond the session's end, every third in a COPY"
    )
    parser.add_argument("--rebalances", type=int, default=40, help="members that join, and leave again")
    parser.add_argument("--rolling", type=int, default=20, help="restarts of all processes by SIGTERM, one by one")
    parser.add_argument("--postgres", type=int, default=10, help="immediate stops of PostgreSQL")
    parser.add_argument("--broker", type=int, default=10, help="stops of the broker, every second by SIGKILL")
    parser.add_argument("--cuts", type=int, default=5, help="times that all database connections are cut")
    parser.add_argument("--buses", type=int, default=3, help="times that an empty bus takes the place of the old one")
    parser.add_argument("--topics", type=int, default=6, help="times that a topic is deleted and made anew")
    parser.add_argument(
        "--failovers",
        type=int,
        default=9,
        help="standbys promoted in the primary's place, or connections that go silent",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="FAULT", choices=[*Fault], help="just these: for a try"
    )
    parser.add_argument("--sagas", type=int, default=20_000, help="at least so many")
    parser.add_argument("--rate", type=float, default=20, help="sagas started a second")
    parser.add_argument("--most-open", type=int, default=300, help="open sagas from which on fewer are started")
    parser.add_argument("--coordinators", type=int, default=3)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--json", action="store_true", help="print the line for the record as well")
    parser.add_argument(
        "--keep", action="store_true", help="keep the folder with all logs, which an unclean run does anyway"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="sagabus-faults-"))
    keep = options.keep
    try:
        report, faults = asyncio.run(measured(options, folder))
        keep |= not report.clean
    except NotInstalled as reason:
        tell(str(reason))
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        tell("interrupted: nothing is recorded")
        return 130
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    explain(report)
    line = json.dumps(row_of(options, report, faults))
    if not options.only:
        with RESULTS.open("a") as file:
            file.write(line + "\n")
    if options.json or options.only:
        print(line)
    return 0 if report.clean and len(report.landed) == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Run the simulation from the command line.

python -m tests.simulation --seeds 10000            many runs; exit 6 and the shortest schedule at a violation
python -m tests.simulation --seed 4711              one run, told
python -m tests.simulation --mutants                every bug that was put in on purpose must be found
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from typing import Any, Final

from tests.simulation.hunting import hunt
from tests.simulation.mutants import ALL
from tests.simulation.plan import schedule
from tests.simulation.simulation import Run, everywhere, many_processes, shrunk, simulate

FOUND: Final = 6
"""Exit code, as of every command that looks for faults."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many runs (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first run")
    parser.add_argument("--seed", type=int, help="this one run only, with its schedule")
    parser.add_argument("--mutants", action="store_true", help="look for the bugs that were put in on purpose")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return _one(given.seed)
    result = _mutants(given.workers) if given.mutants else _many(given.first, given.seeds, given.workers)
    print(json.dumps(result) if given.json else _told(result))
    return FOUND if result["violations"] else 0


def _one(seed: int) -> int:
    run = simulate(schedule(seed))
    print(run.schedule.told())
    print(f"  ended: {', '.join(run.statuses)}; {run.commits} commits, {run.rounds} rounds, digest {run.digest[:16]}")
    _print_violations(run)
    return FOUND if run.violations else 0


def _many(first: int, seeds: int, workers: int) -> dict[str, Any]:
    begun = time.monotonic()
    statuses: Counter[str] = Counter()
    injected: Counter[str] = Counter()
    bad: list[int] = []
    done = 0
    for part in everywhere(first, seeds, workers=workers):
        for run in part:
            statuses.update(run.statuses)
            injected.update(run.injected)
            bad += [run.seed] if run.violations else []
        done += len(part)
        _progress(f"{done} of {seeds} runs, {len(bad)} with violations")
    _progress("", end="\n")
    for seed in sorted(bad)[:3]:
        _print_violations(shrunk(simulate(schedule(seed))))
    return {
        "runs": done, "violations": len(bad), "seeds": sorted(bad), "sagas": dict(statuses.most_common()),
        "faults": dict(injected.most_common()), "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip


def _mutants(workers: int) -> dict[str, Any]:
    """Here a violation is one that was not found."""
    begun = time.monotonic()
    rows: list[dict[str, Any]] = []
    with many_processes(workers) as pool:
        for future in as_completed([pool.submit(hunt, number) for number in range(len(ALL))]):
            rows.append(future.result())
            _progress(f"{len(rows)} of {len(ALL)} bugs looked for")
    _progress("", end="\n")
    missed = [row["name"] for row in rows if row["seed"] is None]
    rows.sort(key=lambda row: (not row["rule"], row["rule"], row["name"]))
    return {"bugs": rows, "violations": len(missed), "missed": missed, "seconds": round(time.monotonic() - begun, 1)}


def _print_violations(run: Run) -> None:
    if run.violations:
        print(run.schedule.told())
        for violation in run.violations:
            print(f"  VIOLATION: {violation}")


def _told(result: dict[str, Any]) -> str:
    return "\n".join(_lines(result))


def _lines(result: dict[str, Any]) -> Iterator[str]:
    for row in result.get("bugs", ()):
        found = "NOT FOUND" if row["seed"] is None else f"seed {row['seed']}: {row['says'][:90]}"
        yield f"{row['rule'] or 'own':4} {row['name']:54} {found}"
    if "runs" in result:
        yield f"{result['runs']} runs; sagas {result['sagas']}; faults {result['faults']}"
    yield f"{result['violations']} {'not found' if 'bugs' in result else 'with violations'}, {result['seconds']} s"


def _progress(line: str, end: str = "") -> None:
    if sys.stderr.isatty() or end:
        print(f"\r{line:60}", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

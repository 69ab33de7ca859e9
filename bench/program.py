"""What the commands of bench/ have in common: options, progress, and an end that leaves nothing behind."""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.results import RESULTS, record
from bench.stage import Commits
from tests.support.kafka_installation import NotInstalled

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

NOT_INSTALLED = 2


def parser(name: str, about: str | None, *examples: str) -> argparse.ArgumentParser:
    """With the options that all of them take. about: the module's docstring."""
    shown = "\n".join(f"  python -m {name} {example}".rstrip() for example in examples)
    made = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=about,
        epilog=f"examples:\n{shown}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", action="store_true", help="print one JSON object, and no table")
    made.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE",
        help="append the figures to this file (default: bench/results.jsonl; /dev/null for a try)",
    )  # fmt: skip
    made.add_argument("--fsync", action="store_true", help="PostgreSQL waits for its disk at each commit")
    made.add_argument(
        "--commit-delay", type=int, default=0, metavar="MICROSECONDS",
        help="with --fsync: each commit takes at least so long (commit_delay, with commit_siblings = 0)",
    )  # fmt: skip
    return made


def commits(options: argparse.Namespace) -> Commits:
    return Commits(fsync=options.fsync or options.commit_delay > 0, delay_us=options.commit_delay)


def run(
    name: str,
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace], Coroutine[Any, Any, Mapping[str, Any]]],
    table: Callable[[Mapping[str, Any]], str],
) -> int:
    """Measure, keep the figures and print them. An exit code: 0, 2 without Kafka, 130 after Ctrl-C or SIGTERM."""
    try:
        figures = asyncio.run(_cancelled_by_signals(measure(options)))
    except NotInstalled as reason:
        tell(str(reason))
        return NOT_INSTALLED
    except (KeyboardInterrupt, asyncio.CancelledError):
        tell("interrupted: nothing is recorded")
        return INTERRUPTED
    kept = {"command": command(name, sys.argv[1:]), **commits(options).figures, **figures}
    line = record(name, kept, options.results)
    print(line if options.json else table(figures))
    if options.results == RESULTS:
        tell("kept in bench/results.jsonl; `python -m bench.plots` writes docs/performance.md anew")
    return 0


def command(name: str, words: Sequence[str]) -> str:
    """As it shows the figures again: without where they go."""
    told = re.sub(r" --(json|results[ =]\S+)(?= |$)", "", "".join(f" {word}" for word in words))
    return f"python -m bench.{name}{told}"


async def _cancelled_by_signals(work: Coroutine[Any, Any, Mapping[str, Any]]) -> Mapping[str, Any]:
    """What has been started is ended on the way out, by the same code as without a signal."""
    task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task


def tell(words: str) -> None:
    """Progress, on the error output."""
    print(words, file=sys.stderr, flush=True)

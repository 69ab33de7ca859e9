"""A run with faults from beginning to end: strike after strike under a load that goes on, then the verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.conditions import NotSo, until
from tests.system.environment import STOCK, Environment
from tests.system.fault_plan import Fault
from tests.system.faults import Injector, Landed
from tests.system.service_processes import COORDINATOR, PARTICIPANTS
from tests.system.verdict import Listener, Verdict, judge_asked, judge_ledgers, judge_leftovers, judge_sagas

LAST_ONES = 300.0
"""Seconds of patience for the last sagas to end after the last fault."""


@dataclass
class Report:
    """What a run has done and found."""

    verdict: Verdict = field(default_factory=Verdict)
    landed: list[Landed] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Faults after which the deployment did not recover, and processes that ended by themselves."""
    fed: int = 0
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        return not self.failed and not self.verdict.violations


async def run(
    environment: Environment, faults: Sequence[Fault], *, seed: int, sagas: int, tell: Callable[[str], None]
) -> Report:
    """All faults, and at least so many sagas. tell: hears of progress."""
    report, begun = Report(), time.monotonic()
    injector = Injector(environment, seed)
    for number, fault in enumerate(faults, 1):
        tell(f"{number}/{len(faults)} {fault}")
        try:
            landed = await injector.strike(fault)
        except Exception as error:  # a fault of the test's as well: the account is still worth having
            report.failed.append(f"{fault}: {type(error).__name__}: {error}")
            tell(f"  !! {type(error).__name__}: {error}")
            break
        report.landed.append(landed)
        tell(
            f"  landed in {landed.load.open} open, {landed.load.compensating} being undone; sagas ended again after "
            f"{landed.recovery.first:.1f} s, on every shard after {landed.recovery.everywhere:.1f} s; "
            f"{len(environment.load.items)} sagas, {time.monotonic() - begun:.0f} s"
        )
    if not report.failed:
        await until(lambda: len(environment.load.items) >= sagas, within=3600, every=0.2, what=f"{sagas} sagas are fed")
    try:
        await _finish(environment, report)
    except Exception as error:
        report.failed.append(f"the account could not be made: {error}")
    report.fed, report.seconds = len(environment.load.items), time.monotonic() - begun
    return report


async def _finish(environment: Environment, report: Report) -> None:
    """The load ends, the last sagas end, everything is stopped in order; then the account."""
    await environment.load.stop()
    items = list(environment.load.items.values())

    async def all_ended() -> bool:
        now = await environment.observer.look()
        return now.all >= len(items) and now.open == 0

    try:
        await until(all_ended, within=LAST_ONES, every=0.2, what=f"{len(items)} sagas have ended")
    except NotSo as error:
        report.failed.append(str(error))
    await judge_sagas(report.verdict, environment.observer, items)
    await judge_ledgers(report.verdict, environment.observer, environment.load.orders, stock=STOCK)
    await judge_asked(report.verdict, environment.observer, environment.load.approvals)
    await _stop_all(environment, report)
    schemas = [*environment.processes.schemas(COORDINATOR), *environment.processes.schemas(PARTICIPANTS)]
    await judge_leftovers(report.verdict, environment.observer, schemas)
    listener = Listener(report.verdict)
    for log in [*environment.old_logs, None]:
        if log is not None or environment.old_logs:
            await asyncio.to_thread(environment.reopen, log)
        await asyncio.to_thread(listener.listen, environment.broker.address)
    listener.judge(items)


async def _stop_all(environment: Environment, report: Report) -> None:
    """Nobody has ended by himself, and everybody drains."""
    for child in environment.deployment.children:
        if not child.running and child.returncode not in (0, -9):
            report.failed.append(f"ended by itself: {child.report()}")
    for result in await asyncio.gather(
        *map(environment.processes.end, environment.processes.posts), return_exceptions=True
    ):
        if result is not None:
            report.failed.append(f"did not drain: {result}")

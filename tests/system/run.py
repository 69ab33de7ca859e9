"""A run with faults from beginning to end: strike after strike under a feed that goes on, then the verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.conditions import NotSo, until
from tests.system.crew import COORDINATOR, PARTICIPANTS
from tests.system.faults import Injector, Landed
from tests.system.scene import STOCK, Scene
from tests.system.verdict import Listener, Verdict, judge_asked, judge_ledgers, judge_leftovers, judge_sagas
from tests.system.weather import Fault

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


async def run(scene: Scene, faults: Sequence[Fault], *, seed: int, sagas: int, tell: Callable[[str], None]) -> Report:
    """All faults, and at least so many sagas. tell: hears of progress."""
    report, begun = Report(), time.monotonic()
    injector = Injector(scene, seed)
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
            f"{len(scene.feed.items)} sagas, {time.monotonic() - begun:.0f} s"
        )
    if not report.failed:
        await until(lambda: len(scene.feed.items) >= sagas, within=3600, every=0.2, what=f"{sagas} sagas are fed")
    try:
        await _finish(scene, report)
    except Exception as error:
        report.failed.append(f"the account could not be made: {error}")
    report.fed, report.seconds = len(scene.feed.items), time.monotonic() - begun
    return report


async def _finish(scene: Scene, report: Report) -> None:
    """The feed ends, the last sagas end, everything is stopped in order; then the account."""
    await scene.feed.stop()
    items = list(scene.feed.items.values())

    async def all_ended() -> bool:
        now = await scene.eye.look()
        return now.all >= len(items) and now.open == 0

    try:
        await until(all_ended, within=LAST_ONES, every=0.2, what=f"{len(items)} sagas have ended")
    except NotSo as error:
        report.failed.append(str(error))
    await judge_sagas(report.verdict, scene.eye, items)
    await judge_ledgers(report.verdict, scene.eye, scene.feed.orders, stock=STOCK)
    await judge_asked(report.verdict, scene.eye, scene.feed.approvals)
    await _stop_all(scene, report)
    schemas = [*scene.crew.schemas(COORDINATOR), *scene.crew.schemas(PARTICIPANTS)]
    await judge_leftovers(report.verdict, scene.eye, schemas)
    listener = Listener(report.verdict)
    for log in [*scene.old_logs, None]:
        if log is not None or scene.old_logs:
            await asyncio.to_thread(scene.reopen, log)
        await asyncio.to_thread(listener.listen, scene.broker.address)
    listener.judge(items)


async def _stop_all(scene: Scene, report: Report) -> None:
    """Nobody has ended by himself, and everybody drains."""
    for child in scene.deployment.children:
        if not child.running and child.returncode not in (0, -9):
            report.failed.append(f"ended by itself: {child.report()}")
    for result in await asyncio.gather(*map(scene.crew.end, scene.crew.posts), return_exceptions=True):
        if result is not None:
            report.failed.append(f"did not drain: {result}")

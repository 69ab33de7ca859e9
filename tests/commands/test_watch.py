"""`watch` tells each change once, in order, up to the end; and what a saga waits for, as people read it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sagabus.client.coordinator_api import CoordinatorUnreachable, Json
from sagabus.commands import sheets, wait_sheets, watch
from sagabus.commands.moments import between
from sagabus.commands.watch import Teller, Watch

NOW = datetime(2026, 9, 21, 15, 0, tzinfo=UTC)
SENT = {
    "kind": "answer", "words": "payment has not answered step 2 (payment.process_payment), attempt 1", "step": 2,
    "activity": "payment.process_payment", "service": "payment", "command": "do", "attempt": 1, "concern": None,
    "event": None, "since": "2026-09-21T14:57:00Z", "due": None,
}  # fmt: skip


def saga(status: str = "running", *, rows: int = 0, waits: Any = (), concerns: Any = (), **more: Any) -> Json:
    return {
        "id": "ORD-1", "run": "r1", "saga": "order", "version": 1, "status": status, "history_rows": rows,
        "waits": [*waits], "waits_complete": True, "concerns": [*concerns],
        "attention": None, "paused": False, "shard": 3, "steps": [],
        "started_at": "2026-09-21T14:00:00Z", "closed_at": None, "input": None, "result": {"ok": True}, "error": None,
        "timers": [], "events": [], **more,
    }  # fmt: skip


def row(seq: int, kind: str, run: str = "r1") -> Json:
    return {"run": run, "seq": seq, "at": "2026-09-21T14:00:00Z", "kind": kind, "step": 1, "name": "a.b", "payload": 7}


class Api:
    """What it is asked for comes from lists. An exception among the sagas is raised."""

    def __init__(self, sagas: list[Json | Exception], rows: list[Json], *, page: int = 2) -> None:
        self.sagas, self.rows, self.page = sagas, rows, page
        self.there = 0
        self.waited: list[float] = []

    async def saga(self, id: str, *, wait: float = 0) -> Json:
        self.waited.append(wait)
        found = self.sagas.pop(0)
        if isinstance(found, Exception):
            raise found
        self.there = found["history_rows"]
        return found

    async def history(self, id: str, *, run: str, after: int = 0) -> Json:
        rows = [one for one in self.rows if after < one["seq"] <= self.there and one["run"] == run]
        return {"rows": rows[: self.page], "next": rows[self.page - 1]["seq"] if len(rows) >= self.page else None}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


async def told(api: Api, capsys: pytest.CaptureFixture[str], *, json: bool = False, start: bool = True) -> list[str]:
    teller = Teller(json=json)
    teller.end(await Watch(api, "ORD-1", teller).until_closed(from_the_start=start))
    return capsys.readouterr().out.splitlines()


async def test_each_row_and_each_change_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    concern = {"kind": "undo", "step": 2, "words": "refused"}
    rows = [row(seq, "command") for seq in range(1, 6)]
    sagas = [
        saga(rows=3, waits=[SENT]), saga(rows=3, waits=[SENT]), saga("compensating", rows=5, concerns=[concern]),
        saga("completed", rows=5, concerns=[concern]),
    ]  # fmt: skip
    lines = await told(Api([*sagas], rows), capsys)
    assert [line for line in lines if "#" in line] == [
        f"2026-09-21 14:00:00 UTC  #{seq}  command  step 1  a.b  7" for seq in range(1, 6)
    ]
    others = [line for line in lines if "#" not in line]
    assert [line.split(", for")[0] for line in others] == [
        "ORD-1: order version 1 is running",
        f"  waits: {SENT['words']}",
        "ORD-1: order version 1 is compensating",
        "  needs operator action: undo (step 2): refused",
        "ORD-1: order version 1 is completed",
        'ORD-1 is completed: {"ok": true}',
    ]


async def test_it_begins_with_now_unless_it_is_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(seq, "command") for seq in range(1, 6)]
    lines = await told(Api([saga(rows=4), saga("completed", rows=5)], rows), capsys, start=False)
    assert [line.split("  ")[1] for line in lines if "#" in line] == ["#5"]


async def test_for_machines_each_line_is_one_value(capsys: pytest.CaptureFixture[str]) -> None:
    lines = await told(Api([saga(rows=1), saga("completed", rows=1)], [row(1, "started")]), capsys, json=True)
    values = [json.loads(line) for line in lines]
    assert [next(iter(value)) for value in values] == ["row", "saga", "saga"]
    assert [value["saga"]["status"] for value in values[1:]] == ["running", "completed"]


async def test_a_saga_that_goes_on_as_another_run_is_followed(capsys: pytest.CaptureFixture[str]) -> None:
    sagas = [saga(rows=1), saga("completed", rows=1, run="r2")]
    lines = await told(Api([*sagas], [row(1, "started"), row(1, "again", "r2")]), capsys)
    assert [line.split("  ")[2] for line in lines if "#" in line] == ["started", "again"]


async def test_looks_become_rare_while_nothing_happens_and_frequent_when_something_does(
    capsys: pytest.CaptureFixture[str], at_once: list[float]
) -> None:
    quiet: list[Json | Exception] = [saga(rows=1)] * 8
    api = Api([*quiet, saga(rows=2), saga("completed", rows=2)], [row(1, "started"), row(2, "command")])
    await told(api, capsys)
    pauses = [slept + waited for slept, waited in zip(at_once, api.waited[1:], strict=True)]
    assert pauses[:3] == [0.25, 0.5, 1.0]
    assert pauses[-2:] == [watch.LONGEST_PAUSE_SECONDS, 0.25]


async def test_a_coordinator_that_restarts_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    away = CoordinatorUnreachable("away")
    lines = await told(Api([saga(), away, away, saga("completed")], []), capsys)
    assert lines[-1] == 'ORD-1 is completed: {"ok": true}'


def test_c4_show_and_list_say_what_is_waited_for_and_for_how_long() -> None:
    timer = {**SENT, "kind": "timer", "words": "a sleep is running", "since": None, "due": "2026-09-22T14:00:00Z"}
    event = {"name": "approvals.decided", "received": 2, "latest_at": "2026-09-21T14:30:00Z"}
    one = saga(waits=[SENT, timer], events=[event])
    shown = list(sheets.shown(one, now=NOW))
    assert f"  waits: {SENT['words']}, for 3 min" in shown
    assert "  waits: a sleep is running, until 2026-09-22 14:00:00 UTC (in 23 h)" in shown
    assert [line for line in shown if "approvals.decided" in line] == [
        "  event approvals.decided: 2 received, the latest 2026-09-21 14:30:00 UTC; "
        "one that its code does not wait for is kept until it does"
    ]
    (_, line) = sheets.listed([one], now=NOW, width=200)
    assert line.endswith("payment.process_payment (step 2), for 3 min; timer in 23 h")
    (more,) = wait_sheets.waits(saga(waits_complete=False), now=NOW)
    assert more.startswith("waits: its history is long")


@pytest.mark.parametrize(
    ("later", "age"),
    [("14:00:59", "59 s"), ("14:01:59", "119 s"), ("14:02:00", "2 min"), ("16:00:00", "2 h"), ("13:00:00", "0 s")],
)
def test_an_age_has_a_unit_that_suits_it(later: str, age: str) -> None:
    assert between("2026-09-21T14:00:00Z", f"2026-09-21T{later}Z") == age

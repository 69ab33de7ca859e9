"""A process that was told to end and does not: it says where it stands, and is gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

STUBBORN = """
import asyncio, signal, sys
from sagabus.commands.force import end_by_force

async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def spinning():
    while True:
        pass

async def prompt():
    await asyncio.sleep(3600)

async def main(kind):
    end_by_force(asyncio.get_running_loop(), after=float(sys.argv[2]), exit=124)
    task = asyncio.create_task(globals()[kind](), name=kind)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

asyncio.run(main(sys.argv[1]))
"""


def ended(kind: str, after: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", STUBBORN, kind, str(after)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("kind", "place"), [("deaf", "deaf: <string>:8 deaf > tasks.py"), ("spinning", "in spinning")])
def test_it_is_ended_and_says_where_it_stood(kind: str, place: str) -> None:
    process = ended(kind, 0.5)
    assert process.returncode == 124
    assert "not ended after 0.5 s: ended by force" in process.stderr
    assert place in process.stderr


def test_one_that_ends_in_time_never_notices() -> None:
    process = ended("prompt", 3600)
    assert (process.returncode, process.stderr) == (0, "")


LAST = """
import asyncio, time
from sagabus.commands import force

async def main():
    force.LAST_SECONDS = 2
    lamp, oven = (lambda: print("out", flush=True)), (lambda: time.sleep(60))
    with force.done_last("the lamp", lamp), force.done_last("the oven", oven):
        force.end_by_force(asyncio.get_running_loop(), after=0, exit=124)
        while True:
            pass

with force.done_last("the door", lambda: print("shut")):
    pass
asyncio.run(main())
"""


def test_what_would_outlive_it_is_ended_before_it_and_named_where_it_does_not_end() -> None:
    process = subprocess.run([sys.executable, "-c", LAST], capture_output=True, text=True, timeout=60, check=False)
    assert (process.returncode, process.stdout) == (124, "out\n")
    assert "the oven is not ended yet, and may go on after this process" in process.stderr
    assert "the lamp" not in process.stderr

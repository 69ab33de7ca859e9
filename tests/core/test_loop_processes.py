"""Rules L1, L3 and L4 across processes and Pythons: one history, one order of steps (loop_program.py).

The project's own Python is always tried; others that it supports where they are installed, in the PATH or by pyenv.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.core.other_pythons import CLEAN, PYTHONS, NotThere, python

PROGRAM = Path(__file__).with_name("loop_program.py")
PROCESSES = 4


def outputs(version: str, chapter: str, *, processes: int = PROCESSES) -> set[str]:
    """What several processes print, one after the other."""
    try:
        found = python(version)
    except NotThere as reason:
        pytest.skip(f"no Python {version}: the loop was not tried on it; {reason}")
    command = [found, "-W", "ignore", str(PROGRAM), chapter]
    printed = set()
    for _ in range(processes):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=CLEAN)
        assert done.returncode == 0, done.stderr
        printed.add(done.stdout)
    return printed


@pytest.mark.parametrize("version", PYTHONS)
def test_l1_sets_of_tasks_are_walked_alike_in_all_processes(version: str) -> None:
    assert len(printed := outputs(version, "tasks")) == 1
    assert "cancelled 29\ngroup over\n" in printed.pop()


@pytest.mark.parametrize("version", PYTHONS)
def test_l3_parallel_calls_are_awaited_alike_in_all_processes(version: str) -> None:
    assert len(printed := outputs(version, "calls")) == 1
    assert "step 27\n27\n" in printed.pop()


@pytest.mark.parametrize("version", PYTHONS)
def test_l1_a_plain_task_is_refused_on_every_python_eager_or_not(version: str) -> None:
    (printed,) = outputs(version, "eager", processes=1)
    assert "use `asyncio.create_task`" in printed


@pytest.mark.parametrize("version", PYTHONS)
def test_l4_a_stubborn_saga_is_evicted_on_every_python(version: str) -> None:
    (printed,) = outputs(version, "evict", processes=1)
    assert printed.endswith("dead: True\n")

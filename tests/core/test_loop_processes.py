"""Rules L1, L3 and L4 across processes and Pythons: one history, one order of steps (loop_program.py).

The project's own Python is always tried; others that it supports where they are installed, in the PATH or by pyenv.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.real import missing

PROGRAM = Path(__file__).with_name("loop_program.py")
PYTHONS = sorted({"3.11", "3.12", "3.13", f"{sys.version_info.major}.{sys.version_info.minor}"})
PROCESSES = 4
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def candidates(version: str) -> Iterator[str]:
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        yield sys.executable
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")), reverse=True)


@cache
def python(version: str) -> str | None:
    """One that runs, and is what it says: a shim in the PATH may be neither."""
    say = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates(version):
        said = subprocess.run([candidate, "-c", say], capture_output=True, text=True, timeout=60, check=False)
        if said.stdout.strip() == version:
            return candidate
    return None


def outputs(version: str, chapter: str, *, processes: int = PROCESSES) -> set[str]:
    """What several processes print, one after the other."""
    found = python(version)
    if found is None:
        missing[f"Python {version}"] = f"the loop was not tried on it; install it, or put python{version} in the PATH"
        pytest.skip(f"no Python {version}")
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

"""The plugin: its fixture, what it costs where nobody uses it, and how the wheel names it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

PLUGIN = "sagabus.pytest_plugin"
ROOT = Path(__file__).parents[2]

TEST = """
from sagabus.shop.approval import Expense, decided
from sagabus.shop.expense_approval import expense_approval

def test_an_expense(saga_test):
    test = saga_test(expense_approval, id="EXP-1")
    test.start(Expense(expense_id="EXP-1", approver="a", manager="m"))
    assert test.status == "running"
    assert test.event(decided(approved=True, by="a")).result().approved
"""


def test_the_fixture_makes_sagas(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-q", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_it_loads_nothing_until_it_is_used() -> None:
    code = f"import {PLUGIN}, sys; print(*[name for name in sys.modules if name.startswith('sagabus.')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == [PLUGIN]


def test_the_wheel_names_it() -> None:
    """By the module's name: `-p` with that name and the entry point are one plugin then."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}

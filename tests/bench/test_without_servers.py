"""Measurements that need no servers of their own run: what they call changes often, and nothing else would tell."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.processes import ROOT


def said_by(module: str, *words: str) -> str:
    command = [sys.executable, "-m", f"bench.{module}", *words]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_decisions_cost_is_told() -> None:
    assert " µs a saga: start " in said_by("decisions", "1")


def test_what_the_kit_costs_is_told() -> None:
    assert " µs a saga: commands " in said_by("kit", "1", "--together", "5")


@pytest.mark.parametrize("part", ["made", "rows", "batches"])
def test_what_messages_cost_is_told(part: str) -> None:
    assert json.loads(said_by("messages", "--sagas", "5"))[part] > 0

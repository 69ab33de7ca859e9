"""Who may import whom, what is pure, and that what is imported is declared."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.house.purity import impurities, uses

ROOT = Path(__file__).parents[2]
PURE = ("contracts/sagabus/contracts", "coordinator/sagabus/coordinator/core")
SOURCES = [file for house in ROOT.glob("*/sagabus") for file in house.rglob("*.py")]


def test_the_contracts_of_import_linter_are_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", PURE)
def test_core_and_contracts_touch_no_clock_no_chance_no_environment(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = [f"{file.relative_to(ROOT)}:{fault}" for file in files for fault in impurities(file.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "from time import monotonic as now\nnow()",
        "import os.path",
        "from os import environ\nenviron['HOME']",
        "from datetime import datetime\ndatetime.now()",
        "import datetime as dt\ndt.datetime.now(dt.UTC)",
        "import datetime\nborn = datetime.date.today",
        "import random\nrandom.random()",
        "from random import Random\nRandom()",
        "from random import SystemRandom",
        "from uuid import uuid4\nuuid4()",
        "import uuid\nuuid.uuid1()",
        "import secrets",
        "open('file')",
        "print('said')",
        "import asyncio\nasyncio.sleep(1)",
        "import asyncio\nasyncio.run(main())",
        "import importlib\nimportlib.import_module('os')",
        "__import__('time')",
    ],
)
def test_an_impurity_is_seen(source: str) -> None:
    assert impurities(source)


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import UTC, datetime\ndatetime.fromtimestamp(0, UTC)",
        "from random import Random\nRandom('seed').random()",
        "from uuid import UUID, uuid5\nUUID(int=1)",
        "import asyncio\nclass Loop(asyncio.AbstractEventLoop):\n    def time(self): return self.now",
        "def f(time, os): return time.now() + os.path",
    ],
)
def test_what_is_pure_is_let_through(source: str) -> None:
    assert impurities(source) == []


def test_the_environment_is_read_by_settings() -> None:
    """The host of `demo` and `dev` may look further: it hands its environment to its children. The check of sagas' code
    names what it looks for."""
    names = {"os.environ", "os.environb", "os.getenv"}
    others = [file for file in SOURCES if file.stem not in ("settings", "host", "saga_source")]
    assert [f"{file.relative_to(ROOT)}:{use}" for file in others for use in uses(file.read_text(), names)] == []
    assert uses("from os import environ as e\ne['HOME']", names) == ["2: os.environ"]


def test_what_is_imported_is_declared() -> None:
    """A package that is there only because another one brought it is gone with that one's next release. The plugin is
    loaded by pytest alone."""
    declared = {_distribution(line) for line in _project()["dependencies"]}
    providers = metadata.packages_distributions()
    files = [file for file in SOURCES if "pytest_plugin" not in file.parts]
    imported = {name for file in files for name in _imported(file)} - {"sagabus"} - set(sys.stdlib_module_names)
    used = {name: {_distribution(provider) for provider in providers.get(name, ["?"])} for name in sorted(imported)}
    assert {name: by for name, by in used.items() if not by & declared} == {}


def _project() -> dict[str, list[str]]:
    project: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _distribution(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name.group() if name else requirement).lower()


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]

"""The rings of the tests: which run a test is part of. tests/README.md is their map.

A test without a mark is in the ring `people`, the run of a few minutes. `@pytest.mark.ring("faults")` puts a test, or
with `pytestmark` a file, into a later one. `pytest --ring people --ring fuzz` runs these two; without the option pytest
runs what it is given.
"""

from __future__ import annotations

from typing import Final

import pytest

PEOPLE: Final = "people"
LATER: Final = ("simulation", "fuzz", "faults", "deployment")
"""In the order in which `make test-all` runs them, after `people`."""

RINGS: Final = (PEOPLE, *LATER)


def pytest_addoption(parser: pytest.Parser) -> None:
    words = "run the tests of this ring and no others; may be given several times (tests/README.md)"
    parser.addoption("--ring", action="append", choices=RINGS, default=[], help=words)


def pytest_report_header(config: pytest.Config) -> str:
    wanted = config.getoption("--ring")
    return f"rings: {', '.join(wanted)}; all of them: make test-all" if wanted else "rings: all"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rings = {item: ring_of(item) for item in items}
    wanted = config.getoption("--ring")
    if wanted:
        config.hook.pytest_deselected(items=[item for item in items if rings[item] not in wanted])
        items[:] = [item for item in items if rings[item] in wanted]


def ring_of(item: pytest.Item) -> str:
    """The nearest mark counts: a test's own before its file's. Raises UsageError for a ring that is not there."""
    mark = item.get_closest_marker("ring")
    if mark is None:
        return PEOPLE
    if len(mark.args) != 1 or mark.args[0] not in RINGS:
        raise pytest.UsageError(f"{item.nodeid}: ring{mark.args} is none of {', '.join(RINGS)} (tests/README.md)")
    return str(mark.args[0])

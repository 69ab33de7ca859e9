"""docs/limits.md says what the code does: each value is compared with the constant that its line names."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
UNITS: Final = {"KiB": 1024, "MiB": 1024**2, "s": 1, "h": 3_600, "days": 86_400, "characters": 1, "bytes": 1, "": 1}
SECONDS: Final = {"s", "h", "days"}
OTHER_UNITS: Final = {"_MILLISECONDS": 1_000, "_MICROSECONDS": 1_000_000}


class Limit(NamedTuple):
    what: str
    value: str
    then: str
    code: str


def limits() -> list[Limit]:
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \| (.+?) \| `(\S+)` \|$", (ROOT / "docs" / "limits.md").read_text(), re.MULTILINE
    )
    return [Limit(*row) for row in rows]


def constant(code: str) -> Any:
    """`module:NAME`, below `sagabus`. Of settings and parameters the default, of a pattern the longest match."""
    module, _, path = code.partition(":")
    found: Any = importlib.import_module(f"sagabus.{module}")
    *owners, name = path.split(".")
    for owner in owners:
        found = getattr(found, owner)
    if isinstance(found, type) and issubclass(found, BaseModel):
        return found.model_fields[name].default
    if isinstance(found, type):
        return inspect.signature(found).parameters[name].default
    found = getattr(found, name)
    if isinstance(found, re.Pattern):
        return max(size for size in range(1_000) if found.fullmatch("a" * size))
    return found


def said(limit: Limit) -> float:
    number, _, unit = limit.value.partition(" ")
    factor = next((factor for end, factor in OTHER_UNITS.items() if limit.code.endswith(end)), 1)
    return float(number.replace(",", "")) * UNITS[unit] * (factor if unit in SECONDS else 1)


@pytest.mark.parametrize("limit", limits(), ids=lambda limit: limit.code)
def test_a_limit_is_the_codes(limit: Limit) -> None:
    assert said(limit) == constant(limit.code), limit


def test_each_line_says_what_happens() -> None:
    assert len(limits()) > 35
    lines = [line for line in (ROOT / "docs" / "limits.md").read_text().splitlines() if line.startswith("| ")]
    assert len(lines) - len(limits()) == 6, "a line that is not read as a limit, beside the heads of the tables"


def test_the_waits_of_the_page_on_postgresql_are_the_codes() -> None:
    page = (ROOT / "docs" / "postgresql.md").read_text().partition("| wait | seconds |")[2].partition("\n\n")[0]
    said = [row.rpartition("| ")[2].removesuffix(" |") for row in page.splitlines()[2:7]]
    waits = ("CONNECT_SECONDS", "COMMAND_SECONDS", "COMMIT_SECONDS", "END_SECONDS", "BEGIN_SECONDS")
    assert said == [f"{constant(f'messaging.postgres.connecting:{name}'):g}" for name in waits]

"""The page on changing code: its code is checked, its commands are ones, its table has every lint."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from sagabus.commands.check.lints import outside
from sagabus.commands.main import main, whole_parser
from sagabus.commands.subcommand import Exit
from tests.docs.pages import DOCS

PAGE = DOCS / "guide" / "changing-code.md"
LINTS = Path(outside.__file__).parent


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_its_code_has_no_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (source,) = blocks("python")
    (tmp_path / "guide_orders.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    try:
        assert main(["check", "guide_orders", "--write-contracts", "contracts.json"]) == Exit.DONE
        assert main(["check", "guide_orders", "--contracts", "contracts.json"]) == Exit.DONE
    finally:
        sys.modules.pop("guide_orders", None)


def test_its_commands_are_understood() -> None:
    text = [line for block in blocks("sh") for line in block.splitlines()]
    text += [line.removeprefix("    - ") for line in blocks("yaml")[0].splitlines() if "- sagabus" in line]
    assert len(text) == 9
    for line in text:
        assert whole_parser().parse_args(line.split()[1:]).subcommand.name in {"show", "check", "diff"}


def test_its_table_has_every_lint() -> None:
    source = "".join(file.read_text() for file in LINTS.glob("*.py"))
    codes = {rule.code for rule in outside.RULES} | set(re.findall(r'(?:error|warning|made)\(\s*"([a-z-]+)"', source))
    listed = {
        code
        for row in re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.MULTILINE)
        for code in re.findall(r"`([^`]+)`", row)
    }
    assert codes <= listed
    assert listed - codes <= {"ctx.patched"}

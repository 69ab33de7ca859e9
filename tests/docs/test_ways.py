"""docs/ways.md leads to files that exist, and names each file that a new verb has to be added to."""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.test_way_of_a_reply import MODULES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ways.md").read_text()


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def short_names() -> dict[str, str]:
    """From `core/` to its folder, as the list at the page's head says."""
    head = PAGE.split("## ", 1)[0]
    names: dict[str, str] = {}
    for line in re.findall(r"^- (.+)$", head, re.MULTILINE):
        shorts, _, targets = line.partition(" is " if " is " in line else " are ")
        folders = re.findall(r"`([^`]+/)`", targets)
        for number, short in enumerate(re.findall(r"`(\w+/)`", shorts)):
            names[short] = f"{folders[0]}{short}" if "folders of" in line else folders[number]
    return names


def named(text: str) -> list[str]:
    """The files and folders of a text, with their whole paths."""
    names = short_names()
    found = re.findall(r"`([\w./]+/[\w.]*(?:\.py|\.md|/)|tests/[\w/]+\.py)`", text)
    return [next((path.replace(short, full, 1) for short, full in names.items() if path.startswith(short)), path)
            for path in found]  # fmt: skip


def test_all_files_of_the_page_exist() -> None:
    assert len(short_names()) == 11
    files = named(PAGE.split("## ", 1)[1])
    assert len(files) > 50
    assert [path for path in files if not (ROOT / path).exists()] == []


def test_the_way_of_a_reply_is_the_one_that_a_reply_takes() -> None:
    steps = re.findall(
        r"^\d\. .*(?:\n   .*)*", section("A reply, from the topic to the row and out again"), re.MULTILINE
    )
    listed = [path.partition("/sagabus/")[2] for path in named("\n".join(steps))]
    on_the_way = [f"{module.replace('.', '/')}.py" for module in MODULES]
    assert [path for path in listed if path in on_the_way] == on_the_way
    assert set(listed) - set(on_the_way) == {"coordinator/core/saga/undo.py"}  # instead of forward.py


def test_the_files_of_a_new_verb_are_those_that_know_the_verbs_of_today() -> None:
    listed = [path for path in named(section("A new verb for operators")) if not path.startswith("tests/")]
    assert [path for path in listed if "acknowledge" not in (ROOT / path).read_text().lower()] == []
    knowing = {
        str(path.relative_to(ROOT))
        for house in ("contracts", "messaging", "coordinator")
        for path in (ROOT / house).rglob("*.py")
        if re.search(r"\bACKNOWLEDGE\b|\"acknowledge\"", path.read_text())
    }
    assert knowing - set(listed) == set()

"""Pages that are made from the code are up to date; all pages are in the index, and their links lead somewhere."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.docs import pages
from tests.docs.pages import COMMAND, DOCS, PAGES, PART, PARTS

LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("place", [*PAGES, *PARTS])
def test_a_page_says_what_the_code_does(place: str) -> None:
    assert pages.written(place) == pages.made(place), f"docs/{place} is outdated: run `{COMMAND}`"


@pytest.mark.parametrize("place", PARTS)
def test_each_part_has_its_place(place: str) -> None:
    assert sorted(found[0] for found in PART.findall(pages.written(place))) == sorted(PARTS[place])


@pytest.mark.parametrize("place", [str(path.relative_to(DOCS)) for path in sorted(DOCS.rglob("*.md"))])
def test_what_is_linked_is_there(place: str) -> None:
    page = DOCS / place
    targets = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in targets if not (page.parent / link).exists()] == []


def test_each_page_is_in_the_index() -> None:
    listed = {link.removeprefix("./") for link in LINK.findall((DOCS / "README.md").read_text())}
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if path.parent.name != "decisions"}
    assert there - listed == {"README.md"}


def test_each_decision_is_in_its_index_with_its_title() -> None:
    index = (DOCS / "decisions" / "README.md").read_text()
    titles = {path.name: path.read_text().partition("\n")[0] for path in (DOCS / "decisions").glob("0*.md")}
    rows = [f"| [{page}]({page}) | {title.removeprefix(f'# {int(page[:4])}. ')} |" for page, title in titles.items()]
    assert sorted(line for line in index.splitlines() if line.startswith("| [")) == sorted(rows)

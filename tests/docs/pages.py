"""What the documentation has from the code: whole pages of the reference, and marked parts of other pages.

python -m tests.docs.pages        writes all of them

A part stands between `<!-- made: NAME -->` and `<!-- end -->`. `test_pages` compares all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.docs import (
    commands_page,
    concerns_page,
    http_page,
    python_page,
    reasons_page,
    settings_page,
    wire_page,
)

DOCS: Final = Path(__file__).parents[2] / "docs"
COMMAND: Final = "python -m tests.docs.pages"
PART: Final = re.compile(r"(?<=<!-- made: )(\w+)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "reference/commands.md": commands_page.page,
    "reference/http.md": http_page.page,
    "reference/python.md": python_page.page,
    "reference/settings.md": settings_page.page,
}
"""Whole pages, by their place below docs/."""

PARTS: Final[Mapping[str, Mapping[str, Callable[[], str]]]] = {
    "dead-letters.md": {"reasons": reasons_page.table},
    "troubleshooting.md": {"concerns": concerns_page.table},
    "participants-in-any-language.md": {
        "command": wire_page.command_example,
        "reply": wire_page.reply_example,
        "failure": wire_page.failure_example,
        "inbox": wire_page.inbox_table,
        "event": wire_page.event_example,
    },
}
"""Parts of pages, by page and name."""


def made(place: str) -> str:
    """The page as it should be."""
    if place in PAGES:
        return PAGES[place]()
    parts = PARTS[place]
    return PART.sub(lambda found: f"{found[1]}{found[2]}{parts[found[1]]()}\n", written(place))


def written(place: str) -> str:
    return (DOCS / place).read_text()


if __name__ == "__main__":
    for place in (*PAGES, *PARTS):
        (DOCS / place).write_text(made(place))

"""Phrases that readers had to guess the meaning of are gone: from the pages, the help, the errors and the log lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.docs.test_commands_in_words import sentences
from tests.support.processes import ROOT

SAY: Final = {
    r"\b(?:is|are) for a person to\b|\bwaits? for a person\b": "needs operator action, is flagged for attention",
    r"\bnobody can understand\b|\bmakes? no sense\b": "is invalid",
    r"\bout of reach\b|\b(?:is|are|was) away\b": "is unreachable",
    r"\bas a spare\b": "is on standby",
    r"\bleave .{1,30} away\b": "omit",
    r"\bof no use is a dead letter\b": "refused, with the reason",
    r"\bwas forgotten\b|\bgone or forgotten\b": "never started, or deleted by retention",
    r"\brests? on\b": "how it works",
    r"\bjust as openly\b": "limitations",
    r"\ba business no\b": "a business rejection",
    r"\btook effect\b": "applied",
    r"\b(?:goes|gone|went) astray\b": "diverges",
    r"\bwithout more ado\b|\bwithout a word\b": "at once; without saying so",
}
"""Pattern, and what to say instead."""

DOCS: Final = ROOT / "docs"
PAGES: Final = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((DOCS / "reference").glob("*.md"))]


def texts() -> Iterator[tuple[str, str]]:
    """Where, and a paragraph or a sentence in one line. Decisions are not rewritten; docstrings are not for users."""
    for page in PAGES:
        for paragraph in page.read_text().split("\n\n"):
            yield str(page.relative_to(ROOT)), " ".join(paragraph.split())
    yield from sentences()


@pytest.mark.parametrize("pattern", SAY)
def test_a_phrase_that_is_a_riddle_is_nowhere(pattern: str) -> None:
    found = [(where, text[:200]) for where, text in texts() if re.search(pattern, text, re.IGNORECASE)]
    assert found == [], f"say: {SAY[pattern]}"

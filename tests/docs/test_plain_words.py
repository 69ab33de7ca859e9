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
    r"\bon attention\b": "flagged for attention",
    r"\b(?:said|says) no\b": "has refused",
    r"\bslip of the pen\b": "a typing error",
    r"\bsomebody else's hands\b": "being handled by another operator",
    r"\bdirectory neither\b": "neither installed nor in the current directory",
    r"\b(?:is|are) at it\b|\bhandler is at\b": "is running it",
    r"\b(?:was|is|be|were) set back\b": "restored from an older backup",
    r"\b(?:refuses|refused|gone|set it) for good\b": "permanently; deleted",
    r"\bmend(?:s|ed|ing)?\b": "repair (a service), correct (code)",
    r"\bdoes not (?:heed|mind)\b|\bdid not (?:heed|mind)\b": "does not react to, ignores",
    r"\bwants transaction=": "declare it with transaction=False",
    r"\bstill so goes with\b|\bhas no use for\b": "the cure; is not taken",
    r"\bnot foreseen\b": "unexpected",
    r"\bwithout use\b": "has no effect",
    r"\btrust each other\b": "the login or a certificate is refused",
    r"\ball goes well\b|\border (?:that )?goes well\b": "succeeds",
    r"\bmetrics\b": "nothing yet: sagabus has none",
    r"\bin step\b": "in sync",
    r"\bwithout more ado\b|\bwithout a word\b": "at once; without saying so",
}
"""Pattern, and what to say instead."""

DOCS: Final = ROOT / "docs"
PAGES: Final = [
    ROOT / "README.md",
    *(page for folder in (".", "guide", "reference") for page in sorted((DOCS / folder).glob("*.md"))),
]


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

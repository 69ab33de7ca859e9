"""What `show` tells of a step whose participant has said little."""

from __future__ import annotations

from typing import Any

import pytest

from sagabus.commands import sheets

STEP = {
    "number": 1, "activity": "raw.poke", "status": "failed", "attempts": 1, "undo": "none", "compensation": None,
    "undo_error": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"code": "full"}, "full"),
        ({"code": "full", "message": ""}, "full"),
        ({"code": "full", "message": "no room"}, "full: no room"),
        ({"message": "no room"}, "no room"),
        ("odd", ""),
        (None, ""),
    ],
)
def test_a_failure_is_told_as_far_as_it_has_words(error: Any, words: str) -> None:
    """A participant in another language need not say more than a code."""
    assert sheets._step({**STEP, "error": error})[-1] == words

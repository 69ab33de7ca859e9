"""The page on long-lived sagas: its code runs, and does what the page says."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.core.kit import Drive
from tests.docs.pages import DOCS

PAGE = DOCS / "guide" / "long-lived-sagas.md"


def code() -> dict[str, Any]:
    """What the page's code defines, all blocks in one module."""
    made: dict[str, Any] = {"__name__": "guide_long_lives"}
    source = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    exec(compile(source, str(PAGE), "exec"), made)
    return made


def test_an_expense_says_how_far_it_is() -> None:
    made = code()
    drive = Drive(made["expense"], name="expense").start(made["Expense"](expense_id="EXP-1", amount=120))
    assert stands(drive) == {"stage": "waiting for approval", "amount": 120}
    drive.event(made["decided"], made["Decision"](approved=True))
    assert stands(drive) == {"stage": "paying", "amount": 120}
    drive.completed(1)
    assert (drive.status, stands(drive)) == ("completed", {"stage": "done", "amount": 120})


def stands(drive: Drive) -> Any:
    return json.loads(drive.stored.attributes or b"null")

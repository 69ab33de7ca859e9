"""The page for those who come from elsewhere: its saga runs, and undoes as the page says."""

from __future__ import annotations

import re
from typing import Any

from tests.core.kit import Drive
from tests.docs.pages import DOCS

PAGE = DOCS / "guide" / "coming-from.md"


def code() -> dict[str, Any]:
    made: dict[str, Any] = {"__name__": "guide_coming_from"}
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(source, str(PAGE), "exec"), made)
    return made


def test_the_stock_is_given_back_when_the_card_is_refused() -> None:
    made = code()
    drive = Drive(made["buy"]).start(made["Order"](order_id="7", amount=5))
    drive.completed(1, made["Reservation"](reservation_id="R-1"))
    drive.refused(2, "card_declined")
    (undo,) = drive.last.commands
    assert (undo.head.step, undo.service, drive.status) == (1, "inventory", "compensating")
    assert b'"reservation_id":"R-1"' in undo.body
    drive.undone(1)
    assert drive.status == "compensated"

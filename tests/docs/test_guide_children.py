"""The page on sagas that start other sagas: its code runs, and does what the page says."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.core.kit import Drive
from tests.docs.pages import DOCS

PAGE = DOCS / "guide" / "children.md"


def code() -> dict[str, Any]:
    """What the page's code defines, all blocks in one module."""
    made: dict[str, Any] = {"__name__": "guide_children"}
    source = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    exec(compile(source, str(PAGE), "exec"), made)
    return made


def test_a_receipt_is_started_when_the_order_is_charged() -> None:
    made = code()
    drive = Drive(made["order"], name="order").start(made["Order"](order_id="7", email="a@b"))
    assert drive.last.events == []
    drive.completed(1, made["Charged"](payment_id="P"))
    (request,) = drive.last.events
    assert (request.key, drive.status) == (b"receipt-7", "completed")
    assert json.loads(request.value or b"")["input"] == {"order_id": "7", "email": "a@b"}

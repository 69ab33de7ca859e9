"""The page on changing open sagas: its code runs, and open sagas get the change as the page says."""

from __future__ import annotations

import re
from typing import Any

from sagabus.coordinator.core.saga.history import Kind
from tests.core.kit import Drive
from tests.docs.pages import DOCS

PAGE = DOCS / "guide" / "patching.md"
CHANGE = '    if ctx.patched("fraud-check"):\n        await ctx.call(check_fraud.of(order))\n'


def code(source: str) -> dict[str, Any]:
    made: dict[str, Any] = {"__name__": "guide_patching"}
    exec(compile(source, str(PAGE), "exec"), made)
    return made


def new_source() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert CHANGE in block
    return str(block)


def commands(drive: Drive) -> list[str]:
    return [row.name for row in drive.rows if row.kind is Kind.COMMAND]


def test_h8_open_sagas_get_the_change_as_the_page_says() -> None:
    old, new = code(new_source().replace(CHANGE, "")), code(new_source())
    all_new = ["stock.reserve", "payment.check_fraud"]
    for come, then in ((0, all_new), (1, ["stock.reserve", "payment.charge"])):
        drive = Drive(old["order"], name="order").start(old["Order"](order_id="7"))
        for _ in range(come):
            drive.completed(1)
        drive.reload(new["order"])
        if not come:
            drive.completed(1)
        assert (commands(drive), drive.attention) == (then, "")
    drive = Drive(new["order"], name="order").start(new["Order"](order_id="7"))
    drive.completed(1)
    assert commands(drive) == all_new
    assert "patched fraud-check" in {f"{row.kind} {row.name}" for row in drive.rows}

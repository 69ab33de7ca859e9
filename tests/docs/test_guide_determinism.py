"""The page on what a saga's code may do: its code is refused as the page shows, and what it lets through is."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.guard import guarded
from tests.core.kit import Drive
from tests.core.services import Order, Result, reserve
from tests.docs.pages import DOCS

PAGE = DOCS / "guide" / "determinism.md"


def code() -> dict[str, Any]:
    """What the page's code defines, all blocks in one module."""
    made: dict[str, Any] = {"__name__": "guide_determinism"}
    source = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    exec(compile(source, str(PAGE), "exec"), made)
    return made


def test_l14_the_page_shows_what_an_operator_reads() -> None:
    made = code()
    (words,) = re.findall(r"```text\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    with guarded():
        drive = Drive(made["order"], name="order").start(made["Order"](order_id="7"))
        drive.completed(1)
        assert drive.attention.startswith(f"{words}; at {PAGE}:")
        assert (drive.status, drive.last.short) == ("running", [])


def test_l14_the_unguarded_lines_of_the_page_are_let_through() -> None:
    log_memory = code()["log_memory"]

    @saga("saga")
    async def logging(ctx: SagaContext, order: Order) -> Result:
        await log_memory(ctx)
        await asyncio.gather(ctx.call(reserve(order=order.order)))
        return Result(refs=[])

    with guarded():
        assert Drive(logging).start().attention == ""

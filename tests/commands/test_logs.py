"""Log lines for machines: one JSON object a line, whatever is logged."""

from __future__ import annotations

import json
import logging
import sys

from sagabus.commands.logs import JsonLines


def line(message: str, *arguments: object, error: bool = False, **extra: object) -> dict[str, object]:
    trace = None
    if error:
        try:
            raise ZeroDivisionError("oh")
        except ZeroDivisionError:
            trace = sys.exc_info()
    logger = logging.getLogger("sagabus.activity.payment.refund")
    record = logger.makeRecord(logger.name, logging.WARNING, __file__, 1, message, arguments, trace, extra=extra)
    text = JsonLines().format(record)
    assert "\n" not in text
    made: dict[str, object] = json.loads(text)
    return made


def test_a_line_says_what_of_which_saga() -> None:
    made = line("refunded %s\nfor “%s”", 3, "é", saga_id="ORD-1", step=2, attempt=1)
    assert made["message"] == "refunded 3\nfor “é”"
    assert (made["level"], made["logger"]) == ("warning", "sagabus.activity.payment.refund")
    assert (made["saga_id"], made["step"], made["attempt"]) == ("ORD-1", 2, 1)
    assert str(made["at"]).endswith("Z")


def test_an_error_brings_its_trace_within_the_line() -> None:
    assert "ZeroDivisionError: oh" in str(line("failed", error=True)["trace"])

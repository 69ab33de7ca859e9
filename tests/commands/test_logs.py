"""Log lines: one JSON object a line for machines; for people one line a message, whatever is logged."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from sagabus.commands.logs import JsonLines, TextLines, level_of
from sagabus.commands.main import parser
from sagabus.messaging.settings import load_settings
from tests.support.processes import clean


def formatted(formatter: logging.Formatter, message: str, *arguments: object, error: str = "", **extra: object) -> str:
    trace = None
    if error:
        try:
            raise ZeroDivisionError(error)
        except ZeroDivisionError:
            trace = sys.exc_info()
    logger = logging.getLogger("sagabus.activity.payment.refund")
    record = logger.makeRecord(logger.name, logging.WARNING, __file__, 1, message, arguments, trace, extra=extra)
    return formatter.format(record)


def line(message: str, *arguments: object, error: str = "", **extra: object) -> dict[str, object]:
    text = formatted(JsonLines(), message, *arguments, error=error, **extra)
    assert "\n" not in text
    made: dict[str, object] = json.loads(text)
    return made


def test_a_line_says_what_of_which_saga() -> None:
    made = line("refunded %s\nfor “%s”", 3, "é", saga_id="ORD-1", step=2, attempt=1)
    assert made["message"] == "refunded 3\nfor “é”"
    assert (made["level"], made["logger"]) == ("warning", "sagabus.activity.payment.refund")
    assert (made["saga_id"], made["step"], made["attempt"]) == ("ORD-1", 2, 1)
    assert str(made["at"]).endswith("Z")


def test_a_line_for_people_says_of_which_saga_it_is_where_that_is_known() -> None:
    text = formatted(TextLines(), "refunded", saga_id="ORD-1", run="r1", step=2, attempt=1)
    assert text.endswith("refunded [saga_id=ORD-1 run=r1 step=2 attempt=1]")
    assert formatted(TextLines(), "refunded", saga_id="ORD-1", step=None).endswith("refunded [saga_id=ORD-1]")
    assert formatted(TextLines(), "refunded").endswith(": refunded")
    assert formatted(TextLines(), "refunded", saga_id=HOSTILE).isprintable()


@pytest.mark.parametrize("words", [("coordinator", "m"), ("participant", "m"), ("dev", "m")])
def test_the_level_is_an_option_and_a_setting(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGABUS_LOG_LEVEL", "warning")
    command = [*words, "--log-level", "debug"]
    given = parser(command).parse_args(command).log_level
    assert level_of(load_settings(require=(), log_level=given)) == logging.DEBUG
    given = parser(words).parse_args(words).log_level
    assert level_of(load_settings(require=(), log_level=given)) == logging.WARNING
    monkeypatch.delenv("SAGABUS_LOG_LEVEL")
    assert level_of(load_settings(require=())) == logging.INFO


@pytest.mark.parametrize("least", ["info", "warning"])
def test_lines_below_the_level_are_not_written(least: str) -> None:
    program = (
        "import logging; from sagabus.commands.logs import level_of, start_logging\n"
        "from sagabus.messaging.settings import load_settings\n"
        "settings = load_settings(require=())\n"
        "start_logging(settings.log, level=level_of(settings))\n"
        "logging.getLogger('sagabus').info('quiet'); logging.getLogger('sagabus').warning('loud')"
    )
    settings = {"SAGABUS_LOG_LEVEL": least}
    said = subprocess.run(
        [sys.executable, "-c", program], env=clean(settings), capture_output=True, text=True, timeout=60, check=True
    ).stderr
    assert ("quiet" in said, "loud" in said) == (least == "info", True)


def test_an_error_brings_its_trace_within_the_line() -> None:
    assert "ZeroDivisionError: oh" in str(line("failed", error="oh")["trace"])


HOSTILE = "a\x1b[2J\x9b2J\r\n2026-01-01 ERROR sagabus: forged\u202e\x07"


def test_a_value_forges_no_line_and_moves_no_cursor() -> None:
    text = formatted(TextLines(), "rejected: %s", HOSTILE)
    assert text.isprintable()
    assert r"rejected: a\x1b[2J\x9b2J\r\n2026-01-01 ERROR sagabus: forged\u202e\x07" in text
    assert formatted(TextLines(), "für %s", "日本\u3000x\u00a0y").endswith("für 日本\u3000x\u00a0y")


def test_a_traceback_keeps_its_lines_and_holds_no_escape_sequence() -> None:
    first, *lines = formatted(TextLines(), "failed: %s", "x\ny", error=HOSTILE).split("\n")
    assert first.endswith(r"failed: x\ny")
    assert lines[0] == "Traceback (most recent call last):"
    assert all(one.isprintable() for one in lines)


def test_a_line_for_machines_holds_no_escape_sequence_and_loses_nothing() -> None:
    assert formatted(JsonLines(), "rejected: %s", HOSTILE).isprintable()
    assert line("rejected: %s", HOSTILE)["message"] == f"rejected: {HOSTILE}"

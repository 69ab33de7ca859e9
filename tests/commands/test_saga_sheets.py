"""`show` and `list` as text: what a saga waits for, each thing once; no line of a list is longer than there is room."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sagabus.commands import sheets, wait_sheets
from sagabus.commands.dead_letters import sheets as letter_sheets
from sagabus.commands.moments import between, span
from sagabus.commands.widths import MARK, NO_TERMINAL, cut, line_width
from sagabus.messaging.publishing.dead_letter_rows import Letter
from tests.commands.test_watch import SENT, saga

NOW = datetime(2026, 9, 21, 15, 0, tzinfo=UTC)
EVENT = {
    **SENT, "kind": "event", "words": "its code waits for the event office.signed", "step": None, "activity": None,
    "service": None, "command": None, "attempt": None, "event": "office.signed", "since": "2026-09-21T12:00:00Z",
}  # fmt: skip
TIMER = {**EVENT, "kind": "timer", "words": "a sleep is running", "event": None, "since": None,
         "due": "2026-09-24T14:59:30Z"}  # fmt: skip
OPERATOR = {**EVENT, "kind": "operator", "event": None, "since": "2026-09-21T14:57:00Z"}


def listed(one: Any, *, width: int = 300) -> str:
    head, line = sheets.listed([one], now=NOW, width=width)
    assert head.startswith("ID")
    return line


def shown(one: Any) -> str:
    return "\n".join(sheets.shown(one, now=NOW))


def test_c4_a_list_names_the_event_and_the_timer_that_limits_it() -> None:
    line = listed(saga(waits=[EVENT, TIMER]))
    assert line == "ORD-1  order  running  2026-09-21 14:00:00  event office.signed, for 3 h; timer in 3 d"
    assert listed(saga(waits=[EVENT, TIMER, TIMER])).endswith("timer in 3 d (and 1 more)")


def test_c4_a_list_marks_a_saga_that_may_wait_for_more() -> None:
    assert listed(saga(waits=[TIMER], waits_complete=False)).endswith("  timer in 3 d …")
    assert listed(saga(waits=[], waits_complete=False)).endswith("  …")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"), (0.6, "1 s"), (119.4, "119 s"), (119.6, "2 min"), (179.9, "3 min"), (7_199, "120 min"),
        (3 * 3_600 - 1, "3 h"), (3 * 86_400 - 1, "3 d"), (2.4 * 86_400, "2 d"), (2.6 * 86_400, "3 d"),
    ],
)  # fmt: skip
def test_a_span_is_rounded_and_not_cut(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_what_would_be_negative_is_no_time() -> None:
    assert between("2026-09-21T14:00:10Z", "2026-09-21T14:00:00Z") == "0 s"


@pytest.mark.parametrize("kind", ["diverged", "parked"])
def test_a_concern_is_said_once(kind: str) -> None:
    words = "history has something else"
    concern = {"kind": kind, "step": None, "words": words}
    wait = {**OPERATOR, "concern": kind, "words": f"its code cannot go on: {kind}: {words}"}
    one = saga(concerns=[concern], attention=words, waits=[wait])
    assert shown(one).count(words) == 1
    assert f" ({kind}), for 3 min" in shown(one)
    assert listed(one).endswith(f"  operator action: {kind}: {words}")


def test_the_failure_of_an_undo_that_is_a_concern_is_said_once_beside_its_step() -> None:
    words = "undo of step 1 (bank.repay): bank.closed: until noon"
    wait = {**SENT, "kind": "retry", "step": 1, "command": "undo", "attempt": 6, "due": "2026-09-21T15:05:00Z",
            "words": "the undo of step 1 (bank.repay) is tried again, attempt 6: bank.closed: until noon"}  # fmt: skip
    text = shown(saga(concerns=[{"kind": "undo", "step": 1, "words": words}], attention=words, waits=[wait]))
    assert text.count("until noon") == 1
    assert "waits: the undo of step 1 (payment.process_payment) is tried again, attempt 6, for 3 min, until " in text


def test_a_pause_is_said_once() -> None:
    pause = {**OPERATOR, "concern": None, "words": "an operator has paused it", "since": None}
    text = shown(saga(paused=True, waits=[pause]))
    assert [line for line in text.splitlines() if "paused" in line] == ["  waits: an operator has paused it"]
    assert listed(saga(paused=True, waits=[pause])).endswith(":00  paused")


@pytest.mark.parametrize(
    ("kept", "status", "words"),
    [
        (1, "running", "; 1 is kept: its code has not waited for it yet"),
        (2, "running", "; 2 are kept: its code has not waited for them yet"),
        (0, "running", ""),
        (None, "running", "; one that its code does not wait for is kept until it does"),
        (None, "compensating", ""),
        (None, "completed", ""),
    ],
)
def test_an_event_that_nobody_waits_for_is_said_to_be_kept(kept: int | None, status: str, words: str) -> None:
    event = {"name": "office.sigend", "received": 2, "latest_at": "2026-09-21T14:30:00Z", "kept": kept}
    (line,) = wait_sheets.events(saga(status, events=[event]))
    assert line == f"event office.sigend: 2 received, the latest 2026-09-21 14:30:00 UTC{words}"


def test_a_step_that_never_happened_has_no_undo_and_each_column_has_a_heading() -> None:
    step = {"number": 1, "activity": "bank.pay", "status": "never", "attempts": 1, "undo": "done",
            "compensation": None, "undo_error": None, "error": {"code": "bank.closed"}}  # fmt: skip
    head, line = shown(saga(steps=[step])).splitlines()[-2:]
    assert head.split() == ["STEP", "ACTIVITY", "STATUS", "ATTEMPTS", "UNDO", "DETAIL"]
    assert line.split() == ["1", "bank.pay", "never", "1", "bank.closed"]


def test_a_line_of_a_list_is_as_long_as_there_is_room_and_says_that_it_was_cut() -> None:
    long = {**OPERATOR, "words": "w" * 300, "concern": None, "step": 1}
    line = listed(saga(waits=[long]), width=80)
    assert (len(line), line[-1]) == (80, MARK)
    assert cut("as it is", 8) == "as it is"


def test_one_long_id_leaves_the_other_lines_as_they_are() -> None:
    sagas = [saga(waits=[EVENT]), {**saga(waits=[EVENT]), "id": "i" * 90}]
    head, line, long = sheets.listed(sagas, now=NOW, width=120)
    assert head.split("  ")[-1] == "WAITS FOR"
    assert line.endswith("  event office.signed, for 3 h")
    assert (long.startswith("i" * 90 + "  order"), long[-1]) == (True, MARK)


def test_the_room_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert line_width() == NO_TERMINAL
    monkeypatch.setenv("COLUMNS", "70")
    assert line_width() == 70


def test_a_list_of_dead_letters_marks_what_it_cuts() -> None:
    letter = Letter(
        id=7, shard=1, at=NOW, reason="payload.not_json", message="m" * 300, topic="t", partition=0, offset=1,
        timestamp=0, key=b"k" * 300, headers=(), value=b"",
    )  # fmt: skip
    head, line, *_ = letter_sheets.listed([letter], {"payload.not_json": 1}, width=150)
    assert head.split() == ["ID", "AT", "(UTC)", "REASON", "TOPIC", "KEY", "MESSAGE"]
    assert (len(line), line.count(MARK), line[-1]) == (150, 2, MARK)

"""What a saga, or a coordinator, says is not obeyed by the terminal, and makes no line that the command did not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sagabus.commands.main import main
from sagabus.commands.printable import printable, printable_json
from sagabus.commands.subcommand import Exit

HOSTILE = "x\x1b]0;owned\x07\x1b[2J\x9b31m\r\n  forged: line\u202e\u2066\u2028\x7fy"

STEP = {
    "number": 1, "activity": HOSTILE, "status": "completed", "attempts": 1, "undo": "none", "compensation": None,
    "undo_error": None, "error": {"code": HOSTILE, "message": HOSTILE}, "waits": HOSTILE,
}  # fmt: skip
SAGA: dict[str, Any] = {
    "id": "ORD-1", "run": HOSTILE, "saga": HOSTILE, "version": 1, "status": "terminated", "attention": HOSTILE,
    "concerns": [{"kind": HOSTILE, "step": 1, "words": HOSTILE}], "paused": False, "shard": 1,
    "started_at": "2026-09-21T14:13:20.123457Z", "closed_at": "2026-09-21T14:13:20.123457Z", "input": {},
    "result": {HOSTILE: HOSTILE}, "error": {"code": HOSTILE, "message": HOSTILE}, "steps": [STEP], "next": None,
    "timers": [{"kind": HOSTILE, "number": 1, "due": "2026-09-21T14:14:20.123457Z"}], "message_id": "m",
    "rows": [{"seq": 1, "at": "2026-09-21T14:13:20Z", "kind": HOSTILE, "step": 1, "name": HOSTILE, "payload": HOSTILE}],
    "waits": [{
        "kind": HOSTILE, "words": HOSTILE, "step": None, "activity": None, "service": None, "command": None,
        "attempt": None, "concern": None, "event": HOSTILE, "since": "2026-09-21T14:13:20Z", "due": None,
    }],
    "waits_complete": True,
    "events": [{"name": HOSTILE, "received": 1, "latest_at": "2026-09-21T14:13:20Z"}],
}  # fmt: skip
SAGA["sagas"] = [{**SAGA, "id": HOSTILE}]


class Hostile(BaseHTTPRequestHandler):
    """A coordinator that answers everything with one saga, or with one refusal."""

    refuses = False

    def do_GET(self) -> None:  # its name in http.server
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps({"error": {"code": HOSTILE, "message": HOSTILE}} if self.refuses else SAGA).encode()
        self.send_response(409 if self.refuses else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hostile]]:
    kind = type("Hostile", (Hostile,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        monkeypatch.setenv("SAGABUS_URL", f"http://127.0.0.1:{server.server_address[1]}")
        yield kind
        server.shutdown()
        serving.join()


WORDS = [
    (("list",), 2),
    (("show", "ORD-1", "--history"), 13),
    (("watch", "ORD-1", "--history"), 5),
    (("start", "order", "--id", "ORD-1", "--input", "{}", "--wait"), 1),
]


@pytest.mark.parametrize(("words", "lines"), WORDS)
def test_what_is_shown_of_a_saga_is_printable(
    hostile: type[Hostile], capsys: pytest.CaptureFixture[str], words: tuple[str, ...], lines: int
) -> None:
    main(words)
    said = capsys.readouterr()
    shown = said.out.splitlines()
    assert all(line.isprintable() for line in shown), shown
    assert len(shown) == said.out.count("\n") == lines, said.out
    assert "owned" in said.out
    assert said.err == ""


@pytest.mark.parametrize("words", [words for words, _ in WORDS if words[0] != "watch"])
def test_json_is_printable_and_loses_nothing(
    hostile: type[Hostile], capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    main([*words, "--json"])
    said = capsys.readouterr().out.removesuffix("\n")
    assert said.isprintable()
    found = json.loads(said)
    assert (found[0] if isinstance(found, list) else found)["error"] == SAGA["error"]


@pytest.mark.parametrize("words", [words for words, _ in WORDS])
def test_a_refusal_is_one_printable_line(
    hostile: type[Hostile], capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    hostile.refuses = True
    assert main(words) == Exit.REFUSED
    said = capsys.readouterr()
    assert said.err.removesuffix("\n").isprintable()
    assert said.out == ""


@pytest.mark.parametrize("text", [HOSTILE, "日本\u3000\u00a0é", "\udcff", "\U000e0001", "", "a b\tc"])
@pytest.mark.parametrize("write", [printable, printable_json])
def test_what_is_printed_is_printable(write: Callable[[str], str], text: str) -> None:
    made = write(text)
    assert all(one.isprintable() or one in "\u3000\u00a0" for one in made)
    if write is printable_json:
        assert json.loads(made) == text


def test_a_watch_for_machines_is_printable_and_makes_no_line_of_its_own(
    hostile: type[Hostile], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["watch", "ORD-1", "--history", "--json"])
    row, saga = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert (row + saga).isprintable()
    assert json.loads(row)["row"]["kind"] == json.loads(saga)["saga"]["waits"][0]["words"] == HOSTILE

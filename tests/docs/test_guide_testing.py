"""The page on testing sagas: its tests pass."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from sagabus.coordinator.core.saga.recorded import Head, Recorded, lines
from tests.core.kit import Drive
from tests.docs.pages import DOCS

PAGE = DOCS / "guide" / "testing.md"


def test_all_tests_of_the_page_pass(tmp_path: Path) -> None:
    source = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    (tmp_path / "test_trip.py").write_text(source)
    write_history(source, tmp_path / "histories")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_trip.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert f"{source.count('def test_')} passed" in done.stdout, done.stdout + done.stderr


def write_history(source: str, folder: Path) -> None:
    """Of an open trip, as `sagabus show ID --export` writes it."""
    made: dict[str, object] = {"__name__": "guide_testing"}
    exec(compile(source, str(PAGE), "exec"), made)
    trip, model = made["trip"], made["Trip"]
    drive = Drive(trip, name="trip").start(model(trip_id="1"))  # type: ignore[arg-type,operator]
    head = Head(
        saga="trip", version=1, id="O-1", run="r1", fingerprint=trip.fingerprint,  # type: ignore[attr-defined]
        status=drive.state.status, started_at=drive.rows[0].at,
    )  # fmt: skip
    folder.mkdir()
    written = list(lines(Recorded(head, drive.rows)))
    assert json.loads(written[0])["saga"] == "trip"
    (folder / "trip.jsonl").write_bytes(b"".join(written))

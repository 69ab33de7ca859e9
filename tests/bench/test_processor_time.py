"""Processor time by kind of process, of children of a test."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.processor_time import Reading, milliseconds_each, seconds_of
from tests.support.processes import Child

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"
OUTER = f"""import subprocess, sys, time
subprocess.run([sys.executable, "-c", {BURN.format(seconds=0.3)!r}])
print("done", flush=True)
time.sleep(600)
"""


async def test_what_a_process_has_waited_for_is_its_own(tmp_path: Path) -> None:
    with Child([sys.executable, "-c", OUTER], folder=tmp_path, name="outer") as outer:
        reading = Reading({"outer": [outer.pid], "none": []})
        await outer.says("done")
        assert seconds_of(outer.pid) > 0.25
        spent = reading.spent()
        assert spent["outer"] > 0.2
        assert spent["none"] == 0
    assert seconds_of(outer.pid) == 0, "an ended process has none"


def test_milliseconds_of_all_kinds_are_added() -> None:
    assert milliseconds_each({"a": 1.0, "b": 0.5}, 1_000) == {"a": 1.0, "b": 0.5, "all": 1.5}

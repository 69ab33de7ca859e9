"""Where figures go: a line of JSON each, with commit, machine and time, in bench/results.jsonl or another file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.jsonl"


def keep(name: str, **figures: Any) -> None:
    """Print the figures, and append them with commit, machine and time."""
    print(record(name, figures))


def record(name: str, figures: Mapping[str, Any], results: Path = RESULTS) -> str:
    """Append a line, and return it."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"bench": name, "at": at, "commit": commit(), "machine": machine(), **figures})
    with results.open("a") as file:
        file.write(line + "\n")
    return line


def latest(name: str, results: Path = RESULTS, **wanted: Any) -> dict[str, Any] | None:
    """The last line of this name that says what is wanted; None: that says nothing of it."""
    lines = results.read_text().splitlines() if results.exists() else []
    rows = [row for row in map(json.loads, lines) if row["bench"] == name]
    found = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    return found[-1] if found else None


def commit() -> str:
    described = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(described, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def machine() -> str:
    """Architecture, cores, processor and Python."""
    return f"{platform.machine()}, {os.cpu_count()} cores{_processor()}, Python {platform.python_version()}"


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f", {names[0]}" if names else ""

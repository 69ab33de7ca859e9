"""The file of results."""

from __future__ import annotations

import json
from pathlib import Path

from bench.results import latest, record


def test_a_line_says_when_where_and_of_which_commit(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    assert latest("orders", results) is None
    record("orders", {"rate": 1}, results)
    record("other", {"rate": 2}, results)
    line = record("orders", {"rate": 3}, results)
    assert latest("orders", results) == json.loads(line)
    row = json.loads(line)
    assert list(row) == ["bench", "at", "commit", "machine", "rate"]
    assert row["commit"]
    assert "Python" in row["machine"]

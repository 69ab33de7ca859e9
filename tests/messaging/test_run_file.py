"""run.json: believed only while the host that wrote it lives."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sagabus.messaging.embedded.run_file import NAME, Run, read_run, remove_run, write_run


@pytest.fixture
def run() -> Run:
    return Run.of_this_process(
        kafka="127.0.0.1:9", bus="b1", database="postgresql://postgres@/sagabus?host=/somewhere", http="127.0.0.1:8080"
    )


def test_a_live_host_is_read_as_it_wrote(tmp_path: Path, run: Run) -> None:
    write_run(tmp_path / "new", run)
    assert read_run(tmp_path / "new") == run


def test_without_a_file_there_is_no_host(tmp_path: Path) -> None:
    assert read_run(tmp_path) is None


def test_a_dead_host_is_none(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from sagabus.messaging.embedded.run_file import *\n"
        "write_run(Path(sys.argv[1]), Run.of_this_process(kafka='k', bus='b', database='d'))\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True, timeout=60)
    assert (tmp_path / NAME).exists()
    assert read_run(tmp_path) is None


def test_a_host_whose_id_is_used_again_is_none(tmp_path: Path, run: Run) -> None:
    write_run(tmp_path, replace(run, host_started=run.host_started - 3600))
    assert read_run(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host_pid": 1}'])
def test_a_file_that_makes_no_sense_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    assert read_run(tmp_path) is None


def test_a_new_host_replaces_the_old_one_and_leaves_no_other_file(tmp_path: Path, run: Run) -> None:
    write_run(tmp_path, run)
    newer = replace(run, bus="b2")
    write_run(tmp_path, newer)
    assert read_run(tmp_path) == newer
    assert [file.name for file in tmp_path.iterdir()] == [NAME]


def test_only_its_owner_may_read_it(tmp_path: Path, run: Run) -> None:
    assert write_run(tmp_path, run).stat().st_mode & 0o077 == 0


def test_a_host_removes_its_own_file_and_no_other(tmp_path: Path, run: Run) -> None:
    write_run(tmp_path, replace(run, host_pid=1))
    remove_run(tmp_path)
    assert (tmp_path / NAME).exists()
    write_run(tmp_path, run)
    remove_run(tmp_path)
    remove_run(tmp_path)
    assert not (tmp_path / NAME).exists()

"""The README tells what is so: each command is run and its output compared, each snippet stands in its file."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagabus.contracts.envelope import MAX_PAYLOAD
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.processes import ROOT, clean
from tests.support.transcripts import Block, Page, assert_seen, with_programs

README = Page((ROOT / "README.md").read_text())
PROGRAMS = Path(sys.executable).parent
FIRST_SAGA = "examples/dinner.py"


@pytest.fixture(scope="module")
def host() -> Iterator[DevHost]:
    """What the README starts with its one long-running command, in a copy of the folder that it names."""
    enter, dev = (shlex.split(line) for line in README.block("sh", "host").splitlines())
    assert (enter, dev[:2]) == (["cd", "examples"], ["sagabus", "dev"])
    with data_folder() as folder:
        shutil.copytree(ROOT / enter[1], folder / enter[1], ignore=shutil.ignore_patterns(".sagabus", "__pycache__"))
        with DevHost(folder / enter[1], *dev[2:]) as host:
            yield host


def test_every_block_is_looked_at() -> None:
    shell = {("sh", about) for about in ("repository", "activate", "install", "host")}
    assert README.kinds == {*shell, ("console", "")}


def test_it_is_read_in_five_minutes() -> None:
    """At 220 words a minute, with the code."""
    assert len(README.text.split()) < 1_100


def test_the_first_saga_is_shown_whole() -> None:
    (shown,) = README.of("python")
    assert shown.about == FIRST_SAGA
    docstring, _, rest = (ROOT / FIRST_SAGA).read_text().partition("\n\n")
    assert docstring.startswith('"""')
    assert rest == shown.text
    assert f"]({FIRST_SAGA})" in README.text


def test_what_is_linked_is_there() -> None:
    assert [target for target in README.links if not (ROOT / target).exists()] == []


def test_the_index_of_all_pages_is_linked() -> None:
    assert "docs/README.md" in README.links


def test_the_commands_of_the_repository_exist() -> None:
    commands = [line.partition("#")[0].split() for line in README.block("sh", "repository").splitlines()]
    assert commands == [["make", "run"], ["make", "test"]]
    for command in commands:
        done = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    run = ["make", "--no-print-directory", "-n", "run"]  # this test may itself be run by make
    shown = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    demo, told = shown.stdout.splitlines()[-2:]
    assert demo.endswith("sagabus demo")
    assert f"{README.block('sh', 'activate').splitlines()[0]} && sagabus init " in told


def test_the_environment_of_make_run_has_the_command() -> None:
    """What the README activates is what the Makefile makes."""
    activate, look = README.block("sh", "activate").splitlines()
    venv = re.search(r"^VENV := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert venv is not None
    assert activate == f". {venv[1]}/bin/activate"
    assert look == "sagabus --help"


def test_sagabus_is_installed_from_a_place_and_never_by_its_name() -> None:
    """The name on the index is not ours yet: who installs it gets something else, or nothing."""
    commands = [line.partition("#")[0].split() for line in README.block("sh", "install").splitlines()]
    assert [command[:2] for command in commands] == [["pip", "install"], ["pip", "wheel"], ["pip", "install"]]
    assert all("/" in command[-1] for command in commands)
    everywhere = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    told = re.compile(r"pip install (?:-\S+ )*['\"]?sagabus\b(?![-/])")
    assert [str(page) for page in everywhere if told.search(page.read_text())] == []


@pytest.mark.parametrize("transcript", README.of("console"), ids=lambda one: one.text.splitlines()[0][2:50])
def test_a_transcript_is_what_one_sees(transcript: Block, host: DevHost) -> None:
    assert_seen(transcript.text, host.folder, with_programs(PROGRAMS, clean({})))


def test_the_limit_of_a_message_is_the_codes() -> None:
    assert f"{MAX_PAYLOAD // 1024} KiB" in (ROOT / "docs" / "how-it-works.md").read_text()

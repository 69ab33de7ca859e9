"""docs/operating.md: each verb says what the page shows, with the exit code that it names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagabus.commands.main import SUBCOMMANDS
from sagabus.coordinator.http.verbs import VERBS
from tests.support.conditions import blocking_until
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.processes import ROOT, clean
from tests.support.transcripts import LOOKS, Block, Page, commands, missing, with_programs

PAGE = Page((ROOT / "docs" / "operating.md").read_text())
SHOP = Page((ROOT / "docs" / "shop.md").read_text())


@pytest.fixture(scope="module")
def host() -> Iterator[DevHost]:
    words = PAGE.block("sh", "host").split()
    assert words[:2] == ["sagabus", "dev"]
    with data_folder() as folder:
        (folder / "bank.py").write_text(PAGE.block("python", "bank.py"))
        (folder / "order.json").write_text(SHOP.block("json", "order.json"))
        with DevHost(folder, *words[2:]) as host:
            yield host


def test_every_verb_has_its_place() -> None:
    assert VERBS.keys() <= SUBCOMMANDS.keys()
    assert all(f"`{verb}`" in PAGE.text for verb in VERBS)
    assert PAGE.kinds == {("sh", "host"), ("console", "")}
    assert [link for link in PAGE.links if not (ROOT / "docs" / link).exists()] == []


@pytest.mark.parametrize("transcript", PAGE.of("console"), ids=lambda one: one.text.splitlines()[0][2:50])
def test_a_transcript_is_what_one_sees(transcript: Block, host: DevHost) -> None:
    for command, expected in commands(transcript.text):

        def seen(command: str = command, expected: list[str] = expected) -> bool:
            said = _said(command, host.folder)
            if LOOKS.match(command) and missing(expected, said):
                return False
            assert missing(expected, said) == [], (command, said)
            return True

        blocking_until(seen, what=f"{command}: {expected}")


def _said(command: str, folder: Path) -> str:
    """Output and errors, as they stand in a terminal."""
    environment = with_programs(Path(sys.executable).parent, clean({}))
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.stdout

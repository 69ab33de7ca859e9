"""docs/tutorial.md does what it shows: each host is started, each file written, each command typed, in this order."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.processes import ROOT, clean
from tests.support.transcripts import Block, Page, assert_seen, with_programs

TUTORIAL = Page((ROOT / "docs" / "tutorial.md").read_text())


@pytest.mark.parametrize("snippet", TUTORIAL.of("python"), ids=lambda one: one.about)
def test_a_snippet_stands_in_its_file(snippet: Block) -> None:
    assert snippet.text in (ROOT / snippet.about).read_text()


@pytest.mark.ring("deployment")
def test_the_tutorial_is_what_one_sees() -> None:
    with data_folder() as folder, ExitStack() as hosts:
        for block in TUTORIAL.blocks:
            match block.kind, block.about:
                case "sh", "host":
                    hosts.close()
                    (folder / "dev.out").unlink(missing_ok=True)  # in which the next one says that it is ready
                    hosts.enter_context(DevHost(folder, *block.text.split()[2:]))
                case "json", name:
                    (folder / name).write_text(block.text)
                case "console", _:
                    assert_seen(block.text, folder, with_programs(Path(sys.executable).parent, clean({})))
                case kind, _:
                    assert kind == "python"

"""Ctrl-C says what it does: the first one drains, the second one ends at once, whatever the loop is doing."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from sagabus.commands.subcommand import Exit
from tests.support.processes import Child, clean

SERVING = """
import asyncio, sys, time
from sagabus.commands import main as command_line
from sagabus.commands.force import done_last
from sagabus.commands.subcommand import Exit, Subcommand

async def run(_):
    with done_last("the lamp", lambda: print("lamp out", flush=True)):
        print("serving", flush=True)
        try:
            while sys.argv[1] == "busy":
                time.sleep(0.01)
            await asyncio.Event().wait()
        finally:
            print("draining", flush=True)
            while sys.argv[1] == "slow":
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    pass
    return Exit.DONE

one = Subcommand(name="dev", about="x.", examples={}, arguments=lambda _: None, run=run, serves=True)
command_line._subcommand = lambda *_: one
sys.exit(command_line.main(["dev"]))
"""

FIRST = (
    "sagabus: Ctrl-C: no new work is taken, what is under way is finished, within 25 s; "
    "a second Ctrl-C ends it at once\n"
)
SECOND = "sagabus: Ctrl-C again: ended at once. Nothing is lost: what was under way is carried out again\n"


def serving(kind: str, folder: Path) -> Child:
    return Child([sys.executable, "-c", SERVING, kind], folder=folder, name=kind, environment=clean({}))


async def test_the_first_one_drains_and_says_so(tmp_path: Path) -> None:
    with serving("prompt", tmp_path) as process:
        await process.says("serving")
        process.send(signal.SIGINT)
        assert await process.ended() == Exit.DONE
        assert (process.stdout, process.stderr) == ("serving\ndraining\n", FIRST)


@pytest.mark.parametrize("kind", ["slow", "busy"])
async def test_the_second_one_ends_it_at_once_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    """slow: its drain takes no end. busy: the loop hears nothing at all."""
    with serving(kind, tmp_path) as process:
        await process.says("serving")
        process.send(signal.SIGINT)
        await process.says("draining" if kind == "slow" else FIRST)
        process.send(signal.SIGINT)
        assert await process.ended() == Exit.INTERRUPTED
        assert process.stdout.endswith("lamp out\n")
        assert process.stderr == FIRST + SECOND


async def test_sigterm_drains_without_words(tmp_path: Path) -> None:
    """A container is ended so, and its error output is its log."""
    with serving("prompt", tmp_path) as process:
        await process.says("serving")
        process.terminate()
        assert await process.ended() == Exit.DONE
        assert (process.stdout, process.stderr) == ("serving\ndraining\n", "")

"""The README tells what is so: each command is run and its output compared, each snippet stands in its file."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sagabus.contracts.envelope import MAX_PAYLOAD
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.kafka_broker import KafkaBroker
from tests.support.ports import free_port
from tests.support.processes import ROOT, Child, clean

TEXT = (ROOT / "README.md").read_text()
ANY = "…"
SERVICES = ("coordinator", "participant")


@dataclass(frozen=True)
class Block:
    """kind: the word after the fence, as GitHub colours it. about: what follows it."""

    kind: str
    about: str
    text: str


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w+) ?(.*)\n((?:.*\n)*?)```$", TEXT, re.MULTILINE)]
TRANSCRIPTS = [block for block in BLOCKS if block.kind == "console"]


def block(kind: str, about: str) -> Block:
    return next(one for one in BLOCKS if (one.kind, one.about) == (kind, about))


@pytest.fixture(scope="module")
def host() -> Iterator[DevHost]:
    """What the README starts with its one long-running command, and the files that it lays beside it."""
    words = block("sh", "host").text.split()
    assert words[:2] == ["sagabus", "dev"]
    with data_folder() as folder:
        (folder / "order.json").write_text(block("json", "order.json").text)
        (folder / "examples").symlink_to(ROOT / "examples")
        with DevHost(folder, *words[2:]) as host:
            yield host


def test_every_block_is_looked_at() -> None:
    known = {("sh", "repository"), ("sh", "host"), ("sh", "deployment"), ("console", ""), ("json", "order.json"),
             ("json", "request"), ("text", "")}  # fmt: skip
    assert {(one.kind, one.about) for one in BLOCKS if one.kind != "python"} == known
    assert TEXT.count("```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("snippet", [one for one in BLOCKS if one.kind == "python"], ids=lambda one: one.about)
def test_a_snippet_stands_in_its_file(snippet: Block) -> None:
    assert snippet.text in (ROOT / snippet.about).read_text()
    assert snippet.about in TEXT.replace(f"```python {snippet.about}", "")  # the text leads to the file


def test_what_is_linked_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_the_commands_of_the_repository_exist() -> None:
    for line in block("sh", "repository").text.splitlines():
        command = line.partition("#")[0].split()
        assert command[0] == "make"
        done = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    command = ["make", "--no-print-directory", "-n", "run"]  # this test may itself be run by make
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1].endswith("sagabus demo")


def test_the_request_of_any_producer_is_one() -> None:
    request = json.loads(block("json", "request").text)
    assert (request["type"], request["saga"]) == ("start", "order_processing")


def test_the_limits_are_the_codes() -> None:
    assert f"{MAX_PAYLOAD // 1024} KiB" in TEXT


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda one: one.text.splitlines()[0][2:50])
def test_a_transcript_is_what_one_sees(transcript: Block, host: DevHost) -> None:
    for command, expected in _commands(transcript.text):
        done = subprocess.run(
            ["bash", "-c", command], cwd=host.folder, env=_with_our_programs({}), capture_output=True, text=True,
            check=False, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert _missing(expected, done.stdout) == [], (command, done.stdout)


@pytest.mark.ring("deployment")
async def test_the_deployment_works_as_it_stands(
    kafka_broker: KafkaBroker, kafka: str, database: str, namespace: str, run_folder: Path
) -> None:
    """With the addresses of this test's servers, and a namespace of its own."""
    settings = {
        "SAGABUS_NAMESPACE": namespace, "SAGABUS_KAFKA": kafka, "SAGABUS_DATABASE": database,
        "SAGABUS_HTTP": f"127.0.0.1:{free_port()}",
    }  # fmt: skip
    lines = block("sh", "deployment").text.splitlines()
    assert [line.split("=")[0] for line in lines[:2]] == ["export SAGABUS_KAFKA", "export SAGABUS_DATABASE"]
    try:
        for line in lines[2:]:
            await _deploy(line, settings, run_folder)
    finally:
        theirs = [one for one in kafka_broker.topics() if one.split(".")[0] in ("inventory", "payment", "shipping")]
        await asyncio.to_thread(kafka_broker.delete_topics, *theirs)


async def _deploy(line: str, settings: Mapping[str, str], folder: Path) -> None:
    program, *words = line.split()
    assert program == "sagabus"
    with Child.python("sagabus.commands.main", *words, folder=folder, name=words[0], settings=settings) as process:
        if words[0] in SERVICES:
            await process.says(" runs")
            process.terminate()
        assert await process.ended() == 0, process.report()


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that it is said to answer."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *expected = part.rstrip("\n").splitlines()
        yield command, expected


def _missing(expected: list[str], said: str) -> list[str]:
    """Lines that do not come, in this order. An ellipsis stands for anything, alone on a line for any lines."""
    lines = iter(said.splitlines())
    return [
        line
        for line in expected
        if line != ANY and not any(re.fullmatch(_pattern(line), one.rstrip()) for one in lines)
    ]


def _pattern(line: str) -> str:
    return ".*".join(map(re.escape, line.split(ANY)))


def _with_our_programs(settings: Mapping[str, str]) -> dict[str, str]:
    programs = str(Path(sys.executable).parent)
    return {**clean(settings), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}

"""docs/shop.md leads through the sample: its commands do what it shows, its snippets stand in their files."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.kafka_broker import KafkaBroker
from tests.support.ports import free_port
from tests.support.processes import ROOT, Child, clean
from tests.support.transcripts import Block, Page, assert_seen, with_programs

SHOP = Page((ROOT / "docs" / "shop.md").read_text())
PROGRAMS = Path(sys.executable).parent
SERVICES = ("coordinator", "participant")


@pytest.fixture(scope="module")
def host() -> Iterator[DevHost]:
    """What the page starts with its one long-running command, and the files that it lays beside it."""
    words = SHOP.block("sh", "host").split()
    assert words[:2] == ["sagabus", "dev"]
    with data_folder() as folder:
        (folder / "order.json").write_text(SHOP.block("json", "order.json"))
        (folder / "examples").symlink_to(ROOT / "examples")
        with DevHost(folder, *words[2:]) as host:
            yield host


def test_every_block_is_looked_at() -> None:
    shell = {("sh", "host"), ("sh", "deployment")}
    assert SHOP.kinds == {*shell, ("console", ""), ("json", "order.json"), ("json", "request")}


@pytest.mark.parametrize("snippet", SHOP.of("python"), ids=lambda one: one.about)
def test_a_snippet_stands_in_its_file(snippet: Block) -> None:
    assert snippet.text in (ROOT / snippet.about).read_text()
    assert f"](../{snippet.about})" in SHOP.text


def test_what_is_linked_is_there() -> None:
    assert [target for target in SHOP.links if not (ROOT / "docs" / target).exists()] == []


def test_the_request_of_any_producer_is_one() -> None:
    request = json.loads(SHOP.block("json", "request"))
    assert (request["type"], request["saga"]) == ("start", "order_processing")


@pytest.mark.parametrize("transcript", SHOP.of("console"), ids=lambda one: one.text.splitlines()[0][2:50])
def test_a_transcript_is_what_one_sees(transcript: Block, host: DevHost) -> None:
    assert_seen(transcript.text, host.folder, with_programs(PROGRAMS, clean({})))


@pytest.mark.ring("deployment")
async def test_the_deployment_works_as_it_stands(
    kafka_broker: KafkaBroker, kafka: str, database: str, namespace: str, run_folder: Path
) -> None:
    """With the addresses of this test's servers, and a namespace of its own."""
    settings = {
        "SAGABUS_NAMESPACE": namespace, "SAGABUS_KAFKA": kafka, "SAGABUS_DATABASE": database,
        "SAGABUS_HTTP": f"127.0.0.1:{free_port()}",
    }  # fmt: skip
    lines = SHOP.block("sh", "deployment").splitlines()
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

"""docs/troubleshooting.md: each case is made, heard of in the log, seen and ended by what the page shows."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sagabus.contracts.envelope import Message
from sagabus.contracts.names import CommandKind, command_id
from sagabus.messaging.service.backing import find_backing
from sagabus.messaging.settings import load_settings
from tests.docs import unfinished_sagas
from tests.support.conditions import blocking_until
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.processes import ROOT
from tests.support.transcripts import Block, Page, assert_typed, missing

PAGE = Page((ROOT / "docs" / "troubleshooting.md").read_text())
MODULE = Path(unfinished_sagas.__file__)
FIRST_STEP = "    await ctx.call(charge(amount=debit.amount))\n"
OTHER_STEP = "    await ctx.call(permit(amount=debit.amount))\n"
SAGAS = {
    "BUY-1": ("purchse", {"amount": 5}), "REP-1": ("report", {"amount": 5}), "PAR-1": ("delivery", {"address": "x"}),
    "CRE-1": ("credit", {"amount": 17}), "AGR-1": ("agreement", {"amount": 5}), "CER-1": ("certificate", {"amount": 5}),
    "LOA-1": ("loan", {"amount": 5}), "REM-1": ("reminder", {"amount": 5}), "PAU-1": ("agreement", {"amount": 5}),
}  # fmt: skip


@pytest.fixture(scope="module")
def host() -> Iterator[DevHost]:
    """After an upgrade, with each saga at its cause, or on its way there."""
    with data_folder() as folder:
        module = Path(shutil.copy(MODULE, folder))
        with DevHost(folder, module.stem) as host:
            start(host, "BUY-2", "purchase", {"amount": 5})
            at_step(host, "BUY-2", 1, "completed")
            host.stop()
            module.write_text(module.read_text().replace(FIRST_STEP, OTHER_STEP, 1))
            host.start()
            for id, (saga, input) in SAGAS.items():
                start(host, id, saga, input)
            at_step(host, "PAR-1", 1, "sent")
            for id in ("REM-1", "PAU-1"):
                at_step(host, id, 1, "completed")
            at_step(host, "LOA-1", 2, "paused")
            pause(host, "PAU-1")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                asyncio.run(publish(unreadable_reply(host)))
            yield host


def start(host: DevHost, id: str, saga: str, input: object) -> None:
    body = {"saga": saga, "id": id, "input": input}
    answer = httpx.post(f"{host.url}/api/v1/sagas", params={"unknown": "allow"}, json=body, timeout=30)
    assert answer.status_code == 202, answer.text


def pause(host: DevHost, id: str) -> None:
    answer = httpx.post(f"{host.url}/api/v1/sagas/{id}/pause", json={"reason": "until noon"}, timeout=30)
    assert answer.status_code == 200, answer.text


def at_step(host: DevHost, id: str, number: int, status: str) -> None:
    def is_there() -> bool:
        steps = httpx.get(f"{host.url}/api/v1/sagas/{id}/steps", timeout=30).json()["steps"]
        return any((step["number"], step["status"]) == (number, status) for step in steps)

    blocking_until(is_there, what=f"step {number} of {id} is {status}")


def of_the_log() -> list[str]:
    return [line for block in PAGE.of("log") for line in block.text.splitlines()]


def unreadable_reply(host: DevHost) -> Message:
    """As a participant that is not ours may send it. Ours would refuse."""
    saga = httpx.get(f"{host.url}/api/v1/sagas/PAR-1", timeout=30).json()
    cause = command_id("PAR-1", saga["run"], 1, CommandKind.DO)
    headers = {"ce_causationid": cause, "ce_attempt": "1", "ce_type": "sagabus.reply.completed", "ce_id": f"{cause}:1"}
    packed = tuple((name, value.encode()) for name, value in headers.items())
    return Message.of("sagabus.replies.courier", b"PAR-1", b'{"tracking": 7}', packed, "PAR-1")


async def publish(message: Message) -> None:
    producer = find_backing(load_settings(require=(), kafka="embedded")).kafka.producer()
    await producer.publish([message])
    await producer.stop()


def test_each_case_of_the_page_is_found_by_what_one_sees() -> None:
    cases = re.findall(r"^## (.+)$", PAGE.text, re.MULTILINE)
    linked = [case for case in cases if f"| [{case}](#{case.lower().replace(' ', '-')}) |" in PAGE.text]
    assert linked == cases
    assert len(cases) == 12
    assert PAGE.kinds == {("console", ""), ("log", "")}


def test_a_command_that_ends_a_case_is_typed_in_its_section() -> None:
    head, *sections = re.split(r"^## ", PAGE.text, flags=re.MULTILINE)
    rows = re.findall(r"^\| .+ \| \[(.+)\]\(#.+\) \| `sagabus (\w+) .*\|$", head, re.MULTILINE)
    typed = {
        section.partition("\n")[0]: re.findall(r"^\$ sagabus (\w+)", section, re.MULTILINE) for section in sections
    }
    assert len(rows) == 10
    assert [case for case, verb in rows if verb not in typed[case]] == ["A service does not answer"]


@pytest.mark.parametrize("line", of_the_log(), ids=lambda one: one[:50])
def test_a_line_of_the_log_is_what_is_written(line: str, host: DevHost) -> None:
    blocking_until(lambda: missing([f"…{line}"], host.process.stdout + host.process.stderr) == [], what=line)


@pytest.mark.parametrize("transcript", PAGE.of("console"), ids=lambda one: one.text.splitlines()[0][2:50])
def test_a_transcript_is_what_one_sees(transcript: Block, host: DevHost) -> None:
    assert_typed(transcript.text, host.folder)


def test_all_of_them_have_ended(host: DevHost) -> None:
    def open_ones() -> list[str]:
        query = {"status": ["running", "compensating"]}
        found = json.loads(httpx.get(f"{host.url}/api/v1/sagas", params=query, timeout=30).content)
        return [saga["id"] for saga in found["sagas"]]

    blocking_until(lambda: open_ones() == [], what="no saga of the page is open")

"""docs/operating.md: each verb says what the page shows, with the exit code and the HTTP answer that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPStatus

import httpx
import pytest

from sagabus.commands.main import SUBCOMMANDS
from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED, CLOSED
from sagabus.coordinator.core.saga.operator import NO_USE, NOT_PAUSED, OUTPUT_INVALID, PAUSED
from sagabus.coordinator.http.verbs import VERBS
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.processes import ROOT
from tests.support.transcripts import Block, Exchange, Page, assert_typed, commands, differences

PAGE = Page((ROOT / "docs" / "operating.md").read_text())
SHOP = Page((ROOT / "docs" / "shop.md").read_text())
CODES = (CANCEL_REJECTED, CLOSED, NO_USE, PAUSED, NOT_PAUSED, OUTPUT_INVALID)


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
    assert PAGE.kinds == {("sh", "host"), ("console", ""), ("http", "")}
    assert [link for link in PAGE.links if not (ROOT / "docs" / link).exists()] == []


@pytest.mark.parametrize("verb", VERBS)
def test_the_output_of_every_verb_is_shown(verb: str) -> None:
    shown = [expected for one in PAGE.of("console") for command, expected in commands(one.text)
             if command.startswith(f"sagabus {verb} ") and "exit code" not in command]  # fmt: skip
    assert any(shown)


@pytest.mark.parametrize("code", CODES)
def test_every_refusal_is_shown_with_its_exit_code_and_its_http_answer(code: str) -> None:
    listed = re.findall(r"^\| `(\S+)` \|", PAGE.text, re.MULTILINE)
    assert sorted(listed) == sorted(CODES)
    shown = [expected for one in PAGE.of("console") for _, expected in commands(one.text)]
    assert [said[-1] for said in shown if said[-2:-1] and f"({code})" in said[-2]][:1] == ["exit code 5"]
    answers = [one for one in map(Exchange.read, PAGE.of("http")) if one.answer.get("error")]
    assert [one.status for one in answers if one.answer["error"]["code"] == code] == [HTTPStatus.CONFLICT]


@pytest.mark.parametrize(
    "block", [*PAGE.of("console"), *PAGE.of("http")], ids=lambda one: one.text.splitlines()[0].lstrip("$ ")[:50]
)
def test_a_transcript_is_what_one_sees(block: Block, host: DevHost) -> None:
    """In the order of the page: later ones go on with the sagas of earlier ones."""
    if block.kind == "http":
        assert_answered(Exchange.read(block), host)
    else:
        assert_typed(block.text, host.folder)


def assert_answered(exchange: Exchange, host: DevHost) -> None:
    answer = httpx.request(exchange.method, f"{host.url}{exchange.path}", json=exchange.body, timeout=30)
    assert answer.status_code == exchange.status, answer.text
    assert differences(exchange.answer, answer.json()) == [], json.dumps(answer.json())
    if again := answer.json().get("look_again"):
        assert answer.headers["location"] == again

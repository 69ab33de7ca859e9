"""docs/guide/errors.md: its program runs, and does what the page shows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from sagabus.client import SagaClient, SagaFailed
from sagabus.contracts import SagaType
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder
from tests.support.processes import ROOT, clean
from tests.support.transcripts import Block, Page, assert_seen, with_programs

PAGE = Page((ROOT / "docs" / "guide" / "errors.md").read_text())


@pytest.fixture(scope="module")
def host() -> Iterator[DevHost]:
    with data_folder() as folder:
        (folder / "purchase.py").symlink_to(ROOT / "examples" / "purchase.py")
        with DevHost(folder, "purchase") as host:
            yield host


@pytest.mark.parametrize("snippet", [one for one in PAGE.of("python") if one.about], ids=lambda one: one.text[:20])
def test_a_snippet_stands_in_its_file(snippet: Block) -> None:
    assert snippet.text in (ROOT / snippet.about).read_text()
    assert f"](../../{snippet.about})" in PAGE.text


@pytest.mark.parametrize("transcript", PAGE.of("console"), ids=lambda one: one.text.splitlines()[0][2:50])
def test_a_transcript_is_what_one_sees(transcript: Block, host: DevHost) -> None:
    assert_seen(transcript.text, host.folder, with_programs(Path(sys.executable).parent, clean({})))


class Wanted(BaseModel):
    item: str
    price: int


async def test_a_client_gets_the_sagas_own_code_message_and_details(
    host: DevHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(host.folder)
    purchases = SagaType("purchase", Wanted, Wanted)
    async with SagaClient("embedded") as client:
        handle = await client.start(purchases(item="piano", price=70), id="P-3")
        with pytest.raises(SagaFailed) as failed:
            await handle.result(timeout=60)
    error = failed.value
    assert (error.status, error.code, error.message) == (
        "compensated",
        "over_budget",
        "piano costs 70, the limit is 50",
    )
    assert error.details == {"limit": 50}

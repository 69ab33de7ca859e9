"""`replays`: a recorded history against the code of now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sagabus.coordinator import SagaContext, SagaDefinition, saga
from sagabus.coordinator.core.saga.recorded import Head, HistoryUnreadable, Recorded, lines
from sagabus.testing import HistoryDiffers, replays
from tests.core.kit import Drive
from tests.core.services import Done, Order, Result, charge, reserve


@saga("saga")
async def of_then(ctx: SagaContext, order: Order) -> Result:
    done = await ctx.call(reserve(order=order.order))
    await ctx.call(charge(order=order.order))
    return Result(refs=[done.ref])


@saga("saga")
async def of_now(ctx: SagaContext, order: Order) -> Result:
    await ctx.call(charge(order=order.order))
    return Result(refs=[])


@saga("saga", version=2)
async def version_2(ctx: SagaContext, order: Order) -> Result:
    return Result(refs=[])


def recorded(definition: SagaDefinition[Any, Any], *, done: bool) -> Recorded:
    drive = Drive(definition).start()
    drive.completed(1, Done(ref="r"))
    if done:
        drive.completed(2, Done(ref="c"))
    head = Head(
        saga="saga", version=1, id=drive.id, run="r1", fingerprint=definition.fingerprint, status=drive.state.status,
        started_at=drive.rows[0].at,
    )  # fmt: skip
    return Recorded(head, drive.rows)


@pytest.mark.parametrize("done", [False, True])
def test_the_same_code_goes_on_and_other_code_is_told_in_the_words_of_the_product(tmp_path: Path, done: bool) -> None:
    history = recorded(of_then, done=done)
    file = tmp_path / "history.jsonl"
    file.write_bytes(b"".join(lines(history)))
    for given in (history, file, str(file), list(lines(history))):
        replays(given, version_2, of_then)
        with pytest.raises(HistoryDiffers, match=r"saga O-1 cannot go on.*stock\.reserve.*bank\.charge"):
            replays(given, of_now)


def test_what_cannot_be_judged_is_said() -> None:
    with pytest.raises(LookupError, match="saga saga version 1; given: <saga saga version 2>"):
        replays(recorded(of_then, done=False), version_2)
    with pytest.raises(HistoryUnreadable, match="line 1"):
        replays([b"{}"], of_then)

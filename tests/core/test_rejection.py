"""A business rejection of a saga's own: `raise Refused` ends it undone, with this code, message and details (U6)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sagabus.contracts import DeclarationError, SagaType, Service
from sagabus.contracts.envelope import MAX_PAYLOAD
from sagabus.coordinator import Refused, SagaContext, saga
from sagabus.coordinator.core.saga.status import SagaStatus
from tests.core.kit import Definition, Drive
from tests.core.services import Order, Result, reserve

LIMIT = "it costs 90, the limit is 50"


def refusing(error: BaseException, *, refusals: tuple[str, ...] = ()) -> Definition:
    """Reserves, then refuses."""

    @saga(SagaType("saga", Order, Result, refusals=refusals))
    async def refused(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        raise error

    return refused


def ended(error: BaseException, *, refusals: tuple[str, ...] = ()) -> Drive:
    drive = Drive(refusing(error, refusals=refusals)).start()
    drive.completed(1)
    return drive


def warned(drive: Drive) -> list[str]:
    return [*drive.effects.log, *(words for _, words in drive.effects.log_once)]


def test_u6_a_refusal_of_the_saga_undoes_it_and_its_code_message_and_details_stand_in_its_error_and_its_event() -> None:
    drive = ended(Refused("over_budget", LIMIT, limit=50, of=["EUR"]))
    assert (drive.status, drive.last.short) == (SagaStatus.COMPENSATING, ["undo 1 stock.release"])
    error = {
        "code": "over_budget", "message": LIMIT, "type": "Refused", "details": {"limit": 50, "of": ["EUR"]},
    }  # fmt: skip
    assert drive.error == error
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED
    assert (drive.last.told, drive.last.lifecycle[-1].body["error"]) == (
        ["compensation.completed", "saga.compensated"],
        error,
    )
    assert not warned(drive)


def test_u6_a_replay_ends_with_the_same_refusal() -> None:
    drive = ended(Refused("over_budget", LIMIT))
    before = drive.error
    drive.reload()
    assert (drive.error, drive.status) == (before, SagaStatus.COMPENSATING)


def test_u6_a_refusal_is_no_fault_of_the_code_and_the_log_has_no_traceback_of_it() -> None:
    assert not ended(Refused("over_budget", LIMIT)).effects.raised


def test_u6_the_only_error_of_a_group_is_the_sagas() -> None:
    @saga("saga")
    async def grouped(ctx: SagaContext, order: Order) -> Result:
        async def check_budget() -> None:
            raise Refused("over_budget", LIMIT, limit=50)

        async with asyncio.TaskGroup() as group:
            group.create_task(check_budget())
        return Result(refs=[])

    error = Drive(grouped).start().error
    assert (error["code"], error["message"], error["details"]) == ("over_budget", LIMIT, {"limit": 50})


def test_u6_of_a_group_the_first_speaks_and_names_the_others() -> None:
    both = ExceptionGroup("", [Refused("over_budget", "too dear"), Refused("too_late", "no"), ValueError("this")])
    drive = ended(both)
    assert drive.error["code"] == "over_budget"
    assert drive.error["message"] == "too dear (and 2 more: Refused too_late, ValueError)"
    assert [words for words, _ in drive.effects.raised] == ["its code has raised ValueError: this"]


@pytest.mark.parametrize(
    ("given", "stands"),
    [("sagabus.mine", "sagabus_mine"), ("over budget", "over_budget"), ("", "_"), ("é" * 200, "_" * 100), (7, "7")],
)
def test_u6_a_code_that_is_none_is_made_to_fit_and_the_log_says_so(given: Any, stands: str) -> None:
    drive = ended(Refused(given, "no"))
    assert (drive.error["code"], drive.error["message"]) == (stands, "no")
    if given != 7:
        assert drive.effects.log[0].startswith(f"it has refused with the code {str(given)[:50]!r}"[:50])


def test_u6_details_that_are_no_json_stand_as_text() -> None:
    error = ended(Refused("no", "no", what=object, more={1, 2}, fine=1)).error  # type: ignore[arg-type]  # on purpose
    assert error["details"] == {"what": "<class 'object'>", "more": "{1, 2}", "fine": "1"}


def test_u6_details_that_are_too_large_are_left_out_and_the_log_says_so() -> None:
    drive = ended(Refused("no", "why", **{f"page_{number}": "x" * 3_000 for number in range(MAX_PAYLOAD // 3_000 + 1)}))
    assert (drive.error["message"], drive.error["details"]) == ("why", {})
    assert drive.effects.log == ["it has refused with no, and its details are left out: they are too large"]


def test_u6_a_subclass_that_is_no_whole_refusal_is_an_error_like_any_other() -> None:
    class Broken(Refused):
        def __init__(self) -> None:
            Exception.__init__(self, "broken")

    assert ended(Broken()).error["code"] == "sagabus.saga_raised"


def test_u6_a_refusal_that_is_declared_is_no_news_and_another_one_is_told_once_for_its_definition() -> None:
    declared = ("over_budget", "too_late")
    assert not warned(ended(Refused("over_budget", LIMIT), refusals=declared))
    drive = ended(Refused("over_buget", LIMIT), refusals=declared)
    assert drive.error["code"] == "over_buget"
    assert drive.effects.log_once == [(
        "over_buget",
        "saga was refused with the code over_buget, which its saga type does not declare: over_budget, too_late. A "
        "client that looks for one of those does not find it. Correct the code, or add it to refusals=",
    )]  # fmt: skip


def test_u6_a_cancel_that_came_first_stands_whatever_the_code_refuses_then() -> None:
    @saga("saga")
    async def late(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order))
        finally:
            raise Refused("over_budget", LIMIT)

    drive = Drive(late).start()
    drive.cancel("by hand")
    assert drive.error == {"code": "sagabus.cancelled", "message": "by hand"}


@pytest.mark.parametrize("wrong", ["over budget", "sagabus.mine", "", 7])
def test_a_declared_refusal_that_is_no_code_is_refused(wrong: Any) -> None:
    with pytest.raises(DeclarationError, match="is no code of yours"):
        SagaType("saga", Order, Result, refusals=(wrong,))


def test_one_text_where_codes_belong_is_refused() -> None:
    words = r'refusals=\'no\' is one text: give a tuple, refusals=\("no",\)'
    with pytest.raises(DeclarationError, match=f"saga saga: {words}"):
        SagaType("saga", Order, Result, refusals="no")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(DeclarationError, match=words):
        Service("stock").activity("reserve", Order, refusals="no")  # type: ignore[call-overload]  # on purpose

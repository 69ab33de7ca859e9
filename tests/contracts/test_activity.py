"""Declaring services, activities and compensations, and calling them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from sagabus.contracts import Command, Compensation, DeclarationError, Service
from tests.core.services import Done, Job, Undo, Void, check, release, reserve


def test_calling_an_activity_builds_a_command_and_sends_nothing() -> None:
    command = reserve(order="O")
    assert isinstance(command, Command)
    assert (command.activity, command.input, command.contract) == ("stock.reserve", Job(order="O"), reserve)
    assert repr(command) == "Command(stock.reserve, Job(order='O'))"
    assert not hasattr(command, "__await__")


def test_a_model_at_hand_makes_the_same_command() -> None:
    assert reserve.of(Job(order="O")).input == reserve(order="O").input
    with pytest.raises(TypeError, match=r"stock\.reserve\.of\(\) takes a Job, not a Void"):
        reserve.of(Void(order="O"))  # type: ignore[arg-type]  # on purpose


def test_a_wrong_input_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValidationError):
        reserve(order=5)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValidationError):
        reserve()  # type: ignore[call-arg]  # on purpose


def test_a_service_knows_its_activities_by_their_whole_names() -> None:
    shop = Service("shop")
    undo = shop.compensation("undo", Job)
    buy = shop.activity("buy", Job, compensation=undo)
    assert shop.activities == {"shop.undo": undo, "shop.buy": buy}
    assert isinstance(undo, Compensation)
    assert buy.compensation is undo
    assert (repr(shop), repr(buy), repr(undo)) == ("Service('shop')", "<activity shop.buy>", "<compensation shop.undo>")


def test_void_has_no_output() -> None:
    assert check.output is None
    assert release.output is None
    assert reserve.output is Done


def test_pauses_and_timeouts_of_a_service_and_its_activities() -> None:
    shop = Service("shop", resend_after=5)
    assert shop.activity("a", Job).resend_after == 5
    assert shop.activity("b", Job, resend_after=7, timeout=9).resend_after == 7
    assert shop.activities["shop.b"].timeout == 9
    assert Service("plain").activity("a", Job).resend_after == 30


def test_refusals_are_for_documentation() -> None:
    assert Service("shop").activity("a", Job, refusals=("sold_out",)).refusals == ("sold_out",)


def test_p4_a_compensation_belongs_to_the_service_of_its_step() -> None:
    with pytest.raises(DeclarationError, match=r"stock\.release belongs to another service; .* did it"):
        Service("shop").activity("buy", Job, Done, compensation=release)


def test_a_name_is_declared_once() -> None:
    shop = Service("shop")
    shop.activity("buy", Job)
    shop.event("bought", Job)
    with pytest.raises(DeclarationError, match=r"activity shop\.buy is declared twice"):
        shop.compensation("buy", Job)
    with pytest.raises(DeclarationError, match=r"event shop\.bought is declared twice"):
        shop.event("bought", Job)


def test_a_failed_declaration_leaves_nothing() -> None:
    shop = Service("shop")
    undo = shop.compensation("undo", Undo)
    with pytest.raises(DeclarationError, match="cannot be filled"):
        shop.activity("buy", Job, compensation=undo)
    assert list(shop.activities) == ["shop.undo"]


def test_a_function_for_the_undo_wants_a_compensation() -> None:
    with pytest.raises(DeclarationError, match="compensate_with= without compensation="):
        Service("shop").activity("buy", Job, Done, compensate_with=lambda job, done: job)  # type: ignore[call-overload]


@pytest.mark.parametrize("wrong", [dict, int, "Job", Job(order="O"), lambda order: order, list[Job]])
def test_inputs_outputs_and_events_are_models(wrong: Any) -> None:
    shop = Service("shop")
    for declare in (
        lambda: shop.activity("a", wrong),
        lambda: shop.activity("b", Job, wrong),
        lambda: shop.compensation("c", wrong),
        lambda: shop.event("d", wrong),
    ):
        with pytest.raises(DeclarationError, match="is not a pydantic model"):
            declare()
    assert shop.activities == {}


@pytest.mark.parametrize("name", ["Buy", "", "buy.it", "9", "buy it"])
def test_names_are_checked(name: str) -> None:
    with pytest.raises(DeclarationError, match="name"):
        Service("shop").activity(name, Job)
    with pytest.raises(DeclarationError, match="name"):
        Service(name)


def test_activities_are_told_apart_by_identity() -> None:
    class Same(BaseModel):
        order: str

    one, two = Service("shop").activity("a", Same), Service("shop").activity("a", Same)
    assert one != two
    assert len({one, two}) == 2

"""What is refused when a participant is declared, with the cure."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

import sagabus.participants
from sagabus.contracts import DeclarationError, Service
from sagabus.messaging.service.participation import Participation
from sagabus.participants import ActivityContext, ExternalContext, Participant, TryAgain
from tests.participants.service_fixture import Noted, Take, Taken, charge, give_back, noted, shop, take_item

ENGINE = create_async_engine("postgresql+asyncpg://nobody@localhost/nowhere", poolclass=NullPool)
elsewhere = Service("elsewhere")
ship = elsewhere.activity("ship", Take)


class Narrow(Take):
    """More than the contract promises."""

    extra: int


@pytest.fixture
def service() -> Participant[None]:
    return Participant(shop)


def test_the_public_names_are_these() -> None:
    errors = {
        "DatabaseUnreachable", "DeclarationError", "HandlerEnded", "HandlerTimedOut", "KafkaRefused",
        "KafkaUnreachable", "MessageInvalid", "NotOurs", "NotReady", "PartDied", "PartitionsChanged", "SagabusError",
        "SessionMisuse", "SettingsError",
    }  # fmt: skip
    used = {"ActivityContext", "ExternalContext", "Participant", "PlainConnection", "Refused", "TryAgain"}
    assert sagabus.participants.__all__ == sorted(errors | used)
    assert all(hasattr(sagabus.participants, name) for name in sagabus.participants.__all__)


@pytest.mark.parametrize(
    ("kind", "more"), [(ActivityContext, {"connection", "session"}), (ExternalContext, {"transaction"})]
)
def test_a_context_shows_its_user_nothing_else(kind: type[Any], more: set[str]) -> None:
    common = {"deadline", "log", "publish"}
    given = {"saga_id", "step", "attempt", "idempotency_key", "resources"}
    assert {name for name in dir(kind) if not name.startswith("_")} == common | more
    assert {name for name in kind.__mro__[1].__annotations__ if not name.startswith("_")} == given


def test_a_pause_is_a_number_of_seconds() -> None:
    with pytest.raises(ValueError, match="give seconds"):
        TryAgain("later", after=float("inf"))


def test_a_participant_is_what_the_commands_look_for(service: Participant[None]) -> None:
    assert isinstance(service, Participation)


async def test_a_handler_stays_the_function_that_it_was(service: Participant[None]) -> None:
    @service.handles(take_item)
    async def take(command: Take, ctx: ActivityContext) -> Taken:
        return Taken(item=command.item, left=command.count)

    assert await take(Take(item="a"), None) == Taken(item="a", left=1)  # type: ignore[arg-type]
    assert service.handlers[take_item.name].transaction


def test_a_sync_handler_is_refused_with_the_cure(service: Participant[Any]) -> None:
    def blocking(command: Take, ctx: ActivityContext) -> Taken:
        raise AssertionError

    with pytest.raises(DeclarationError, match=r"blocking is not async.*asyncio\.to_thread"):
        service.handles(take_item)(blocking)  # type: ignore[arg-type]
    assert service.handlers == {}


def test_a_partial_and_an_object_with_an_async_call_are_handlers(service: Participant[Any]) -> None:
    async def take(depot: str, command: Take, ctx: ActivityContext) -> Taken:
        raise AssertionError

    class GiveBack:
        async def __call__(self, command: Take, ctx: ActivityContext) -> None: ...

    service.handles(take_item)(functools.partial(take, "north"))
    service.handles(give_back)(GiveBack())
    assert len(service.handlers) == 2


def test_another_services_activity_is_refused(service: Participant[Any]) -> None:
    with pytest.raises(DeclarationError, match=r"elsewhere\.ship does not belong.*shop.*elsewhere\.commands"):
        service.handles(ship)


@pytest.mark.parametrize("thing", ["shop.take", shop, noted, Take])
def test_what_is_no_activity_is_refused(service: Participant[Any], thing: Any) -> None:
    with pytest.raises(DeclarationError, match="give an activity or a compensation"):
        service.handles(thing)


def test_a_second_handler_is_refused(service: Participant[Any]) -> None:
    @service.handles(give_back)
    async def first(command: Take, ctx: ActivityContext) -> None: ...

    async def other(command: Take, ctx: ActivityContext) -> None: ...

    with pytest.raises(DeclarationError, match=r"has a handler already.*first"):
        service.handles(give_back)(other)


def test_another_input_is_refused(service: Participant[Any]) -> None:
    async def take(command: Noted, ctx: ActivityContext) -> Taken:
        raise AssertionError

    async def narrow(command: Narrow, ctx: ActivityContext) -> Taken:
        raise AssertionError

    with pytest.raises(DeclarationError, match="takes a Noted, but the activity's input is Take"):
        service.handles(take_item)(take)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="takes a Narrow"):
        service.handles(take_item)(narrow)  # type: ignore[arg-type]


def test_another_output_is_refused(service: Participant[Any]) -> None:
    async def take(command: Take, ctx: ActivityContext) -> None: ...

    async def undo(command: Take, ctx: ActivityContext) -> Taken:
        raise AssertionError

    with pytest.raises(DeclarationError, match="returns None, but the activity's output is Taken"):
        service.handles(take_item)(take)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="returns Taken, but the activity's output is None"):
        service.handles(give_back)(undo)  # type: ignore[arg-type]


def test_the_other_kind_of_context_is_refused(service: Participant[Any]) -> None:
    async def inside(command: Take, ctx: ActivityContext[Any]) -> Taken:
        raise AssertionError

    async def outside(command: Take, ctx: ExternalContext[Any]) -> Taken:
        raise AssertionError

    with pytest.raises(DeclarationError, match="transaction=False"):
        service.handles(take_item)(outside)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match=r"ctx\.transaction\(\)"):
        service.handles(charge, transaction=False)(inside)  # type: ignore[arg-type]


@pytest.mark.parametrize("parameters", [0, 1, 3])
def test_a_handler_takes_two_arguments(service: Participant[Any], parameters: int) -> None:
    async def none() -> None: ...
    async def one(command: Take) -> None: ...
    async def three(command: Take, ctx: ActivityContext, more: int) -> None: ...

    handler: Any = {0: none, 1: one, 3: three}[parameters]
    with pytest.raises(DeclarationError, match="called with two arguments"):
        service.handles(give_back)(handler)


def test_what_only_type_checkers_see_is_left_to_them(service: Participant[Any]) -> None:
    class Local(Take): ...

    async def bare(command, ctx):  # type: ignore[no-untyped-def]
        raise AssertionError

    async def unresolvable(command: Local, ctx: ActivityContext) -> Taken:
        raise AssertionError

    async def anything(command: Any, ctx: Any) -> Any:
        raise AssertionError

    handlers: list[Any] = [bare, unresolvable, anything]
    for handler in handlers:
        Participant(shop).handles(take_item)(handler)


def test_only_an_asyncpg_engine_will_do() -> None:
    other = create_async_engine("postgresql+asyncpg://nobody@localhost/nowhere")
    other.sync_engine.dialect.driver = "psycopg"  # as if it were another driver's, which is not installed here
    with pytest.raises(DeclarationError, match=r"'psycopg'; make it with postgresql\+asyncpg"):
        Participant(shop, database=other)
    with pytest.raises(DeclarationError, match="bind the async_sessionmaker"):
        Participant(shop, database=async_sessionmaker())
    Participant(shop, database=ENGINE)
    Participant(shop, database=async_sessionmaker(ENGINE, class_=AsyncSession, expire_on_commit=False))
    Participant(shop, database="postgresql://user@host/name")


def test_resources_come_from_the_lifespan() -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[int]:
        yield 7

    service = Participant(shop, lifespan=lifespan)

    @service.handles(take_item)
    async def take(command: Take, ctx: ActivityContext[int]) -> Taken:
        await asyncio.sleep(ctx.resources)
        raise AssertionError

    assert service.lifespan is lifespan

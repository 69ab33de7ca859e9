"""A saga that one has started or knows the id of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar, cast, overload

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import to_json

from sagabus.client.coordinator_api import CoordinatorApi, StartRefused
from sagabus.client.failures import SagaFailed, StartRejected
from sagabus.contracts import Seconds, Start
from sagabus.contracts.retry import seconds

A = TypeVar("A", bound=BaseModel)
O_co = TypeVar("O_co", bound=BaseModel | None, covariant=True)


class SagaHandle(Generic[O_co]):
    """Made by `SagaClient.start` and `SagaClient.saga`."""

    id: str

    def __init__(
        self, id: str, api: Callable[[], CoordinatorApi], start: Start[O_co] | None = None, *, request: str = ""
    ) -> None:
        self.id = id
        self._api = api
        self._start = start
        self._request = request

    async def result(self, *, timeout: Seconds | None = None) -> O_co:
        """Wait for the end, and give the saga's result; of `SagaClient.saga(id)`, its JSON value.

        timeout: seconds. Raises SagaFailed, or TimeoutError: the saga then goes on. Raises StartRejected if this id was
        taken, or the coordinator does not take this input; NoSuchSaga if `saga(id)` was never started, SettingsError
        without SAGABUS_URL, CoordinatorUnreachable.
        """
        async with asyncio.timeout(None if timeout is None else seconds(timeout)):
            try:
                saga = _Closed.model_validate(await self._api().closed(self.id, start=self._request))
            except StartRefused as refusal:
                raise StartRejected(str(refusal)) from refusal
        if self._start is not None:
            _check_ours(self.id, self._start, saga)
        if saga.status == "completed":
            return self._result(saga.result)
        error = saga.error or _Error()
        raise SagaFailed(
            saga_id=self.id, status=saga.status, code=error.code, message=error.message, details=error.details
        )

    @overload
    async def attributes(self, /) -> dict[str, JsonValue]: ...
    @overload
    async def attributes(self, model: type[A], /) -> A: ...
    async def attributes(self, model: type[A] | None = None, /) -> A | dict[str, JsonValue]:
        """What the saga's code has set with `ctx.attribute`, as it stands now; the others have their defaults.

        model: as declared with the SagaType; without it, JSON by name. {} of a saga that declares none. Raises
        NoSuchSaga if it has not begun, pydantic.ValidationError for another model, and else as `result` does.
        """
        stands: dict[str, JsonValue] = (await self._api().saga(self.id))["attributes"] or {}
        return stands if model is None else model.model_validate_json(to_json(stands))

    def _result(self, value: JsonValue) -> O_co:
        output: Any = None if self._start is None else self._start.saga.output
        made: Any = value if output is None else output.model_validate_json(to_json(value))
        return cast("O_co", made)

    def __repr__(self) -> str:
        return f"SagaHandle({self.id!r})"


class _Error(BaseModel):
    code: str = "sagabus.ended"
    message: str = "no more is known"
    details: dict[str, JsonValue] = {}


class _Closed(BaseModel):
    """A saga as the API shows it: what a result is made from."""

    saga: str
    status: Literal["completed", "compensated", "cancelled", "terminated"]
    input: JsonValue
    result: JsonValue
    error: _Error | None


def _check_ours(id: str, start: Start[Any], saga: _Closed) -> None:
    """The same id with another input is another saga, whose result is none of our business."""
    if saga.saga == start.saga.name and _input(start, saga.input) == start.input:
        return
    raise StartRejected(f"saga {id} was started with another input, as {saga.saga}: choose another id")


def _input(start: Start[Any], value: JsonValue) -> BaseModel | None:
    """What was written without our model may leave out what has a default."""
    model: type[BaseModel] = start.saga.input
    try:
        return model.model_validate_json(to_json(value))
    except ValidationError:
        return None

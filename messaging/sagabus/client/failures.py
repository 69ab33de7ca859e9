"""What a client can hear besides a result."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from sagabus.contracts.errors import SagabusError

if TYPE_CHECKING:
    from pydantic import JsonValue

Status = Literal["compensated", "cancelled", "terminated"]


class SagaFailed(SagabusError):
    """The saga has ended, and is not completed. compensated, cancelled: what it had done is undone. terminated: nothing
    was undone.

    code, message, details: of the error that ended it. The saga's own if it has raised `Refused`; those of a step that
    has failed; for a cancel or a termination the operator's reason. details: empty where the error has none.
    """

    saga_id: str
    status: Status
    code: str
    message: str
    details: Mapping[str, JsonValue]

    def __init__(
        self,
        *,
        saga_id: str,
        status: Status,
        code: str,
        message: str,
        details: Mapping[str, JsonValue] = MappingProxyType({}),
    ) -> None:
        super().__init__(f"saga {saga_id} is {status}: {code}: {message}")
        self.saga_id = saga_id
        self.status = status
        self.code = code
        self.message = message
        self.details = details


class ClientMisuse(SagabusError):
    """The program's mistake: a client is used after it was closed, or in another event loop than before."""


class StartRejected(SagabusError):
    """No saga of yours came of this start, and none will: choose another id, or another input, as it says.

    The id belongs to a saga with another input or of another type; or the coordinator's definition does
    not take the input, and the request is a dead letter.
    """

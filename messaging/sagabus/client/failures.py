"""What a client can hear besides a result."""

from __future__ import annotations

from typing import Literal

from sagabus.contracts.errors import SagabusError

Status = Literal["compensated", "cancelled", "terminated"]


class SagaFailed(SagabusError):
    """The saga ended, and not as it was meant to. compensated, cancelled: whatever was done has been undone.

    code and message: of the error that ended it, or of the person who did.
    """

    saga_id: str
    status: Status
    code: str
    message: str

    def __init__(self, *, saga_id: str, status: Status, code: str, message: str) -> None:
        super().__init__(f"saga {saga_id} is {status}: {code}: {message}")
        self.saga_id = saga_id
        self.status = status
        self.code = code
        self.message = message


class ClientMisuse(SagabusError):
    """The program's mistake: a client is used after it was closed, or in another event loop than before."""


class StartRejected(SagabusError):
    """No saga of yours came of this start, and none will: choose another id, or another input, as it says.

    The id belongs to a saga with another input or of another type; or the coordinator's definition does
    not take the input, and the request is a dead letter.
    """

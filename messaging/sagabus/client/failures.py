"""What a client can hear besides a result."""

from __future__ import annotations

from typing import Literal

from sagabus.contracts.errors import SagabusError

Status = Literal["compensated", "cancelled", "terminated"]


class SagaFailed(SagabusError):
    """The saga has ended, and is not completed. compensated, cancelled: what it had done is undone. terminated: nothing
    was undone.

    code and message: of the error that ended it; for a cancel or a termination the operator's reason.
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

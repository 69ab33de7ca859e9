"""How a saga stands: what its row says of it, as one value.

It is replaced and never changed, so that to remember how the saga stood before an input costs nothing, and to go back
there forgets no field.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sagabus.coordinator.core.saga.concern import Concern
from sagabus.coordinator.core.saga.status import SagaStatus

_NONE: Final[dict[Concern, str]] = {}


class Standing(NamedTuple):
    status: SagaStatus = SagaStatus.RUNNING
    closed_at: int | None = None
    """Microseconds since 1970."""
    concerns: dict[Concern, str] = _NONE
    """Why a person should look, in words, the latest last. Replaced, too, and never changed."""
    result: bytes | None = None
    error: bytes | None = None
    fingerprint: str = ""
    """Of the code that the saga was last decided with; empty before that (H7)."""


class Kept(NamedTuple):
    """Where the decisions upon one input begin: how the saga stood, and the last numbers that were given."""

    standing: Standing
    sequence: int
    """Of its last lifecycle event."""
    seq: int
    """Of its last row."""

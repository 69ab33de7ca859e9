"""How a saga stands: what its row says of it, as one value.

It is replaced and never changed, so that to remember how the saga stood before an input costs nothing, and to go back
there forgets no field. The concerns alone may be many, and remember by themselves what has changed.
"""

from __future__ import annotations

from typing import NamedTuple

from sagabus.coordinator.core.saga.concern import Concerns
from sagabus.coordinator.core.saga.events import Events
from sagabus.coordinator.core.saga.status import SagaStatus


class Standing(NamedTuple):
    concerns: Concerns
    status: SagaStatus = SagaStatus.RUNNING
    closed_at: int | None = None
    """Microseconds since 1970."""
    result: bytes | None = None
    error: bytes | None = None
    fingerprint: str = ""
    """Of the code that the saga was last decided with; empty before that (H7)."""
    paused: bool = False
    """By an operator (U8)."""
    events: Events | None = None
    """Which its code waits for, and which it has not taken; None for neither."""
    attributes: bytes | None = None
    """JSON; None of a saga that declares none."""


Kept = tuple[Standing, int, int]
"""Where the decisions upon one input begin: how the saga stood, the number of its last lifecycle event, and that of its
last row. Made twice for each input, so it has no names."""

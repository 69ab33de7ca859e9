"""Rows of sagas, for tests of the store and of what reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store import SagaRow

AT: Final = 1_790_000_000_123_457
"""Microseconds since 1970, some day in 2026."""


def saga(id: str = "ORD-1", run: str = "r1", **changes: Any) -> SagaRow:
    row = SagaRow(
        id=SagaId(id), run=RunId(run), definition="order_processing", version=1, fingerprint="3.11:abc",
        status=SagaStatus.RUNNING, shard=3, sequence=1, last_now=AT, input_hash=b"\0hash", started_at=AT,
    )  # fmt: skip
    return replace(row, **changes)
